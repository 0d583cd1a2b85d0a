"""Denoising models of a two-dimensional density; ``--config.data.name`` picks which.

After a colon the model: vp (the default), sub_vp, ve, edm or rectified_flow. Likelihoods are those
of the probability flow with an exact divergence.

Command:  python scripts/run.py --config=experiments/diffusion/toy2d.py:edm \
              --workdir=/tmp/genjax/toy2d_edm
Expected: minutes on two CPU cores; the entropy of eight Gaussians of standard deviation 0.1 on the
          unit circle is 0.312 nats.
"""

from typing import Any

from ml_collections import ConfigDict

_FAMILIES: dict[str, dict[str, Any]] = {
    "vp": dict(name="score_sde", process=dict(name="vp", earliest=1e-3), times="log_snr"),
    "sub_vp": dict(name="score_sde", process=dict(name="sub_vp", earliest=1e-2), times="log_snr"),
    "ve": dict(name="score_sde", process=dict(name="ve", sigma_min=0.01, sigma_max=10.0)),
    "edm": dict(name="edm", process=dict(name="ve", sigma_min=0.01, sigma_max=20.0)),
    "rectified_flow": dict(name="rectified_flow"),
}


def get_config(model: str = "vp") -> ConfigDict:
    """Returns the config.

    Args:
        model: Which model.
    """
    if model not in _FAMILIES:
        raise ValueError(f"expected one of {', '.join(_FAMILIES)} after the colon, got {model!r}")
    return ConfigDict(
        dict(
            # swirl, two_moons, eight_gaussians or checkerboard
            data=dict(name="eight_gaussians", batch_size=512),
            model=dict(name="score_mlp", hidden_size=128, num_layers=3),
            family=dict(**_FAMILIES[model], likelihood="ode", ema_decay=0.995),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                decay_steps=5000,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            train=dict(num_steps=5000, eval_every=5000, sample_every=5000),
            eval=dict(batch_size=2000),
            sample=dict(num_samples=5000, num_steps=50, sampler=dict(name="heun")),
        )
    )
