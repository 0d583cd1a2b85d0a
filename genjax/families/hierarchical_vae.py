"""Hierarchical variational autoencoders: groups of latents within a decoder of images."""

from typing import Literal

import flax.linen as nn

from genjax.families.base import Family, Optimizer
from genjax.families.latent_family import latent_family
from genjax.families.observations import Entries, Observation
from genjax.families.top_down import TopDown
from genjax.families.variational_objective import VariationalObjective


def hierarchical_vae(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    observation: Observation,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    objective: VariationalObjective = VariationalObjective(),
    ema_decay: float = 0.0,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    shown: Literal["centre", "draw"] = "draw",
    temperature: float = 1.0,
) -> Family:
    r"""Hierarchical variational autoencoder.

    A decoder goes from coarse to fine, and draws a group of latents in each of its blocks, from a
    prior that depends on the groups before it. An encoder goes from fine to coarse; in each block
    what it saw at that resolution makes the posterior of the prior.

    Args:
        encoder: Module ``(x, label) -> activations``, from the full resolution on: see
            :class:`genjax.nets.BottomUpEncoder`.
        decoder: Module of the groups: see :class:`genjax.nets.TopDownDecoder`. If it has
            ``num_classes``, the model is one of data given labels.
        observation: The distribution of data at each place.
        optimizer: Optimiser of all parameters together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        objective: The bound that is trained on, and its weights.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of the latents for each example in evaluation, which together make an
            importance-weighted bound.
        shown: Whether samples are drawn from the observation, or are its centre.
        temperature: What standard deviations of all priors are multiplied by in samples.

    Returns:
        The family, which evaluates as :func:`genjax.families.vae` does. ``kl_1``, ``kl_2``... are
        of the groups, from the coarsest on; latents of all of them are one array.

    Raises:
        ValueError: If an argument is out of range, or the observation is not of such data.

    References:
        Vahdat and Kautz, NVAE, arXiv:2007.03898; Child, Very Deep VAEs, arXiv:2011.10650.
    """
    observation.check(num_levels)
    of = Entries(event_shape[-1], num_levels)
    groups = TopDown(
        encoder=encoder,
        decoder=decoder,
        event_shape=event_shape,
        num_outputs=observation.num_outputs(of),
        num_shared=observation.num_shared,
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
