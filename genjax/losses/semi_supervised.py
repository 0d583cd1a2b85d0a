r"""Losses of a critic that also is a classifier: C classes of data, and one of generated rows.

Its outputs are ``C + 1`` logits :math:`l`, of which the last, :math:`l_{C+1}`, is that of
"generated". Adding a number to all of them changes nothing, so one may be held at 0
(:func:`with_generated_logit`): a network of C outputs then is a classifier and a critic at once.
The critic minimises the sum of three losses, of labelled, unlabelled and generated rows; the
generator :func:`unlabelled_loss` of its own rows, or :func:`feature_matching_loss`.

The log-odds of being data, :math:`v = \log\sum_{c \le C} e^{l_c} - l_{C+1}`, are what a critic of
:mod:`~genjax.losses.adversarial` gives: for the optimal critic they are the log density ratio
:math:`\log p/q`.

References:
    Salimans et al., Improved Techniques for Training GANs, arXiv:1606.03498, sections 3.1 and 5;
    Odena, arXiv:1606.01583.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.losses.arrays import check_same_shape, widened


def with_generated_logit(class_logits: Float[Array, "B C"]) -> Float[Array, "B K"]:
    """Appends the logit of "generated", held at 0.

    Args:
        class_logits: Logits of the classes, ``[B, C]``.

    Returns:
        The same and a last one of 0, ``[B, C + 1]``.

    Raises:
        ValueError: If they are not rows of logits.

    Example:
        >>> with_generated_logit(jnp.ones((1, 2)))
        Array([[1., 1., 0.]], dtype=float32)

    References:
        Salimans et al., arXiv:1606.03498, section 5.
    """
    logits = _rows(class_logits, 1)
    return jnp.concatenate([logits, jnp.zeros_like(logits[:, :1])], axis=1)


def real_log_odds(logits: Float[Array, "B K"]) -> Float[Array, " B"]:
    r"""Log-odds of being data, whatever its class.

    Args:
        logits: Logits of the classes and of "generated", ``[B, C + 1]``.

    Returns:
        :math:`\log(1 - p_{C+1}) - \log p_{C+1}`, ``[B]``.

    Raises:
        ValueError: If there are fewer than two logits.

    Example:
        >>> real_log_odds(jnp.zeros((1, 2)))
        Array([0.], dtype=float32)
    """
    logits = _rows(logits, 2)
    return jax.nn.logsumexp(logits[:, :-1], axis=1) - logits[:, -1]


def labelled_loss(
    logits: Float[Array, "B K"], label: Int[Array, " B"], *, given_real: bool
) -> Float[Array, " B"]:
    r"""What the critic minimises on rows whose class is known.

    Args:
        logits: Logits of the classes and of "generated", ``[B, C + 1]``.
        label: Class ids from 0, of which ``C`` would be "generated", ``[B]``.
        given_real: Whether the class is asked for given that the row is data, so that ``l_{C+1}``
            does not matter.

    Returns:
        :math:`-\log p(y|x)` of all ``C + 1`` classes, or, given that it is data,
        :math:`-\log p(y|x, y \le C)`, ``[B]`` in nats.

    Raises:
        ValueError: If rows do not fit, or labels are no whole numbers.

    Example:
        >>> labelled_loss(jnp.zeros((1, 2)), jnp.zeros(1, int), given_real=False)
        Array([0.6931472], dtype=float32)

    References:
        Salimans et al., arXiv:1606.03498, section 5: with the condition.
    """
    logits, label = _rows(logits, 2), jnp.asarray(label)
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise ValueError(f"expected class ids as whole numbers, got {label.dtype}")
    check_same_shape(logits_of_label=logits[:, 0], label=label)
    kept = logits[:, :-1] if given_real else logits
    found = jnp.take_along_axis(jax.nn.log_softmax(kept, axis=1), label[:, None], axis=1)
    return -found[:, 0]


def unlabelled_loss(logits: Float[Array, "B K"]) -> Float[Array, " B"]:
    r"""What the critic minimises on rows of data whose class is not known.

    A generator that wants its rows to be taken for data, of any class, minimises it on them.

    Args:
        logits: Logits of the classes and of "generated", ``[B, C + 1]``.

    Returns:
        :math:`-\log(1 - p_{C+1}(x))`, ``[B]`` in nats.

    Raises:
        ValueError: If there are fewer than two logits.

    Example:
        >>> unlabelled_loss(jnp.zeros((1, 2)))
        Array([0.6931472], dtype=float32)

    References:
        Salimans et al., arXiv:1606.03498, section 5.
    """
    return jax.nn.softplus(-real_log_odds(logits))


def generated_loss(logits: Float[Array, "B K"]) -> Float[Array, " B"]:
    r"""What the critic minimises on generated rows.

    Args:
        logits: Logits of the classes and of "generated", ``[B, C + 1]``.

    Returns:
        :math:`-\log p_{C+1}(\tilde x)`, ``[B]`` in nats.

    Raises:
        ValueError: If there are fewer than two logits.

    Example:
        >>> generated_loss(jnp.zeros((1, 2)))
        Array([0.6931472], dtype=float32)

    References:
        Salimans et al., arXiv:1606.03498, section 5.
    """
    return jax.nn.softplus(real_log_odds(logits))


def feature_matching_loss(
    real_features: Float[Array, "M F"],
    fake_features: Float[Array, "N F"],
    *,
    distance: Literal["squared", "absolute"] = "squared",
) -> Float[Array, ""]:
    r"""Distance of the means of a hidden layer, which a generator minimises.

    Args:
        real_features: Features of data, ``[M, F]``.
        fake_features: Features of generated rows, ``[N, F]``.
        distance: How differences of the means count: as squares, or as absolute values.

    Returns:
        :math:`\frac{1}{F}\sum_f |\mathrm{E} h_f(x) - \mathrm{E} h_f(\tilde x)|^p`, a scalar of the
        whole batch, with p 2 or 1. Its gradient is 0 where the means are equal.

    Raises:
        ValueError: If the widths differ, or the distance is unknown.

    Example:
        >>> feature_matching_loss(jnp.zeros((2, 3)), jnp.ones((4, 3)))
        Array(1., dtype=float32)

    References:
        Salimans et al., arXiv:1606.03498, section 3.1. Published code takes the mean over features:
        of squares for MNIST, of absolute values for CIFAR-10.
    """
    real, fake = _rows(real_features, 1), _rows(fake_features, 1)
    gap = [jnp.mean(rows, axis=0) for rows in (real, fake)]
    check_same_shape(real_features=gap[0], fake_features=gap[1])
    if distance not in ("squared", "absolute"):
        raise ValueError(f"distance must be 'squared' or 'absolute', got {distance!r}")
    difference = gap[0] - gap[1]
    # By the sign: the slope of jnp.abs at 0 is 1, where it should be 0.
    absolute = difference * jnp.sign(difference)
    return jnp.mean(jnp.square(difference) if distance == "squared" else absolute)


def _rows(values: Any, least: int) -> Array:
    """Rows of numbers, widened, of at least so many a row."""
    rows = widened(values)
    if rows.ndim != 2 or rows.shape[1] < least:
        raise ValueError(
            f"expected rows of at least {least} numbers [B, {least}], got shape {rows.shape}"
        )
    return rows
