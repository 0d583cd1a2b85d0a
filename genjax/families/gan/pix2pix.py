"""Image translation from pairs: a conditional GAN with an L1 loss (pix2pix)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Samples,
    TrainState,
    apply_in_training,
    init_network,
)
from genjax.families.draws import keys_by_example
from genjax.families.gan.family import diagnose
from genjax.families.gan.judgement import critic_metrics
from genjax.families.gan.translation import (
    Side,
    check_translator,
    check_weights,
    feature_of,
    loss_of_outputs,
    translated_in_training,
    translated_one_by_one,
)
from genjax.families.players import Player, Turn
from genjax.losses import AdversarialLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix2Pix:
    """The losses of both players of pix2pix, as functions of parameters and rows.

    Attributes:
        generator: Module ``(source, train=...) -> rows``.
        critic: Module ``(rows, train=...) -> [B]`` or ``[B, H, W]``.
        source: What is translated.
        target: What it is translated to.
        loss: Adversarial losses of both players.
        gan_weight: Weight of the adversarial loss of the generator.
        l1_weight: Weight of the distance to the truth.
        conditional: Whether the critic sees the source beside the row.
        as_in_training: Whether samples have dropout and statistics of their own.
    """

    generator: nn.Module
    critic: nn.Module
    source: Side
    target: Side
    loss: AdversarialLoss
    gan_weight: float
    l1_weight: float
    conditional: bool
    as_in_training: bool

    def seen(self, source: Array, x: Array) -> Array:
        """What the critic sees of a pair, both ``[B, ...]`` in the units of the networks."""
        return jnp.concatenate([source, x], axis=-1) if self.conditional else x

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of both networks."""
        keys = jax.random.split(key)
        source, x = self.source.example(), self.target.example()
        made = {
            "generator": init_network(self.generator, keys[0], source),
            "critic": init_network(self.critic, keys[1], self.seen(source, x)),
        }
        return {n: p for n, (p, _) in made.items()}, {n: s for n, (_, s) in made.items()}

    def pair(self, batch: Batch) -> tuple[Array, Array]:
        """Source and truth of each row, in the units of the networks."""
        source, x = batch["source"], batch["x"]
        return self.source.units.encode(source), self.target.units.encode(x)

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, ModelState]:
        """A translation of each source, and the state after the pass."""
        source = self.source.units.encode(batch["source"])
        fake, kept = translated_in_training(
            self.generator, params["generator"], state["generator"], source, key
        )
        return fake, {**state, "generator": kept}

    def outputs(
        self, params: Params, state: ModelState, batch: Batch, fake: Array
    ) -> tuple[Array, Array, Any]:
        """The critic's outputs for true and made pairs, and its state after both."""
        source, x = self.pair(batch)
        own, kept = params["critic"], state["critic"]
        real_outputs, kept = apply_in_training(self.critic, own, kept, self.seen(source, x))
        fake_outputs, kept = apply_in_training(self.critic, own, kept, self.seen(source, fake))
        return real_outputs, fake_outputs, kept

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises; nothing where no one asks it."""
        if not self.gan_weight:
            return jnp.zeros(()), ({}, state)
        real_outputs, fake_outputs, kept = self.outputs(params, state, batch, fake)
        metrics = critic_metrics(self.loss, real_outputs, fake_outputs)
        value = jnp.mean(self.loss.critic(real_outputs, fake_outputs))
        return value, (metrics, {**state, "critic": kept})

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the generator minimises. The critic's state stands still."""
        source, x = self.pair(batch)
        metrics = {"l1": jnp.mean(jnp.abs(fake - x))}
        value = self.l1_weight * metrics["l1"]
        if self.gan_weight:
            own, kept = params["critic"], state["critic"]
            fake_outputs, _ = apply_in_training(self.critic, own, kept, self.seen(source, fake))
            real_outputs = fake_outputs  # not looked at
            if self.loss.uses_real:
                real_outputs, _ = apply_in_training(self.critic, own, kept, self.seen(source, x))
            adversarial = jnp.mean(self.loss.generator(real_outputs, fake_outputs))
            metrics["adversarial"] = adversarial
            value += self.gan_weight * adversarial
        return value, (metrics, state)

    def translated(self, state: TrainState, batch: Batch, keys: Array) -> Array:
        """Translations by the averaged generator, in the units of the networks."""
        params, kept = state.ema["generator"], state.model_state["generator"]
        source = self.source.units.encode(batch["source"])
        if not self.as_in_training:
            return jnp.asarray(self.generator.apply({"params": params, **kept}, source))
        return translated_one_by_one(self.generator, params, kept, source, keys)

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """A translation of each source: see :class:`~genjax.families.base.Family`."""
        keys = jax.random.split(key, batch["source"].shape[0])
        made = self.translated(state, batch, keys)
        return Samples(rows=self.target.units.decode(made))

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Errors of translations to the truth: see :class:`~genjax.families.base.Family`."""
        made = self.translated(state, batch, keys_by_example(key, batch["index"]))
        return self.target.errors(made, batch["x"])


def pix2pix(
    *,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    spec: Mapping[str, Any],
    batch_size: int,
    loss: AdversarialLoss | str = "nonsaturating",
    gan_weight: float = 1.0,
    l1_weight: float = 100.0,
    conditional_critic: bool = True,
    as_in_training: bool = True,
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Translation learned from pairs: each row has a ``source`` that ``x`` is to be made from.

    .. math:: w_{gan} L_{gan}(G) + w_{L1} \mathbb{E} |G(source) - x|

    The critic judges pairs. Each step moves it first, then the generator on the same translations,
    through the critic as it is then. Grey levels are scaled to [-1, 1].

    Args:
        generator: Module ``(source, train=...) -> rows``, which may draw from the random stream
            ``dropout``.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches.
        generator_optimizer: Optimiser of the generator. Published with Adam at 2e-4 and decay rates
            0.5 and 0.999, for 100 epochs, and falling linearly to 0 in another 100.
        critic_optimizer: Optimiser of the critic, alike. (Its loss was halved, to which Adam is
            indifferent.)
        spec: Features of the data; ``x`` and ``source`` are read.
        batch_size: Examples in a batch; published with 1 to 10.
        loss: Losses of both players, or a key of
            :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`.
        gan_weight: Weight of the adversarial loss. At 0 the generator is trained on the distance
            alone, and the critic not at all.
        l1_weight: Weight of the distance to the truth; at 0 the game is that of a conditional GAN.
        conditional_critic: Whether the critic sees the source beside the row, on which its input
            has the channels of both.
        as_in_training: Whether translations are made one by one with dropout and the statistics of
            the single image, as published, so that they vary with the seed. Otherwise there is no
            dropout, and batch normalisation uses running statistics.
        average: Moving average of the generator that samples come from; the paper has none
            (``ema_half_life_kimg=0.0``).

    Returns:
        The family. ``eval_step`` gives errors of translations to the truth.

    Raises:
        ValueError: If arguments are out of range, or networks and data do not fit each other.

    References:
        Isola et al., arXiv:1611.07004, eq. 1 to 4.
    """
    check_weights(gan_weight=gan_weight, l1_weight=l1_weight)
    hint = "name a transform that makes it, such as data.transforms=[dict(name='edges')]"
    game = Pix2Pix(
        generator=generator,
        critic=critic,
        source=Side.of(feature_of(spec, "source", hint)),
        target=Side.of(spec["x"]),
        loss=loss_of_outputs(loss),
        gan_weight=gan_weight,
        l1_weight=l1_weight,
        conditional=conditional_critic,
        as_in_training=as_in_training,
    )
    if conditional_critic and game.source.shape[:-1] != game.target.shape[:-1]:
        raise ValueError(
            f"a critic of pairs needs them of one size, got source {game.source.shape} and x "
            f"{game.target.shape}: set family.conditional_critic to False"
        )
    check_translator(generator, game.source, game.target, "generator")
    step = Adversarial(
        init_networks=game.init_networks,
        generate=game.generate,
        critic=Player(networks=("critic",), loss_fn=game.critic_loss, optimizer=critic_optimizer),
        generator=Player(
            networks=("generator",), loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        share_fakes=True,
        average=average,
    )
    way = "one by one, as in training" if as_in_training else "without dropout"
    return Family(
        init=step.init,
        train_step=step.train_step,
        eval_step=game.eval_step,
        sample=game.sample,
        eval_protocol={
            "parameters": "moving average" if average.ema_half_life_kimg else "current",
            "translations": way,
        },
        sample_protocol={"translations": way},
        reads=("source",),
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )
