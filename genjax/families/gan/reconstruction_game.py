"""Autoencoders that a critic and a frozen network's features judge: first stages of others."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.devices import average, nested
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    PyTree,
    apply_in_training,
    init_network,
)
from genjax.families.gan.coders import Coder
from genjax.families.gan.content import Content, Distance, distance_between
from genjax.families.gan.judgement import critic_metrics
from genjax.families.gan.translation import Side, loss_of_outputs
from genjax.families.laplace_observation import Laplace
from genjax.families.players import Turn

_MOST = 1e4
"""The largest factor of the adversarial loss."""
_TINY = 1e-4
"""What is added to the norm that it is divided by."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judges:
    r"""How a critic and features take part in the training of an autoencoder: keys of its family.

    Attributes:
        critic_weight: Weight of the adversarial loss, beside the factor that makes its gradient at
            the last layer of the decoder as long as that of the reconstruction: 0.5 for LDM's
            KL-regularised autoencoders, 0.75 or 0.8 for the quantised ones.
        critic_start: Training steps before the critic takes part: 50,000 for LDM's KL-regularised
            autoencoders, 0 for its quantised ones, 250,000 for VQGAN of ImageNet.
        critic_loss: Losses of both players, by name.
        content_weight: Weight of the distance of features, a mean over their entries, beside the
            mean absolute error of entries of rows.
        feature_layer: Layer of the frozen network whose output is compared in place of its
            features.
        distance: ``"l2"`` for squared errors of features, ``"l1"`` for absolute ones.

    References:
        Esser et al., Taming Transformers, arXiv:2012.09841, eq. 6 and 7.
    """

    critic_weight: float = 0.5
    critic_start: int = 0
    critic_loss: str = "hinge"
    content_weight: float = 1.0
    feature_layer: str | None = None
    distance: Distance = "l2"

    def __post_init__(self) -> None:
        if not (self.critic_weight > 0.0 and self.content_weight > 0.0 and self.critic_start >= 0):
            raise ValueError(
                "critic_weight and content_weight must be positive and critic_start at least 0, "
                f"got {self.critic_weight}, {self.content_weight} and {self.critic_start}; leave "
                "model.critic or model.features out to do without"
            )
        distance_between(self.distance)
        loss_of_outputs(self.critic_loss)

    def content(self, features: nn.Module | None) -> Content | None:
        """The distance of features of a network, if there is one."""
        if features is None:
            return None
        return Content(net=features, layer=self.feature_layer, distance=self.distance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructionGame:
    """The losses of an autoencoder and of its critic, as functions of parameters and rows.

    Attributes:
        coder: The autoencoder.
        judges: How the others take part.
        side: Shape and levels of the data.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches; None for none.
        content: The distance of features; None for none.
    """

    coder: Coder
    judges: Judges
    side: Side
    critic: nn.Module | None = None
    content: Content | None = None

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of all networks; the features' variables are all state."""
        found, kept = self.coder.init(key, batch)
        params, state = dict(found), dict(kept)
        if self.critic is not None:
            made = init_network(self.critic, jax.random.fold_in(key, 0xC), self.side.example())
            params["critic"], state["critic"] = made
        if self.content is not None:
            state["features"] = self.content.init(jax.random.fold_in(key, 0xF), self.side)
        return params, state

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[PyTree, ModelState]:
        """Rows encoded and all but decoded: the last layer is the losses' own."""
        return self.coder.code(params, state, batch, key), state

    def image(self, outputs: Array) -> Array:
        """What the judges see of reconstructions, ``[B, *event]``, in the units of the networks."""
        observation: Any = self.coder.observation
        return cast(Array, observation.expected(outputs, self.coder.entries))

    def error(self, state: ModelState, batch: Batch, outputs: Array) -> tuple[Array, Metrics]:
        """Mean nats of rows given latents, and the distance of features with them, ``[]``."""
        observation = self.coder.observation
        nats = jnp.mean(observation.nats(batch["x"], outputs, self.coder.entries))
        if self.content is None:
            return nats, {"reconstruction": nats}
        truth = self.coder.units.encode(batch["x"])
        content = self.content.loss(state["features"], self.image(outputs), truth)
        # As if it were added to the error of each entry, and so over the scale that errors have.
        cost = self.judges.content_weight * content * truth[0].size
        if isinstance(observation, Laplace):
            cost = cost * jnp.exp(-jnp.mean(observation.log_scale(outputs)))
        return nats + cost, {"reconstruction": nats, "content": content}

    def autoencoder_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: PyTree,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the autoencoder minimises. The critic's state stands still."""
        held, (told, kept) = self.coder.regularizer(params, state, batch, fake, key, turn.step)
        outputs = self.coder.observe(params, fake["features"])
        if self.critic is None:
            value, metrics = self.error(state, batch, outputs)
            return value + held, ({**metrics, **told}, kept)

        # Slopes in the outputs are taken by hand, each once: they make the factor, and go back.
        fixed = jax.lax.stop_gradient(outputs)
        (value, metrics), slope = jax.value_and_grad(self.error, argnums=2, has_aux=True)(
            state, batch, fixed
        )
        fixed_params, features = jax.lax.stop_gradient((params, fake["features"]))

        def at_last_layer(slope: Array) -> Array:
            """The gradient of a loss at the last layer, from its slope in the outputs."""
            kernel = fixed_params["decoder"]["outputs"]["kernel"]
            _, back = jax.vjp(
                lambda k: self.coder.observe(with_last_kernel(fixed_params, k), features), kernel
            )
            return average(back(slope)[0])

        def judged() -> tuple[Array, Array, Metrics]:
            cost, its_slope = jax.value_and_grad(
                lambda o: self._critics_view(fixed_params, state, batch, o)
            )(fixed)
            factor = adaptive_weight(at_last_layer(slope), at_last_layer(its_slope))
            weight = self.judges.critic_weight * factor
            told = {"adversarial": cost, "adaptive_weight": factor}
            return weight * cost, weight * its_slope, told

        def alone() -> tuple[Array, Array, Metrics]:
            none = {"adversarial": jnp.zeros(()), "adaptive_weight": jnp.zeros(())}
            return jnp.zeros(()), jnp.zeros_like(fixed), none

        if self.judges.critic_start:
            with nested():
                found = jax.lax.cond(turn.step >= self.judges.critic_start, judged, alone)
        else:
            found = judged()
        cost, its_slope, others = found
        # A number with a slope: the second term is zero.
        value = value + cost + jnp.sum((slope + its_slope) * (outputs - fixed))
        return value + held, ({**metrics, **told, **others}, kept)

    def _critics_view(
        self, params: Params, state: ModelState, batch: Batch, outputs: Array
    ) -> Array:
        """The adversarial loss of reconstructions, ``[]``."""
        assert self.critic is not None
        loss = loss_of_outputs(self.judges.critic_loss)
        own, kept = params["critic"], state["critic"]
        made, _ = apply_in_training(self.critic, own, kept, self.image(outputs))
        real = made  # not looked at
        if loss.uses_real:
            truth = self.coder.units.encode(batch["x"])
            real, _ = apply_in_training(self.critic, own, kept, truth)
        return jnp.mean(loss.generator(real, made))

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: PyTree,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises."""
        assert self.critic is not None
        loss = loss_of_outputs(self.judges.critic_loss)
        image = self.image(self.coder.observe(params, fake["features"]))
        own, kept, truth = params["critic"], state["critic"], self.coder.units.encode(batch["x"])
        real, kept = apply_in_training(self.critic, own, kept, truth)
        made, kept = apply_in_training(self.critic, own, kept, image)
        value = jnp.mean(loss.critic(real, made))
        return value, (critic_metrics(loss, real, made), {**state, "critic": kept})


def with_last_kernel(params: Params, kernel: Array) -> Params:
    """Parameters with another kernel of the decoder's last layer."""
    outputs = {**params["decoder"]["outputs"], "kernel": kernel}
    return {**params, "decoder": {**params["decoder"], "outputs": outputs}}


def adaptive_weight(
    of_error: Float[Array, "*shape"], of_critic: Float[Array, "*shape"]
) -> Float[Array, ""]:
    r"""The factor that makes an adversarial gradient as long as that of the reconstruction.

    .. math:: \min(\lVert g_{nll} \rVert / (\lVert g_{adv} \rVert + 10^{-4}), 10^4)

    Args:
        of_error: Gradient of the reconstruction at the decoder's last layer.
        of_critic: Gradient of the adversarial loss there, of the same shape.

    Returns:
        The factor, a constant: no gradient flows through it.

    References:
        Esser et al., Taming Transformers, arXiv:2012.09841, eq. 7; the clamp is that of their code.
    """
    factor = jnp.linalg.norm(of_error.ravel()) / (jnp.linalg.norm(of_critic.ravel()) + _TINY)
    return jax.lax.stop_gradient(jnp.clip(factor, 0.0, _MOST))
