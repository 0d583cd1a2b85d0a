"""Families that see data less its mean and divided by its standard deviation."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from genjax.families.base import Batch, Density, Family
from genjax.families.views import Kept, viewed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardization:
    """Rows less their mean, divided by their standard deviation: see :func:`standardized`.

    Attributes:
        mean: Mean, of the shape of an example or one that broadcasts to it.
        std: Standard deviation, alike.
        names: Features of a batch that are standardised; samples are in the units of the first.
    """

    mean: ArrayLike
    std: ArrayLike
    names: tuple[str, ...] = ("x",)
    name: str = "standardization"
    shrinks = 1.0
    entrywise = True
    differentiable = True
    scores_in_training = True

    @property
    def protocol(self) -> dict[str, str]:
        """What protocols say of the data."""
        return {"data": "standardized"}

    def kept(self) -> Kept:
        """The moments."""
        return {"mean": jnp.asarray(self.mean, jnp.float32), "std": jnp.asarray(self.std, "f4")}

    def encode(self, kept: Kept, batch: Batch, key: PRNGKeyArray | None) -> Batch:
        """The batch, its features standardised."""
        del key
        found = {n: self.encode_rows(kept, batch[n]) for n in self.names if n in batch}
        return {**batch, **found}

    def encode_rows(self, kept: Kept, x: Array) -> Array:
        """Standardised rows."""
        return (x - kept["mean"]) / kept["std"]

    def decode_rows(self, kept: Kept, x: Array) -> Array:
        """Rows in the units of the data."""
        return x * kept["std"] + kept["mean"]

    def decode_density(self, kept: Kept, density: Density) -> Density:
        """The density of points of the plane."""
        mean, std = kept["mean"], kept["std"]
        low_x, high_x, low_y, high_y = density.extent
        centre = jnp.stack([mean[0], mean[0], mean[1], mean[1]])
        width = jnp.stack([std[0], std[0], std[1], std[1]])
        extent = jnp.stack([low_x, high_x, low_y, high_y]) * width + centre
        return Density(values=density.values / jnp.prod(std), extent=extent)

    def log_volume(self, kept: Kept, batch: Batch, seen: Batch) -> Array:
        """Sum of the logarithms of the standard deviations of an example's entries."""
        rows = batch[self.names[0]]
        return jnp.sum(jnp.broadcast_to(jnp.log(kept["std"]), rows.shape[1:]))


def standardized(
    family: Family, mean: ArrayLike, std: ArrayLike, *, names: tuple[str, ...] = ("x",)
) -> Family:
    r"""A family whose networks see :math:`(x - \mu) / \sigma`, and that is about ``x``.

    The moments are part of the state, so that a state is complete without the data. Densities of
    :math:`x` are those of what the networks see divided by :math:`\prod \sigma`: the change of
    variables is affine and its Jacobian exact, so scores and log-probabilities are in the units of
    the data.

    Args:
        family: The family, of real-valued data.
        mean: Mean :math:`\mu`, of the shape of an example or one that broadcasts to it.
        std: Standard deviation :math:`\sigma > 0`, alike.
        names: Features of a batch that are standardised; samples are in the units of the first.

    Returns:
        The family.
    """
    return viewed(family, Standardization(mean=mean, std=std, names=names))
