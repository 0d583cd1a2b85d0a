"""Components of counts, whose total has a distribution of its own."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.components import Known, Parameters, Rows, Sums, log_shares
from genjax.families.discrete_components import check_levels, check_smoothing
from genjax.families.linear_algebra import matmul
from genjax.families.observations import Entries


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
        check_smoothing(self.smoothing)

    def check(self, num_levels: int | None) -> None:
        """Refuses real numbers.

        Raises:
            ValueError: If the data is real-valued.
        """
        check_levels("multinomial", num_levels)

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

    def log_prob_known(
        self, parameters: Parameters, x: Rows, known: Known, of: Entries
    ) -> Float[Array, "N K"]:
        """Log-probability of the known counts of each row, whatever the total of all is."""
        rest = self._rest(parameters, x, known)
        x = jnp.where(known, x, 0.0)
        alike = jnp.sum(gammaln(x + 1.0), axis=1)[:, None]
        return matmul(x, parameters["log_shares"].T) - alike + jax.nn.logsumexp(rest, axis=0).T

    def _rest(self, parameters: Parameters, x: Rows, known: Known) -> Float[Array, "T K N"]:
        """What each total of the other counts adds to the log-probability of the known ones."""
        shares = jnp.exp(parameters["log_shares"])
        other = matmul(shares, 1.0 - known.astype(jnp.float32).T)
        here = jnp.sum(jnp.where(known, x, 0.0), axis=1).astype(jnp.int32)
        log_totals = parameters["log_totals"]

        def of_total(more: Array) -> Array:
            total = here + more
            log_total = jnp.where(
                total < len(log_totals),
                log_totals[jnp.minimum(total, len(log_totals) - 1)],
                -jnp.inf,
            )
            ways = gammaln(total + 1.0) - gammaln(more + 1.0)
            # Nothing to the power of nothing is one: where all are known, no more is left.
            spread = jnp.where(more == 0, 0.0, more * jnp.log(jnp.maximum(other, 1e-30)))
            return log_total + ways + jnp.where((more > 0) & (other <= 0.0), -jnp.inf, spread)

        return jax.lax.map(of_total, jnp.arange(len(log_totals)))

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        chosen: Int[Array, " N"],
        x: Rows,
        known: Known,
        of: Entries,
    ) -> Rows:
        """Draws the total of the other counts, and how it is spread over them."""
        of_total, of_counts = jax.random.split(key)
        rest = self._rest(parameters, x, known)[:, chosen, jnp.arange(len(chosen))]
        more = jax.random.categorical(of_total, rest, axis=0)
        shares = jnp.where(known, 0.0, jnp.exp(parameters["log_shares"])[chosen])
        shares /= jnp.maximum(jnp.sum(shares, axis=1, keepdims=True), 1e-30)
        drawn = jax.random.multinomial(of_counts, more.astype(jnp.float32), shares)
        return jnp.where(known, x, drawn)
