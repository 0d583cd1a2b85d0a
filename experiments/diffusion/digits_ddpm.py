"""DDPM with a learned variance on the 8x8 digits of scikit-learn: no download, CPU only.

A chain of 200 steps whose bound is scored exactly, each step once: 72,000 network calls for the 360
test digits. The loss is the hybrid one of improved DDPM; ``--config.family.variance=fixed_large
--config.family.loss=simple --config.model.out_channels=1`` is DDPM itself.

Command:  python scripts/run.py --config=experiments/diffusion/digits_ddpm.py \
              --workdir=/tmp/genjax/digits_ddpm
Expected: minutes on two CPU cores; not yet measured to the end. A histogram a pixel scores 2.42
          bits/dim on the 360 held-out digits.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                name="unet",
                channels=16,
                multipliers=(1, 2),
                num_blocks=1,
                attention_sizes=(),
                num_groups=8,
                dropout_rate=0.1,
                # The estimate of the noise and the variance, of the one channel of an image.
                out_channels=2,
            ),
            family=dict(
                name="ddpm",
                process=dict(name="chain", num_timesteps=200, betas="cosine"),
                loss="hybrid",
                variance="learned",
                ema_decay=0.995,
            ),
            optimizer=dict(
                name="adam", learning_rate=2e-3, b1=0.9, warmup_steps=100, clip_norm=1.0
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=2000),
            eval=dict(batch_size=360, num_times=200),
            sample=dict(num_steps=200),
        )
    )
