"""How a model of embeddings sees vectors of unit length: scaled, standardised, or as codes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.families.base import PyTree


@runtime_checkable
class EmbeddingForm(Protocol):
    """What stands in place of vectors of unit length.

    What it keeps is measured once, on vectors of training rows, when a run begins.
    """

    @property
    def num_levels(self) -> int | None:
        """Number of levels of an entry; None for real numbers."""
        ...

    @property
    def called(self) -> str:
        """What protocols call what is scored: nats are of this form."""
        ...

    def event_shape(self, size: int) -> tuple[int]:
        """Shape of what stands for a vector of ``size`` entries."""
        ...

    def kept(self, size: int) -> dict[str, Array]:
        """What stands in place of what is measured before it is, or nothing."""
        ...

    def measured(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of vectors of training rows, ``[N, D]``."""
        ...

    def of_vectors(self, kept: PyTree, vectors: Array) -> Array:
        """What stands for vectors ``[B, D]``."""
        ...

    def to_vectors(self, kept: PyTree, x: Array) -> Array:
        """The vectors ``[..., D]`` that something stands for; they need not be of unit length."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled:
    """Vectors times the square root of their length: entries are about as large as noise."""

    @property
    def num_levels(self) -> None:
        """Real numbers."""

    @property
    def called(self) -> str:
        """Vectors."""
        return "embeddings"

    def event_shape(self, size: int) -> tuple[int]:
        """The vector's own."""
        return (size,)

    def kept(self, size: int) -> dict[str, Array]:
        """Nothing."""
        return {}

    def measured(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing."""
        return {}

    def of_vectors(self, kept: PyTree, vectors: Float[Array, "B D"]) -> Float[Array, "B D"]:
        """Vectors of entries of unit size."""
        return vectors.shape[-1] ** 0.5 * vectors

    def to_vectors(self, kept: PyTree, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Vectors of about unit length."""
        return x.shape[-1] ** -0.5 * x


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standardized:
    """Vectors of which each entry has mean 0 and variance 1 over training rows.

    Karlo, an open unCLIP, calls this whitening; correlations of entries stay.
    """

    @property
    def num_levels(self) -> None:
        """Real numbers."""

    @property
    def called(self) -> str:
        """Vectors in other units."""
        return "standardized embeddings"

    def event_shape(self, size: int) -> tuple[int]:
        """The vector's own."""
        return (size,)

    def kept(self, size: int) -> dict[str, Array]:
        """Mean and standard deviation."""
        return {"mean": jnp.zeros(size), "std": jnp.ones(size)}

    def measured(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Mean and standard deviation of each entry.

        Raises:
            ValueError: If an entry does not vary.
        """
        vectors = np.asarray(vectors, np.float64)
        std = vectors.std(axis=0)
        if not (std > 0.0).all():
            raise ValueError(
                f"entries of vectors do not vary: {np.flatnonzero(~(std > 0.0)).tolist()[:10]}"
            )
        return {
            "mean": vectors.mean(axis=0).astype(np.float32),
            "std": std.astype(np.float32),
        }

    def of_vectors(
        self, kept: Mapping[str, Any], vectors: Float[Array, "B D"]
    ) -> Float[Array, "B D"]:
        """Standardised vectors."""
        return (vectors - kept["mean"]) / kept["std"]

    def to_vectors(self, kept: Mapping[str, Any], x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Vectors as the contrastive model gives them."""
        return kept["mean"] + kept["std"] * x


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrincipalCodes:
    """Principal components of vectors, the widest first, each in one of a number of buckets.

    The buckets of a component are of equal width, between the least and the greatest value among
    those training rows that scales are measured on (4,096, evenly spread); values beyond are in the
    first or the last bucket. A code stands for the middle of its bucket.

    Attributes:
        num_components: How many components; what the others say is lost.
        num_levels: Buckets of each.

    References:
        Ramesh et al., arXiv:2204.06125, section 2.2: 319 of 1,024 components and 1,024 buckets.
    """

    num_components: int = 32
    num_levels: int = 64

    def __post_init__(self) -> None:
        if self.num_components < 1 or self.num_levels < 2:
            raise ValueError(
                "expected num_components of at least 1 and num_levels of at least 2, got "
                f"{self.num_components} and {self.num_levels}"
            )

    @property
    def called(self) -> str:
        """Codes."""
        return "codes of embeddings"

    def event_shape(self, size: int) -> tuple[int]:
        """One code for each component.

        Raises:
            ValueError: If vectors have fewer entries.
        """
        if self.num_components > size:
            raise ValueError(
                f"num_components {self.num_components} is more than the {size} entries of a vector"
            )
        return (self.num_components,)

    def kept(self, size: int) -> dict[str, Array]:
        """Mean, directions, and ends of the range of each component."""
        low, directions = jnp.zeros(self.num_components), jnp.zeros((self.num_components, size))
        return {"mean": jnp.zeros(size), "directions": directions, "low": low, "high": low + 1.0}

    def measured(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Principal components of vectors, and the range of each.

        Raises:
            ValueError: If vectors vary in fewer directions.
        """
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
        last = variances[-self.num_components]
        if not last > 1e-9 * variances[-1]:
            raise ValueError(
                f"num_components is {self.num_components}, but {len(vectors)} vectors vary in "
                f"{int(np.sum(variances > 1e-9 * variances[-1]))} directions only: take fewer"
            )
        chosen = directions[:, ::-1][:, : self.num_components].T
        # Directions have no sign of their own: the largest entry is positive.
        largest = np.abs(chosen).argmax(axis=1)[:, None]
        chosen = chosen * np.sign(np.take_along_axis(chosen, largest, axis=1))
        values = centred @ chosen.T
        found = {
            "mean": mean,
            "directions": chosen,
            "low": values.min(axis=0),
            "high": values.max(axis=0),
        }
        return {name: array.astype(np.float32) for name, array in found.items()}

    def of_vectors(self, kept: Mapping[str, Any], vectors: Float[Array, "B D"]) -> Array:
        """Codes, whole numbers, ``[B, P]``; values out of range are in the buckets at the ends."""
        values = (vectors - kept["mean"]) @ kept["directions"].T
        share = (values - kept["low"]) / (kept["high"] - kept["low"])
        bucket = jnp.floor(share * self.num_levels).astype(jnp.int32)
        return jnp.clip(bucket, 0, self.num_levels - 1)

    def to_vectors(self, kept: Mapping[str, Any], x: Array) -> Array:
        """Vectors ``[..., D]`` of the middles of buckets."""
        share = (x.astype(jnp.float32) + 0.5) / self.num_levels
        values = kept["low"] + share * (kept["high"] - kept["low"])
        return kept["mean"] + values @ kept["directions"]
