"""Distances of images in the features of a trained network."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import PyTree, init_network
from genjax.families.gan.translation import Side

Distance: TypeAlias = Literal["l1", "l2"]
"""Absolute or squared errors."""
HINT = "name a transform that makes it, such as data.transforms=[dict(name='shrink')]"
"""What is said where the data has no source."""


def distance_between(distance: Distance) -> Callable[[Array, Array], Array]:
    """Entry by entry, the error of one array to another of its shape.

    Raises:
        ValueError: If there is no distance of this name.
    """
    if distance not in ("l1", "l2"):
        raise ValueError(f"distance must be 'l1' or 'l2', got {distance!r}")
    error = jnp.abs if distance == "l1" else jnp.square
    return lambda made, truth: error(made - truth)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Content:
    """The distance of images in the features of a network that is not trained here.

    Attributes:
        net: Module ``x -> (logits, features)``, or ``x -> features``, of images in [-1, 1]; its
            variables are no parameters.
        layer: Name of a layer whose output is looked at in place of the features: the network is
            then called with ``layer``. None for the features.
        distance: Absolute or squared errors of features.
    """

    net: nn.Module
    layer: str | None
    distance: Distance

    def init(self, key: PRNGKeyArray, target: Side) -> PyTree:
        """Its variables as a family keeps them in the state of the network.

        Raises:
            ValueError: If it has parameters, which nothing would train.
        """
        params, state = init_network(self.net, key, target.example())
        if params:
            raise ValueError(
                "features must come of a network that was trained before: describe it by "
                "frozen=dict(workdir=...), the directory of a classifier's run"
            )
        return state

    def features(self, state: PyTree, x: Array) -> Array:
        """What it sees in images ``[B, H, W, C]``: ``[B, F]``, or ``[B, H', W', F]`` of a layer."""
        asked: Any = {} if self.layer is None else {"layer": self.layer}
        made = self.net.apply(state, x, **asked)
        return jnp.asarray(made[1] if isinstance(made, tuple) else made)

    def loss(self, state: PyTree, made: Array, truth: Array) -> Array:
        """The mean distance of made images to true ones, both ``[B, H, W, C]``, ``[]``."""
        wanted = jax.lax.stop_gradient(self.features(state, truth))
        return jnp.mean(distance_between(self.distance)(self.features(state, made), wanted))
