"""Adversaries that a classifier is trained against: attacks on the rows of each batch."""

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.losses.attacks import Norm, RowLoss, fgsm, pgd


@runtime_checkable
class Adversary(Protocol):
    """What moves rows so that their loss becomes large."""

    def attack(
        self, loss_fn: RowLoss, x: Array, key: PRNGKeyArray, *, low: float, high: float
    ) -> Array:
        """Attacked rows ``[B, *event]``, from which no gradient flows back.

        Args:
            loss_fn: Loss of each row, ``[B, *event] -> [B]``.
            x: Rows: grey levels in [0, 1], or real numbers as they are.
            key: Key of the random start.
            low: Lower end of the box.
            high: Upper end of it.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class FGSM:
    """One step of the sign of the gradient from a uniform start.

    Attributes:
        epsilon: Largest change of an entry: of grey levels as a share of the range from black to
            white, of real numbers in units of what the network sees.
        step_size: Length of the step; 1.25 times ``epsilon`` if None. Longer ones overfit to the
            attack at some point in training, after which others find what it does not.
        random_start: Whether to begin anywhere in the ball; from its middle the published networks
            learn nothing that withstands more than one step.

    References:
        Wong et al., Fast is Better than Free, arXiv:2001.03994, algorithm 3.
    """

    epsilon: float
    step_size: float | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        _check(self)

    def attack(
        self, loss_fn: RowLoss, x: Array, key: PRNGKeyArray, *, low: float, high: float
    ) -> Array:
        """Attacked rows ``[B, *event]``."""
        size = 1.25 * self.epsilon if self.step_size is None else self.step_size
        found = fgsm(
            loss_fn, x, epsilon=self.epsilon, step_size=size, start=_start(self, x, key), low=low,
            high=high,
        )  # fmt: skip
        return jax.lax.stop_gradient(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PGD:
    """Several steps, each brought back into the ball.

    Attributes:
        epsilon: Radius of the ball, in the units of :class:`FGSM`.
        num_steps: Number of steps, each as long to compute as a step of training.
        step_size: Length of a step; 2.5 times ``epsilon`` over the number of steps if None.
        norm: Norm of the ball: the largest entry (``"linf"``), or the length of a row (``"l2"``).
        random_start: Whether to begin anywhere in the ball.

    References:
        Madry et al., arXiv:1706.06083, section 2.1.
    """

    epsilon: float
    num_steps: int = 7
    step_size: float | None = None
    norm: Norm = "linf"
    random_start: bool = True

    def __post_init__(self) -> None:
        _check(self)
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def attack(
        self, loss_fn: RowLoss, x: Array, key: PRNGKeyArray, *, low: float, high: float
    ) -> Array:
        """Attacked rows ``[B, *event]``."""
        size = 2.5 * self.epsilon / self.num_steps if self.step_size is None else self.step_size
        found = pgd(
            loss_fn, x, epsilon=self.epsilon, step_size=size, num_steps=self.num_steps,
            start=_start(self, x, key), norm=self.norm, low=low, high=high,
        )  # fmt: skip
        return jax.lax.stop_gradient(found)


def moved(
    adversary: Adversary, loss_fn: RowLoss, x: Array, num_levels: int | None, key: PRNGKeyArray
) -> Array:
    """Rows of data as an adversary moves them, and as classifiers take them.

    Args:
        adversary: The adversary, whose units are shares of the range of grey levels.
        loss_fn: Loss of each of some rows as the network takes them.
        x: Rows, ``[B, *event]``.
        num_levels: Number of grey levels; None for real numbers.
        key: Key of the random start.

    Returns:
        The moved rows, ``[B, *event]``: grey levels in [-1, 1], real numbers as they are.
    """
    low, high = -math.inf, math.inf
    if num_levels is not None:
        x, low, high = x.astype(jnp.float32) / (num_levels - 1), 0.0, 1.0
    found = adversary.attack(
        lambda rows: loss_fn(of_shares(rows, num_levels)), x, key, low=low, high=high
    )
    return of_shares(found, num_levels)


def of_shares(rows: Float[Array, "B *event"], num_levels: int | None) -> Float[Array, "B *event"]:
    """Rows as classifiers take them, of shares of the range of grey levels; others stay."""
    return rows if num_levels is None else 2.0 * rows - 1.0


def _check(adversary: Any) -> None:
    if adversary.epsilon < 0.0 or (adversary.step_size or 0.0) < 0.0:
        raise ValueError(
            f"epsilon and step_size must not be negative, got {adversary.epsilon} and "
            f"{adversary.step_size}"
        )


def _start(adversary: Any, x: Array, key: PRNGKeyArray) -> Array | None:
    """Uniform changes of each entry."""
    if not adversary.random_start:
        return None
    return adversary.epsilon * jax.random.uniform(key, x.shape, x.dtype, minval=-1.0)
