r"""Attacks: rows within a small ball around given ones, at which a loss is large.

They are functions of a loss of rows, and know of no network. ``epsilon``, ``step_size`` and the box
``[low, high]`` are in the units of the rows that the loss takes: of images in [-1, 1] the published
0.3 of [0, 1] is 0.6. Nothing is drawn here: a random start comes in from outside.

References:
    Goodfellow et al., Explaining and Harnessing Adversarial Examples, arXiv:1412.6572.
    Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv:1706.06083.
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import check_same_shape, per_row, sum_event, widened

RowLoss: TypeAlias = Callable[[Array], Array]
"""Rows ``[B, *event]`` to the loss of each, ``[B]``; a row's loss depends on no other row."""
Norm: TypeAlias = Literal["linf", "l2"]
"""What is at most ``epsilon``: the largest change of an entry, or the root of the sum of squares of
all entries of a row."""


def attack_step(
    loss_fn: RowLoss,
    x: Float[Array, "B *event"],
    origin: Float[Array, "B *event"],
    *,
    epsilon: float,
    step_size: float,
    norm: Norm = "linf",
    low: float = -math.inf,
    high: float = math.inf,
) -> Float[Array, "B *event"]:
    r"""One step up the loss, and back into the ball around the origin and into the box.

    Args:
        loss_fn: The loss to make large.
        x: Where to step from, ``[B, *event]``.
        origin: The rows that are attacked, ``[B, *event]``, inside of the box.
        epsilon: Radius of the ball, in units of the rows.
        step_size: Length of the step in the same norm: each entry moves by it (``"linf"``), or the
            row does (``"l2"``).
        norm: Norm of the ball.
        low: Lower end of the box.
        high: Upper end of the box.

    Returns:
        The rows, ``[B, *event]``.

    Raises:
        ValueError: If a number is negative, the norm unknown, the box empty, or the shapes differ.
    """
    if epsilon < 0.0 or step_size < 0.0:
        raise ValueError(
            f"epsilon and step_size must not be negative, got {epsilon} and {step_size}"
        )
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be 'linf' or 'l2', got {norm!r}")
    if low >= high:
        raise ValueError(f"the box from low {low} to high {high} is empty")
    x, origin = widened(x), widened(origin)
    check_same_shape(x=x, origin=origin)
    slope = jax.grad(lambda rows: jnp.sum(widened(loss_fn(rows))))(x)
    up = jnp.sign(slope) if norm == "linf" else _scaled(slope, 1.0, largest=False)
    moved = origin + _in_ball(x + step_size * up - origin, epsilon, norm)
    # Clipped to a box that holds the origin, no entry moves away from it: the ball is not left.
    return jnp.clip(moved, low, high)


def _in_ball(change: Array, epsilon: float, norm: Norm) -> Array:
    """Changes of rows, brought into the ball."""
    if norm == "linf":
        return jnp.clip(change, -epsilon, epsilon)
    return _scaled(change, epsilon, largest=True)


def _scaled(rows: Array, length: float, *, largest: bool) -> Array:
    """Rows at a Euclidean length, or at most at it; rows of zeros stay."""
    squares = sum_event(jnp.square(rows))
    norms = jnp.sqrt(jnp.where(squares > 0.0, squares, 1.0))
    factor = length / norms
    return per_row(jnp.minimum(factor, 1.0) if largest else factor, rows) * rows


def pgd(
    loss_fn: RowLoss,
    x: Float[Array, "B *event"],
    *,
    epsilon: float,
    step_size: float,
    num_steps: int,
    start: Float[Array, "B *event"] | None = None,
    norm: Norm = "linf",
    low: float = -math.inf,
    high: float = math.inf,
) -> Float[Array, "B *event"]:
    """Projected gradient ascent on a loss of rows.

    The steps are written out one by one, since convolutions are slow in loops on CPUs; for more
    than ten or so compile :func:`attack_step` and call it in a loop of yours.

    Args:
        loss_fn: The loss to make large, of decisions at hand a cross-entropy of logits. (The log of
            probabilities has no slope where a decision is sure, and what has none looks robust.)
        x: Rows, ``[B, *event]``, inside of the box.
        epsilon: Radius of the ball, in units of the rows.
        step_size: Length of a step.
        num_steps: Number of steps.
        start: What is added to ``x`` before the first gradient is taken, such as
            ``jax.random.uniform(key, x.shape, minval=-epsilon, maxval=epsilon)``, and brought into
            the ball; the box is for what a step ends at, as in published training. None for
            nothing.
        norm: Norm of the ball and of the steps.
        low: Lower end of the box.
        high: Upper end of the box.

    Returns:
        The attacked rows, ``[B, *event]``, in ball and box to rounding.

    Raises:
        ValueError: As :func:`attack_step`, or if ``num_steps`` is not positive.

    Example:
        >>> pgd(lambda x: x[:, 0] - x[:, 1], jnp.zeros((1, 2)), epsilon=0.3, step_size=0.2,
        ...     num_steps=3, low=0.0, high=1.0)
        Array([[0.3, 0. ]], dtype=float32)

    References:
        Madry et al., arXiv:1706.06083, section 2.1.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    origin = widened(x)
    x = origin
    if start is not None:
        start = widened(start)
        check_same_shape(x=x, start=start)
        x = origin + _in_ball(start, epsilon, norm)
    for _ in range(num_steps):
        x = attack_step(
            loss_fn, x, origin, epsilon=epsilon, step_size=step_size, norm=norm, low=low, high=high
        )
    return x


def fgsm(
    loss_fn: RowLoss,
    x: Float[Array, "B *event"],
    *,
    epsilon: float,
    step_size: float | None = None,
    start: Float[Array, "B *event"] | None = None,
    norm: Norm = "linf",
    low: float = -math.inf,
    high: float = math.inf,
) -> Float[Array, "B *event"]:
    """The fast gradient sign method: one step, to the surface of the ball.

    Args:
        loss_fn: The loss to make large.
        x: Rows, ``[B, *event]``, inside of the box.
        epsilon: Radius of the ball, in units of the rows.
        step_size: Length of the step; ``epsilon`` if None, which from the middle reaches any corner
            of the ball. From a random start 1.25 times that is published.
        start: What is added to ``x`` before the gradient is taken, as of :func:`pgd`.
        norm: Norm of the ball.
        low: Lower end of the box.
        high: Upper end of the box.

    Returns:
        The attacked rows, ``[B, *event]``.

    Raises:
        ValueError: As :func:`attack_step`.

    References:
        Goodfellow et al., arXiv:1412.6572, section 4; from a random start: Wong et al., Fast is
        Better than Free, arXiv:2001.03994, algorithm 3.
    """
    step_size = epsilon if step_size is None else step_size
    return pgd(
        loss_fn, x, epsilon=epsilon, step_size=step_size, num_steps=1, start=start, norm=norm,
        low=low, high=high,
    )  # fmt: skip
