"""Domain adaptation between MNIST and the 1,797 digits of scikit-learn, both ways.

The digits of scikit-learn are enlarged to MNIST's frame (``digits_28``). After a colon: the way
(``to_digits`` from MNIST, ``to_mnist`` from the digits), a comma, and the method (``dann``,
``cdan`` or ``source_only``). ``eval/target_error`` is the error on the target's test images in the
last step. Of the like pair MNIST and USPS Ganin's method is published with 77.1 and 73.0 % accuracy
there and back by Tzeng et al., arXiv:1702.05464, table 2 (source only: 75.2 and 57.1 %), and CDAN+E
with 95.6 and 98.0 % by Long et al., arXiv:1705.10667, table 3.

Command:  python scripts/run.py --config=experiments/adaptation/digits_mnist.py:to_mnist,dann \
              --workdir=/tmp/genjax/digits_mnist_dann --config.data.data_dir=DIR
Expected: not measured yet.
"""

from typing import Any

from ml_collections import ConfigDict

WAYS = {"to_digits": ("mnist", "digits_28"), "to_mnist": ("digits_28", "mnist")}
METHODS = ("dann", "cdan", "source_only")


def get_config(task: str = "to_mnist,dann") -> ConfigDict:
    """Returns the config.

    Args:
        task: The way and the method, with a comma between them.

    Raises:
        ValueError: If there is no such task.
    """
    way, _, method = task.partition(",")
    if way not in WAYS or method not in METHODS:
        valid = [f"{way},{method}" for way in WAYS for method in METHODS]
        raise ValueError(f"the task must be one of {' '.join(valid)}, got {task!r}")
    source, target = WAYS[way]
    num_steps = 2000
    adapting = method != "source_only"
    net: dict[str, Any] = dict(name="plain_conv")
    model = dict(net=net, domain_net=dict(name="domain_mlp")) if adapting else net
    return ConfigDict(
        dict(
            data=dict(name=source, batch_size=64, streams=dict(target=dict(name=target))),
            model=model,
            family=dict(name=method, ramp_steps=num_steps) if adapting else dict(name="classifier"),
            optimizer=dict(name="adam", learning_rate=1e-3, b1=0.9),
            train=dict(
                num_steps=num_steps,
                eval_every=num_steps,
                sample_every=0,
                best_metric="eval/error",
            ),
            eval=dict(batch_size=360, streams=("target",)),
        )
    )
