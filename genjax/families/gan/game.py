"""Generative adversarial networks: any adversarial loss, any control of the critic's slope."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.adversarial import Adversarial, HalfLife, Player, Turn
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Samples,
    Suspicion,
    TrainState,
    init_network,
    label_of,
    num_classes_of,
)
from genjax.families.draws import Latent
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.levels import Bins, Ends, Reals, Units
from genjax.losses import ADVERSARIAL_LOSSES, AdversarialLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows the players see together.

    Attributes:
        generator_batch_factor: Samples in a generator step, as a multiple of the batch size.
        share_fakes: Whether to generate less: one pass of the generator makes the rows of all
            critic steps but the last, another those of the last, and the generator's own step goes
            back through the latter, with the last critic step's data (as the DCGAN of
            pytorch/examples). Batch normalisation then sees the rows of a pass together.
        joint_batches: Whether the critic sees real and generated rows in one pass, with joint batch
            statistics, or in two. In one pass the generator's step takes real rows, too.
        pack_size: Rows of one origin that the critic sees as one, joined along the last axis
            (PacGAN, arXiv:1712.04086).
    """

    generator_batch_factor: int = 1
    share_fakes: bool = False
    joint_batches: bool = False
    pack_size: int = 1

    def check(self, game: AdversarialLoss, *, batch_size: int, conditional: bool) -> None:
        """Whether the arguments fit each other, a loss and a batch.

        Raises:
            ValueError: If they do not.
        """
        for name in ("generator_batch_factor", "pack_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if batch_size % self.pack_size:
            raise ValueError(
                f"pack_size ({self.pack_size}) must divide the batch size ({batch_size})"
            )
        if self.pack_size > 1 and conditional:
            raise ValueError("pack_size above 1 needs an unconditional model: packs mix labels")
        if self.generator_batch_factor == 1:
            return
        if self.takes_real(game):
            raise ValueError(
                "generator_batch_factor above 1 does not fit a generator's step that sees as many "
                "real rows as generated ones (joint_batches, or a loss that compares the two)"
            )
        if self.share_fakes:
            raise ValueError(
                "share_fakes gives the generator's step the critic's rows, of which there are not "
                f"{self.generator_batch_factor} times as many: set generator_batch_factor to 1"
            )

    def takes_real(self, game: AdversarialLoss) -> bool:
        """Whether the generator's step looks at real rows."""
        return game.uses_real or self.joint_batches

    def pack(self, x: Array) -> Array:
        """Joins each ``pack_size`` consecutive rows along the last axis."""
        if self.pack_size == 1:
            return x
        if x.shape[0] % self.pack_size:
            raise ValueError(
                f"family.pack_size ({self.pack_size}) must divide the {x.shape[0]} rows that a "
                "device sees"
            )
        rows = x.reshape(-1, self.pack_size, *x.shape[1:])
        return jnp.concatenate([rows[:, i] for i in range(self.pack_size)], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The losses of a GAN's players, as functions of parameters and rows.

    Attributes:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Module ``(rows, label, train=...) -> [B]``, or ``[B, K]`` for an MMD GAN.
        loss: Losses of both players on the critic's outputs.
        latents: What the generator starts from.
        slope_control: Penalties and limits on the critic.
        rows: Which rows the players see together.
        units: Data to the units of the networks, and back.
    """

    generator: nn.Module
    critic: nn.Module
    loss: AdversarialLoss
    latents: Latent
    slope_control: SlopeControl
    rows: Rows
    units: Units

    @property
    def conditional(self) -> bool:
        """Whether the networks take labels."""
        return num_classes_of(self.generator) is not None

    def init_networks(
        self, key: PRNGKeyArray, batch: Batch, event_shape: tuple[int, ...]
    ) -> tuple[Params, ModelState]:
        """Parameters and state of both networks."""
        key_generator, key_critic = jax.random.split(key)
        label = batch["label"][:1].reshape(-1)[:1] if self.conditional else None
        packed = (*event_shape[:-1], event_shape[-1] * self.rows.pack_size)
        latent, rows = jnp.zeros((1, self.latents.latent_size)), jnp.zeros((1, *packed))
        made = {
            "generator": init_network(self.generator, key_generator, latent, label),
            "critic": init_network(self.critic, key_critic, rows, label),
        }
        return {n: p for n, (p, _) in made.items()}, {n: s for n, (_, s) in made.items()}

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, ModelState]:
        """``factor`` generated rows for each of a batch, packed, and the state after the pass."""
        _, key_latent, _ = jax.random.split(key, 3)
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, factor)
        z = self.latents.draw(key_latent, batch["x"].shape[0] * factor)
        fake, kept = _in_training(self.generator, params["generator"], state["generator"], z, label)
        return self.rows.pack(fake), {**state, "generator": kept}

    def real_rows(self, batch: Batch, key: PRNGKeyArray) -> Array:
        """Rows of the data, packed."""
        key_noise, _, _ = jax.random.split(key, 3)
        noise = None
        if isinstance(self.units, Bins):
            noise = jax.random.uniform(key_noise, batch["x"].shape)
        return self.rows.pack(self.units.encode(batch["x"], noise))

    def outputs(
        self, params: Params, state: ModelState, real: Array, fake: Array, label: Array | None
    ) -> tuple[Array, Array, Any]:
        """The critic's outputs for real and generated rows, and its state after them."""
        own, kept = params["critic"], state["critic"]
        if self.rows.joint_batches:
            both = None if label is None else jnp.concatenate([label, label])
            together = jnp.concatenate([real, fake])
            outputs, kept = _in_training(self.critic, own, kept, together, both)
            real_outputs, fake_outputs = jnp.split(outputs, 2)
        else:
            real_outputs, kept = _in_training(self.critic, own, kept, real, label)
            fake_outputs, kept = _in_training(self.critic, own, kept, fake, label)
        return real_outputs, fake_outputs, kept

    def slope_penalty(
        self,
        params: Params,
        state: ModelState,
        real: Array,
        fake: Array,
        label: Array | None,
        key: PRNGKeyArray,
    ) -> Array:
        """The weighted penalties on the critic, or on the witness function of its features."""

        def outputs_of(x: Array) -> Array:
            variables = {"params": params["critic"], **state["critic"]}
            return cast(Array, self.critic.apply(variables, x, label, train=False))

        critic_fn = outputs_of
        if self.loss.witness is not None:
            witness = self.loss.witness
            ends = outputs_of(real), outputs_of(fake)

            def critic_fn(x: Array) -> Array:
                return witness(outputs_of(x), *ends)

        _, _, key_slope = jax.random.split(key, 3)
        return self.slope_control.penalty(critic_fn, real, fake, key_slope)

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises in each of its steps."""
        real, label = self.real_rows(batch, key), label_of(batch, conditional=self.conditional)
        real_outputs, fake_outputs, kept = self.outputs(params, state, real, fake, label)
        value = jnp.mean(self.loss.critic(real_outputs, fake_outputs))
        metrics = {"real_output": jnp.mean(real_outputs), "fake_output": jnp.mean(fake_outputs)}
        if self.loss.correct is not None:
            metrics["critic_accuracy"] = jnp.mean(self.loss.correct(real_outputs, fake_outputs))
        metrics["diversity"] = _diversity(fake) / jnp.maximum(_diversity(real), 1e-12)
        if self.slope_control.weights and not self.slope_control.lazy:
            metrics["penalty"] = self.slope_penalty(params, state, real, fake, label, key)
            value += metrics["penalty"]
        return value, (metrics, {**state, "critic": kept})

    def penalty_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises in steps between, if its penalties are lazy."""
        real, label = self.real_rows(batch, key), label_of(batch, conditional=self.conditional)
        value = self.slope_penalty(params, state, real, fake, label, key)
        return value, ({"penalty": value}, state)

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
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, self.rows.generator_batch_factor)
        if self.rows.takes_real(self.loss):
            real = self.real_rows(batch, key)
            real_outputs, fake_outputs, _ = self.outputs(params, state, real, fake, label)
        else:
            fake_outputs, _ = _in_training(
                self.critic, params["critic"], state["critic"], fake, label
            )
            real_outputs = fake_outputs  # not looked at
        return jnp.mean(self.loss.generator(real_outputs, fake_outputs)), ({}, state)

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Rows from the averaged generator: see :class:`~genjax.families.base.Family`."""
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        z = self.latents.draw(key, batch["x"].shape[0])
        label = label_of(batch, conditional=self.conditional)
        return Samples(
            rows=self.units.decode(cast(Array, self.generator.apply(variables, z, label)))
        )


def gan(
    *,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    batch_size: int,
    loss: AdversarialLoss | str = "nonsaturating",
    latents: Latent = Latent(),
    critic_steps: int = 1,
    slope_control: SlopeControl = SlopeControl(),
    rows: Rows = Rows(),
    dequantize: bool = False,
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Generative adversarial network.

    Each step makes ``critic_steps`` steps of the critic, each on fresh data and fresh latents, and
    one of the generator, on fresh latents (but see ``Rows.share_fakes``). Images are scaled to
    [-1, 1]. Generated rows take the labels of the real rows of their batch.

    During the critic's steps the generator normalises by the batch and its running statistics stand
    still; during the generator's step the critic's state does. Samples come from the averaged
    parameters with the running statistics of the current ones, which are copied, not averaged.

    Args:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Module ``(rows, label, train=...) -> [B]``, or ``[B, K]`` for an MMD GAN.
        generator_optimizer: Optimiser of the generator.
        critic_optimizer: Optimiser of the critic; two learning rates are a matter of these two
            (TTUR, arXiv:1706.08500).
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        batch_size: Examples in a batch.
        loss: Losses of both players, or a key of
            :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`.
        latents: What the generator starts from.
        critic_steps: Steps of the critic for each of the generator.
        slope_control: Penalties and limits on the critic.
        rows: Which rows the players see together.
        dequantize: Whether to spread whole grey levels over their bins with uniform noise.
        average: Moving average of the generator that samples come from.

    Returns:
        The family. It has no ``eval_step``: a GAN is evaluated by its samples.

    Raises:
        ValueError: If arguments are out of range or contradict each other or the networks.

    References:
        Goodfellow et al., arXiv:1406.2661; for losses and penalties see their functions.
    """
    if isinstance(loss, str):
        if loss not in ADVERSARIAL_LOSSES:
            raise ValueError(f"loss must be one of {sorted(ADVERSARIAL_LOSSES)}, got {loss!r}")
        loss = ADVERSARIAL_LOSSES[loss]
    if dequantize and num_levels is None:
        raise ValueError("dequantize is for data of whole grey levels")
    units: Units = Reals()
    if num_levels is not None:
        units = Bins(num_levels, -1.0, 1.0) if dequantize else Ends(num_levels)
    game = Game(
        generator=generator,
        critic=critic,
        loss=loss,
        latents=latents,
        slope_control=slope_control,
        rows=rows,
        units=units,
    )
    _check_networks(game, event_shape, batch_size)
    step = Adversarial(
        init_networks=lambda key, batch: game.init_networks(key, batch, event_shape),
        generate=game.generate,
        critic=Player(
            networks=("critic",),
            loss_fn=game.critic_loss,
            optimizer=critic_optimizer,
            project=slope_control.project,
            regularizer_fn=game.penalty_loss if slope_control.lazy else None,
            regularize_every=slope_control.penalty_every,
        ),
        generator=Player(
            networks=("generator",), loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        critic_steps=critic_steps,
        share_fakes=rows.share_fakes,
        generator_factor=rows.generator_batch_factor,
        generator_batch=rows.takes_real(loss) and not rows.share_fakes,
        average=average,
    )
    return Family(
        init=step.init,
        train_step=step.train_step,
        sample=game.sample,
        eval_protocol={"parameters": "moving average" if average.ema_half_life_kimg else "current"},
        reads=("label",) if game.conditional else (),
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )


def _in_training(
    network: nn.Module, params: Any, state: Any, x: Array, label: Array | None
) -> tuple[Array, Any]:
    """Applies a network in training; returns its output and its new state."""
    y, new = network.apply({"params": params, **state}, x, label, train=True, mutable=list(state))
    return cast(Array, y), {**state, **new}


def _check_networks(game: Game, event_shape: tuple[int, ...], batch_size: int) -> None:
    """Whether the networks fit each other, the loss and the data; found on shapes alone."""
    classes = [num_classes_of(net) for net in (game.generator, game.critic)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"generator and critic must agree on num_classes, got {classes[0]} and {classes[1]}"
        )
    game.rows.check(game.loss, batch_size=batch_size, conditional=game.conditional)
    label = {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if game.conditional else {}
    params, kept = jax.eval_shape(
        lambda key, batch: game.init_networks(key, batch, event_shape), jax.random.key(0), label
    )
    packed = (*event_shape[:-1], event_shape[-1] * game.rows.pack_size)
    rows = jax.ShapeDtypeStruct((2, *packed), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if game.conditional else None
    scored = jax.eval_shape(
        game.critic.apply, {"params": params["critic"], **kept["critic"]}, rows, labels
    )
    rank = 1 if game.loss.witness is None else 2
    if len(scored.shape) != rank:
        expected = "one number a row" if rank == 1 else "several features a row (num_outputs)"
        raise ValueError(
            f"this loss needs a critic with {expected}, but it gives {scored.shape[1:]} a row"
        )
    game.slope_control.check(kept["critic"])


def _diversity(x: Array) -> Array:
    """Mean squared distance between neighbouring rows of a batch."""
    return jnp.mean(jnp.square(x - jnp.roll(x, 1, axis=0)))


def diagnose(metrics: Mapping[str, float]) -> Sequence[Suspicion]:
    """Names what looks wrong in the logged means of an adversarial run.

    Args:
        metrics: Means over a window of training steps, by name.

    Returns:
        The suspicions; none if there is none.
    """
    found = []
    diversity = metrics.get("diversity", 1.0)
    if diversity < 0.05:
        found.append(
            Suspicion(
                "mode collapse",
                f"mode collapse: generated rows differ by {diversity:.1%} of what real rows differ "
                "by (mean square); lower the generator's learning rate or strengthen the penalty",
            )
        )
    accuracy = metrics.get("critic_accuracy", 0.5)
    if accuracy > 0.995:
        found.append(
            Suspicion(
                "sure critic",
                f"sure critic: it is right on {accuracy:.1%} of rows, so the generator learns "
                "little from it; lower its learning rate or add a penalty (r1, gradient_penalty)",
            )
        )
    return found
