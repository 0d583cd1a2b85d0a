"""Codes of MNIST and a model of them, in one command: a VQ-VAE, then a transformer of its codes.

The stages are `experiments/vae/vq_mnist.py` and `experiments/autoregressive/mnist_codes.py`, whose
files say what they are; the classifier that samples are measured by is a stage, too. Each stage is
an ordinary run in the folder of its name.

Command:  TFDS_DATA_DIR=DIR python scripts/run.py --config=experiments/pipelines/mnist_codes.py \
              --workdir=/tmp/genjax/mnist_pipeline
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            stages=dict(
                classifier="../classifier/mnist.py",
                images="../vae/vq_mnist.py",
                codes=dict(
                    file="../autoregressive/mnist_codes.py:stage:images",
                    eval=dict(features=dict(workdir="stage:classifier")),
                ),
            )
        )
    )
