"""Classifiers, whose features and decisions serve to evaluate generators, or to guide them."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.devices import mapped_axes, own_key
from genjax.diffusion import Process, diffuse, input_scale, stratified_times
from genjax.diffusion.guidance import LogProbFn
from genjax.diffusion.times import stratify
from genjax.families.adversaries import Adversary, moved, of_shares
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
    TrainState,
    apply_any_in_training,
    init_network,
)
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.levels import Centres, Ends, Reals, Units
from genjax.families.minimizing import minimizing
from genjax.losses.arrays import check_same_shape, per_row, widened

EVALUATED = (0.25, 0.5, 0.75)
"""Times at which classifiers of latents are evaluated by themselves."""


def classifier(
    *,
    net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    process: Process | None = None,
    adversary: Adversary | None = None,
    eval_num_times: int = 1,
    ema_decay: float = 0.99,
) -> Family:
    r"""Classifier of examples, or of latents of a process, trained on cross-entropy.

    With a process it is trained on latents :math:`z_t = \alpha_t x + \sigma_t \epsilon` at uniform
    stratified times, and told the time: its slope in ``z_t`` guides diffusion models
    (:class:`~genjax.diffusion.ClassifierGuidance`).

    Args:
        net: Module ``x -> (logits, features)``, of grey levels in [-1, 1] or real numbers as they
            are, whose noise and dropout act where an rng ``dropout`` is given, in training; with a
            process
            ``(latents, times) -> (logits, features)``, of latents of about unit size.
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        process: The process of the latents; None for a classifier of clean examples.
        adversary: What moves the rows of each batch before they are trained on, so that the
            classifier withstands such changes; None for training on the rows themselves. Metrics of
            training are then those of the moved rows, evaluation is of clean ones.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation,
            where there is a process.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family. ``eval_step`` gives ``cross_entropy`` in nats and ``error`` (the share of wrong
        decisions); with a process both are means over times, and ``error_t25`` and the like are
        those at single times, in percent of the way from data to noise. There is nothing to sample.

    Raises:
        ValueError: If ``eval_num_times`` is not positive, or there are both a process and an
            adversary.

    References:
        Dhariwal and Nichol, arXiv:2105.05233, section 4.1, for classifiers of latents.
        Madry et al., arXiv:1706.06083, section 2, for training against an adversary.
    """
    if eval_num_times < 1:
        raise ValueError(f"eval_num_times must be at least 1, got {eval_num_times}")
    if process is not None and adversary is not None:
        raise ValueError("an adversary moves clean rows: leave process or adversary out")
    units = units_of(num_levels, process)

    def scores(params: Params, model_state: ModelState, batch: Batch, *given: Array) -> Metrics:
        """Scores of the rows of a batch, or of latents of them at times with given noise."""
        variables = {"params": params["net"], **model_state.get("net", {})}
        x = units.encode(batch["x"])
        if process is None:
            logits, _ = cast(tuple[Array, Array], net.apply(variables, x))
        else:
            times, noise = given
            z = diffuse(x, noise, *process.scales(times))
            logits = logits_of_latents(net.apply, process)(variables, z, times)
        return scores_of(logits, batch["label"])

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        # Layers may start from the first rows; a network of latents from none of them.
        times = () if process is None else (jnp.ones(1),)
        x = jnp.zeros((1, *event_shape))
        if process is None:
            x = units.encode(batch["x"].reshape(-1, *event_shape))
        params, state = init_network(net, key, x, *times)
        return {"net": params}, {"net": state} if state else {}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        del step
        if process is not None:
            # Stratified times are those of the global batch: their key is the same everywhere.
            key_time, key_noise = jax.random.split(key)
            shape = batch["x"].shape
            shares = stratified_times(key_time, shape[0], axis_name=mapped_axes())
            given = process.times_of(shares), jax.random.normal(own_key(key_noise), shape)
            rows = scores(params, model_state, batch, *given)
        else:
            apply = functools.partial(
                apply_any_in_training,
                net,
                params["net"],
                model_state.get("net", {}),
                rngs={"dropout": own_key(jax.random.fold_in(key, 1))},
            )
            x = units.encode(batch["x"])
            if adversary is not None:

                def loss_of(x: Array) -> Array:
                    return scores_of(apply(x)[0][0], batch["label"])["cross_entropy"]

                x = moved(adversary, loss_of, batch["x"], num_levels, own_key(key))
            (logits, _), state = apply(x)
            rows = scores_of(logits, batch["label"])
            model_state = {"net": state} if state else model_state
        means = {name: jnp.mean(values) for name, values in rows.items()}
        return means["cross_entropy"], (means, model_state)

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        if process is None:
            return scores(state.ema, state.model_state, batch)
        keys = keys_by_example(key, batch["index"])
        offsets = jax.vmap(jax.random.uniform)(fold_each(keys, 0))
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, event_shape))

        def at(times: Array, number: Array) -> Metrics:
            noise = draw_noise(fold_each(keys, number + 1))
            return scores(state.ema, state.model_state, batch, times, noise)

        def one_draw(number: Array) -> Metrics:
            return at(process.times_of(stratify(offsets, number, eval_num_times)), number)

        draws = jax.lax.map(one_draw, jnp.arange(eval_num_times))
        found = {name: jnp.mean(rows, axis=0) for name, rows in draws.items()}
        for time in EVALUATED:
            alone = at(jnp.full(offsets.shape, time), jnp.asarray(eval_num_times))
            found[f"error_t{100 * time:.0f}"] = alone["error"]
        return found

    def class_logits(state: TrainState, rows: Array) -> Array:
        variables = {"params": state.ema["net"], **state.model_state.get("net", {})}
        logits, _ = cast(tuple[Array, Array], net.apply(variables, of_shares(rows, num_levels)))
        return widened(logits)

    protocol: dict[str, str | int | float] = {"parameters": "moving average"}
    if process is not None:
        protocol |= {"inputs": "latents at uniform times", "num_noise_draws": eval_num_times}
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        eval_protocol=protocol,
        class_logits=class_logits if process is None else None,
    )


def scores_of(logits: Float[Array, "B K"], label: Int[Array, " B"]) -> Metrics:
    """Cross-entropy in nats and whether the decision is wrong, of each row.

    Args:
        logits: Logits of the classes, ``[B, K]``.
        label: Class ids, ``[B]``.

    Returns:
        ``cross_entropy`` and ``error``, both ``[B]``.
    """
    logits = widened(logits)
    decision = jnp.argmax(logits, axis=-1)
    check_same_shape(decision=decision, label=label)
    return {
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, label),
        "error": (decision != label).astype(jnp.float32),
    }


def units_of(num_levels: int | None, process: Process | None) -> Units:
    """Grey levels to the units that a classifier takes: diffusion models' where it has a process.

    Args:
        num_levels: Number of grey levels; None for real numbers, which are taken as they are.
        process: The process of the latents; None for clean examples.

    Returns:
        The units.
    """
    if num_levels is None:
        return Reals()
    return Ends(num_levels) if process is None else Centres(num_levels)


def logits_of_latents(apply: Callable[..., Any], process: Process) -> Callable[..., Array]:
    """What classifies latents: the network sees them at about unit size.

    Args:
        apply: ``(variables, latents, times) -> (logits, features)``.
        process: The process of the latents.

    Returns:
        ``(variables, latents [B, *event], times [B]) -> logits [B, K]``.
    """

    def logits(
        variables: Any, z: Float[Array, "B *event"], times: Float[Array, " B"]
    ) -> Float[Array, "B K"]:
        # Of a process whose noise grows to many times the data.
        scale = input_scale(1.0, *process.scales(times))
        found, _ = apply(variables, per_row(scale, z) * z, times)
        return cast(Array, found)

    return logits


def log_prob_of_latents(apply: Callable[..., Any], variables: Any, process: Process) -> LogProbFn:
    """A trained classifier of latents as guidance takes it.

    Args:
        apply: ``(variables, latents, times) -> (logits, features)``.
        variables: Its variables.
        process: The process that it was trained on.

    Returns:
        ``(latents [B, *event], time [], label [B]) -> log p(label | latents) [B]``.
    """
    logits_fn = logits_of_latents(apply, process)

    def log_prob(z: Array, t: Array, label: Array) -> Array:
        logits = widened(logits_fn(variables, z, jnp.full(z.shape[:1], t)))
        return -optax.softmax_cross_entropy_with_integer_labels(logits, label)

    return log_prob
