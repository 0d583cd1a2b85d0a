"""Gaussian mixtures of densities of the plane by expectation maximisation: seconds on a CPU.

After a colon the model: its covariances are full (the default), diagonal, spherical, or one full
one for all components (tied).

Command:  python scripts/run.py --config=experiments/classics/toy2d.py \
              --workdir=/tmp/genjax/classics_toy2d
Expected: 0.320 +- 0.010 nats on the test points (the entropy is 0.312), in seconds on a CPU.

Any density of genjax.data will do: `--config.data.name=swirl`.
"""

from typing import Any

from ml_collections import ConfigDict

MODELS: dict[str, dict[str, Any]] = {
    "full": dict(covariance="full"),
    "diagonal": dict(covariance="diagonal"),
    "spherical": dict(covariance="spherical"),
    "tied": dict(covariance="full", shared=True),
}


def get_config(model: str = "full") -> ConfigDict:
    """Returns the config of a model of :data:`MODELS`."""
    if model not in MODELS:
        raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")
    return ConfigDict(
        dict(
            # Ten batches are the training set: each tenth step is one of exact EM.
            data=dict(name="eight_gaussians", batch_size=10_000),
            family=dict(
                name="mixture",
                num_components=8,
                component=dict(name="gaussian", **MODELS[model]),
                accumulate_steps=10,
            ),
            train=dict(
                num_steps=300,
                log_every=10,
                eval_every=300,
                sample_every=300,
                best_metric="eval/nats",
            ),
            eval=dict(batch_size=2000),
            sample=dict(num_samples=5000),
        )
    )
