"""VQ-VAE of MNIST: 49 codes a digit, for a model of codes. Sized for a CPU.

After a colon the quantizer: vq (the default) or fsq. The second stage is
`experiments/autoregressive/mnist_codes.py`.

Command:  python scripts/run.py --config=experiments/vae/vq_mnist.py \
              --workdir=/tmp/genjax/vq_mnist --config.data.data_dir=DIR
"""

from typing import Any

from ml_collections import ConfigDict

_QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq": dict(name="vq", num_codes=128, code_size=32),
    "fsq": dict(name="fsq", levels=(5, 5, 5)),
}


def get_config(quantizer: str = "vq") -> ConfigDict:
    """Returns the config.

    Args:
        quantizer: How vectors become codes.
    """
    if quantizer not in _QUANTIZERS:
        raise ValueError(f"expected vq or fsq after the colon, got {quantizer!r}")
    net = dict(channels=64, num_blocks=2, residual_channels=32)
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=128),
            model=dict(
                encoder=dict(name="grid", num_halvings=2, **net),
                decoder=dict(name="grid", num_doublings=2, **net),
            ),
            family=dict(
                name="vq_vae",
                quantizer=_QUANTIZERS[quantizer],
                observation=dict(name="logistic_mixture", num_components=5),
            ),
            optimizer=dict(
                name="adamw",
                learning_rate=1e-3,
                warmup_steps=100,
                decay_steps=4000,
                weight_decay=0.01,
                clip_norm=1000.0,
            ),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=4000, eval_every=2000, checkpoint_every=500),
            eval=dict(batch_size=500),
        )
    )
