"""Latents in layers: each one explains the layer below it, the lowest the data."""

import dataclasses
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.base import Params, init_network, num_classes_of
from genjax.families.heads import GaussianFeatures, ObservedFeatures
from genjax.families.latent_groups import Explanation, Gaussians, split_groups


def layers_of(net: nn.Module) -> tuple[nn.Module, ...]:
    """Networks of the layers of latents, from the data up: ``net.layers``, or the only one."""
    return tuple(getattr(net, "layers", (net,)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StochasticLayers:
    r"""Layers of latents, from the data up; one is the usual variational autoencoder.

    The model is :math:`p(z_L) \prod_i p(z_i|z_{i+1}) p(x|z_1)`, and the posterior
    :math:`q(z_1|x) \prod_i q(z_{i+1}|z_i)`.

    Attributes:
        encoder: Module ``(x, label) -> features [B, F]``, or one whose ``layers`` are such modules,
            of the data and of each layer of latents but the last.
        decoder: Module ``(latent, label) -> features``, or one whose ``layers`` are such, from that
            of the data up.
        sizes: Entries of the latents of each layer.
        event_shape: Shape of one example.
        num_outputs: Parameters of a place of an example.
        num_shared: Parameters that all places share.
        prior: That of the last layer: ``"standard"`` normal, or one of its own for each
            ``"label"``.

    References:
        Burda et al., Importance Weighted Autoencoders, arXiv:1509.00519, section 2 and appendix C.
    """

    encoder: nn.Module
    decoder: nn.Module
    sizes: tuple[int, ...]
    event_shape: tuple[int, ...]
    num_outputs: int
    num_shared: int
    prior: Literal["standard", "label"] = "standard"

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError(f"latent_size must be at least 1, got {self.sizes}")
        for name, net in (("encoder", self.encoder), ("decoder", self.decoder)):
            if len(layers_of(net)) != len(self.sizes):
                raise ValueError(
                    f"latent_size has {len(self.sizes)} layers of latents, but model.{name} "
                    f"{len(layers_of(net))} networks: give one latent_size for each of them, from "
                    "the data up"
                )
        if self.prior not in ("standard", "label"):
            raise ValueError(f"prior must be 'standard' or 'label', got {self.prior!r}")
        if num_classes_of(self.encoder) is not None and not self.conditional:
            raise ValueError(
                "the encoder is told labels that the decoder is not: set model.decoder.num_classes "
                "too, or leave both without"
            )
        if self.prior == "label" and not self.conditional:
            raise ValueError("prior='label' needs model.decoder.num_classes")

    @property
    def generated(self) -> tuple[int, ...]:
        """The layers from the last to the lowest."""
        return tuple(reversed(range(len(self.sizes))))

    @property
    def conditional(self) -> bool:
        """Whether the model is one of data given labels."""
        return num_classes_of(self.decoder) is not None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Those of all layers, with what makes distributions of their features."""
        found: dict[str, nn.Module] = {"encoder": self._encoder(0), "decoder": self._observed()}
        for i in range(1, len(self.sizes)):
            found |= {_name("encoder", i): self._encoder(i)}
            found |= {_name("decoder", i): self._decoder(i - 1)}
        return found

    def _encoder(self, i: int) -> GaussianFeatures:
        """The network that infers the latents of layer ``i``, from 0."""
        return GaussianFeatures(layers_of(self.encoder)[i], self.sizes[i])

    def _decoder(self, i: int) -> GaussianFeatures:
        """The network that describes the latents of layer ``i`` by those of the next."""
        return GaussianFeatures(layers_of(self.decoder)[i + 1], self.sizes[i])

    def _observed(self) -> ObservedFeatures:
        trunk = layers_of(self.decoder)[0]
        return ObservedFeatures(trunk, self.event_shape, self.num_outputs, self.num_shared)

    def _told(self, label: Array | None) -> Array | None:
        return None if num_classes_of(self.encoder) is None else label

    def init(
        self, key: PRNGKeyArray, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Params:
        """Parameters: ``encoder``, ``decoder``, those of the layers above, and of the prior."""
        told, rows = self._told(label), x.shape[0]
        params = {}
        keys = iter(jax.random.fold_in(key, number) for number in range(2 * len(self.sizes)))
        params["encoder"], _ = init_network(self._encoder(0), next(keys), x, told)
        z = jnp.zeros((rows, self.sizes[0]))
        params["decoder"], _ = init_network(self._observed(), next(keys), z, label)
        for i in range(1, len(self.sizes)):
            above = jnp.zeros((rows, self.sizes[i]))
            params[_name("encoder", i)], _ = init_network(self._encoder(i), next(keys), z, told)
            params[_name("decoder", i)], _ = init_network(
                self._decoder(i - 1), next(keys), above, label
            )
            z = above
        if self.prior == "label":
            count = num_classes_of(self.decoder)
            params["prior"] = {"gaussian": jnp.zeros((count, 2, self.sizes[-1]))}
        return params

    def look(
        self, params: Params, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Gaussians:
        """The posterior of the lowest layer."""
        found = self._encoder(0).apply({"params": params["encoder"]}, x, self._told(label))
        return cast(Gaussians, found)

    def explain(
        self,
        params: Params,
        seen: Gaussians,
        label: Int[Array, " B"] | None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> Explanation:
        """Infers from the data up; describes from the top down."""
        given = noise if latents is None else latents
        assert given is not None
        posterior, found = [seen], list[Array]()
        for i, part in enumerate(split_groups(given, self.sizes)):
            if i:
                net = {"params": params[_name("encoder", i)]}
                above = self._encoder(i).apply(net, found[-1], self._told(label))
                posterior.append(cast(Gaussians, above))
            mean, log_std = posterior[-1]
            found.append(mean + jnp.exp(log_std) * part if latents is None else part)
        prior = [self._prior_below(params, i, z, label) for i, z in enumerate(found[1:])]
        prior.append(self._top(params, label, found[0].shape[0]))
        outputs = self._observed().apply({"params": params["decoder"]}, found[0], label)
        return Explanation(
            _joined(found), _joined_pairs(posterior), _joined_pairs(prior), cast(Array, outputs)
        )

    def imagine(
        self, params: Params, label: Int[Array, " B"] | None, noise: Float[Array, "B Z"]
    ) -> Array:
        """Parameters of the observation for latents of the prior, made of noise."""
        parts = split_groups(noise, self.sizes)
        mean, log_std = self._top(params, label, noise.shape[0])
        z = mean + jnp.exp(log_std) * parts[-1]
        for i in reversed(range(len(self.sizes) - 1)):
            mean, log_std = self._prior_below(params, i, z, label)
            z = mean + jnp.exp(log_std) * parts[i]
        return cast(Array, self._observed().apply({"params": params["decoder"]}, z, label))

    def outputs(
        self, params: Params, latents: Float[Array, "B Z"], label: Int[Array, " B"] | None
    ) -> Array:
        """Parameters of the observation; the data depends on the lowest layer alone."""
        z = split_groups(latents, self.sizes)[0]
        return cast(Array, self._observed().apply({"params": params["decoder"]}, z, label))

    def _prior_below(self, params: Params, i: int, z: Array, label: Array | None) -> Gaussians:
        """The prior of layer ``i`` given the latents above it."""
        net = {"params": params[_name("decoder", i + 1)]}
        return cast(Gaussians, self._decoder(i).apply(net, z, label))

    def _top(self, params: Params, label: Array | None, rows: int) -> Gaussians:
        """The prior of the last layer, for each row."""
        if self.prior == "standard":
            zeros = jnp.zeros((rows, self.sizes[-1]))
            return zeros, zeros
        both = params["prior"]["gaussian"][label]
        return both[:, 0], both[:, 1]


def _name(net: str, layer: int) -> str:
    """Key of the parameters of an upper layer, which is counted from 1."""
    return f"{net}_{layer + 1}"


def _joined(parts: list[Array]) -> Array:
    return jnp.concatenate(parts, axis=-1)


def _joined_pairs(pairs: list[Gaussians]) -> Gaussians:
    means, log_stds = zip(*pairs, strict=True)
    return _joined(list(means)), _joined(list(log_stds))
