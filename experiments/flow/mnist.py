"""Normalizing flows on MNIST.

Command:  python scripts/run.py --config=experiments/flow/mnist.py:glow \
              --workdir=/tmp/genjax/flow_mnist_glow
Expected: experiments/README.md has the table.

The file takes the name of a flow. Those of FLOWS are sized for two CPU cores; those of LARGE are
for an accelerator and have not been run: eight checkerboard couplings with the settings of the
normalizing flow tutorial of the UvA deep learning course (200 epochs of batches of 128, gated
networks of 32 channels), with either dequantisation, and Real NVP.

All begin with a logit close to the ends (alpha 1e-5): most pixels are black, and a flow that starts
from linear grey levels spends thousands of steps on learning to spread that one level (TarFlow here
after 1,750 steps: 2.8 bits/dim; with the logit it is there after 60).

The histogram of each pixel alone scores 1.69 bits/dim: a flow above that has learned no dependence.
"""

from typing import Any

from ml_collections import ConfigDict

FLOWS: dict[str, Any] = {
    "real_nvp": dict(
        model=dict(name="real_nvp", num_scales=2, hidden_size=16, num_blocks=1),
    ),
    "glow": dict(
        model=dict(name="glow", num_scales=2, num_steps=6, hidden_size=96),
    ),
    "spline": dict(
        model=dict(
            name="glow",
            elementwise="spline",
            num_scales=2,
            num_steps=4,
            net="residual",
            hidden_size=32,
            num_blocks=2,
            num_bins=4,
        ),
    ),
    "jet": dict(
        model=dict(
            name="jet",
            patch_size=7,
            num_couplings=20,
            hidden_size=96,
            num_blocks=1,
            num_heads=4,
            remat="none",
        ),
    ),
    "tarflow": dict(
        model=dict(
            name="tarflow", patch_size=4, num_layers=4, hidden_size=96, num_blocks=2, num_heads=4
        ),
    ),
}
_CHECKERBOARD = dict(
    name="real_nvp",
    num_scales=1,
    num_final_couplings=8,
    net="gated",
    hidden_size=32,
    num_blocks=3,
)
_LONG = dict(batch_size=128, num_steps=93_600)
LARGE: dict[str, Any] = {
    "checkerboard": dict(model=_CHECKERBOARD, **_LONG),
    "checkerboard_variational": dict(
        model=_CHECKERBOARD, family=dict(dequantizer=dict(name="variational")), **_LONG
    ),
    "real_nvp_large": dict(
        model=dict(name="real_nvp", num_scales=2, hidden_size=64, num_blocks=4), **_LONG
    ),
}


def get_config(flow: str = "glow") -> ConfigDict:
    """Returns the config of a flow of :data:`FLOWS` or :data:`LARGE`."""
    flows = {**FLOWS, **LARGE}
    if flow not in flows:
        raise ValueError(f"the flow must be one of {', '.join(flows)}, got {flow!r}")
    chosen = flows[flow]
    num_steps = chosen.get("num_steps", 2000)
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=chosen.get("batch_size", 64)),
            model=dict(dict(alpha=1e-5), **chosen["model"]),
            family=dict(name="flow", ema_decay=0.995, **chosen.get("family", {})),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=200,
                b2=0.999,
                weight_decay=0.0,
                decay_steps=num_steps,
                clip_norm=1.0,
            ),
            train=dict(
                num_steps=num_steps,
                log_every=50,
                checkpoint_every=500,
            ),
            eval=dict(batch_size=200, **(dict(num_times=8) if flow in LARGE else {})),
        )
    )
