"""A GAN of 1,000 images of MNIST, with and without adaptive discriminator augmentation.

With so few images the critic learns them by heart: it gives positive scores to nearly all real rows
that it trains on (`train/real_sign` near 1), and samples get worse from then on. Augmentation whose
strength follows that sign (`train/augment_strength`) is to put it off: Karras et al.,
arXiv:2006.06676, figure 7. Here the strength grows five times as fast as published, as the run is
short, and to 0.8 at most, beyond which turned and mirrored digits may leak into samples. It is
measured with the features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/ada_mnist.py \
              --workdir=/tmp/genjax/ada_mnist --config.data.data_dir=DIR

The file takes the name of a setting: `--config=experiments/gan/ada_mnist.py:none` is the same game
without augmentation, `:diff_augment` with DiffAugment at full strength; SETTINGS has them all.
There is no penalty: with R1 of 0.1 the critic does not learn 1,000 images by heart within 8,000
steps (a StyleGAN2 with R1 of 10 does not in 5,000, and with 1 it collapses from the start).
Expected: `none` has its least FD-mnist, 14.4, at step 8,000 and 37.2 at 20,000; `ada` has 21.4
          there, in 27 minutes of CPU time (experiments/README.md).
"""

from typing import Any

from ml_collections import ConfigDict

SETTINGS: dict[str, dict[str, Any]] = {
    "ada": dict(augment=dict(name="adaptive", speed_kimg=100.0, max_strength=0.8)),
    "none": dict(),
    "diff_augment": dict(augment=dict(name="fixed", strength=1.0, pipeline="diff_augment")),
}


def get_config(setting: str = "ada") -> ConfigDict:
    """Returns the config of a setting of :data:`SETTINGS`."""
    if setting not in SETTINGS:
        raise ValueError(f"the setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    small = dict(name="dcgan", channels=64, min_channels=32)
    adam = dict(name="adam", learning_rate=5e-4, b1=0.0, b2=0.99)
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=64, train_split="train[:1000]"),
            model=dict(generator=small, critic=dict(small, norm="none")),
            family=dict(
                name="gan",
                loss="nonsaturating",
                latent_size=64,
                ema_half_life_kimg=5.0,
                **SETTINGS[setting],
            ),
            optimizer=dict(generator=adam, critic=adam),
            train=dict(num_steps=20_000, best_metric="eval/fd_mnist"),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "precision_recall"),
                features=dict(name="classifier", workdir="/tmp/genjax/classifier_mnist"),
            ),
            sample=dict(num_samples=100),
        )
    )
