"""A conditional SNGAN of the 1,797 digits of scikit-learn: no download, minutes on a CPU.

It is measured with the features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/digits.py \
              --workdir=/tmp/genjax/classifier_digits

Command:  python scripts/run.py --config=experiments/gan/digits.py --workdir=/tmp/genjax/gan_digits
Expected: FD-digits 0.75 and 99 % of samples classified as asked, in 1 min 46 s on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=64),
            model=dict(
                generator=dict(
                    name="dcgan",
                    channels=128,
                    min_channels=64,
                    num_classes=10,
                    conditioning="batch_norm",
                ),
                critic=dict(
                    name="dcgan",
                    channels=64,
                    min_channels=32,
                    norm="none",
                    spectral_norm=True,
                    num_classes=10,
                    conditioning="projection",
                ),
            ),
            family=dict(name="sngan", critic_steps=2, latent_size=64, ema_half_life_kimg=10.0),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.0, b2=0.9),
                critic=dict(name="adam", learning_rate=4e-4, b1=0.0, b2=0.9),
            ),
            train=dict(
                num_steps=6000,
                eval_every=2000,
                sample_every=2000,
                checkpoint_every=2000,
                best_metric="eval/fd_digits",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "precision_recall", "label_accuracy"),
                num_samples=1437,
                reference="train",
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_digits"),
            ),
            sample=dict(num_samples=100),
        )
    )
