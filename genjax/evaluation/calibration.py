"""Whether the probabilities of classes are right: accuracy, likelihood, calibration."""

import math

import numpy as np
from scipy.special import log_softmax


def class_probabilities(class_log_probs: np.ndarray) -> np.ndarray:
    """Probabilities of classes given rows, by Bayes' rule.

    Args:
        class_log_probs: ``log p(x|y) + log p(y)``, or any logits, ``[N, C]``; -inf for classes that
            cannot be.

    Returns:
        ``p(y|x)``, ``[N, C]``, float64.

    Raises:
        ValueError: If these are no such rows.

    Example:
        >>> class_probabilities(np.array([[-1000.0, -1000.0]]))
        array([[0.5, 0.5]])
    """
    return np.exp(log_softmax(_checked(class_log_probs), axis=1))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15
) -> dict[str, np.ndarray]:
    """How often decisions are right, by how certain they are said to be.

    Args:
        probabilities: Of classes, ``[N, C]``.
        labels: The true class ids, ``[N]``.
        num_bins: Bins of equal width on [0, 1], open below and closed above.

    Returns:
        ``count``, and the means ``confidence`` and ``accuracy`` of each bin, ``[num_bins]``; NaN
        where a bin is empty.

    Raises:
        ValueError: If shapes do not fit or rows do not sum to 1.

    References:
        Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599, equations 1 and 2.
    """
    probabilities, labels = _with_labels(probabilities, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    if probabilities.min() < 0.0 or np.abs(probabilities.sum(1) - 1.0).max() > 1e-4:
        raise ValueError(
            "expected probabilities that sum to 1 in each row: see class_probabilities"
        )
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    count = np.bincount(place, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        return {
            "count": count,
            "confidence": np.bincount(place, confidence, num_bins) / count,
            "accuracy": np.bincount(place, right, num_bins) / count,
        }


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, num_bins: int = 15
) -> float:
    """Mean over rows of the difference of confidence and accuracy in their bins.

    Args:
        probabilities: Of classes, ``[N, C]``.
        labels: The true class ids, ``[N]``.
        num_bins: Bins of equal width. Of few rows the error is above 0 although probabilities are
            right, and more so with more bins.

    Returns:
        The error, in [0, 1].

    Raises:
        ValueError: As :func:`reliability`.

    Example:
        >>> expected_calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1]))
        0.0

    References:
        Guo et al., arXiv:1706.04599, equation 3.
    """
    found = reliability(probabilities, labels, num_bins)
    gaps = np.nan_to_num(np.abs(found["confidence"] - found["accuracy"]))
    return float((found["count"] * gaps).sum() / found["count"].sum())


def classification_scores(
    class_log_probs: np.ndarray, labels: np.ndarray, num_bins: int = 15
) -> dict[str, float]:
    """How good a classifier is, and how well it knows that.

    Args:
        class_log_probs: ``log p(x|y) + log p(y)``, or any logits, ``[N, C]``.
        labels: The true class ids, ``[N]``.
        num_bins: Bins of the calibration error.

    Returns:
        ``accuracy`` with ``accuracy_stderr``; ``nats``, the mean of ``-log p(y|x)``; ``brier``, the
        squared error of the probabilities summed over classes; ``confidence``, the mean of the
        largest probability; and ``calibration_error``, in [0, 1].

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> scores = classification_scores(np.log([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
        >>> scores["accuracy"], round(scores["nats"], 4)
        (1.0, 0.1643)
    """
    logs, labels = _with_labels(_checked(class_log_probs), labels)
    logs = log_softmax(logs, axis=1)
    rows, probabilities = np.arange(len(logs)), np.exp(logs)
    right = (logs.argmax(1) == labels).astype(np.float64)
    target = np.zeros_like(probabilities)
    target[rows, labels] = 1.0
    return {
        "accuracy": float(right.mean()),
        "accuracy_stderr": float(right.std() / math.sqrt(len(right))),
        "nats": float(-logs[rows, labels].mean()),
        "brier": float(((probabilities - target) ** 2).sum(1).mean()),
        "confidence": float(probabilities.max(1).mean()),
        "calibration_error": expected_calibration_error(probabilities, labels, num_bins),
    }


def _checked(logs: np.ndarray) -> np.ndarray:
    logs = np.asarray(logs, np.float64)
    if logs.ndim != 2 or not logs.size:
        raise ValueError(f"expected one number a row and class [N, C], got shape {logs.shape}")
    if not (logs < np.inf).all() or not np.isfinite(logs.max(1)).all():  # NaN is not below, either
        raise ValueError("log-probabilities of classes hold NaN, inf or a row of -inf alone")
    return logs


def _with_labels(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, labels = np.asarray(rows, np.float64), np.asarray(labels)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(
            f"expected rows [N, C] and labels [N], got shapes {rows.shape} and {labels.shape}"
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= rows.shape[1]:
        raise ValueError(f"expected class ids from 0 to {rows.shape[1] - 1} as whole numbers")
    return rows, labels
