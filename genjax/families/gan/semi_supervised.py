"""Semi-supervised generative adversarial networks: the critic is a classifier."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.families.adversarial import Adversarial
from genjax.families.adversaries import of_shares
from genjax.families.averages import HalfLife
from genjax.families.base import Family, Optimizer, num_classes_of
from genjax.families.draws import Latent
from genjax.families.gan.semi_supervised_game import (
    UNLABELLED,
    Form,
    SemiSupervisedGame,
    Target,
)
from genjax.families.levels import Ends, Reals
from genjax.families.players import Player


def semi_supervised_gan(
    *,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: Optimizer,
    critic_optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    num_classes: int | None,
    batch_size: int,
    spec: Mapping[str, Any],
    form: Form = "implicit",
    target: Target = "feature_matching",
    unlabelled_weight: float = 1.0,
    latents: Latent = Latent(),
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Semi-supervised GAN: a classifier that learns from labelled, unlabelled and generated rows.

    Rows with labels are the first stream of the data; rows without are the stream ``unlabelled``,
    of which only ``x`` is read. The critic minimises

    .. math:: -\mathrm{E} \log p(y|x) - w \mathrm{E} \log(1 - p_{C+1}(x))
        - w \mathrm{E} \log p_{C+1}(\tilde x)

    over labelled, unlabelled and generated rows, of which there are as many as unlabelled ones. The
    generator's step sees other unlabelled rows. Both players' networks are averaged: the averaged
    critic is evaluated.

    Args:
        generator: Module ``(latent, label, train=...) -> rows``, unconditional.
        critic: Classifier ``x -> (logits, features)``, as of the family ``classifier``; noise and
            dropout act where an rng ``dropout`` is given.
        generator_optimizer: Optimiser of the generator.
        critic_optimizer: Optimiser of the critic.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_classes: Number of classes of the labelled rows.
        batch_size: Labelled examples in a batch.
        spec: Features of the data, which must have ``label`` and ``unlabelled/x``.
        form: ``"implicit"``: the critic has a logit for each class, that of "generated" is 0, and
            classes of labelled rows are asked for given that they are data (Salimans et al.);
            ``"explicit"``: it has one more logit, and all are asked for among ``C + 1``.
        target: What the generator minimises: the squared or absolute distance of the means of the
            critic's features on unlabelled and generated rows, or, ``"passing"``,
            :math:`-\log(1 - p_{C+1}(\tilde x))`, with which samples look better and classification
            is worse (Salimans et al., section 6).
        unlabelled_weight: The weight w.
        latents: What the generator starts from.
        average: Moving average of both networks.

    Returns:
        The family. ``eval_step`` gives ``cross_entropy`` in nats and ``error`` as the family
        ``classifier`` does, of classes given that a row is data, and ``real_log_odds``.

    Raises:
        ValueError: If arguments are out of range or do not fit the data or each other.

    References:
        Salimans et al., arXiv:1606.03498; published code weights w = 1/2 for MNIST.
    """
    _check(spec, event_shape, num_classes, unlabelled_weight, form, target)
    if num_classes_of(generator) is not None:
        raise ValueError("the generator takes labels: set its num_classes to None")
    assert num_classes is not None
    outputs = num_classes + (form == "explicit")
    if num_classes_of(critic) != outputs:
        critic = critic.clone(num_classes=outputs)
    game = SemiSupervisedGame(
        generator=generator,
        critic=critic,
        form=form,
        target=target,
        unlabelled_weight=unlabelled_weight,
        latents=latents,
        units=Reals() if num_levels is None else Ends(num_levels),
        event_shape=event_shape,
    )
    _check_networks(game)
    step = Adversarial(
        init_networks=game.init_networks,
        generate=game.generate,
        critic=Player(networks=("critic",), loss_fn=game.critic_loss, optimizer=critic_optimizer),
        generator=Player(
            networks=("generator",), loss_fn=game.generator_loss, optimizer=generator_optimizer
        ),
        batch_size=batch_size,
        generator_batch=True,
        averaged=("critic", "generator"),
        average=average,
    )
    return Family(
        init=step.init,
        train_step=step.train_step,
        eval_step=game.eval_step,
        sample=game.sample,
        class_logits=lambda state, rows: game.class_logits(state, of_shares(rows, num_levels)),
        eval_protocol={"parameters": "moving average" if average.ema_half_life_kimg else "current"},
        networks={"critic": critic},
        batches_per_step=step.batches_per_step,
    )


def _check(
    spec: Mapping[str, Any],
    event_shape: tuple[int, ...],
    num_classes: int | None,
    weight: float,
    form: str,
    target: str,
) -> None:
    """Whether the data has both kinds of rows, and arguments are of their kinds."""
    if num_classes is None:
        raise ValueError("the first stream of the data has no labels, which a classifier needs")
    if UNLABELLED not in spec:
        raise ValueError(
            "there are no unlabelled rows: set data.streams to dict(unlabelled=dict()) (and "
            "data.labelled to what the labelled rows are to be)"
        )
    unlabelled = tuple(spec[UNLABELLED].shape)
    if unlabelled != tuple(event_shape):
        raise ValueError(
            f"unlabelled rows must have the shape of labelled ones, {tuple(event_shape)}, got "
            f"{unlabelled}"
        )
    if not weight > 0:
        raise ValueError(f"unlabelled_weight must be positive, got {weight}")
    if form not in ("implicit", "explicit"):
        raise ValueError(f"form must be 'implicit' or 'explicit', got {form!r}")
    if target not in ("feature_matching", "absolute_feature_matching", "passing"):
        raise ValueError(
            "target must be 'feature_matching', 'absolute_feature_matching' or 'passing', got "
            f"{target!r}"
        )


def _check_networks(game: SemiSupervisedGame) -> None:
    """Whether the networks fit the data and the game; found on shapes alone."""
    latent = jax.ShapeDtypeStruct((2, game.latents.latent_size), jnp.float32)
    made, _ = jax.eval_shape(game.generator.init_with_output, jax.random.key(0), latent)
    if made.shape != (2, *game.event_shape):
        raise ValueError(
            f"the generator must give rows of the data's shape {game.event_shape}, but it gives "
            f"{made.shape[1:]}"
        )
    rows = jax.ShapeDtypeStruct((2, *game.event_shape), jnp.float32)
    if "batch_stats" in jax.eval_shape(game.critic.init, jax.random.key(0), rows):
        raise ValueError(
            "the critic has batch normalisation, which would mix labelled, unlabelled and "
            "generated rows; take another, such as 'noisy_mlp' or 'conv_classifier'"
        )
