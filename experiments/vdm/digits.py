"""VDM on the 8x8 handwritten digits that ship with scikit-learn: no download, CPU only.

Command:  python scripts/run.py --config=experiments/vdm/digits.py --workdir=/tmp/genjax/digits
Expected: at most 1.95 bits/dim on the 360 held-out digits (a histogram a pixel scores 2.42), in
          under 3 minutes on two CPU cores; experiments/README.md has the measured numbers.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                name="score_resnet",
                channels=32,
                num_layers=2,
                num_groups=8,
                dropout_rate=0.1,
                # 17 grey levels are 2/17 apart: waves of 1, 1/2 and 1/4 tell neighbours apart.
                fourier_exponents=(1, 2, 3),
            ),
            family=dict(
                name="vdm",
                # With 17 levels the decoder is certain at a higher noise than with 256.
                schedule=dict(name="learned_monotone", gamma_0=-8.0, gamma_1=5.0),
                ema_decay=0.995,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=2000),
            eval=dict(batch_size=360, num_times=16),
            sample=dict(num_steps=250),
        )
    )
