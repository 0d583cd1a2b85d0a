"""Layers that make distributions of the features of encoders and decoders."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class GaussianFeatures(nn.Module):
    """A network, and a layer that makes a Gaussian of independent entries of its features.

    Attributes:
        trunk: Module ``(x, label) -> features [B, F]``.
        latent_size: Entries of the latent.
    """

    trunk: nn.Module
    latent_size: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], label: Int[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B Z"], Float[Array, "B Z"]]:
        """Mean and log of the standard deviation of the latent of each example, ``[B, Z]``."""
        features = self.trunk(x, label).astype(jnp.float32)  # type: ignore[operator]
        mean = nn.Dense(self.latent_size, name="mean")(features)
        # All begin with the width of the prior: an exponential of random sums may be anything.
        zeros = nn.initializers.zeros_init()
        log_std = nn.Dense(self.latent_size, kernel_init=zeros, name="log_std")(features)
        return mean, log_std


class GaussianVectors(nn.Module):
    """An encoder of grids, and a layer that makes a Gaussian of the features of each place.

    Attributes:
        trunk: Module ``x -> features [B, *places, F]``.
        size: Entries of the latent at a place.
    """

    trunk: nn.Module
    size: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"]
    ) -> tuple[Float[Array, "B *places D"], Float[Array, "B *places D"]]:
        """Mean and log of the standard deviation of the latents, the latter in [-15, 10]."""
        features = self.trunk(x).astype(jnp.float32)  # type: ignore[operator]
        mean = nn.Dense(self.size, name="mean")(features)
        zeros = nn.initializers.zeros_init()
        log_std = nn.Dense(self.size, kernel_init=zeros, name="log_std")(features)
        # Nearly nothing holds it up where the divergence weighs a millionth.
        return mean, jnp.clip(log_std, -15.0, 10.0)


class Vectors(nn.Module):
    """An encoder of grids, and a layer that makes a vector of the features of each place.

    Attributes:
        trunk: Module ``x -> features [B, *places, F]``.
        size: Length of a vector.
    """

    trunk: nn.Module
    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "B *event"]) -> Float[Array, "B *places D"]:
        """Vectors of the places of each example."""
        features = self.trunk(x).astype(jnp.float32)  # type: ignore[operator]
        return nn.Dense(self.size, name="vectors")(features)


class WithShared(nn.Module):
    """A network of outputs of each place, and further ones that are the same at all places.

    Attributes:
        trunk: Module ``(x, told) -> outputs [B, *places, P]``. It may take in entries one by one:
            ``empty_cache`` and ``step``.
        num_shared: Number of outputs that all places share.
    """

    trunk: nn.Module
    num_shared: int

    def setup(self) -> None:
        """Makes the shared outputs."""
        if self.num_shared:
            zeros = nn.initializers.zeros_init()
            self.shared = self.param("shared", zeros, (self.num_shared,), jnp.float32)

    def _joined(self, outputs: Array) -> Array:
        if not self.num_shared:
            return outputs
        shared = jnp.broadcast_to(self.shared, (*outputs.shape[:-1], self.num_shared))
        return jnp.concatenate([outputs, shared], axis=-1)

    def __call__(self, x: Array, told: Any = None) -> Float[Array, "B *places P"]:
        """Outputs of each place, the shared ones last."""
        return self._joined(self.trunk(x, told))  # type: ignore[operator]

    def empty_cache(self, batch_size: int, told: Any = None) -> Any:
        """The network's cache of no entries yet."""
        return self.trunk.empty_cache(batch_size, told)

    def step(self, entry: Array, index: Array, cache: Any, told: Any = None) -> tuple[Array, Any]:
        """Outputs of the entry at ``index``, ``[B, P]``, and the cache moved on."""
        outputs, cache = self.trunk.step(entry, index, cache, told)
        return self._joined(outputs), cache


class ObservedFeatures(nn.Module):
    """A decoder, and a layer that makes the parameters of a distribution of its features.

    Attributes:
        trunk: Module ``(latent, label) -> features``, of the example ``[B, F]`` or of each of its
            places ``[B, *places, F]``.
        event_shape: Shape of one example, whose last axis is the channels of a place.
        num_outputs: Parameters of a place.
        num_shared: Further parameters that are the same at all places, whatever the latent.
    """

    trunk: nn.Module
    event_shape: tuple[int, ...]
    num_outputs: int
    num_shared: int = 0

    def __call__(
        self, latent: Float[Array, "B *latent"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B *places P"]:
        """Parameters of each place, the shared ones last, float32.

        Raises:
            ValueError: If the features are of other places than the examples have.
        """
        return self.observe(self.features(latent, label))

    def features(
        self, latent: Float[Array, "B *latent"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B *places_F"]:
        """What the layer sees: features of the decoder."""
        return self.trunk(latent, label)  # type: ignore[operator, no-any-return]

    @nn.compact
    def observe(self, features: Float[Array, "B *places_F"]) -> Float[Array, "B *places P"]:
        """The layer after the decoder."""
        features = features.astype(jnp.float32)
        places = self.event_shape[:-1]
        if features.ndim == 2:
            flat = nn.Dense(math.prod(places) * self.num_outputs, name="outputs")(features)
            outputs = flat.reshape(-1, *places, self.num_outputs)
        elif features.shape[1:-1] == places:
            outputs = nn.Dense(self.num_outputs, name="outputs")(features)
        else:
            raise ValueError(
                f"the decoder describes places {features.shape[1:-1]}, but examples of shape "
                f"{self.event_shape} have {places}"
            )
        if not self.num_shared:
            return outputs
        shared = self.param("shared", nn.initializers.zeros_init(), (self.num_shared,), jnp.float32)
        shared = jnp.broadcast_to(shared, (*outputs.shape[:-1], self.num_shared))
        return jnp.concatenate([outputs, shared], axis=-1)


class ObservedGroups(ObservedFeatures):
    """A decoder that has the groups of latents within it, and the layer after it.

    Its trunk is a module ``(seen, label, noise, latents) -> (features, latents, posterior,
    prior)``: see :class:`genjax.nets.TopDownDecoder`.
    """

    def __call__(  # type: ignore[override]
        self,
        seen: tuple[Float[Array, "B _ _ C"], ...] | None,
        label: Int[Array, " B"] | None = None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> tuple[
        Float[Array, "B *places P"],
        Float[Array, "B Z"],
        tuple[Float[Array, "B Z"], Float[Array, "B Z"]],
        tuple[Float[Array, "B Z"], Float[Array, "B Z"]],
    ]:
        """Parameters of each place, then what the decoder gives besides features."""
        features, *others = self.trunk(  # type: ignore[operator]
            seen, label, noise=noise, latents=latents
        )
        return (self.observe(features), *others)
