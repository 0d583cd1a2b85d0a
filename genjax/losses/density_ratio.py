"""Density ratios from classifiers."""

import math

from jaxtyping import Array, Float

from genjax.losses.arrays import widened


def log_density_ratio(
    logits: Float[Array, "*shape"], num_numerator: int, num_denominator: int
) -> Float[Array, "*shape"]:
    r"""Log density ratio :math:`\log p/q` from the logit of a classifier that tells p from q.

    Args:
        logits: Log-odds of "from p" of a classifier trained with cross-entropy, any shape.
        num_numerator: Examples of p it was trained on.
        num_denominator: Examples of q it was trained on.

    Returns:
        :math:`v + \log(n_q / n_p)`: the classifier's prior odds are taken out.

    Raises:
        ValueError: If a count is not positive.

    Example:
        >>> log_density_ratio(jnp.array([0.0]), num_numerator=100, num_denominator=100)
        Array([0.], dtype=float32)

    References:
        Sugiyama et al., Density Ratio Estimation in Machine Learning, 2012, chapter 4.
    """
    for name, count in [("num_numerator", num_numerator), ("num_denominator", num_denominator)]:
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    # Bayes' rule: the log-odds are log p/q plus the log ratio of the two counts.
    return widened(logits) + math.log(num_denominator / num_numerator)
