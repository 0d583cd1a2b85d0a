"""Latents whose rows are nearest to given rows, found by optimisation."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax.families.base import Family, TrainState

Wrap = Callable[[Iterable[Any], int, str], Iterable[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descent:
    """How latents descend.

    Attributes:
        num_steps: Steps of Adam; 0 to leave them where they start.
        learning_rate: Its largest learning rate.
        ramp_up: Share of the steps over which the rate rises linearly from 0.
        ramp_down: Share of the steps over which it falls to 0 in the end, along half a cosine.

    Raises:
        ValueError: If a number is out of range.

    References:
        Karras et al., arXiv:1912.04958, appendix D, whose ramps these are.
    """

    num_steps: int = 200
    learning_rate: float = 0.1
    ramp_up: float = 0.05
    ramp_down: float = 0.25

    def __post_init__(self) -> None:
        if self.num_steps < 0:
            raise ValueError(f"num_steps must not be negative, got {self.num_steps}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if min(self.ramp_up, self.ramp_down) < 0.0 or self.ramp_up + self.ramp_down > 1.0:
            raise ValueError(
                "ramp_up and ramp_down must be shares of the steps, at most 1 together, got "
                f"{self.ramp_up} and {self.ramp_down}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of one of the steps, counted from 0."""
        share = (step + 1) / self.num_steps
        factor = min(1.0, share / self.ramp_up) if self.ramp_up else 1.0
        if self.ramp_down:
            left = min(1.0, (1.0 - step / self.num_steps) / self.ramp_down)
            factor *= 0.5 - 0.5 * math.cos(math.pi * left)
        return self.learning_rate * factor


class Inverter:
    """Descends with the latents of rows in batches; the step is compiled once.

    Steps are calls of one program rather than a loop within it, in which convolutions are slow on
    CPUs.

    Args:
        family: The family.
        batch_size: Most rows at a time.
        progress: ``(items, total, label) -> items``, to show progress.

    Raises:
        ValueError: If the family does not make rows of latents in one pass.
    """

    def __init__(self, family: Family, batch_size: int, progress: Wrap):
        if family.generating is None:
            raise ValueError(
                "this family does not make rows of latents in one pass: GANs and what inverts them "
                "do"
            )
        self._generating, self._size, self._progress = family.generating, batch_size, progress
        # Adam's own rate is 1: that of a step comes as an argument, and is no constant.
        self._adam = optax.scale_by_adam()
        self._step = jax.jit(self._one_step)
        self._first = jax.jit(self._start, static_argnames=("mean",))

    def run(
        self,
        state: TrainState,
        rows: Mapping[str, np.ndarray],
        starts: Iterable[Any],
        descent: Descent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best latents from several starts.

        Args:
            state: The trained state.
            rows: ``x`` ``[N, *event]`` and what the family reads.
            starts: Where to start from: None for the mean of the prior, a key for a draw, or
                latents ``[N, Z]``.
            descent: How to go on from there.

        Returns:
            Latents ``[N, Z]``, those with the least error on the way, and that error, ``[N]``: the
            mean square over entries in the units of the model.

        Raises:
            ValueError: If there are no rows.
        """
        if not len(rows["x"]):
            raise ValueError("expected rows, got none")
        count = len(rows["x"])
        size = min(self._size, count)
        batches = range(0, count, size)
        starts = list(starts)
        latents, errors = [], []
        for begin in self._progress(batches, len(batches), "inverting"):
            # The last batch is filled up with the last row: one program for all.
            chosen = np.minimum(np.arange(begin, begin + size), count - 1)
            batch = {name: jnp.asarray(array[chosen]) for name, array in rows.items()}
            ends = [self._descend(state, batch, s, chosen, begin, descent) for s in starts]
            best = np.argmin([error for _, error in ends], axis=0)
            latents.append(np.stack([z for z, _ in ends])[best, np.arange(size)])
            errors.append(np.min([error for _, error in ends], axis=0))
        return np.concatenate(latents)[:count], np.concatenate(errors)[:count]

    def _descend(
        self,
        state: TrainState,
        batch: Mapping[str, Any],
        start: Any,
        chosen: np.ndarray,
        begin: int,
        descent: Descent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best latents of a batch from one start, and their errors."""
        if isinstance(start, np.ndarray):
            z = jnp.asarray(start[chosen], jnp.float32)
        else:
            key = jax.random.key(0) if start is None else jax.random.fold_in(start, begin)
            z = self._first(state, batch, key, mean=start is None)
        carry = z, self._adam.init(z), z, jnp.full(len(chosen), jnp.inf)
        for step in range(descent.num_steps):
            carry = self._step(state, batch, carry, descent.rate(step))
        # Once more for the error of where it has come to.
        _, _, best, error = self._step(state, batch, carry, 0.0)
        return np.asarray(best), np.asarray(error)

    def _start(
        self, state: TrainState, batch: Mapping[str, Any], key: jax.Array, *, mean: bool
    ) -> jax.Array:
        z = self._generating(state, batch).draw(key, batch["x"].shape[0])
        return jnp.zeros_like(z) if mean else z

    def _one_step(
        self, state: TrainState, batch: Mapping[str, Any], carry: Any, rate: jax.Array
    ) -> Any:
        z, moments, best, least = carry
        asked = self._generating(state, batch)
        target = asked.encode(batch["x"])

        def loss(z: jax.Array) -> tuple[jax.Array, jax.Array]:
            axes = tuple(range(1, target.ndim))
            errors = jnp.mean(jnp.square(asked.make(z) - target), axis=axes)
            return jnp.sum(errors), errors  # of rows that do not see each other

        (_, errors), slope = jax.value_and_grad(loss, has_aux=True)(z)
        better = errors < least
        best = jnp.where(better[:, None], z, best)
        direction, moments = self._adam.update(slope, moments)
        z = asked.clip(z - rate * direction)
        return z, moments, best, jnp.where(better, errors, least)
