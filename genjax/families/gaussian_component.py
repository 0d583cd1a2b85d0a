"""Gaussians that a discrete latent chooses between."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.components import TINY, Known, Parameters, Rows, Sums
from genjax.families.gaussian_conditioning import fill, known_log_density
from genjax.families.linear_algebra import matmul, triangular_inverse
from genjax.families.observations import Entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianComponent:
    r"""Gaussians, of real numbers or of grey levels.

    Sums are taken about the present means, so that float32 is enough however far the data is from
    0, and densities go through Cholesky factors.

    A grey level is seen as a bin of width 1 that is filled evenly. A component's score of it is the
    mean of its log-density over the bin, which is at most the log of the bin's probability and has
    a closed form: the log-density of the centre, less :math:`\operatorname{tr}\Sigma^{-1} / 24`.
    The covariance that maximises it is that of the centres plus 1/12 on the diagonal, so that
    expectation maximisation stays exact, and no entry has a variance of 0.

    Attributes:
        covariance: ``"full"``, ``"diagonal"``, or one variance of all entries (``"spherical"``).
        shared: Whether all components have the same.
        shrinkage: How far covariances are moved to a multiple of the identity of the same trace, in
            [0, 1].
        floor: What is added to each variance, in squared units of what the model sees, so that a
            component which holds a single row has a density. A covariance that is not positive
            definite in float32 is NaN, and the run stops: raise this, or the shrinkage.

    References:
        Dempster, Laird and Rubin, Maximum Likelihood from Incomplete Data via the EM Algorithm,
        1977. Shrinkage: Ledoit and Wolf, 2004. Bins: Theis et al., arXiv:1511.01844, section 3.1.
    """

    covariance: Literal["full", "diagonal", "spherical"] = "full"
    shared: bool = False
    shrinkage: float = 0.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if self.covariance not in ("full", "diagonal", "spherical"):
            raise ValueError(
                f"covariance must be 'full', 'diagonal' or 'spherical', got {self.covariance!r}"
            )
        if not 0.0 <= self.shrinkage <= 1.0:
            raise ValueError(f"shrinkage must be in [0, 1], got {self.shrinkage}")
        if not self.floor >= 0.0:
            raise ValueError(f"floor must not be negative, got {self.floor}")

    def check(self, num_levels: int | None) -> None:
        """Takes real numbers, and grey levels as bins.

        Raises:
            ValueError: If the data is binary: a Gaussian of bits has no meaning.
        """
        if num_levels == 2:
            raise ValueError(
                "component 'gaussian' is of real numbers or of many grey levels, but the data has "
                "2 levels: take 'bernoulli'"
            )

    def said(self, num_levels: int | None) -> str:
        """A density is exact, a score of grey levels a bound."""
        if num_levels is None:
            return "exact"
        return "lower bound: mean log-density of each component over the bins of grey levels"

    def start(self, x: Rows, count: int, of: Entries) -> Parameters:
        """The mean of the rows, with unit variances."""
        del of
        size = x.shape[1]
        one = {"full": jnp.eye(size), "diagonal": jnp.ones(size), "spherical": jnp.ones(1)}
        mean = jnp.mean(x, axis=0)
        factor = one[self.covariance]
        number = 1 if self.shared else count
        return {
            "mean": jnp.broadcast_to(mean, (count, size)),
            "factor": jnp.broadcast_to(factor, (number, *factor.shape)),
        }

    def sums(
        self, parameters: Parameters, x: Rows, weights: Float[Array, "N K"], of: Entries
    ) -> Sums:
        """First and second moments about the present means."""
        del of

        def one(part: tuple[Array, Array]) -> tuple[Array, Array]:
            mean, weight = part
            offset = x - mean
            weighted = weight[:, None] * offset
            if self.covariance == "full":
                second = matmul(weighted.T, offset)
            else:
                second = jnp.sum(weighted * offset, axis=0)
            if self.covariance == "spherical":
                second = jnp.mean(second, keepdims=True)
            return jnp.sum(weighted, axis=0), second

        # One component after the other: memory is that of the rows.
        first, second = jax.lax.map(one, (parameters["mean"], weights.T))
        if self.shared:
            second = jnp.sum(second, axis=0, keepdims=True)
        return {"first": first, "second": second}

    def estimate(
        self, parameters: Parameters, weight: Float[Array, " K"], sums: Sums, of: Entries
    ) -> Parameters:
        """Means, and Cholesky factors or standard deviations."""
        count = weight + TINY
        offset = sums["first"] / count[:, None]
        if self.covariance == "full":
            between = offset[:, :, None] * offset[:, None, :]
        else:
            between = offset**2
        if self.covariance == "spherical":
            between = jnp.mean(between, axis=1, keepdims=True)
        lead = (-1, *[1] * (between.ndim - 1))
        if self.shared:
            between = jnp.sum(count.reshape(lead) * between, axis=0, keepdims=True)
            spread = (sums["second"] - between) / jnp.sum(count)
        else:
            spread = sums["second"] / count.reshape(lead) - between
        return {
            "mean": parameters["mean"] + offset,
            "factor": self._factor(spread, _within(of)),
        }

    def _factor(self, spread: Array, within: float) -> Array:
        """What of covariances ``[K, D, D]`` or variances ``[K, D]`` is kept."""
        least = within + self.floor
        if self.covariance != "full":
            variance = jnp.maximum(spread, 0.0) + within
            mean = jnp.mean(variance, axis=1, keepdims=True)
            variance = (1.0 - self.shrinkage) * variance + self.shrinkage * mean
            return jnp.sqrt(variance + self.floor)
        size = spread.shape[-1]
        identity = jnp.eye(size)
        mean = jnp.trace(spread, axis1=1, axis2=2)[:, None, None] / size
        spread = (1.0 - self.shrinkage) * spread + (self.shrinkage * mean + least) * identity
        return jnp.linalg.cholesky(spread)

    def log_prob(self, parameters: Parameters, x: Rows, of: Entries) -> Float[Array, "N K"]:
        """Log-density of each row, or of grey levels its mean over their bins."""
        within, size = _within(of), x.shape[1]

        def one(mean: Array, factor: Array) -> Array:
            if self.covariance == "full":
                squares = jnp.sum(matmul(x - mean, factor.T) ** 2, axis=1)
                squares += within * jnp.sum(factor**2)
                log_det = -jnp.sum(jnp.log(jnp.diag(factor)))
            else:
                std = jnp.broadcast_to(factor, (size,))
                squares = jnp.sum(((x - mean) / std) ** 2, axis=1)
                squares += within * jnp.sum(std**-2)
                log_det = jnp.sum(jnp.log(std))
            return -0.5 * (squares + size * math.log(2.0 * math.pi)) - log_det

        means, factors = parameters["mean"], parameters["factor"]
        if self.covariance == "full":
            factors = triangular_inverse(factors)
        if self.shared:
            return jax.lax.map(lambda mean: one(mean, factors[0]), means).T
        return jax.lax.map(lambda part: one(*part), (means, factors)).T

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """Mean plus noise."""
        del of
        mean, factor = parameters["mean"][chosen], parameters["factor"]
        noise = jax.random.normal(key, mean.shape)
        own = jnp.zeros_like(chosen) if self.shared else chosen
        if self.covariance != "full":
            return mean + factor[own] * noise
        # A few rows at a time: their factors are of the size of covariances.
        spread = jax.lax.map(
            lambda part: matmul(factor[part[0]], part[1]), (own, noise), batch_size=64
        )
        return mean + spread

    def log_prob_known(
        self, parameters: Parameters, x: Rows, known: Known, of: Entries
    ) -> Float[Array, "N K"]:
        """Log-density of what is known of each row, or of grey levels its mean over their bins."""
        within, means = _within(of), parameters["mean"]
        if self.covariance != "full":
            std = jnp.broadcast_to(parameters["factor"], means.shape)

            def one(part: tuple[Array, Array]) -> Array:
                mean, std = part
                squares = (((x - mean) ** 2 + within) / std**2) + math.log(2.0 * math.pi)
                return jnp.sum(jnp.where(known, -0.5 * squares - jnp.log(std), 0.0), axis=1)

            return jax.lax.map(one, (means, std)).T
        covariances = self._covariances(parameters)

        def of_row(part: tuple[Array, Array]) -> Array:
            x, known = part

            def of_component(number: Array) -> Array:
                own = covariances[number % len(covariances)]
                return known_log_density(x - means[number], own, known, within=within)

            return jax.lax.map(of_component, jnp.arange(len(means)))

        # What is known differs between rows, and with it the matrix to be inverted.
        return jax.lax.map(of_row, (x, known), batch_size=16)

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        chosen: Int[Array, " N"],
        x: Rows,
        known: Known,
        of: Entries,
    ) -> Rows:
        """Rows of the conditional Gaussian; grey levels are seen as the centres of their bins."""
        drawn = self.draw(key, parameters, chosen, of)
        if self.covariance != "full":
            return jnp.where(known, x, drawn)
        covariances, mean = self._covariances(parameters), parameters["mean"][chosen]

        def of_row(part: tuple[Array, Array, Array, Array]) -> Array:
            offset, drawn, known, number = part
            return fill(offset, drawn, covariances[number % len(covariances)], known)

        parts = (x - mean, drawn - mean, known, chosen)
        return jnp.where(known, x, mean + jax.lax.map(of_row, parts, batch_size=16))

    def _covariances(self, parameters: Parameters) -> Array:
        """Covariances of full components, one if they share it."""
        factor = parameters["factor"]
        return matmul(factor, jnp.swapaxes(factor, 1, 2))


def _within(of: Entries) -> float:
    """Variance within a grey level."""
    return 0.0 if of.num_levels is None else 1.0 / 12.0
