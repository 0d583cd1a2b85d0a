"""Autoregressive models of binarised MNIST, in nats. Sized for a CPU.

After a colon the network: pixelcnn_plus (the default), gated_pixelcnn, made or transformer. Bits
are drawn anew in each step, and once for each test image, by its position and the seed of
evaluation.

Command:  python scripts/run.py --config=experiments/autoregressive/mnist.py:made \
              --workdir=/tmp/genjax/made_mnist --config.data.data_dir=DIR
Expected: pixelcnn_plus 79.69 +- 0.20 nats, 77 minutes of CPU time; made 84.61 +- 0.22, 12 minutes;
          gated_pixelcnn 84.08 +- 0.20, 79 minutes; transformer 83.51 +- 0.21, 53 minutes
          (experiments/README.md).
"""

from typing import Any

from ml_collections import ConfigDict

_NETS: dict[str, dict[str, Any]] = {
    "pixelcnn_plus": dict(channels=24, num_blocks=1, num_halvings=2),
    "gated_pixelcnn": dict(channels=24, num_layers=8),
    "made": dict(hidden_size=4000, num_layers=1),
    "transformer": dict(hidden_size=64, num_blocks=4, num_heads=2),
}
_TRAINING: dict[str, dict[str, Any]] = {
    "made": dict(num_steps=15_000, batch_size=200, learning_rate=1e-3),
    "pixelcnn_plus": dict(num_steps=5_500, batch_size=64, learning_rate=3e-3),
    "transformer": dict(num_steps=1_500, batch_size=64, learning_rate=3e-3),
}


def get_config(net: str = "pixelcnn_plus") -> ConfigDict:
    """Returns the config.

    Args:
        net: Which network.
    """
    if net not in _NETS:
        raise ValueError(f"expected one of {', '.join(_NETS)} after the colon, got {net!r}")
    training = _TRAINING.get(net, dict(num_steps=10_000, batch_size=64, learning_rate=3e-3))
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=training["batch_size"], binarize="dynamic"),
            model=dict(name=net, **_NETS[net]),
            family=dict(
                name="autoregressive",
                observation=dict(name="bernoulli"),
                # Of 1,500 steps an average by 0.999 would hold a fifth of the start.
                ema_decay=0.99 if net == "transformer" else 0.999,
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=training["learning_rate"],
                warmup_steps=200,
                decay_steps=training["num_steps"],
                weight_decay=0.0,
                clip_norm=100.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(
                num_steps=training["num_steps"],
                eval_every=training["num_steps"] // 2,
                sample_every=training["num_steps"],
                checkpoint_every=500,
            ),
            eval=dict(batch_size=200),
        )
    )
