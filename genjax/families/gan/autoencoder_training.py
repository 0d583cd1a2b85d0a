"""How autoencoders are trained that a critic may judge."""

from collections.abc import Callable

import jax
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
    TrainState,
)
from genjax.families.gan.reconstruction_game import ReconstructionGame
from genjax.families.minimizing import minimizing
from genjax.families.players import Player, Turn


def training_of(
    game: ReconstructionGame,
    *,
    autoencoder_optimizer: Optimizer,
    critic_optimizer: Optimizer | None,
    batch_size: int,
    average: HalfLife,
) -> tuple[
    Callable[[PRNGKeyArray, Batch], TrainState],
    Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
]:
    """How an autoencoder is trained: against a critic, or by itself.

    Args:
        game: The losses.
        autoencoder_optimizer: Optimiser of encoder and decoder together.
        critic_optimizer: Optimiser of the critic, if there is one.
        batch_size: Examples in a batch.
        average: Moving average of encoder and decoder.

    Returns:
        ``init`` and ``train_step``. The critic moves first, on the reconstructions that the
        autoencoder then learns from.

    Raises:
        ValueError: If the critic has no optimiser or the other way round, or the judges cannot see
            what the observation describes.
    """
    if (game.critic is None) != (critic_optimizer is None):
        raise ValueError("a critic needs an optimiser: give both critic and optimizer.critic")
    if (game.critic or game.content) and not hasattr(game.coder.observation, "expected"):
        raise ValueError(
            "a critic and features look at images that have a slope, which this observation does "
            "not describe: take 'laplace', 'gaussian', 'discretized_logistic' or 'bernoulli'"
        )
    if game.critic is not None and critic_optimizer is not None:
        step = Adversarial(
            init_networks=game.init_networks,
            generate=game.generate,
            critic=Player(
                networks=("critic",),
                loss_fn=game.critic_loss,
                optimizer=critic_optimizer,
                starts_at=game.judges.critic_start,
            ),
            generator=Player(
                networks=("encoder", "decoder"),
                loss_fn=game.autoencoder_loss,
                optimizer=autoencoder_optimizer,
            ),
            batch_size=batch_size,
            share_fakes=True,
            average=average,
        )
        return step.init, step.train_step

    def loss(
        params: Params, state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        key = own_key(key)
        made, state = game.generate(params, state, batch, 1, key)
        return game.autoencoder_loss(params, state, batch, made, key, Turn(step, {}))

    return minimizing(
        init_model=game.init_networks,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=autoencoder_optimizer,
        ema_decay=average.decay,
    )
