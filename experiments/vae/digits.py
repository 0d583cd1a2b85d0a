"""Variational autoencoder of the 8x8 handwritten digits: no download, CPU only.

After a colon the bound that it is trained on: elbo (the default), or iwae, of five draws.

Command:  python scripts/run.py --config=experiments/vae/digits.py:iwae \
              --workdir=/tmp/genjax/vae_digits_iwae
"""

from typing import Any

from ml_collections import ConfigDict

_BOUNDS: dict[str, dict[str, Any]] = {
    "elbo": dict(warmup_steps=500),
    "iwae": dict(bound="importance", num_draws=5, gradient="dreg"),
}


def get_config(bound: str = "elbo") -> ConfigDict:
    """Returns the config.

    Args:
        bound: What it is trained on.
    """
    if bound not in _BOUNDS:
        raise ValueError(f"expected one of {', '.join(_BOUNDS)} after the colon, got {bound!r}")
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                encoder=dict(name="conv", channels=32, num_features=128),
                decoder=dict(name="conv", channels=32),
            ),
            family=dict(
                name="vae",
                latent_size=16,
                observation=dict(name="logistic_mixture", num_components=5),
                ema_decay=0.995,
                **_BOUNDS[bound],
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup_steps=100, weight_decay=0.01),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=2000),
            eval=dict(num_times=100),
        )
    )
