"""Image translation without pairs: two translators that undo each other (CycleGAN)."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jaxtyping import Array, PRNGKeyArray

from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import Batch, Family, Optimizer, PyTree, Samples, TrainState
from genjax.families.gan.cycle_game import CRITICS, SOURCE, TRANSLATORS, CycleGame
from genjax.families.gan.family import diagnose
from genjax.families.gan.translation import (
    Side,
    check_translator,
    check_weights,
    feature_of,
    loss_of_outputs,
)
from genjax.families.players import Player
from genjax.losses import AdversarialLoss


def cycle_gan(
    *,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    spec: Mapping[str, Any],
    batch_size: int,
    loss: AdversarialLoss | str = "least_squares",
    gan_weight: float = 2.0,
    cycle_weight: float = 10.0,
    identity_weight: float = 0.0,
    pool_size: int = 50,
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Translation between two sets of rows without pairs: the stream ``source`` and ``x``.

    Two translators are trained together, there (``generator``, which samples come from) and back
    (``inverse``). A critic of each side tells its data from translations to it, which it takes from
    a pool of earlier ones, and rows that were translated there and back should be what they were:

    .. math:: w_{gan} (L_{gan}(G) + L_{gan}(F)) + w_{cycle} (\mathbb{E} |F(G(s)) - s|
        + \mathbb{E} |G(F(x)) - x|) + w_{id} (\mathbb{E} |G(x) - x| + \mathbb{E} |F(s) - s|)

    All losses are computed from one pass at the old parameters, then all networks move.

    Args:
        generator: Module ``(rows, train=...) -> rows`` to ``x``; another one of its kind translates
            back, with the shape of the source in its field ``event_shape``.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches; there are two.
        generator_optimizer: Optimiser of both translators. Published with Adam at 2e-4 and decay
            rates 0.5 and 0.999, for 100 epochs, and falling linearly to 0 in another 100.
        critic_optimizer: Optimiser of both critics, alike.
        spec: Features of the data; ``x`` and ``source/x`` are read.
        batch_size: Examples in a batch of either stream; published with 1.
        loss: Losses of both players, or a key of
            :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`.
        gan_weight: Weight of the adversarial losses; at 0 critics are not trained. Least squares
            have a factor of 1/2 here that the paper's loss of translators has not: 2 is its 1.
        cycle_weight: Weight of the distances there and back; 0 for a GAN alone.
        identity_weight: Weight of the distances of rows to what the translator to their own side
            makes of them, which keeps colours; the paper has half of ``cycle_weight`` for some data
            and 0 for the rest.
        pool_size: Translations of each side that are kept for the critics; 0 for none.
        average: Moving average of the translators that samples come from; the paper has none
            (``ema_half_life_kimg=0.0``).

    Returns:
        The family. ``encode`` translates back, from rows ``x`` to rows of the source, and
        ``decode`` there, so that a reconstruction is a cycle. ``eval_step`` gives distances there
        and back, ``cycle`` of rows of the source and ``inverse_cycle`` of ``x``, and, where rows of
        the test split have their true ``partner``, errors of translations to it.

    Raises:
        ValueError: If arguments are out of range, or networks and data do not fit each other.

    References:
        Zhu et al., arXiv:1703.10593, eq. 1 to 3 and section 4.
    """
    weights = dict(gan_weight=gan_weight, cycle_weight=cycle_weight)
    check_weights(**weights, identity_weight=identity_weight)
    if pool_size < 0:
        raise ValueError(f"pool_size must not be negative, got {pool_size}")
    hint = "add a stream, such as data.streams=dict(source=dict(name='mnist'))"
    sides = Side.of(spec["x"]), Side.of(feature_of(spec, SOURCE, hint))
    target, source = sides
    if identity_weight and target.shape != source.shape:
        raise ValueError(
            f"identity_weight compares rows of both sides, but x has the shape {target.shape} and "
            f"the source {source.shape}: set it to 0"
        )
    for name, side in (("partner", source), ("source/partner", target)):
        if name in spec and tuple(spec[name].shape) != side.shape:
            raise ValueError(
                f"{name} is to be the true translation of a row, of shape {side.shape}, but the "
                f"data has it with shape {tuple(spec[name].shape)}"
            )
    of_shape = getattr(generator, "event_shape", None) is not None
    inverse = generator.clone(event_shape=source.shape) if of_shape else generator
    check_translator(generator, source, target, "generator")
    check_translator(inverse, target, source, "generator's inverse")
    networks = dict(
        zip((*TRANSLATORS, *CRITICS), (generator, inverse, critic, critic), strict=True)
    )
    game = CycleGame(
        networks=networks, sides=sides, loss=loss_of_outputs(loss), **weights,
        identity_weight=identity_weight, pool_size=pool_size,
    )  # fmt: skip
    step = Adversarial(
        init_networks=game.init_networks,
        generate=game.generate,
        critic=Player(networks=CRITICS, loss_fn=game.critic_loss, optimizer=critic_optimizer),
        generator=Player(
            networks=TRANSLATORS, loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        order="together",
        average=average,
    )

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        return Samples(rows=game.across(state, 0, batch[SOURCE]))

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return game.across(state, 1, batch["x"])

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        return game.across(state, 0, latents)

    return Family(
        init=step.init,
        train_step=step.train_step,
        eval_step=game.eval_step,
        sample=sample,
        encode=encode,
        decode=decode,
        networks=networks,
        eval_protocol={"parameters": "moving average" if average.ema_half_life_kimg else "current"},
        reads=(SOURCE,),
        steers=(SOURCE,),
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )
