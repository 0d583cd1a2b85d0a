"""Variational autoencoders, importance-weighted or not, of any kind of data."""

from typing import Literal

import flax.linen as nn

from genjax.families.base import Family, Optimizer
from genjax.families.latent_family import latent_family
from genjax.families.observations import Entries, Observation
from genjax.families.stochastic_layers import StochasticLayers
from genjax.families.variational_objective import VariationalObjective


def vae(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    observation: Observation,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    latent_size: int | tuple[int, ...] = 50,
    prior: Literal["standard", "label"] = "standard",
    objective: VariationalObjective = VariationalObjective(),
    ema_decay: float = 0.0,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    shown: Literal["centre", "draw"] = "draw",
    temperature: float = 1.0,
) -> Family:
    r"""Variational autoencoder.

    Data is explained by a latent ``z`` with a Gaussian prior; a decoder gives the distribution of
    data for each, and an encoder the Gaussian :math:`q(z|x)` from which the latent of an example is
    drawn to bound its likelihood. Nats are sums over entries of data and of latents, means over the
    batch.

    Latents may be explained by further latents: with encoder and decoder of several ``layers`` the
    model is :math:`p(z_L) \prod_i p(z_i|z_{i+1}) p(x|z_1)`, and the posterior
    :math:`q(z_1|x) \prod_i q(z_{i+1}|z_i)`.

    Args:
        encoder: Module ``(x, label) -> features [B, F]``, of grey levels in [-1, 1] or real numbers
            as they are. A layer after it gives mean and standard deviation of the latent. Or one
            whose ``layers`` are such modules: of data, and of each layer of latents but the last.
        decoder: Module ``(latent, label) -> features`` of the example or of each place. A layer
            after it gives the parameters of the observation. If it has ``num_classes``, the model
            is one of data given labels. Or one of several ``layers``, from that of data up.
        observation: The distribution of data at each place.
        optimizer: Optimiser of all parameters together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        latent_size: Entries of the latent, or of those of each layer, from the data up.
        prior: That of the last latents: ``"standard"`` normal, or a learned Gaussian for each
            ``"label"``.
        objective: The bound that is trained on, and its weights.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of the latent for each example in evaluation, which together make an
            importance-weighted bound.
        shown: Whether samples are drawn from the observation, or are its centre.
        temperature: What standard deviations of the prior are multiplied by in samples.

    Returns:
        The family. ``eval_step`` gives ``elbo`` and, with several draws, ``nats_importance``, the
        bound that they give together, with ``effective_sample_size``; ``kl`` and
        ``reconstruction``, the parts of the ELBO; ``kl_1``, ``kl_2``... of each layer of several;
        and ``bits_per_dim`` of either. ``log_prob`` is the bound of all draws. Latents of all
        layers are one array, side by side.

    Raises:
        ValueError: If an argument is out of range, or the observation is not of such data.

    References:
        Kingma and Welling, arXiv:1312.6114; Burda et al., arXiv:1509.00519; labels: Sohn et al.,
        Learning Structured Output Representation, 2015.
    """
    observation.check(num_levels)
    of = Entries(event_shape[-1], num_levels)
    groups = StochasticLayers(
        encoder=encoder,
        decoder=decoder,
        sizes=(latent_size,) if isinstance(latent_size, int) else tuple(latent_size),
        event_shape=event_shape,
        num_outputs=observation.num_outputs(of),
        num_shared=observation.num_shared,
        prior=prior,
    )
    return latent_family(
        groups,
        observation=observation,
        objective=objective,
        optimizer=optimizer,
        event_shape=event_shape,
        num_levels=num_levels,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
        eval_num_draws=eval_num_draws,
        shown=shown,
        temperature=temperature,
    )
