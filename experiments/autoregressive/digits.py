"""Autoregressive models of the 8x8 handwritten digits: no download, CPU only.

After a colon the network: pixelcnn_plus (the default), gated_pixelcnn, pixelcnn, transformer or
made. Each grey level has a probability; the likelihood is exact. 1,437 rows are soon known by
heart: dropout, weight decay and the number of steps were chosen on the last 15 % of the training
split.

Command:  python scripts/run.py --config=experiments/autoregressive/digits.py:transformer \
              --workdir=/tmp/genjax/autoregressive_digits
"""

from typing import Any

from ml_collections import ConfigDict

_NETS: dict[str, dict[str, Any]] = {
    "pixelcnn_plus": dict(channels=32, num_blocks=2, num_halvings=1, dropout_rate=0.5),
    "gated_pixelcnn": dict(channels=32, num_layers=5, dropout_rate=0.5),
    "pixelcnn": dict(channels=32, num_blocks=5),
    "transformer": dict(hidden_size=96, num_blocks=3, num_heads=4, dropout_rate=0.4),
    "made": dict(hidden_size=512, num_layers=2),
}


def get_config(net: str = "pixelcnn_plus") -> ConfigDict:
    """Returns the config.

    Args:
        net: Which network.
    """
    if net not in _NETS:
        raise ValueError(f"expected one of {', '.join(_NETS)} after the colon, got {net!r}")
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(name=net, **_NETS[net]),
            family=dict(
                name="autoregressive", observation=dict(name="categorical"), ema_decay=0.995
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=2e-3,
                warmup_steps=100,
                decay_steps=800,
                weight_decay=0.3,
                clip_norm=1.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=800),
            eval=dict(batch_size=360),
        )
    )
