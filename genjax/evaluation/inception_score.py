"""Inception score, of any classifier."""

import numpy as np
from scipy.special import log_softmax

from genjax.evaluation.arrays import check_features


def inception_score(logits: np.ndarray, *, num_splits: int = 10) -> tuple[float, float]:
    r"""Exponential of the mutual information of sample and predicted class.

    Args:
        logits: Logits of a classifier of ``K`` classes on the samples, ``[N, K]``.
        num_splits: Number of parts that the samples are cut into, in order; 10 in the paper.

    Returns:
        Mean and standard deviation over the parts, between 1 and ``K``.

    Raises:
        ValueError: If there are fewer rows than parts.

    Example:
        >>> round(inception_score(100.0 * np.eye(10), num_splits=1)[0], 4)
        10.0

    References:
        Salimans et al., Improved Techniques for Training GANs, arXiv:1606.03498, section 4.
    """
    (rows,) = check_features(logits, least=num_splits)
    log_p = log_softmax(rows, axis=1)
    scores = []
    for part in np.array_split(log_p, num_splits):
        p = np.exp(part)
        # A class that no sample is given has p log p = 0 in every term; the log only has to be
        # finite.
        marginal = p.mean(0)
        log_marginal = np.log(np.maximum(marginal, np.finfo(np.float64).tiny))
        # The mean over samples of KL(p(class | sample) || p(class)); rounding may take it below 0.
        scores.append(np.exp(max((p * (part - log_marginal)).sum(1).mean(), 0.0)))
    return float(np.mean(scores)), float(np.std(scores))
