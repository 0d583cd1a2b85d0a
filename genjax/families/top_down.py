"""Latents within a decoder: each group changes what the following ones are drawn from."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.base import Params, PyTree, init_network, num_classes_of
from genjax.families.heads import ObservedGroups
from genjax.families.latent_groups import Explanation


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopDown:
    r"""A decoder that draws groups on its way from coarse to fine, and an encoder that guides it.

    The model is :math:`\prod_i p(z_i|z_{<i}) p(x|z)`, the posterior
    :math:`\prod_i q(z_i|z_{<i},x)`: both go the same way, and share the decoder's state.

    Attributes:
        encoder: Module ``(x, label) -> activations``, of each resolution.
        decoder: Module ``(activations | None, label, noise, latents) -> (features, latents,
            posterior, prior)`` with the property ``group_sizes``.
        event_shape: Shape of one example.
        num_outputs: Parameters of a place.
        num_shared: Parameters that all places share.

    References:
        Sønderby et al., Ladder Variational Autoencoders, arXiv:1602.02282; Vahdat and Kautz, NVAE,
        arXiv:2007.03898; Child, Very Deep VAEs, arXiv:2011.10650.
    """

    encoder: nn.Module
    decoder: nn.Module
    event_shape: tuple[int, ...]
    num_outputs: int
    num_shared: int

    def __post_init__(self) -> None:
        if num_classes_of(self.encoder) is not None and not self.conditional:
            raise ValueError(
                "the encoder is told labels that the decoder is not: set model.decoder.num_classes "
                "too, or leave both without"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each group, from the coarsest on."""
        return cast(tuple[int, ...], self.decoder.group_sizes)

    @property
    def generated(self) -> tuple[int, ...]:
        """The groups as they are inferred."""
        return tuple(range(len(self.sizes)))

    @property
    def conditional(self) -> bool:
        """Whether the model is one of data given labels."""
        return num_classes_of(self.decoder) is not None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoder, and the decoder with the layer after it."""
        return {"encoder": self.encoder, "decoder": self._net()}

    def _net(self) -> ObservedGroups:
        return ObservedGroups(self.decoder, self.event_shape, self.num_outputs, self.num_shared)

    def init(
        self, key: PRNGKeyArray, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Params:
        """Parameters of encoder and decoder."""
        of_encoder, of_decoder = (jax.random.fold_in(key, number) for number in range(2))
        params = {}
        params["encoder"], _ = init_network(self.encoder, of_encoder, x, self._told(label))
        seen = self.look(params, x, label)
        noise = jnp.zeros((x.shape[0], sum(self.sizes)))
        variables = self._net().init(of_decoder, seen, label, noise=noise)
        return {**params, "decoder": variables["params"]}

    def _told(self, label: Array | None) -> Array | None:
        return None if num_classes_of(self.encoder) is None else label

    def look(
        self, params: Params, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> PyTree:
        """Activations of the encoder."""
        return self.encoder.apply({"params": params["encoder"]}, x, self._told(label))

    def explain(
        self,
        params: Params,
        seen: PyTree,
        label: Int[Array, " B"] | None,
        *,
        noise: Float[Array, "B Z"] | None = None,
        latents: Float[Array, "B Z"] | None = None,
    ) -> Explanation:
        """One pass of the decoder, in which latents are drawn from the posterior, or given."""
        net = {"params": params["decoder"]}
        made = self._net().apply(net, seen, label, noise=noise, latents=latents)
        outputs, found, posterior, prior = cast(tuple[Any, Any, Any, Any], made)
        return Explanation(found, posterior, prior, outputs)

    def imagine(
        self, params: Params, label: Int[Array, " B"] | None, noise: Float[Array, "B Z"]
    ) -> Array:
        """Parameters of the observation for latents of the prior, made of noise."""
        net = {"params": params["decoder"]}
        return cast(Array, self._net().apply(net, None, label, noise=noise)[0])

    def outputs(
        self, params: Params, latents: Float[Array, "B Z"], label: Int[Array, " B"] | None
    ) -> Array:
        """Parameters of the observation for given latents."""
        net = {"params": params["decoder"]}
        return cast(Array, self._net().apply(net, None, label, latents=latents)[0])
