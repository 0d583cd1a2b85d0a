"""Codes of the 8x8 digits and a model of them, in one command. No download, CPU only.

The stages are `experiments/vae/vq_digits.py`, then `experiments/autoregressive/digit_codes.py`;
each is an ordinary run in the folder of its name.

Command:  python scripts/run.py --config=experiments/pipelines/digit_codes.py \
              --workdir=/tmp/genjax/digit_pipeline
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            stages=dict(
                images="../vae/vq_digits.py",
                codes="../autoregressive/digit_codes.py:stage:images",
            )
        )
    )
