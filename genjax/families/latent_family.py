"""The family of any model with latents: how it is trained, evaluated, and drawn from."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Family,
    FirstStage,
    Metrics,
    Optimizer,
    PyTree,
    Samples,
    TrainState,
    Variables,
    label_of,
)
from genjax.families.latent_groups import LatentGroups
from genjax.families.latent_imputing import filled_in
from genjax.families.latent_outliers import outlier_scores_of
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing
from genjax.families.observations import Observation
from genjax.families.variational_objective import VariationalObjective
from genjax.losses import effective_sample_size, importance_weighted_nats


def latent_family(
    groups: LatentGroups,
    *,
    observation: Observation,
    objective: VariationalObjective,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    ema_decay: float,
    accumulate_steps: int,
    eval_num_draws: int,
    shown: Literal["centre", "draw"],
    temperature: float,
) -> Family:
    """The family of a model with latents.

    Args:
        groups: Its networks.
        observation: The distribution of data at each place.
        objective: The bound that is trained on, and its weights.
        optimizer: Optimiser of all parameters together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of the latents for each example in evaluation.
        shown: Whether samples are drawn from the observation, or are its centre.
        temperature: What standard deviations of the prior are multiplied by in samples.

    Returns:
        The family: see :func:`genjax.families.vae`.

    Raises:
        ValueError: If an argument is out of range.
    """
    if eval_num_draws < 1:
        raise ValueError(f"eval_num_draws must be at least 1, got {eval_num_draws}")
    if shown not in ("centre", "draw"):
        raise ValueError(f"shown must be 'centre' or 'draw', got {shown!r}")
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    model = LatentVariableModel(
        groups=groups,
        observation=observation,
        objective=objective,
        event_shape=event_shape,
        num_levels=num_levels,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        draws, by_group = model.draws(state.ema, batch, key, eval_num_draws)
        by_group = jnp.mean(by_group, axis=0)
        kl = jnp.sum(by_group, axis=1)
        found = dict(likelihood_metrics(draws, model.num_dims))
        elbo = found.pop("nats")
        found |= {"elbo": elbo, "kl": kl, "reconstruction": elbo - kl}
        if by_group.shape[1] > 1:
            found |= {f"kl_{g + 1}": by_group[:, g] for g in range(by_group.shape[1])}
        if eval_num_draws > 1:
            found["nats_importance"] = importance_weighted_nats(draws)
            found["effective_sample_size"] = effective_sample_size(-draws)
        return found

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        draws, _ = model.draws(state.ema, batch, key, eval_num_draws)
        return -importance_weighted_nats(draws)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        label = label_of(batch, conditional=model.conditional)
        of_latents, of_data = jax.random.split(key)
        outputs = model.sample(state.ema, of_latents, label, batch["x"].shape[0], temperature)
        if shown == "centre":
            return Samples(rows=observation.centre(outputs, model.entries))
        return Samples(rows=observation.draw(of_data, outputs, model.entries))

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return model.means(state.ema, batch)

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        label = label_of(batch, conditional=model.conditional)
        return observation.centre(groups.outputs(state.ema, latents, label), model.entries)

    def reconstruct(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return decode(state, encode(state, batch, key), batch)

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        return filled_in(model, state.ema, batch, key, num_steps)

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        outlier_scores=outlier_scores_of(model),
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        impute=impute,
        first_stage=None if model.conditional else first_stage_of(model),
        eval_protocol=_eval_protocol(eval_num_draws, ema_decay),
        reads=("label",) if model.conditional else (),
        sample_protocol={
            "shown": "draws" if shown == "draw" else "centres of the observation",
            **({"temperature": str(temperature)} if temperature != 1.0 else {}),
        },
        density_metrics=density_metrics(
            model.num_dims,
            "bits_per_dim",
            "bits_per_dim_importance",
            in_nats=("loss", "elbo", "reconstruction", "nats_importance"),
        ),
        networks=groups.networks,
    )


def first_stage_of(model: LatentVariableModel) -> FirstStage:
    """A model with latents as one of its latents asks it: their prior is what is learned anew.

    Args:
        model: The model, of data without labels.

    Returns:
        The first stage, whose latents are draws of the posterior and whose nats are those of data
        given latents less those of the latents given the data: with the nats of latents under
        another prior than its own they are the evidence lower bound.
    """

    def encode(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Array:
        params = variables["ema"]
        seen = model.look(params, batch)
        noise = model.noise(key, batch)
        return model.explain(params, batch, seen, noise=noise[None]).latents[0]

    def decode(variables: Variables, latents: Array, batch: Batch) -> Array:
        outputs = model.groups.outputs(variables["ema"], latents, None)
        return model.observation.centre(outputs, model.entries)

    def nats(variables: Variables, batch: Batch, latents: Array) -> Array:
        params = variables["ema"]
        found = model.explain(params, batch, model.look(params, batch), latents=latents[None])
        return model.data_nats(batch, found)[0] + model.log_posterior(found)[0]

    return FirstStage(
        event_shape=(model.latent_size,),
        num_levels=None,
        encode=encode,
        decode=decode,
        nats=nats,
        keeps=(),
    )


def _eval_protocol(num_draws: int, ema_decay: float) -> dict[str, str | int | float]:
    several = f", importance-weighted over {num_draws} draws" if num_draws > 1 else ""
    return {
        "density": f"lower bound{several}",
        "num_latent_draws": num_draws,
        "parameters": "moving average" if ema_decay else "current",
    }
