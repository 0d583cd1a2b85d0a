"""Components of bits, of grey levels without an order, and of counts."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.components import Parameters, Rows, Sums, log_shares
from genjax.families.linear_algebra import matmul
from genjax.families.observations import Entries


def _check_smoothing(smoothing: float) -> None:
    if not smoothing > 0.0:
        raise ValueError(
            f"smoothing must be positive, got {smoothing}: a value that was not seen in training "
            "would have probability 0"
        )


def _check_levels(name: str, num_levels: int | None) -> None:
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
        _check_smoothing(self.smoothing)

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalComponent:
    """Independent entries, whose levels each have a probability of their own.

    Attributes:
        smoothing: Rows of each level that are added to those of each component.
    """

    smoothing: float = 1.0

    def __post_init__(self) -> None:
        _check_smoothing(self.smoothing)

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        _check_levels("categorical", num_levels)

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

        def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            log_probs, levels = part
            return total + log_probs[levels], None

        log_probs = parameters["log_probs"]
        nothing = jnp.zeros((x.shape[0], log_probs.shape[-1]))
        return jax.lax.scan(add, nothing, (log_probs, x.T.astype(jnp.int32)))[0]

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """Levels drawn entry by entry."""
        logits = jnp.moveaxis(parameters["log_probs"], -1, 0)[chosen]
        return jax.random.categorical(key, logits).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultinomialComponent:
    """Entries as counts: their total has one distribution for all, and is spread by the component.

    It is a distribution of all counts, of which grey levels are those that end at the highest
    level; samples above it are cut.

    Attributes:
        smoothing: What is added to the total count of each entry in each component, and to the
            number of rows of each total.

    References:
        McCallum and Nigam, A Comparison of Event Models for Naive Bayes Text Classification, 1998.
    """

    smoothing: float = 1.0

    def __post_init__(self) -> None:
        _check_smoothing(self.smoothing)

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        _check_levels("multinomial", num_levels)

    def said(self, num_levels: int | None) -> str:
        """Probabilities are exact."""
        return "exact"

    def start(self, x: Rows, count: int, of: Entries) -> Parameters:
        """All entries and all totals alike."""
        size = x.shape[1]
        totals = jnp.zeros(size * (of.levels - 1) + 1)
        return {
            "log_shares": jnp.zeros((count, size)) - jnp.log(size),
            "log_totals": totals - jnp.log(len(totals)),
        }

    def sums(
        self, parameters: Parameters, x: Rows, weights: Float[Array, "N K"], of: Entries
    ) -> Sums:
        """Counts of each entry ``[K, D]``, and rows of each total."""
        total = jnp.sum(x, axis=1).astype(jnp.int32)
        rows = jnp.zeros_like(parameters["log_totals"]).at[total].add(jnp.sum(weights, axis=1))
        return {"counts": matmul(weights.T, x), "totals": rows}

    def estimate(
        self, parameters: Parameters, weight: Float[Array, " K"], sums: Sums, of: Entries
    ) -> Parameters:
        """Logarithms of shares of the total, and of the shares of totals."""
        return {
            "log_shares": log_shares(sums["counts"] + self.smoothing, axis=1),
            "log_totals": log_shares(sums["totals"] + self.smoothing),
        }

    def log_prob(self, parameters: Parameters, x: Rows, of: Entries) -> Float[Array, "N K"]:
        """Log-probability of each row."""
        total = jnp.sum(x, axis=1)
        ways = gammaln(total + 1.0) - jnp.sum(gammaln(x + 1.0), axis=1)
        alike = ways + parameters["log_totals"][total.astype(jnp.int32)]
        return matmul(x, parameters["log_shares"].T) + alike[:, None]

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """A total, and how it is spread."""
        of_total, of_counts = jax.random.split(key)
        total = jax.random.categorical(of_total, parameters["log_totals"], shape=chosen.shape)
        shares = jnp.exp(parameters["log_shares"])[chosen]
        return jax.random.multinomial(of_counts, total.astype(jnp.float32), shares)
