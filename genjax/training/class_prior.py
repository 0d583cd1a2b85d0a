"""How probable classes are before anything is seen, for classifiers made of densities."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from genjax.data import column
from genjax.training.experiment import Experiment

Prior: TypeAlias = Literal["train", "uniform"] | ArrayLike
"""Probabilities of classes: their shares in training, all alike, or numbers ``[C]``."""


def class_log_prior(experiment: Experiment, prior: Prior) -> np.ndarray:
    """Logarithms of the probabilities of the classes.

    Args:
        experiment: Of a family that scores rows given their label.
        prior: The probabilities. Of a training split that is decoded row by row, whose labels are
            not at hand, ``"train"`` is not known: say ``"uniform"``.

    Returns:
        ``[C]``, float64; -inf for classes that do not occur.

    Raises:
        ValueError: If the family has no likelihood given labels, or these are no probabilities.
    """
    family = experiment.family
    if family.log_prob is None or "label" not in family.reads or "label" in family.steers:
        raise ValueError(
            "classes are told apart by log p(x | y): this model has no likelihood of rows given "
            "their label; train one with model.num_classes, or model.context_size of a flow"
        )
    count = experiment.spec["label"].num_classes
    assert count is not None  # class ids have their number
    if isinstance(prior, str) and prior == "uniform":
        return np.full(count, -np.log(count))
    if isinstance(prior, str):
        labels = column(experiment.train_data.source, "label")
        if prior != "train":
            raise ValueError(f"prior must be train, uniform or numbers [C], got {prior!r}")
        if labels is None:
            raise ValueError(
                "prior: the labels of this training split are not at hand: say uniform"
            )
        shares = np.bincount(labels, minlength=count) / len(labels)
    else:
        shares = np.asarray(prior, np.float64)
    if shares.shape != (count,) or not (shares >= 0.0).all() or abs(shares.sum() - 1.0) > 1e-6:
        raise ValueError(f"prior: expected {count} probabilities that sum to 1, got {shares}")
    with np.errstate(divide="ignore"):
        return np.log(shares)
