"""VDM on a two-dimensional density; ``--config.data.name`` picks which.

Command:  python scripts/run.py --config=experiments/vdm/toy2d.py --workdir=/tmp/genjax/toy2d
Expected: experiments/README.md has the measured bits/dim and a picture, from under a
          minute on two CPU cores. Real-valued data has a density, so its bits/dim may be negative.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            # swirl, two_moons, eight_gaussians or checkerboard
            data=dict(name="swirl", batch_size=512),
            model=dict(
                name="score_mlp",
                hidden_size=128,
                num_layers=3,
                fourier_exponents=(-2, -1, 0, 1),
            ),
            family=dict(
                name="vdm",
                schedule=dict(name="learned_monotone", gamma_0=-9.0, gamma_1=7.0),
                ema_decay=0.995,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            train=dict(
                num_steps=3000,
                eval_every=3000,
                sample_every=3000,
            ),
            eval=dict(batch_size=2000, num_times=64),
            sample=dict(num_samples=5000, num_steps=250),
        )
    )
