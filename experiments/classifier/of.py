"""A small classifier of the images of another experiment, whose features measure generated ones.

The file takes the data of an experiment of yours, which is named after a colon:

Command:  python scripts/run.py --config=experiments/classifier/of.py:experiments/gan/digits.py \
              --workdir=/tmp/genjax/classifier_own
Expected: with the digits 2 to 3 % errors on the 360 test images, in half a minute on two CPU cores.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_DIGITS = str(pathlib.Path(__file__).parents[1] / "gan" / "digits.py")


def get_config(experiment: str = _DIGITS) -> ConfigDict:
    """Returns the config.

    Args:
        experiment: Path of an experiment file, with its argument after a colon if it takes one.
    """
    path, _, argument = experiment.partition(":")
    theirs = runpy.run_path(path)["get_config"](*([argument] if argument else []))
    return ConfigDict(
        dict(
            data=dict(theirs["data"]),
            model=dict(name="conv_classifier", channels=16, num_features=64),
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
        )
    )
