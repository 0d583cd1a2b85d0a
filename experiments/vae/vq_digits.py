"""VQ-VAE of the 8x8 handwritten digits: codes for a model of codes. No download, CPU only.

After a colon the quantizer: vq (the default) or fsq. The second stage is
`experiments/autoregressive/digit_codes.py`.

Command:  python scripts/run.py --config=experiments/vae/vq_digits.py \
              --workdir=/tmp/genjax/vq_digits
"""

from typing import Any

from ml_collections import ConfigDict

_QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq": dict(name="vq", num_codes=64, code_size=16),
    "fsq": dict(name="fsq", levels=(4, 4, 4)),
}


def get_config(quantizer: str = "vq") -> ConfigDict:
    """Returns the config.

    Args:
        quantizer: How vectors become codes.
    """
    if quantizer not in _QUANTIZERS:
        raise ValueError(f"expected vq or fsq after the colon, got {quantizer!r}")
    net = dict(channels=64, num_blocks=1, residual_channels=32)
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                encoder=dict(name="grid", num_halvings=1, **net),
                decoder=dict(name="grid", num_doublings=1, **net),
            ),
            family=dict(
                name="vq_vae",
                quantizer=_QUANTIZERS[quantizer],
                observation=dict(name="logistic_mixture", num_components=3),
            ),
            optimizer=dict(name="adamw", learning_rate=2e-3, warmup_steps=100, weight_decay=0.01),
            parallel=dict(cpu_devices=2),
            train=dict(num_steps=1500),
            eval=dict(batch_size=360),
        )
    )
