"""What decoders end in: distributions of the channels of a place, from parameters of that place.

A place is a pixel, or a row of a table as a whole. An observation says how many parameters a place
has, how probable data is under them, and draws data.
"""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.levels import as_levels
from genjax.losses.arrays import sum_event, whole_levels


@dataclasses.dataclass(frozen=True)
class Entries:
    """What is observed at a place.

    Attributes:
        channels: Numbers at a place.
        num_levels: Grey levels that each may have; None for real numbers.
    """

    channels: int
    num_levels: int | None

    @property
    def levels(self) -> int:
        """The number of grey levels of data that has them."""
        assert self.num_levels is not None  # which check looks at
        return self.num_levels


@runtime_checkable
class Observation(Protocol):
    """A distribution of data given the parameters ``[B, *places, P]`` of its places."""

    def check(self, num_levels: int | None) -> None:
        """Refuses data that the distribution is not of; ``num_levels`` is None for real numbers."""
        ...

    def num_outputs(self, of: Entries) -> int:
        """Parameters of a place, the shared ones not counted."""
        ...

    @property
    def num_shared(self) -> int:
        """Parameters that all places share, which come last in ``P``."""
        ...

    @property
    def gives_logits(self) -> bool:
        """Whether the parameters are logits of values, which a temperature may divide."""
        ...

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-probability (or log-density) of data ``[B, *event]``, ``[B]``."""
        ...

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The data that the parameters stand for, ``[B, *event]``: a mean or a mode."""
        ...

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Data drawn from the distribution, ``[B, *event]``."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bernoulli:
    """Binary data: one logit a channel."""

    num_shared = 0
    gives_logits = True

    def check(self, num_levels: int | None) -> None:
        """Refuses all but two levels.

        Raises:
            ValueError: If the data has others.
        """
        if num_levels != 2:
            of = "real numbers" if num_levels is None else f"{num_levels} levels"
            raise ValueError(
                f"observation 'bernoulli' is of binary data (2 levels), but the data has {of}: "
                "take 'discretized_logistic' or 'categorical' for grey levels, 'gaussian' for "
                "real numbers"
            )

    def num_outputs(self, of: Entries) -> int:
        """One a channel."""
        return of.channels

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-probability, ``[B]``: see :func:`genjax.losses.bernoulli_loss`."""
        return losses.bernoulli_loss(whole_levels(x, 2).astype(jnp.float32), outputs)

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The more probable value of each entry."""
        return (outputs > 0.0).astype(jnp.uint8)

    def expected(self, outputs: Array, of: Entries) -> Array:
        """The mean in [-1, 1], differentiable."""
        return jnp.tanh(0.5 * outputs)

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Entries that are 1 with the probability of their logit."""
        return jax.random.bernoulli(key, jax.nn.sigmoid(outputs)).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Categorical:
    """Grey levels with a probability each: as many logits a channel as there are levels."""

    num_shared = 0
    gives_logits = True

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        check_levels("categorical", num_levels)

    def num_outputs(self, of: Entries) -> int:
        """One a channel and level."""
        return of.channels * of.levels

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-probability, ``[B]``."""
        logits = jax.nn.log_softmax(_by_level(outputs, of), axis=-1)
        levels = whole_levels(x, of.levels).astype(jnp.int32)
        return -sum_event(jnp.take_along_axis(logits, levels[..., None], axis=-1)[..., 0])

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The most probable level of each entry."""
        return as_levels(jnp.argmax(_by_level(outputs, of), axis=-1), of.levels)

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Levels drawn entry by entry."""
        return as_levels(jax.random.categorical(key, _by_level(outputs, of)), of.levels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContinuousBernoulli:
    """Real-valued data in [0, 1]: one logit a channel."""

    num_shared = 0
    gives_logits = False

    def check(self, num_levels: int | None) -> None:
        """Refuses grey levels.

        Raises:
            ValueError: If the data has levels.
        """
        _check_real("continuous_bernoulli", num_levels)

    def num_outputs(self, of: Entries) -> int:
        """One a channel."""
        return of.channels

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-density: see :func:`genjax.losses.continuous_bernoulli_loss`."""
        return losses.continuous_bernoulli_loss(x, outputs)

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The mean of each entry."""
        # 1 / (1 - exp(-l)) - 1 / l, and its series near 0.
        small = jnp.abs(outputs) < 0.1
        far = jnp.where(small, 1.0, outputs)
        near = 0.5 + outputs / 12.0 - outputs**3 / 720.0
        return jnp.where(small, near, -1.0 / jnp.expm1(-far) - 1.0 / far)

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Entries by the inverse of the distribution function, ``log(1 + u (e^l - 1)) / l``."""
        u = jax.random.uniform(key, outputs.shape)
        # Of negative logits by symmetry: their exponential does not overflow, nor that of -|l|.
        size = jnp.abs(outputs)
        small = size < 1e-3
        far = jnp.where(small, 1.0, size)
        # With e^-|l| in place of e^|l|: 1 + log(u + (1 - u) e^-|l|) / |l|.
        drawn = 1.0 + jnp.log(u + (1.0 - u) * jnp.exp(-far)) / far
        drawn = jnp.where(small, u, jnp.clip(drawn, 0.0, 1.0))
        return jnp.where(outputs < 0.0, 1.0 - drawn, drawn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Real-valued data: a mean a channel, and a variance.

    Attributes:
        variance: ``"fixed"`` by ``std``; one that all entries ``"shared"``, a parameter, whose best
            value is the mean squared error; or one ``"learned"`` for each entry.
        std: The fixed standard deviation, or what the others begin with.

    References:
        Rybkin et al., Simple and Effective VAE Training with Calibrated Decoders,
        arXiv:2006.13202.
    """

    variance: Literal["fixed", "shared", "learned"] = "shared"
    std: float = 1.0
    gives_logits = False

    def __post_init__(self) -> None:
        if self.variance not in ("fixed", "shared", "learned"):
            raise ValueError(
                f"variance must be 'fixed', 'shared' or 'learned', got {self.variance!r}"
            )
        if not self.std > 0.0:
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def num_shared(self) -> int:
        """The shared log standard deviation, if it is so."""
        return int(self.variance == "shared")

    def check(self, num_levels: int | None) -> None:
        """Refuses grey levels, whose density has no upper bound.

        Raises:
            ValueError: If the data has levels.
        """
        _check_real("gaussian", num_levels)

    def num_outputs(self, of: Entries) -> int:
        """A mean a channel, and its log standard deviation if it is learned."""
        return of.channels * (2 if self.variance == "learned" else 1)

    def nats(self, x: Array, outputs: Array, of: Entries) -> Array:
        """Negative log-density: see :func:`genjax.losses.gaussian_loss`."""
        mean, log_std = self._split(outputs)
        return losses.gaussian_loss(x, mean, jnp.broadcast_to(2.0 * log_std, mean.shape))

    def centre(self, outputs: Array, of: Entries) -> Array:
        """The mean."""
        return self._split(outputs)[0]

    expected = centre  # a mean has a slope

    def draw(self, key: PRNGKeyArray, outputs: Array, of: Entries) -> Array:
        """Mean plus noise."""
        mean, log_std = self._split(outputs)
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)

    def _split(self, outputs: Array) -> tuple[Array, Array]:
        start = jnp.log(jnp.asarray(self.std, outputs.dtype))
        if self.variance == "fixed":
            return outputs, start
        if self.variance == "shared":
            return outputs[..., :-1], start + outputs[..., -1:]
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        return mean, start + log_std


def _by_level(outputs: Array, of: Entries) -> Array:
    return outputs.reshape(*outputs.shape[:-1], of.channels, of.levels)


def check_levels(name: str, num_levels: int | None) -> None:
    """Refuses real numbers.

    Args:
        name: Name of the observation, for the message.
        num_levels: Number of grey levels of the data, or None.

    Raises:
        ValueError: If there are none.
    """
    if num_levels is None:
        raise ValueError(
            f"observation {name!r} is of grey levels, but the data is real-valued: take 'gaussian'"
        )


def _check_real(name: str, num_levels: int | None) -> None:
    if num_levels is not None:
        raise ValueError(
            f"observation {name!r} is a density of real numbers, but the data has {num_levels} "
            "grey levels, which have probabilities: take 'discretized_logistic' or 'categorical'"
        )
