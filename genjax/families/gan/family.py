"""Generative adversarial networks."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import (
    Acts,
    Family,
    Optimizer,
    Suspicion,
    num_classes_of,
)
from genjax.families.draws import Latent
from genjax.families.gan.augmentation import Augment
from genjax.families.gan.game import Game
from genjax.families.gan.judgement import loss_by_name
from genjax.families.gan.path_length import PathLength
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.gan.unrolling import differentiable_optimizer
from genjax.families.levels import Bins, Ends, Reals, Units
from genjax.families.players import Player
from genjax.losses import AdversarialLoss


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
    path_length: PathLength = PathLength(),
    rows: Rows = Rows(),
    augment: Augment | None = None,
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
        path_length: How even the generator's steps are held.
        rows: Which rows the players see together.
        augment: How strongly images are changed before the critic sees them, real and generated
            ones alike, in the steps of both players; None for not at all. Penalties look at slopes
            with respect to images before they are changed.
        average: Moving average of the generator that samples come from.

    Returns:
        The family. It has no ``eval_step``: a GAN is evaluated by its samples.

    Raises:
        ValueError: If arguments are out of range or contradict each other or the networks.

    References:
        Goodfellow et al., arXiv:1406.2661; for losses and penalties see their functions.
    """
    loss = loss_by_name(loss)
    if rows.dequantize and num_levels is None:
        raise ValueError("dequantize is for data of whole grey levels")
    units: Units = Reals()
    if num_levels is not None:
        units = Bins(num_levels, -1.0, 1.0) if rows.dequantize else Ends(num_levels)
    ahead = None
    if rows.unroll_steps:
        acts = Acts(critic_steps, slope_control.penalty_every if slope_control.lazy else 1)
        ahead = differentiable_optimizer(critic_optimizer, acts)
    game = Game(
        generator=generator,
        critic=critic,
        loss=loss,
        latents=latents,
        slope_control=slope_control,
        rows=rows,
        units=units,
        critic_optimizer=ahead,
        path_length=path_length,
        augment=augment,
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
            networks=("generator",),
            loss_fn=game.generator_loss,
            optimizer=generator_optimizer,
            regularizer_fn=game.path_loss if path_length.lazy else None,
            regularize_every=path_length.path_every if path_length.lazy else 1,
        ),
        batch_size=batch_size,
        accumulate_batches=rows.accumulate_batches,
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
        decode=game.decode,
        generating=game.generating,
        eval_protocol={"parameters": "moving average" if average.ema_half_life_kimg else "current"},
        reads=("label",) if game.conditional else (),
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )


def _check_networks(game: Game, event_shape: tuple[int, ...], batch_size: int) -> None:
    """Whether the networks fit each other, the loss and the data; found on shapes alone."""
    classes = [num_classes_of(net) for net in (game.generator, game.critic)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"generator and critic must agree on num_classes, got {classes[0]} and {classes[1]}"
        )
    game.rows.check(game.loss, batch_size=batch_size, conditional=game.conditional)
    if getattr(game.critic, "num_minibatch_kernels", 0):
        _check_minibatch(game)
    if game.augment is not None:
        game.augment.check(game.loss, event_shape, game.rows.pack_size)
    label = {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if game.conditional else {}
    params, kept = jax.eval_shape(
        lambda key, batch: game.init_networks(key, batch, event_shape), jax.random.key(0), label
    )
    made = jax.eval_shape(
        game.generator.apply,
        {"params": params["generator"], **kept["generator"]},
        jax.ShapeDtypeStruct((2, game.latents.latent_size), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.int32) if game.conditional else None,
    )
    if made.shape != (2, *event_shape):
        raise ValueError(
            f"the generator must give rows of the data's shape {event_shape}, but it gives "
            f"{made.shape[1:]}"
        )
    packed = (*event_shape[:-1], event_shape[-1] * game.rows.pack_size)
    rows = jax.ShapeDtypeStruct((2, *packed), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if game.conditional else None
    # Two rows: a critic that mixes up rows and features gives itself away by its shape.
    scored = jax.eval_shape(
        game.critic.apply, {"params": params["critic"], **kept["critic"]}, rows, labels
    )
    rank = 1 if game.loss.witness is None else 2
    if len(scored.shape) != rank:
        expected = (
            "one number a row (num_outputs None)"
            if rank == 1
            else "several features a row (num_outputs)"
        )
        raise ValueError(
            f"this loss needs a critic with {expected}, but it gives {scored.shape[1:]} a row"
        )
    game.slope_control.check(kept["critic"])
    game.path_length.check(kept["generator"])


def _check_minibatch(game: Game) -> None:
    """Whether a critic that compares rows with each other sees rows of one origin, and no slope."""
    if game.rows.joint_batches:
        raise ValueError(
            "minibatch discrimination compares rows of one origin: set joint_batches to False"
        )
    if game.slope_control.weights:
        raise ValueError(
            f"the critic compares rows with each other, so {', '.join(game.slope_control.weights)} "
            "does not see the slope of single rows; set its num_minibatch_kernels to 0"
        )


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
