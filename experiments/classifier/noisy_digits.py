"""A classifier of noisy digits at all times of a process, whose slope guides diffusion models.

Command:  python scripts/run.py --config=experiments/classifier/noisy_digits.py \
              --workdir=/tmp/genjax/classifier_noisy_digits
Expected: 57 +- 1 % errors as a mean over all times of the process on the 360 test digits (of
          noise there is much: 23 % at time 0.25, 74 % at 0.5), in a minute on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=128),
            model=dict(name="conv_classifier", num_classes=10, channels=32, num_halvings=1),
            family=dict(name="classifier", process=dict(name="vp"), ema_decay=0.99),
            optimizer=dict(name="adamw", learning_rate=1e-3, warmup_steps=50, weight_decay=1e-2),
            train=dict(
                num_steps=2000,
                log_every=50,
                eval_every=500,
                sample_every=0,
                checkpoint_every=500,
                best_metric="eval/cross_entropy",
            ),
            eval=dict(batch_size=360, num_times=8),
        )
    )
