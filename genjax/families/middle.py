"""The middle of a network, its h-space: what is there, and networks that have one."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array


def shape_of_middle(net: nn.Module, event_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of one example's activation in the middle of a network; None if it has none.

    Args:
        net: A network; those with a middle say its shape, as
            :meth:`genjax.nets.UNet.bottleneck_shape` does, keep it as the intermediate ``h`` and
            take ``delta_h``.
        event_shape: Shape of one example.
    """
    shape = getattr(net, "bottleneck_shape", None)
    return None if shape is None else tuple(shape(event_shape))


def middle_of(net: nn.Module, params: Any, *args: Any) -> Array:
    """The activation in the middle of a network, float32 ``[B, *shape]``.

    Args:
        net: The network.
        params: Its parameters.
        *args: What it is called with.
    """
    _, kept = net.apply({"params": params}, *args, deterministic=True, mutable="intermediates")
    (h,) = kept["intermediates"]["h"]
    return jnp.asarray(h, jnp.float32)


def added(delta_h: Array | None) -> dict[str, Any]:
    """The argument of a network that is added in the middle; nothing for None.

    Networks without a middle are not told of it.
    """
    return {} if delta_h is None else {"delta_h": delta_h}
