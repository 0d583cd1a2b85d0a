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
        context_size: Width of the vectors it makes of texts, if it does.
    """

    init_fn: Callable[..., Any]
    apply_fn: Callable[..., Any]
    num_classes: int | None = None
    event_rank: int | None = None
    context_size: int | None = None

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the network gives for the same arguments, with its running statistics.

        Args:
            *args: Arguments of the network.
            **kwargs: Further ones; ``train`` is left out, and ``layer`` names one of its layers
                whose output is asked for in place of its own.

        Raises:
            ValueError: If no layer, or several, have the name.
        """

        def zeros() -> Any:
            shapes = jax.eval_shape(lambda: self.init_fn(jax.random.key(0), *args))
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        kwargs.pop("train", None)
        layer = kwargs.pop("layer", None)
        held = self.variable("frozen", "variables", zeros)
        if layer is None:
            return self.apply_fn(held.value, *args, **kwargs)
        seen: list[str] = []

        def wanted(module: nn.Module, method: str) -> bool:
            seen.append(module.name or "")
            return module.name == layer and method == "__call__"

        _, kept = self.apply_fn(
            held.value,
            *args,
            capture_intermediates=wanted,
            mutable=["intermediates"],
            **kwargs,
        )
        found = jax.tree.leaves(kept.get("intermediates", {}))
        if len(found) != 1:
            known = ", ".join(sorted({name for name in seen if name}))
            raise ValueError(
                f"{len(found)} layers of the network are called {layer!r}, expected one of {known}"
            )
        return found[0]
