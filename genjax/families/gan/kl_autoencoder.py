"""Autoencoders with a grid of slightly regularised latents: first stages of latent diffusion."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, PRNGKeyArray

from genjax.families.averages import HalfLife
from genjax.families.base import (
    Batch,
    Family,
    FirstStage,
    Optimizer,
    PyTree,
    TrainState,
    Variables,
)
from genjax.families.gan.autoencoder_training import training_of
from genjax.families.gan.coders import GaussianCoder
from genjax.families.gan.family import diagnose
from genjax.families.gan.reconstruction_game import Judges, ReconstructionGame
from genjax.families.gan.translation import Side
from genjax.families.gaussian_grid import GaussianGrid
from genjax.families.laplace_observation import Laplace
from genjax.families.latent_family import latent_family
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.observations import Entries, Observation
from genjax.families.variational_objective import VariationalObjective


def kl_autoencoder(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    autoencoder_optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    batch_size: int,
    critic: nn.Module | None = None,
    critic_optimizer: Optimizer | None = None,
    features: nn.Module | None = None,
    observation: Observation = Laplace(),
    latent_channels: int = 4,
    kl_weight: float = 1e-6,
    judges: Judges = Judges(),
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Autoencoder whose latents are a grid of Gaussians: the first stage of a diffusion model.

    .. math::
        \sum_i \Big(\frac{|x_i - \hat x_i| + w_{content} d_\phi(x, \hat x)}{e^s} + s\Big)
            + w_{KL} \mathrm{KL}(q(z|x) \,\|\, N(0, 1)) + w_{critic} \lambda L_{gan}(\hat x)

    Errors are summed over entries of rows and the divergence over entries of latents, and both are
    means over the batch; adversarial losses are means over patches and rows. The scale :math:`e^s`
    is that of the observation, and moved by the optimiser. (In the published code it is not, and
    stays at 1.) The factor :math:`\lambda` is
    ``adaptive_weight`` of the log. Without critic and features
    this is a :func:`~genjax.families.vae` of a small weight ``beta``, and all it says of rows is
    the same.

    Args:
        encoder: Module ``x -> features [B, *places, F]`` of rows in [-1, 1] or real numbers.
        decoder: Module ``latents [B, *places, D] -> features`` of each place of the example. The
            layer after it is the last one, of one pixel.
        autoencoder_optimizer: Optimiser of encoder and decoder together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        batch_size: Examples in a batch.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches; None for none.
        critic_optimizer: Optimiser of the critic.
        features: Module ``x -> (logits, features)`` of rows in [-1, 1], without parameters: a
            frozen classifier, whose features take the place of LPIPS. None for none.
        observation: The distribution of data at each place. That of a learned scale, ``"laplace"``,
            is the published absolute error.
        latent_channels: Entries of the latents at a place.
        kl_weight: Weight of the divergence.
        judges: How critic and features take part.
        average: Moving average of encoder and decoder; the papers have none
            (``ema_half_life_kimg=0.0``).

    Returns:
        The family. ``eval_step`` gives what that of a ``vae`` does: the divergence counts in full
        there, and a bound on the likelihood is one. Latents are ``[B, *places, D]``.

    Raises:
        ValueError: If arguments are out of range, or do not fit each other or the data.

    References:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models,
        arXiv:2112.10752, section 3.1 and appendix G.
    """
    observation.check(num_levels)
    of = Entries(event_shape[-1], num_levels)
    groups = GaussianGrid(
        encoder=encoder,
        decoder=decoder,
        channels=latent_channels,
        event_shape=event_shape,
        num_outputs=observation.num_outputs(of),
        num_shared=observation.num_shared,
    )
    objective = VariationalObjective(beta=kl_weight)
    model = LatentVariableModel(
        groups=groups,
        observation=observation,
        objective=objective,
        event_shape=event_shape,
        num_levels=num_levels,
    )
    game = ReconstructionGame(
        coder=GaussianCoder(model=model, groups=groups),
        judges=judges,
        side=Side(event_shape, num_levels),
        critic=critic,
        content=judges.content(features),
    )
    init, train_step = training_of(
        game,
        autoencoder_optimizer=autoencoder_optimizer,
        critic_optimizer=critic_optimizer,
        batch_size=batch_size,
        average=average,
    )
    family = latent_family(
        groups,
        observation=observation,
        objective=objective,
        optimizer=autoencoder_optimizer,
        event_shape=event_shape,
        num_levels=num_levels,
        ema_decay=0.0,
        accumulate_steps=1,
        eval_num_draws=1,
        shown="centre",
        temperature=1.0,
    )
    averaged = "moving average" if average.ema_half_life_kimg else "current"
    family = dataclasses.replace(
        family,
        init=init,
        train_step=train_step,
        eval_protocol={**family.eval_protocol, "parameters": averaged},
        sample_protocol={"latents": "drawn from the prior; train a model of them for samples"},
        diagnose=None if critic is None else diagnose,
    )
    return _of_grids(family, groups.shape)


def _of_grids(family: Family, shape: tuple[int, ...]) -> Family:
    """A family of flat latents as one of latents of a shape."""
    encoded, decoded, first = family.encode, family.decode, family.first_stage
    assert encoded is not None and decoded is not None
    assert first is not None and first.nats is not None
    first_nats = first.nats

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return encoded(state, batch, key).reshape(-1, *shape)

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        return decoded(state, latents.reshape(latents.shape[0], -1), batch)

    def look(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Array:
        return first.encode(variables, batch, key).reshape(-1, *shape)

    def rows(variables: Variables, latents: Array, batch: Batch) -> Array:
        return first.decode(variables, latents.reshape(latents.shape[0], -1), batch)

    def nats(variables: Variables, batch: Batch, latents: Array) -> Array:
        return first_nats(variables, batch, latents.reshape(latents.shape[0], -1))

    return dataclasses.replace(
        family,
        encode=encode,
        decode=decode,
        first_stage=FirstStage(
            event_shape=shape, num_levels=None, encode=look, decode=rows, nats=nats, keeps=()
        ),
    )
