"""WGAN-GP with ResNets on CIFAR-10.

Published settings (Gulrajani et al., arXiv:1704.00028, and the authors' gan_cifar_resnet): 128
channels in both networks, no normalisation in the critic, mean pooling, penalty weight 10, 5 critic
steps of 64 rows and a generator step of 128, Adam at 2e-4 falling to 0 over 100,000 steps with b1 =
0 and b2 = 0.9, data dequantised. kwotsin/mimicry reports FID 22.29 (50,000 samples).
FID and the rest need the weights of the standard FID Inception (eval.features.weights).

Command:  python scripts/run.py --config=experiments/gan/wgan_gp_cifar10.py \
              --workdir=/tmp/genjax/wgan_gp_cifar10 --config.data.data_dir=DIR
Expected: not yet trained to the end here. Aim: FID below 22.3.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=64),
            model=dict(
                generator=dict(name="resnet", channels=128),
                critic=dict(name="resnet", channels=128, norm="none", pool="mean"),
            ),
            family=dict(
                name="wgan_gp",
                penalty_weight=10.0,
                critic_steps=5,
                generator_batch_factor=2,
                latent_size=128,
                dequantize=True,
                ema_half_life_kimg=0.0,
            ),
            optimizer=dict(
                generator=dict(
                    name="adam", learning_rate=2e-4, b1=0.0, b2=0.9, decay_steps=100_000
                ),
                critic=dict(name="adam", learning_rate=2e-4, b1=0.0, b2=0.9, decay_steps=100_000),
            ),
            train=dict(
                num_steps=100_000,
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
