"""DCGAN on CIFAR-10.

Settings of PyTorch-StudioGAN: the generator of its deep_conv (3,812,355 parameters), Adam at 2e-4
with b1 = 0.5, 2 critic steps a step, batches of 64, 200,000 steps. StudioGAN reports FID 48.3 (the
best of its checkpoints; its runs collapse later). The critic is this library's DCGAN critic, not
StudioGAN's, and samples come from a moving average, which StudioGAN's do not.
FID and the rest need the weights of the standard FID Inception (eval.features.weights).

Command:  python scripts/run.py --config=experiments/gan/dcgan_cifar10.py \
              --workdir=/tmp/genjax/dcgan_cifar10 --config.data.data_dir=DIR
Expected: not yet trained to the end here. Aim: FID below 48.3.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=64),
            model=dict(
                generator=dict(name="dcgan", channels=512),
                critic=dict(name="dcgan", channels=512, norm="batch"),
            ),
            family=dict(
                name="gan",
                loss="nonsaturating",
                critic_steps=2,
                latent_size=128,
                ema_half_life_kimg=500.0,
            ),
            optimizer=dict(
                generator=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999),
            ),
            train=dict(
                num_steps=200_000,
                log_every=500,
                eval_every=10_000,
                sample_every=10_000,
                checkpoint_every=10_000,
                best_metric="eval/fid",
            ),
            eval=dict(
                batch_size=500,
                metrics=("fd", "kid", "inception_score", "precision_recall"),
                num_samples=50_000,
                reference="train",
                features=dict(name="inception", weights="/tmp/genjax/pt_inception-2015-12-05.pth"),
            ),
            sample=dict(num_samples=100),
        )
    )
