"""The losses of two translators that undo each other, and of a critic of each side."""

import dataclasses
from collections.abc import Mapping
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    TrainState,
    apply_in_training,
    init_network,
)
from genjax.families.gan.judgement import critic_metrics
from genjax.families.gan.pool import empty_pool, exchanged
from genjax.families.gan.translation import (
    Side,
    translated_in_training,
)
from genjax.families.players import Turn
from genjax.losses import AdversarialLoss

SOURCE = "source/x"
"""Rows of the source in a batch."""
TRANSLATORS, CRITICS = ("generator", "inverse"), ("critic", "source_critic")
"""Names of the networks to each side, and of the critics of it: the target's, then the source's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGame:
    """The losses of both players of CycleGAN, as functions of parameters and rows.

    Attributes:
        networks: ``generator`` makes rows ``x`` of the source, ``inverse`` makes rows of the source
            of ``x``; ``critic`` judges rows ``x``, ``source_critic`` those of the source.
        sides: The target, ``x``, and the source.
        loss: Adversarial losses of both players.
        gan_weight: Weight of the adversarial losses of the translators.
        cycle_weight: Weight of the distance of rows to their translations there and back.
        identity_weight: Weight of the distance of rows to what the translator to their own side
            makes of them.
        pool_size: Rows kept of each side.
    """

    networks: Mapping[str, nn.Module]
    sides: tuple[Side, Side]
    loss: AdversarialLoss
    gan_weight: float
    cycle_weight: float
    identity_weight: float
    pool_size: int

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of all networks, and empty pools."""
        target, source = self.sides
        taken = {"generator": source, "inverse": target, "critic": target, "source_critic": source}
        params, state = {}, {}
        for i, (name, side) in enumerate(taken.items()):
            own = jax.random.fold_in(key, i)
            params[name], state[name] = init_network(self.networks[name], own, side.example())
        pools = {
            name: empty_pool(jax.random.fold_in(key, len(taken) + i), self.pool_size, side.shape)
            for i, (name, side) in enumerate(zip(CRITICS, self.sides, strict=True))
        }
        return params, {**state, "pools": pools}

    def rows(self, batch: Batch) -> tuple[Array, Array]:
        """Rows ``x`` and rows of the source, which belong to no pairs, in units of the networks."""
        x, source = batch["x"], batch[SOURCE]
        if x.shape[0] != source.shape[0]:
            raise ValueError(
                f"both streams must have one batch size, got {x.shape[0]} rows of x and "
                f"{source.shape[0]} of the source: leave out data.streams.source.batch_size"
            )
        return self.sides[0].units.encode(x), self.sides[1].units.encode(source)

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Mapping[str, tuple[Array, Array]], ModelState]:
        """Translations to both sides, and what the losses ask for besides; the target's first."""
        kept, count = dict(state), 0

        def to(side: int, rows: Array) -> Array:
            nonlocal count
            name, count = TRANSLATORS[side], count + 1
            made, kept[name] = translated_in_training(
                self.networks[name], params[name], kept[name], rows,
                jax.random.fold_in(key, count),
            )  # fmt: skip
            return made

        x, source = self.rows(batch)
        play = {"fake": (to(0, source), to(1, x))}
        if self.cycle_weight:
            play["cycle"] = (to(0, play["fake"][1]), to(1, play["fake"][0]))
        if self.identity_weight:
            play["identity"] = (to(0, x), to(1, source))
        return play, kept

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Mapping[str, tuple[Array, Array]],
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What both critics minimise together: each sees its side's data and its pool."""
        if not self.gan_weight:
            return jnp.zeros(()), ({}, state)
        value, found, kept = jnp.zeros(()), [], {**state, "pools": dict(state["pools"])}
        for name, real, made in zip(CRITICS, self.rows(batch), fake["fake"], strict=True):
            kept["pools"][name], made = exchanged(kept["pools"][name], made)
            net, own = self.networks[name], params[name]
            real_outputs, kept[name] = apply_in_training(net, own, kept[name], real)
            fake_outputs, kept[name] = apply_in_training(net, own, kept[name], made)
            value += jnp.mean(self.loss.critic(real_outputs, fake_outputs))
            found.append(critic_metrics(self.loss, real_outputs, fake_outputs))
        return value, (jax.tree.map(lambda *both: sum(both) / 2.0, *found), kept)

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Mapping[str, tuple[Array, Array]],
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What both translators minimise together. The critics' state stands still."""
        rows, value = self.rows(batch), jnp.zeros(())
        metrics: dict[str, Array] = {}
        if self.gan_weight:
            metrics["adversarial"] = jnp.zeros(())
            for name, real, made in zip(CRITICS, rows, fake["fake"], strict=True):
                metrics["adversarial"] += self._adversarial(params, state, name, real, made)
            value += self.gan_weight * metrics["adversarial"]
        for name, weight in (("cycle", self.cycle_weight), ("identity", self.identity_weight)):
            if weight:
                of_target, of_source = (
                    jnp.mean(jnp.abs(made - real))
                    for made, real in zip(fake[name], rows, strict=True)
                )
                metrics[name] = of_target + of_source
                value += weight * metrics[name]
        return value, (metrics, state)

    def _adversarial(
        self, params: Params, state: ModelState, name: str, real: Array, made: Array
    ) -> Array:
        """The adversarial loss of translations to one side, by the critic of that side."""
        net, own, kept = self.networks[name], params[name], state[name]
        fake_outputs, _ = apply_in_training(net, own, kept, made)
        real_outputs = fake_outputs  # not looked at
        if self.loss.uses_real:
            real_outputs, _ = apply_in_training(net, own, kept, real)
        return jnp.mean(self.loss.generator(real_outputs, fake_outputs))

    def translated(self, state: TrainState, side: int, rows: Array) -> Array:
        """Rows on one side from encoded rows on the other, by the averaged translator."""
        name = TRANSLATORS[side]
        variables = {"params": state.ema[name], **state.model_state[name]}
        return cast(Array, self.networks[name].apply(variables, rows))

    def across(self, state: TrainState, side: int, rows: Array) -> Array:
        """Rows of data on one side from rows of data on the other."""
        made = self.translated(state, side, self.sides[1 - side].units.encode(rows))
        return self.sides[side].units.decode(made)

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Distances after a way there and back, and to true partners that training never saw."""
        found: dict[str, Array] = {}
        for side, stream, prefix in ((0, "source/", ""), (1, "", "inverse_")):
            if f"{stream}x" not in batch:
                continue
            rows, own = batch[f"{stream}x"], self.sides[1 - side]
            made = self.translated(state, side, own.units.encode(rows))
            back = self.translated(state, 1 - side, made)
            found[f"{prefix}cycle"] = own.errors(back, rows)["l1"]
            if f"{stream}partner" in batch:
                errors = self.sides[side].errors(made, batch[f"{stream}partner"])
                found |= {f"{prefix}{name}": value for name, value in errors.items()}
        return found
