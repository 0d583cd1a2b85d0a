"""Variational autoencoders, importance-weighted or not, of any kind of data."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    Optimizer,
    Params,
    PyTree,
    Samples,
    TrainState,
    label_of,
)
from genjax.families.imputing import likely_start, metropolis_within_gibbs
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing
from genjax.families.observations import Observation
from genjax.families.variational_objective import VariationalObjective
from genjax.losses import effective_sample_size, importance_weighted_nats


def vae(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    observation: Observation,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    latent_size: int = 50,
    prior: Literal["standard", "label"] = "standard",
    objective: VariationalObjective = VariationalObjective(),
    ema_decay: float = 0.0,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    shown: Literal["centre", "draw"] = "draw",
) -> Family:
    r"""Variational autoencoder.

    Data is explained by a latent ``z`` with a Gaussian prior; a decoder gives the distribution of
    data for each, and an encoder the Gaussian :math:`q(z|x)` from which the latent of an example is
    drawn to bound its likelihood. Nats are sums over entries of data and of latents, means over the
    batch.

    Args:
        encoder: Module ``(x, label) -> features [B, F]``, of grey levels in [-1, 1] or real numbers
            as they are. A layer after it gives mean and standard deviation of the latent.
        decoder: Module ``(latent, label) -> features`` of the example or of each place. A layer
            after it gives the parameters of the observation. If it has ``num_classes``, the model
            is one of data given labels.
        observation: The distribution of data at each place.
        optimizer: Optimiser of all parameters together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        latent_size: Entries of the latent.
        prior: ``"standard"`` normal, or a learned Gaussian for each ``"label"``.
        objective: The bound that is trained on, and its weights.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of the latent for each example in evaluation, which together make an
            importance-weighted bound.
        shown: Whether samples are drawn from the observation, or are its centre.

    Returns:
        The family. ``eval_step`` gives ``elbo`` and, with several draws, ``nats_importance``, the
        bound that they give together, with ``effective_sample_size``; ``kl`` and
        ``reconstruction``, the parts of the ELBO; and ``bits_per_dim`` of either. ``log_prob`` is
        the bound of all draws.

    Raises:
        ValueError: If an argument is out of range, or the observation is not of such data.

    References:
        Kingma and Welling, arXiv:1312.6114; Burda et al., arXiv:1509.00519; labels: Sohn et al.,
        Learning Structured Output Representation, 2015.
    """
    if eval_num_draws < 1:
        raise ValueError(f"eval_num_draws must be at least 1, got {eval_num_draws}")
    if shown not in ("centre", "draw"):
        raise ValueError(f"shown must be 'centre' or 'draw', got {shown!r}")
    model = LatentVariableModel(
        encoder=encoder,
        decoder=decoder,
        latent_size=latent_size,
        observation=observation,
        objective=objective,
        event_shape=event_shape,
        num_levels=num_levels,
        prior=prior,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        posterior = model.posterior(state.ema, batch)
        draws = model.draws(state.ema, batch, key, eval_num_draws, posterior)
        kl = jnp.sum(model.kl(state.ema, batch, posterior), axis=1)
        found = dict(likelihood_metrics(draws, model.num_dims))
        elbo = found.pop("nats")
        found |= {"elbo": elbo, "kl": kl, "reconstruction": elbo - kl}
        if eval_num_draws > 1:
            found["nats_importance"] = importance_weighted_nats(draws)
            found["effective_sample_size"] = effective_sample_size(-draws)
        return found

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        posterior = model.posterior(state.ema, batch)
        draws = model.draws(state.ema, batch, key, eval_num_draws, posterior)
        return -importance_weighted_nats(draws)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        label = label_of(batch, conditional=model.conditional)
        of_latents, of_data = jax.random.split(key)
        outputs = model.sample(state.ema, of_latents, label, batch["x"].shape[0])
        if shown == "centre":
            return Samples(rows=observation.centre(outputs, model.entries))
        return Samples(rows=observation.draw(of_data, outputs, model.entries))

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return model.posterior(state.ema, batch)[0]

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        label = label_of(batch, conditional=model.conditional)
        return observation.centre(model.outputs(state.ema, latents, label), model.entries)

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        return filled_in(model, state.ema, batch, key, num_steps)

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        decode=decode,
        impute=impute,
        eval_protocol={
            "density": "lower bound"
            + (f", importance-weighted over {eval_num_draws} draws" if eval_num_draws > 1 else ""),
            "num_latent_draws": eval_num_draws,
            "parameters": "moving average" if ema_decay else "current",
        },
        reads=("label",) if model.conditional else (),
        sample_protocol={"shown": "draws" if shown == "draw" else "centres of the observation"},
        density_metrics=density_metrics(
            model.num_dims,
            "bits_per_dim",
            "bits_per_dim_importance",
            in_nats=("loss", "elbo", "reconstruction", "nats_importance"),
        )
        if num_levels is None
        else {},
    )


def filled_in(
    model: LatentVariableModel, params: Params, batch: Batch, key: PRNGKeyArray, num_steps: int
) -> Array:
    """Draws missing entries given the known ones, in turn with the latents.

    The encoder sees filled rows, the first of which are samples that fit the known entries.

    Args:
        model: The model.
        params: Its parameters.
        batch: Rows, with ``known``, True where ``x`` may be read, and the labels that are told.
        key: Random key.
        num_steps: Steps of :func:`~genjax.families.imputing.metropolis_within_gibbs`.

    Returns:
        Filled rows, ``[B, *event]``.
    """
    of_start, of_walk = jax.random.split(key)
    label, known = label_of(batch, conditional=model.conditional), batch["known"]

    def draw(key: PRNGKeyArray, z: Array) -> Array:
        drawn = model.observation.draw(key, model.outputs(params, z, label), model.entries)
        return jnp.where(known, batch["x"], drawn).astype(batch["x"].dtype)

    def candidate(key: PRNGKeyArray) -> tuple[Array, Array]:
        of_latent, of_rows = jax.random.split(key)
        z = model.draw_prior(params, of_latent, label, known.shape[0])
        rows = draw(of_rows, z)
        return rows, -model.known_nats(params, {**batch, "x": rows}, z)

    def propose(key: PRNGKeyArray, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        rows = {**batch, "x": x}
        mean, log_std = posterior = model.posterior(params, rows)
        z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        return z, lambda z: model.log_weights(params, rows, z[None], posterior)[0]

    start = likely_start(candidate, of_start)
    return metropolis_within_gibbs(propose, draw, start, of_walk, num_steps=num_steps)[0]
