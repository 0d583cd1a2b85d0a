"""VDM on CIFAR-10 without augmentation, with the settings of the official release.

Aims at:  Kingma et al. 2021 (arXiv:2107.00630), CIFAR-10 without augmentation: 2.65 bits/dim in the
          paper; the released checkpoint of google-research/vdm reports 2.637.
Command:  python scripts/run.py --config=experiments/vdm/cifar10.py --workdir=DIR \
              --config.data.data_dir=DIR
Needs:    10 million steps of batch 128 (30.6 M parameters, about 20 TFLOP a step): accelerators.
          Not yet run here to the end. ``--config.model.dtype=bfloat16`` is faster.
Departs:  weight decay spares the scales of normalisation layers and the schedule, which the
          official code decays; times are stratified over the global batch, not per device.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=128),
            model=dict(
                name="score_resnet",
                channels=128,
                num_layers=32,
                num_groups=32,
                dropout_rate=0.1,
                attention="middle",
                fourier_exponents=(6, 7),
                dtype="float32",
                scan_layers=True,
                remat="none",
            ),
            family=dict(
                name="vdm",
                schedule=dict(name="learned_linear", gamma_0=-13.3, gamma_1=5.0),
                ema_decay=0.9999,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-4,
                warmup_steps=100,
                b1=0.9,
                b2=0.99,
                weight_decay=0.01,
                clip_norm=placeholder(float),
            ),
            train=dict(
                num_steps=10_000_000,
                log_every=1000,
                eval_every=50_000,
                sample_every=50_000,
                checkpoint_every=10_000,
            ),
            eval=dict(batch_size=128),
        )
    )
