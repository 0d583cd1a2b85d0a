"""What a model with latents has to say: one group of them, several, or many within a decoder.

Latents of all groups stand side by side in one array ``[B, Z]``, in the order in which they are
inferred, and so do the parameters of their Gaussians.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.base import Params, PyTree

Gaussians: TypeAlias = tuple[Array, Array]
"""Means and logs of standard deviations of entries of latents, ``[B, Z]`` each."""


class Explanation(NamedTuple):
    """Latents of rows, and the distributions that they and the rows have.

    Attributes:
        latents: Latents of all groups, ``[B, Z]``.
        posterior: Gaussians of the encoder: of each group given those inferred before it.
        prior: Gaussians of the model: of each group given those that it depends on.
        outputs: Parameters of the observation, ``[B, *places, P]``.
    """

    latents: Array
    posterior: Gaussians
    prior: Gaussians
    outputs: Array


@runtime_checkable
class LatentGroups(Protocol):
    """Networks that infer groups of latents, and make them of noise, as functions of parameters."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each group, whose sum is ``Z``."""
        ...

    @property
    def generated(self) -> tuple[int, ...]:
        """Numbers of the groups, from 0, in the order in which the model generates them."""
        ...

    @property
    def conditional(self) -> bool:
        """Whether the model is one of data given labels."""
        ...

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """Modules as they are applied, by the names of their parameters."""
        ...

    def init(
        self, key: PRNGKeyArray, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Params:
        """Parameters, keyed by network."""
        ...

    def look(
        self, params: Params, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> PyTree:
        """What the encoder sees in rows, a tree of ``[B, ...]``: the part without latents."""
        ...

    def explain(
        self,
        params: Params,
        seen: Any,
        label: Int[Array, " B"] | None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> Explanation:
        """Latents made of standard normal noise, or given ones, with their distributions."""
        ...

    def imagine(
        self, params: Params, label: Int[Array, " B"] | None, noise: Float[Array, "B Z"]
    ) -> Array:
        """Parameters of the observation for latents of the prior, made of noise."""
        ...

    def outputs(
        self, params: Params, latents: Float[Array, "B Z"], label: Int[Array, " B"] | None
    ) -> Array:
        """Parameters of the observation for given latents."""
        ...


def split_groups(a: Float[Array, "*rows Z"], sizes: tuple[int, ...]) -> list[Array]:
    """Parts of the last axis, ``[..., size]`` of each group."""
    return jnp.split(a, np.cumsum(sizes)[:-1].tolist(), axis=-1)


def sum_groups(a: Float[Array, "*rows Z"], sizes: tuple[int, ...]) -> Float[Array, "*rows G"]:
    """Sums over the entries of each group."""
    return jnp.stack([jnp.sum(part, axis=-1) for part in split_groups(a, sizes)], axis=-1)
