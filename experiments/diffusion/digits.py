"""Score-based models of the 8x8 handwritten digits: no download, CPU only.

After a colon the process: vp (the default), sub_vp, ve, edm or rectified_flow. The likelihood is
that of the probability flow of uniformly dequantised data, by Hutchinson's estimate of the
divergence; its protocol is in the log beside the number.

Command:  python scripts/run.py --config=experiments/diffusion/digits.py:sub_vp \
              --workdir=/tmp/genjax/digits_sub_vp
Expected: experiments/README.md has the measured bits/dim, beside those of the VDM and of DDPM, and
          the time they took on two CPU cores.
"""

from typing import Any

from ml_collections import ConfigDict

_FAMILIES: dict[str, dict[str, Any]] = {
    "vp": dict(name="score_sde", process=dict(name="vp"), times="log_snr"),
    "sub_vp": dict(name="score_sde", process=dict(name="sub_vp"), times="log_snr"),
    "ve": dict(
        name="score_sde",
        process=dict(name="ve", sigma_min=0.01, sigma_max=20.0),
        times="log_snr",
    ),
    "edm": dict(
        name="edm",
        process=dict(name="ve", sigma_min=0.01, sigma_max=20.0),
        times_mean=-1.0,
        times_std=1.3,
    ),
    "rectified_flow": dict(name="rectified_flow"),
}


def get_config(process: str = "vp") -> ConfigDict:
    """Returns the config.

    Args:
        process: Which model.
    """
    if process not in _FAMILIES:
        raise ValueError(f"expected one of {', '.join(_FAMILIES)} after the colon, got {process!r}")
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                name="score_resnet",
                channels=32,
                num_layers=2,
                num_groups=8,
                dropout_rate=0.1,
                fourier_exponents=(),
            ),
            family=dict(**_FAMILIES[process], likelihood="ode", tolerance=1e-3, ema_decay=0.995),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=2000, eval_every=2000),
            eval=dict(batch_size=40),
            sample=dict(num_steps=50, sampler=dict(name="dpm_solver", order=2)),
        )
    )
