r"""Domain adaptation by a game that one optimiser plays: features that do not tell the domain.

References:
    Ganin et al., Domain-Adversarial Training of Neural Networks, arXiv:1505.07818 (DANN).
    Long et al., Conditional Adversarial Domain Adaptation, arXiv:1705.10667 (CDAN).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from genjax.losses.arrays import paired, widened


@jax.custom_vjp
def reverse_gradient(x: Float[Array, "*shape"], factor: Float[Array, ""]) -> Float[Array, "*shape"]:
    r"""The identity, whose gradient is multiplied by :math:`-\lambda` on its way back.

    What follows it descends on a loss that what precedes it ascends on, with one optimiser.

    Args:
        x: Anything, of any shape.
        factor: :math:`\lambda \ge 0`; itself without a gradient.

    Returns:
        ``x``.

    Example:
        >>> jax.grad(lambda x: reverse_gradient(x, jnp.array(0.5)) ** 2)(jnp.array(3.0))
        Array(-3., dtype=float32)

    References:
        Ganin et al., arXiv:1505.07818, equations 16 and 17.
    """
    del factor
    return x


def _forward(x: Any, factor: Any) -> tuple[Any, Any]:
    return x, factor


def _backward(factor: Any, gradient: Any) -> tuple[Any, Any]:
    return (-factor * gradient).astype(gradient.dtype), jnp.zeros_like(factor)


reverse_gradient.defvjp(_forward, _backward)


def reversal_schedule(
    step: Real[Array, "*shape"], num_steps: int, *, steepness: float = 10.0
) -> Float[Array, "*shape"]:
    r"""How strongly gradients are reversed: :math:`2 / (1 + e^{-\gamma p}) - 1`.

    The domain is told apart badly at first, and what it says then is noise to the features.

    Args:
        step: Training steps taken, of any shape.
        num_steps: Steps over which the share :math:`p` grows from 0 to 1, where it stays. A fixed
            number, so that a longer run is not another one.
        steepness: :math:`\gamma > 0`; 10 in the paper.

    Returns:
        :math:`\lambda`, from 0 to almost 1.

    Raises:
        ValueError: If ``num_steps`` or ``steepness`` is not positive.

    Example:
        >>> reversal_schedule(jnp.array([0, 100, 1000]), 1000).round(3)
        Array([0.   , 0.462, 1.   ], dtype=float32)

    References:
        Ganin et al., arXiv:1505.07818, section 5.2.2.
    """
    if num_steps < 1 or steepness <= 0.0:
        raise ValueError(
            f"num_steps and steepness must be positive, got {num_steps} and {steepness}"
        )
    share = jnp.minimum(widened(step) / num_steps, 1.0)
    # 2 / (1 + exp(-a)) - 1, exactly 0 at 0.
    return jnp.tanh(0.5 * steepness * share)


def domain_loss(
    logits: Float[Array, "*shape"], from_source: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Cross-entropy of a classifier of the domain, in nats; log 2 where it knows nothing.

    Args:
        logits: Log-odds that a row is of the source, of any shape.
        from_source: 1 for rows of the source, 0 for those of the target, of the same shape.

    Returns:
        The loss of each row, of the same shape.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> domain_loss(jnp.zeros(2), jnp.array([1.0, 0.0]))
        Array([0.6931472, 0.6931472], dtype=float32)
    """
    logits, from_source = paired(logits=logits, from_source=from_source)
    return jax.nn.softplus(logits) - from_source * logits


def entropy_weights(
    logits: Float[Array, "B K"], *, axis_name: tuple[str, ...] = ()
) -> Float[Array, " B"]:
    r"""Weights :math:`1 + e^{-H(p)}` of the rows of one domain, divided by their mean.

    Rows of sure decisions count up to twice as much in the game as those of unsure ones.

    Args:
        logits: Logits of the classes, ``[B, K]``, of rows of one domain.
        axis_name: Axes that rows are mapped over, whose mean is meant.

    Returns:
        Weights of mean 1, ``[B]``, through which no gradient flows.

    Raises:
        ValueError: If the logits are not ``[B, K]``.

    Example:
        >>> entropy_weights(jnp.array([[0.0, 0.0], [5.0, 5.0]]))
        Array([1., 1.], dtype=float32)

    References:
        Long et al., arXiv:1705.10667, equation 10.
    """
    logs = jax.nn.log_softmax(_of_classes(logits))
    # 0 log 0 is 0: logs are finite unless a logit is infinite.
    entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
    weights = 1.0 + jnp.exp(-entropy)
    mean = jnp.mean(weights)
    mean = jax.lax.pmean(mean, axis_name) if axis_name else mean
    return jax.lax.stop_gradient(weights / mean)


def multilinear_features(
    features: Float[Array, "B F"], logits: Float[Array, "B K"]
) -> Float[Array, "B KF"]:
    """Products of all features and all class probabilities: what a conditional game is about.

    Args:
        features: Features, ``[B, F]``.
        logits: Logits of the classes, ``[B, K]``; no gradient flows into them.

    Returns:
        ``[B, K F]``, the features of the first class first.

    Raises:
        ValueError: If rows or axes do not fit.

    Example:
        >>> multilinear_features(jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2)))
        Array([[0.5, 1.5, 0.5, 1.5]], dtype=float32)

    References:
        Long et al., arXiv:1705.10667, equation 5.
    """
    features, logits = widened(features), _of_classes(logits)
    if features.ndim != 2 or len(features) != len(logits):
        raise ValueError(
            f"expected features [B, F] and logits [B, K] of as many rows, got "
            f"{list(features.shape)} and {list(logits.shape)}"
        )
    shares = jax.lax.stop_gradient(jax.nn.softmax(logits))
    return (shares[:, :, None] * features[:, None, :]).reshape(len(features), -1)


def _of_classes(logits: Array) -> Array:
    logits = widened(logits)
    if logits.ndim != 2:
        raise ValueError(f"expected logits of classes [B, K], got shape {list(logits.shape)}")
    return logits
