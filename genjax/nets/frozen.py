"""A trained network in the place of one to be trained."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Frozen(nn.Module):
    """A network whose variables are not parameters: no optimiser moves them.

    They live in the collection ``frozen``, which families keep in the state of a run, so that its
    checkpoints are complete. Initialised, they are zeros: a run fills in the trained ones.

    Attributes:
        init_fn: ``init`` of the network.
        apply_fn: ``apply`` of the network.
        num_classes: Number of classes it is conditional on, if it is.
        event_rank: Number of axes of an event it takes, if it says so.
    """

    init_fn: Callable[..., Any]
    apply_fn: Callable[..., Any]
    num_classes: int | None = None
    event_rank: int | None = None

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives for the same arguments, with its running statistics."""

        def zeros() -> Any:
            shapes = jax.eval_shape(lambda: self.init_fn(jax.random.key(0), *args))
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        kwargs.pop("train", None)
        held = self.variable("frozen", "variables", zeros)
        return self.apply_fn(held.value, *args, **kwargs)
