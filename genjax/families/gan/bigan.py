"""Adversarial inference: an encoder and a generator against a critic of rows and latents."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from genjax import losses
from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import Family, Optimizer, num_classes_of
from genjax.families.draws import Latent
from genjax.families.gan.family import diagnose
from genjax.families.gan.heads import LatentHead
from genjax.families.gan.inference import Inference
from genjax.families.gan.inverse import EVAL_PROTOCOL
from genjax.families.gan.joint_game import JointGame
from genjax.families.gan.judgement import loss_by_name
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.levels import Ends, Reals
from genjax.families.players import Player
from genjax.losses import ADVERSARIAL_LOSSES, AdversarialLoss

_LINEAR_LOGISTIC = AdversarialLoss(
    losses.logistic_critic_loss,
    lambda real, fake: losses.wasserstein_generator_loss(fake),
    ADVERSARIAL_LOSSES["nonsaturating"].correct,
)


def bigan(
    *,
    encoder: nn.Module,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    batch_size: int,
    loss: AdversarialLoss | str = "nonsaturating",
    latents: Latent = Latent(),
    slope_control: SlopeControl = SlopeControl(),
    inference: Inference = Inference(),
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Bidirectional GAN: a critic tells rows with their latents from latents with their rows.

    Where it cannot, the joint distributions of :math:`(x, E(x))` and :math:`(G(z), z)` are the
    same, and encoder and generator are inverses. Both kinds of pairs of a step are made by one
    pass. Images are scaled to [-1, 1]. ``Run.encode`` gives the encoder's latents, without their
    noise where they are stochastic.

    Args:
        encoder: Module ``(x, train=...) -> features [B, F]``. A layer after it gives the latent.
        generator: Module ``(latent, train=...) -> rows``.
        critic: Module ``(rows, latent, train=...) -> [B]``; it may keep features ``[B, F]`` as the
            intermediate ``features``.
        generator_optimizer: Optimiser of generator and encoder.
        critic_optimizer: Optimiser of the critic.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        batch_size: Examples in a batch.
        loss: A key of :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`, or losses of both
            players whose outputs say the opposite with the opposite sign. The encoder minimises
            the generator's loss with the roles of the two pairs swapped.
        latents: The prior.
        slope_control: Penalties and limits on the critic, in rows and latents together.
        inference: How the encoder takes part.
        average: Moving average of generator and encoder, that samples and latents come from.

    Returns:
        The family. ``eval_step`` gives, in the units of the networks, ``reconstruction_mse`` of an
        entry of an example; ``reconstruction_distance`` of example and reconstruction, which is to
        be compared with ``random_distance``, that of the example and an unrelated generated row;
        the critic's ``real_output``; and, of critics that keep features, ``feature_distance`` of
        the two (L1), and ``anomaly``, 0.9 times the L1 distance of rows plus 0.1 times that of
        features. Distances are scores of outliers, too.

    Raises:
        ValueError: If arguments are out of range or contradict each other or the networks.

    References:
        Donahue et al., Adversarial Feature Learning, arXiv:1605.09782; Dumoulin et al.,
        Adversarially Learned Inference, arXiv:1606.00704; reconstruction: Li et al., ALICE,
        arXiv:1709.01215.
    """
    mirrored = opposite_of(loss)
    loss = loss_by_name(loss)
    if loss.witness is not None:
        raise ValueError("this loss is of a critic of several features, not of one of pairs")
    if loss.uses_real and not inference.encoder_plays:
        raise ValueError("encoder_plays is False, but this loss compares both kinds of pairs")
    game = JointGame(
        encoder=LatentHead(encoder, latents.latent_size, inference.stochastic),
        generator=generator,
        critic=critic,
        loss=loss,
        mirrored=mirrored,
        latents=latents,
        slope_control=slope_control,
        inference=inference,
        units=Reals() if num_levels is None else Ends(num_levels),
        event_shape=event_shape,
    )
    _check_networks(game)
    step = Adversarial(
        init_networks=game.init_networks,
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
            networks=game.makers, loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        order="together",
        average=average,
    )
    return Family(
        init=step.init,
        train_step=step.train_step,
        eval_step=game.eval_step,
        outlier_scores=game.outlier_scores(),
        sample=game.sample,
        encode=game.encode,
        decode=game.decode,
        reconstruct=lambda s, batch, key: game.decode(s, game.encode(s, batch, key), batch),
        generating=game.generating,
        eval_protocol={
            "parameters": "moving average" if average.ema_half_life_kimg else "current",
            **EVAL_PROTOCOL,
        },
        networks={"encoder": game.encoder},
        batches_per_step=step.batches_per_step,
        diagnose=diagnose,
    )


def opposite_of(loss: AdversarialLoss | str) -> Callable[[Array], Array]:
    """What turns an output of the critic into the one that says the opposite.

    Args:
        loss: As of :func:`bigan`.

    Returns:
        ``[B] -> [B]``: a logit becomes its negative, and an output between the codes 0 and 1 what
        is missing to 1.
    """
    return (lambda v: 1.0 - v) if loss == "least_squares" else jnp.negative


def ali(*, inference: Inference = Inference(), **kwargs: Any) -> Family:
    """Adversarially learned inference: a bidirectional GAN whose encoder is stochastic.

    Published with Adam at 1e-4 and a first decay rate of 0.5, batches of 100.

    Args:
        inference: How else the encoder takes part.
        **kwargs: Further arguments of :func:`bigan`.

    Returns:
        The family.

    References:
        Dumoulin et al., arXiv:1606.00704.
    """
    return bigan(inference=dataclasses.replace(inference, stochastic=True), **kwargs)


def veegan(
    *, latent_weight: float = 1.0, inference: Inference = Inference(), **kwargs: Any
) -> Family:
    r"""VEEGAN: the encoder inverts the generator, and the critic compares its pairs with both.

    Generator and encoder minimise :math:`-\mathrm{E}\,v(G(z), z) + \lambda\,\mathrm{E}\lVert z -
    F(G(z))\rVert^2`, where :math:`v` is the output of a logistic critic of pairs.

    Args:
        latent_weight: :math:`\lambda`.
        inference: How else the encoder takes part.
        **kwargs: Further arguments of :func:`bigan`.

    Returns:
        The family.

    References:
        Srivastava et al., VEEGAN, arXiv:1705.07761, algorithm 1.
    """
    changed = dataclasses.replace(inference, latent_weight=latent_weight, encoder_plays=False)
    return bigan(loss=_LINEAR_LOGISTIC, inference=changed, **kwargs)


def _check_networks(game: JointGame) -> None:
    """Whether the networks fit each other and the data; found on shapes alone."""
    game.check_generator()
    if num_classes_of(game.critic) is not None:
        raise ValueError("inference is of models without labels: leave num_classes of the critic")
    params, state = jax.eval_shape(game.init_networks, jax.random.key(0), {})
    z = jax.ShapeDtypeStruct((2, game.latents.latent_size), jnp.float32)
    x = jax.ShapeDtypeStruct((2, *game.event_shape), jnp.float32)
    scored = jax.eval_shape(
        game.critic.apply, {"params": params["critic"], **state["critic"]}, x, z
    )
    if scored.shape != (2,):
        raise ValueError(f"the critic must give one number a pair, but it gives {scored.shape[1:]}")
    game.slope_control.check(state["critic"])
