"""DDPM on CIFAR-10 with the published settings.

Aims at:  Ho et al. 2020 (arXiv:2006.11239), unconditional CIFAR-10, loss "simple" and the fixed
          large variance: FID 3.17 of 50,000 samples against the training split, and at most 3.75
          bits/dim, of which 1.78 are the rate (prior and diffusion) and 1.97 the distortion
          (reconstruction).
Command:  python scripts/run.py --config=experiments/diffusion/cifar10_ddpm.py --workdir=DIR \
              --config.data.data_dir=DIR
Needs:    800,000 steps of batch 128 of 35.7 M parameters (the paper: 10.6 hours on a TPU v3-8), and
          1,000 network calls for each example of the bound and for each sample: accelerators. Not
          yet run here to the end. ``--config.model.dtype=bfloat16`` is faster;
          ``--config.eval.num_times=20`` scores 20 drawn steps in place of all of them.
Departs:  times are told as 1 to 1,000, not 0 to 999, and stratified over the global batch; the
          last term of the bound has the normal distribution function itself in place of an
          approximation by a tanh. FID needs ``eval.metrics`` and Inception's weights: see
          docs/families.md.
Weights:  those of google/ddpm-cifar10-32 (safetensors) are read by scripts/import_checkpoint.py.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=128, transforms=(dict(name="horizontal_flip"),)),
            model=dict(
                name="unet",
                channels=128,
                multipliers=(1, 2, 2, 2),
                num_blocks=2,
                attention_sizes=(16,),
                num_heads=1,
                num_groups=32,
                conditioning="add",
                dropout_rate=0.1,
                dtype="float32",
                remat="none",
            ),
            family=dict(
                name="ddpm",
                process=dict(
                    name="chain",
                    num_timesteps=1000,
                    betas="linear",
                    beta_min=1e-4,
                    beta_max=0.02,
                ),
                prediction="noise",
                loss="simple",
                variance="fixed_large",
                first_variance="published",
                ema_decay=0.9999,
            ),
            optimizer=dict(
                name="adam",
                learning_rate=2e-4,
                b1=0.9,
                b2=0.999,
                warmup_steps=5000,
                clip_norm=1.0,
            ),
            train=dict(
                num_steps=800_000,
                log_every=1000,
                eval_every=0,
                sample_every=50_000,
                checkpoint_every=10_000,
            ),
            eval=dict(batch_size=500, num_times=1000),
        )
    )
