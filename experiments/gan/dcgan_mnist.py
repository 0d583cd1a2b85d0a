"""DCGAN on MNIST, sized for a CPU.

Published settings (Radford et al., arXiv:1511.06434): Adam at 2e-4 with b1 = 0.5, batches of 128,
weights from N(0, 0.02^2), LeakyReLU of slope 0.2. Here with a quarter of the channels and batches
of 64. It is measured with the features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/dcgan_mnist.py \
              --workdir=/tmp/genjax/dcgan_mnist --config.data.data_dir=DIR
Expected: experiments/README.md has FD-mnist over the run, with the time it took on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64),
            model=dict(
                generator=dict(name="dcgan", channels=128, min_channels=32),
                critic=dict(name="dcgan", channels=128, min_channels=32, norm="batch"),
            ),
            family=dict(name="gan", loss="nonsaturating", latent_size=100, ema_half_life_kimg=5.0),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
            ),
            train=dict(
                num_steps=2000,
                log_every=50,
                eval_every=500,
                sample_every=500,
                checkpoint_every=500,
                best_metric="eval/fd_mnist",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall", "density_coverage"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100),
        )
    )
