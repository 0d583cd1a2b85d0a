"""Components of bits, of grey levels without an order, and of counts."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.components import Known, Parameters, Rows, Sums
from genjax.families.linear_algebra import matmul
from genjax.families.observations import Entries


def check_smoothing(smoothing: float) -> None:
    """Refuses smoothing that leaves probabilities at 0."""
    if not smoothing > 0.0:
        raise ValueError(
            f"smoothing must be positive, got {smoothing}: a value that was not seen in training "
            "would have probability 0"
        )


def check_levels(name: str, num_levels: int | None) -> None:
    """Refuses real numbers for what is of grey levels."""
    if num_levels is None:
        raise ValueError(
            f"component {name!r} is of grey levels, but the data is real-valued: take 'gaussian'"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BernoulliComponent:
    """Independent bits, each with a probability of its own in each component.

    Attributes:
        smoothing: Rows of 0 and rows of 1 that are added to those of each component, each so many:
            Laplace's 1 by default. It is the mode under a Dirichlet prior; likelihoods are those of
            the data alone.
    """

    smoothing: float = 1.0

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    def check(self, num_levels: int | None) -> None:
        """Refuses all but two levels.

        Raises:
            ValueError: If the data has others.
        """
        if num_levels != 2:
            found = "real numbers" if num_levels is None else f"{num_levels} levels"
            raise ValueError(
                f"component 'bernoulli' is of binary data (2 levels), but the data has {found}: "
                "set data.binarize for grey levels, or take 'gaussian'"
            )

    def said(self, num_levels: int | None) -> str:
        """Probabilities are exact."""
        return "exact"

    def start(self, x: Rows, count: int, of: Entries) -> Parameters:
        """Even odds."""
        return {"log_odds": jnp.zeros((count, x.shape[1]))}

    def sums(
        self, parameters: Parameters, x: Rows, weights: Float[Array, "N K"], of: Entries
    ) -> Sums:
        """Numbers of ones."""
        return {"ones": matmul(weights.T, x)}

    def estimate(
        self, parameters: Parameters, weight: Float[Array, " K"], sums: Sums, of: Entries
    ) -> Parameters:
        """Log-odds of a 1, ``[K, D]``."""
        zeros = jnp.maximum(weight[:, None] - sums["ones"], 0.0)
        return {
            "log_odds": jnp.log(sums["ones"] + self.smoothing) - jnp.log(zeros + self.smoothing)
        }

    def log_prob(self, parameters: Parameters, x: Rows, of: Entries) -> Float[Array, "N K"]:
        """Log-probability of each row."""
        log_odds = parameters["log_odds"]
        return matmul(x, log_odds.T) - jnp.sum(jax.nn.softplus(log_odds), axis=1)

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """Entries that are 1 with the probability of their component."""
        odds = parameters["log_odds"][chosen]
        return jax.random.bernoulli(key, jax.nn.sigmoid(odds)).astype(jnp.float32)

    def log_prob_known(
        self, parameters: Parameters, x: Rows, known: Known, of: Entries
    ) -> Float[Array, "N K"]:
        """Log-probability of the known bits of each row."""
        log_odds = parameters["log_odds"]
        ones = matmul(jnp.where(known, x, 0.0), log_odds.T)
        return ones - matmul(known.astype(jnp.float32), jax.nn.softplus(log_odds).T)

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        chosen: Int[Array, " N"],
        x: Rows,
        known: Known,
        of: Entries,
    ) -> Rows:
        """Bits that are not known are independent of those that are."""
        return jnp.where(known, x, self.draw(key, parameters, chosen, of))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalComponent:
    """Independent entries, whose levels each have a probability of their own.

    Attributes:
        smoothing: Rows of each level that are added to those of each component.
    """

    smoothing: float = 1.0

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing)

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        check_levels("categorical", num_levels)

    def said(self, num_levels: int | None) -> str:
        """Probabilities are exact."""
        return "exact"

    def start(self, x: Rows, count: int, of: Entries) -> Parameters:
        """All levels alike."""
        return {"log_probs": jnp.zeros((x.shape[1], of.levels, count)) - jnp.log(of.levels)}

    def sums(
        self, parameters: Parameters, x: Rows, weights: Float[Array, "N K"], of: Entries
    ) -> Sums:
        """Rows of each level, of each entry and component, ``[D, V, K]``."""

        def one(levels: Array) -> Array:
            return matmul(jax.nn.one_hot(levels, of.levels).T, weights)

        # One entry after the other: one-hot levels of all are many times the data.
        return {"levels": jax.lax.map(one, x.T.astype(jnp.int32))}

    def estimate(
        self, parameters: Parameters, weight: Float[Array, " K"], sums: Sums, of: Entries
    ) -> Parameters:
        """Logarithms of the shares of levels, ``[D, V, K]``."""
        count = sums["levels"] + self.smoothing
        return {"log_probs": jnp.log(count) - jnp.log(jnp.sum(count, axis=1, keepdims=True))}

    def log_prob(self, parameters: Parameters, x: Rows, of: Entries) -> Float[Array, "N K"]:
        """Log-probability of each row."""
        return self.log_prob_known(parameters, x, jnp.ones_like(x, bool), of)

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """Levels drawn entry by entry."""
        logits = jnp.moveaxis(parameters["log_probs"], -1, 0)[chosen]
        return jax.random.categorical(key, logits).astype(jnp.float32)

    def log_prob_known(
        self, parameters: Parameters, x: Rows, known: Known, of: Entries
    ) -> Float[Array, "N K"]:
        """Log-probability of the known levels of each row."""

        def add(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
            log_probs, levels, known = part
            return total + jnp.where(known[:, None], log_probs[levels], 0.0), None

        log_probs = parameters["log_probs"]
        nothing = jnp.zeros((x.shape[0], log_probs.shape[-1]))
        levels = jnp.where(known, x, 0.0).astype(jnp.int32)
        return jax.lax.scan(add, nothing, (log_probs, levels.T, known.T))[0]

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        chosen: Int[Array, " N"],
        x: Rows,
        known: Known,
        of: Entries,
    ) -> Rows:
        """Levels that are not known are independent of those that are."""
        return jnp.where(known, x, self.draw(key, parameters, chosen, of))
