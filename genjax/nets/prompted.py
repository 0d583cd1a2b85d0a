"""Networks that are told texts."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
from jaxtyping import Array, Float, Int


class Prompted(nn.Module):
    """A network that is told texts, through a text encoder.

    Attributes:
        net: Module ``(z, t, label, context, ...) -> output`` with attention to a context of
            vectors, ``[B, T, K]``.
        text: Module ``tokens [B, T] -> vectors [B, T, K]``.

    References:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models,
        arXiv:2112.10752, section 3.3.
    """

    net: nn.Module
    text: nn.Module

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        return ("tokens",) if self.num_classes is None else ("label", "tokens")

    @property
    def num_classes(self) -> int | None:
        """Number of classes it is told, besides."""
        return getattr(self.net, "num_classes", None)

    @property
    def event_rank(self) -> int | None:
        """Axes of one example, if the network says so."""
        return getattr(self.net, "event_rank", None)

    @property
    def bottleneck_shape(self) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        """That of the network, if it has a middle."""
        found: Callable[[tuple[int, ...]], tuple[int, ...]] = self.net.bottleneck_shape
        return found

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "B *event"],
        t: Float[Array, " B"],
        told: Mapping[str, Int[Array, "B ..."]],
        **kwargs: Any,
    ) -> Array:
        """What the network says of latents.

        Args:
            z: Latents, ``[B, *event]``.
            t: Their noise, ``[B]``.
            told: ``tokens``, ``[B, T]``, and ``label``, ``[B]``, if the network takes labels.
            **kwargs: Further arguments of the network.

        Returns:
            The network's output.
        """
        context = self.text(told["tokens"])
        return cast(Array, self.net(z, t, told.get("label"), context, **kwargs))
