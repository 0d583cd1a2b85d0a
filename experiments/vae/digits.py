"""Variational autoencoder of the 8x8 handwritten digits: no download, CPU only.

After a colon what is trained: elbo (the default), or iwae, on the bound of five draws; or
hierarchical, two groups of latents of 2x2 places and two of 4x4, on the bound of one. (With a group
of 8x8 places and without free bits all others were left alone.)

Command:  python scripts/run.py --config=experiments/vae/digits.py:iwae \
              --workdir=/tmp/genjax/vae_digits_iwae
"""

from typing import Any

from ml_collections import ConfigDict

_CONV = dict(
    encoder=dict(name="conv", channels=32, num_features=128),
    decoder=dict(name="conv", channels=32),
)
_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "elbo": (_CONV, dict(name="vae", latent_size=16, warmup_steps=500)),
    "iwae": (
        _CONV,
        dict(name="vae", latent_size=16, bound="importance", num_draws=5, gradient="dreg"),
    ),
    "hierarchical": (
        dict(
            encoder=dict(name="bottom_up"),
            decoder=dict(name="top_down", num_blocks=(0, 2, 2), latent_channels=2),
        ),
        dict(name="hierarchical_vae", warmup_steps=500, free_bits=1.0, free_bits_of="group"),
    ),
}


def get_config(model: str = "elbo") -> ConfigDict:
    """Returns the config.

    Args:
        model: What is trained.
    """
    if model not in _MODELS:
        raise ValueError(f"expected one of {', '.join(_MODELS)} after the colon, got {model!r}")
    networks, family = _MODELS[model]
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=networks,
            family=dict(
                observation=dict(name="logistic_mixture", num_components=5),
                ema_decay=0.995,
                **family,
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup_steps=100, weight_decay=0.01),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=2000),
            eval=dict(num_times=100),
        )
    )
