"""Data around medians: the absolute error as a likelihood, whose scale is learned."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.levels import Ends, Reals, Units
from genjax.families.observations import Entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class Laplace:
    r"""Real numbers, or grey levels as bins, of Laplace distributions of one learned scale.

    The nats of an entry are :math:`|x - \mu| / e^s + s + \log 2`; of grey levels, in [-1, 1], those
    of a bin, which are the same less the log of its width where :math:`e^s` is larger. The scale
    :math:`e^s` is a parameter, whose best value is the mean absolute error.

    Attributes:
        scale: What the scale begins with, positive, in the units of [-1, 1] or of real numbers.
    """

    scale: float = 1.0
    num_shared = 1
    gives_logits = False

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ValueError(f"scale must be positive, got {self.scale}")

    def check(self, num_levels: int | None) -> None:
        """Takes any data."""

    def num_outputs(self, of: Entries) -> int:
        """A median a channel."""
        return of.channels

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-density, or log-probability of grey levels, ``[B]``.

        See :func:`genjax.losses.laplace_loss` and :func:`genjax.losses.discretized_laplace_loss`.
        """
        median = outputs[..., :-1]
        log_scale = jnp.broadcast_to(self.log_scale(outputs), median.shape)
        if of.num_levels is None:
            return losses.laplace_loss(x, median, log_scale)
        return losses.discretized_laplace_loss(x, median, log_scale, num_levels=of.num_levels)

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The median, or the level nearest to it."""
        return _units(of).decode(outputs[..., :-1])

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Median plus noise, or the level nearest to that."""
        median = outputs[..., :-1]
        noise = jnp.exp(self.log_scale(outputs)) * jax.random.laplace(key, median.shape)
        return _units(of).decode(median + noise)

    def expected(self, outputs: Array, of: Entries) -> Array:
        """The median in the units of networks, ``[B, *event]``, differentiable."""
        return outputs[..., :-1]

    def log_scale(self, outputs: Array) -> Array:
        """Log of the scale, ``[..., 1]``."""
        return jnp.log(jnp.asarray(self.scale, outputs.dtype)) + outputs[..., -1:]


def _units(of: Entries) -> Units:
    return Reals() if of.num_levels is None else Ends(of.num_levels)
