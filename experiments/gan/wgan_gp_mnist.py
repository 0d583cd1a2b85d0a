"""WGAN with gradient penalty on MNIST, sized for a CPU.

Published settings (Gulrajani et al., arXiv:1704.00028): Adam at 1e-4 (2e-4 for the ResNet of
CIFAR-10) with b1 = 0 and b2 = 0.9, 5 critic steps a step, penalty weight 10, no normalisation in
the critic. Here with the DCGAN networks, few channels and batches of 64. It is measured with the
features of a classifier, to be trained first:

          python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR

Command:  python scripts/run.py --config=experiments/gan/wgan_gp_mnist.py \
              --workdir=/tmp/genjax/wgan_gp_mnist --config.data.data_dir=DIR
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
                critic=dict(name="dcgan", channels=64, min_channels=32, norm="none"),
            ),
            family=dict(
                name="wgan_gp",
                penalty_weight=10.0,
                critic_steps=5,
                latent_size=128,
                ema_half_life_kimg=5.0,
            ),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.0, b2=0.9),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.0, b2=0.9),
            ),
            train=dict(
                num_steps=1500,
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
