"""A small classifier of MNIST, whose features measure generated digits ("FD-mnist", never FID).

Command:  python scripts/run.py --config=experiments/classifier/mnist.py \
              --workdir=/tmp/genjax/classifier_mnist --config.data.data_dir=DIR
Expected: 0.83 +- 0.09 % errors on the test images, in about a minute on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="mnist", batch_size=128),
            model=dict(name="conv_classifier", num_classes=10, channels=16, num_features=64),
            family=dict(name="classifier", ema_decay=0.99),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup_steps=100, weight_decay=1e-4),
            train=dict(
                num_steps=1500,
                log_every=50,
                eval_every=500,
                sample_every=0,
                checkpoint_every=500,
                best_metric="eval/error",
            ),
            eval=dict(batch_size=500),
        )
    )
