"""The middle of a network, its h-space: models that are asked for it, or with something added."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from genjax.diffusion import Estimate
from genjax.diffusion.guidance import EstimateFn
from genjax.diffusion.samplers import Bottleneck
from genjax.families.base import Params, num_classes_of
from genjax.families.levels import Units
from genjax.families.told import optional_of, reads_of

Model = TypeVar("Model")


@runtime_checkable
class Asked(Protocol):
    """A model that samplers and edits ask."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        ...

    @property
    def units(self) -> Units:
        """Data to the units of the process, and back."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        ...

    def estimate(self, params: Params, z: Array, t: Array, told: Any) -> Estimate:
        """Data and noise in latents ``[B, *event]`` at one time."""
        ...


class _InPlace(nn.Module):
    """A network that stands in the place of another, with its parameters.

    Attributes:
        net: The other network.
    """

    net: nn.Module

    @property
    def num_classes(self) -> int | None:
        """The other network's number of classes."""
        return num_classes_of(self.net)

    @property
    def reads(self) -> tuple[str, ...]:
        """What the other network is told."""
        return reads_of(self.net)

    @property
    def keeps(self) -> tuple[str, ...]:
        """What the other network is told in any case."""
        optional = optional_of(self.net)
        return tuple(name for name in self.reads if name not in optional)


class Steered(_InPlace):
    """A network with something added in its middle.

    Attributes:
        delta_h: What is added, ``[B, *shape]``.
    """

    delta_h: Any

    @nn.nowrap
    def apply(  # type: ignore[override]
        self, variables: Any, z: Array, *args: Any, **kwargs: Any
    ) -> Any:
        """As the other network's, of as many rows as there are, or several times as many."""
        # Guidance asks about copies of the rows, one set after the other.
        copies = (z.shape[0] // self.delta_h.shape[0], *(1,) * (self.delta_h.ndim - 1))
        added = jnp.tile(self.delta_h, copies)
        return self.net.apply(variables, z, *args, delta_h=added, **kwargs)


class Watched(_InPlace):
    """A network that hands on what is in its middle.

    Attributes:
        see: What it is handed to.
    """

    see: Callable[[Array], None]

    @nn.nowrap
    def apply(  # type: ignore[override]
        self, variables: Any, z: Array, *args: Any, **kwargs: Any
    ) -> Any:
        """As the other network's."""
        out, kept = self.net.apply(variables, z, *args, mutable="intermediates", **kwargs)
        # That of a network within a network lies deeper.
        leaves = jax.tree_util.tree_leaves_with_path(kept["intermediates"])
        (h,) = (leaf for path, leaf in leaves if jax.tree_util.DictKey("h") in path)
        self.see(h)
        return out


def bottleneck_of(
    model: Model,
    event_shape: tuple[int, ...],
    estimate_fn: Callable[[Model], EstimateFn],
    guided: Callable[[EstimateFn], Callable[[Array, Array], Estimate]] | None,
    told: Any,
) -> Bottleneck | None:
    """The middle of a model's network.

    Args:
        model: A record of functions, one of whose fields is a network. Networks with a middle say
            its shape, as :meth:`genjax.nets.UNet.bottleneck_shape` does, keep it as the
            intermediate ``h`` and take ``delta_h``.
        event_shape: Shape of one example.
        estimate_fn: The estimates of such a model.
        guided: Makes guided estimates of them; None without guidance.
        told: What the network is told, or None.

    Returns:
        The middle; None if there is none.
    """
    # Fields of a record that is no dataclass are not known.
    fields = dataclasses.fields(model) if dataclasses.is_dataclass(model) else ()
    nets = {field.name: getattr(model, field.name) for field in fields}
    found = [name for name, net in nets.items() if hasattr(net, "bottleneck_shape")]
    if not found:
        return None
    name, *_ = found
    net: Any = nets[name]

    def with_net(other: nn.Module) -> EstimateFn:
        return estimate_fn(dataclasses.replace(model, **{name: other}))  # type: ignore[type-var]

    def asked(asked_fn: EstimateFn, z: Array, t: Array) -> Estimate:
        return asked_fn(z, t, told) if guided is None else guided(asked_fn)(z, t)

    def watched(z: Array, t: Array) -> tuple[Estimate, Array]:
        seen: list[Array] = []
        plain = with_net(Watched(net, seen.append))(z, t, told)
        # Guidance asks about more rows, or not at all times: it takes calls of its own.
        estimate = plain if guided is None else asked(estimate_fn(model), z, t)
        return estimate, seen[0].astype(jnp.float32)

    def estimate(z: Array, t: Array, delta_h: Array) -> Estimate:
        return asked(with_net(Steered(net, delta_h)), z, t)

    return Bottleneck(tuple(net.bottleneck_shape(event_shape)), watched, estimate)
