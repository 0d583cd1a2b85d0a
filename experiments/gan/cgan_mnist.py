"""Conditional GAN on MNIST, sized for a CPU: labels choose the digit.

Published settings (Mirza and Osindero, arXiv:1411.1784) are those of fully connected networks; here
labels enter DCGAN networks: one-hot beside the latent, and by projection (Miyato and Koyama,
arXiv:1802.05637) in the critic. `label_accuracy` is the share of samples that the classifier takes
for what was asked. It is measured with the features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/cgan_mnist.py \
              --workdir=/tmp/genjax/cgan_mnist --config.data.data_dir=DIR
Expected: experiments/README.md has FD-mnist over the run, with the time it took on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64),
            model=dict(
                generator=dict(
                    name="dcgan",
                    channels=128,
                    min_channels=32,
                    num_classes=10,
                    conditioning="concatenation",
                ),
                critic=dict(
                    name="dcgan",
                    channels=128,
                    min_channels=32,
                    norm="batch",
                    num_classes=10,
                    conditioning="projection",
                ),
            ),
            family=dict(name="gan", loss="nonsaturating", latent_size=100, ema_half_life_kimg=5.0),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
            ),
            train=dict(
                num_steps=4000,
                log_every=50,
                best_metric="eval/fd_mnist",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall", "density_coverage", "label_accuracy"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100),
        )
    )
