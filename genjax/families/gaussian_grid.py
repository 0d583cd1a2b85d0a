"""Latents on a coarse grid of places, each a few Gaussian numbers: those of latent diffusion."""

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.base import Params, init_network
from genjax.families.heads import GaussianVectors, ObservedFeatures
from genjax.families.latent_groups import Explanation, Gaussians


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianGrid:
    """One group of latents with a standard normal prior, in the shape of a grid.

    Attributes:
        encoder: Module ``x -> features [B, *places, F]``.
        decoder: Module ``latents [B, *places, D] -> features`` of each place of the example.
        channels: Entries ``D`` of the latents at a place.
        event_shape: Shape of one example.
        num_outputs: Parameters of a place of an example.
        num_shared: Parameters that all places share.
    """

    encoder: nn.Module
    decoder: nn.Module
    channels: int
    event_shape: tuple[int, ...]
    num_outputs: int
    num_shared: int
    conditional = False

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"latent_channels must be at least 1, got {self.channels}")

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the latents of one example, ``[*places, D]``."""
        example = jax.ShapeDtypeStruct((1, *self.event_shape), jnp.float32)
        encoder = self.networks["encoder"]
        mean, _ = jax.eval_shape(
            lambda x: encoder.init_with_output(jax.random.key(0), x)[0], example
        )
        return tuple(mean.shape[1:])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of the latents of one example."""
        return (math.prod(self.shape),)

    @property
    def generated(self) -> tuple[int, ...]:
        """The only group."""
        return (0,)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Encoder and decoder, with what makes distributions of their features."""
        return {
            "encoder": GaussianVectors(self.encoder, self.channels),
            "decoder": ObservedFeatures(
                self.decoder, self.event_shape, self.num_outputs, self.num_shared
            ),
        }

    def init(
        self, key: PRNGKeyArray, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Params:
        """Parameters of both networks."""
        given = {"encoder": x, "decoder": jnp.zeros((x.shape[0], *self.shape))}
        return {
            name: init_network(net, jax.random.fold_in(key, i), given[name])[0]
            for i, (name, net) in enumerate(self.networks.items())
        }

    def look(
        self, params: Params, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Gaussians:
        """The posterior, flat: ``[B, Z]`` each."""
        mean, log_std = cast(
            Gaussians, self.networks["encoder"].apply({"params": params["encoder"]}, x)
        )
        return mean.reshape(x.shape[0], -1), log_std.reshape(x.shape[0], -1)

    def explain(
        self,
        params: Params,
        seen: Gaussians,
        label: Int[Array, " B"] | None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> Explanation:
        """Latents of the posterior, or given ones, and what they stand for."""
        mean, log_std = seen
        z = latents
        if z is None:
            assert noise is not None
            z = mean + jnp.exp(log_std) * noise
        outputs = self.outputs(params, z, label)
        return Explanation(z, seen, (jnp.zeros_like(mean), jnp.zeros_like(mean)), outputs)

    def imagine(
        self, params: Params, label: Int[Array, " B"] | None, noise: Float[Array, "B Z"]
    ) -> Array:
        """Parameters of the observation for latents of the prior, which are the noise."""
        return self.outputs(params, noise, label)

    def outputs(
        self, params: Params, latents: Float[Array, "B Z"], label: Int[Array, " B"] | None
    ) -> Array:
        """Parameters of the observation for given latents."""
        grid = latents.reshape(-1, *self.shape)
        return cast(Array, self.networks["decoder"].apply({"params": params["decoder"]}, grid))
