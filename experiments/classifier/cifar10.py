"""A small classifier of CIFAR-10, whose features measure images ("FD-cifar10", never FID).

Command:  python scripts/run.py --config=experiments/classifier/cifar10.py \
              --workdir=/tmp/genjax/classifier_cifar10 --config.data.data_dir=DIR
Expected: has not been trained here yet; of use where no Inception weights are at hand.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="cifar10", batch_size=128),
            model=dict(
                name="conv_classifier",
                num_classes=10,
                channels=64,
                num_halvings=3,
                num_features=128,
            ),
            family=dict(name="classifier", ema_decay=0.99),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
            train=dict(
                num_steps=10_000,
                log_every=50,
                eval_every=2000,
                sample_every=0,
                checkpoint_every=2000,
                best_metric="eval/error",
            ),
            eval=dict(batch_size=500),
        )
    )
