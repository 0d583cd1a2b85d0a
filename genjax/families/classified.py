"""What classifiers are of: rows as they are, or latents of a process at any time."""

import dataclasses
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
    Metrics,
    ModelState,
    Params,
    Step,
    TrainState,
    apply_any_in_training,
    init_network,
)
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.levels import Centres, Ends, Reals, Units
from genjax.losses.arrays import check_same_shape, per_row, widened

EVALUATED = (0.25, 0.5, 0.75)
"""Times at which classifiers of latents are evaluated by themselves."""


@dataclasses.dataclass(frozen=True)
class OfRows:
    """A classifier of rows as they are, or as an adversary has moved them.

    Attributes:
        net: Module ``x -> (logits, features)``.
        units: Data to what it takes.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        adversary: What moves rows in training.
    """

    net: nn.Module
    units: Units
    event_shape: tuple[int, ...]
    num_levels: int | None
    adversary: Adversary | None

    @property
    def protocol(self) -> dict[str, str | int]:
        """Nothing needs to be said."""
        return {}

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters, which may start from the first rows, and collections beside them."""
        x = self.units.encode(batch["x"].reshape(-1, *self.event_shape))
        params, state = init_network(self.net, key, x)
        return {"net": params}, {"net": state} if state else {}

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean cross-entropy of a batch."""
        apply = functools.partial(
            apply_any_in_training,
            self.net,
            params["net"],
            model_state.get("net", {}),
            rngs={"dropout": own_key(jax.random.fold_in(key, 1))},
        )
        x = self.units.encode(batch["x"])
        if self.adversary is not None:

            def loss_of(x: Array) -> Array:
                return scores_of(apply(x)[0][0], batch["label"])["cross_entropy"]

            x = moved(self.adversary, loss_of, batch["x"], self.num_levels, own_key(key))
        (logits, _), state = apply(x)
        loss, means = mean_scores(scores_of(logits, batch["label"]))
        return loss, (means, {"net": state} if state else model_state)

    def _logits(self, state: TrainState, x: Array) -> Array:
        variables = {"params": state.ema["net"], **state.model_state.get("net", {})}
        return cast(tuple[Array, Array], self.net.apply(variables, x))[0]

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Scores of clean rows."""
        return scores_of(self._logits(state, self.units.encode(batch["x"])), batch["label"])

    def class_logits(self, state: TrainState, rows: Array) -> Array:
        """Logits of rows in shares of the range of levels."""
        return widened(self._logits(state, of_shares(rows, self.num_levels)))


@dataclasses.dataclass(frozen=True)
class OfLatents:
    """A classifier of latents of a process, which is told their time.

    Attributes:
        net: Module ``(latents, times) -> (logits, features)``.
        units: Data to the units of the process.
        event_shape: Shape of one example.
        process: The process.
        num_times: Times of each example in evaluation.
    """

    net: nn.Module
    units: Units
    event_shape: tuple[int, ...]
    process: Process
    num_times: int

    @property
    def protocol(self) -> dict[str, str | int]:
        """What is classified, and how often."""
        return {"inputs": "latents at uniform times", "num_noise_draws": self.num_times}

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters, which start from no rows: those of latents say nothing of theirs."""
        params, state = init_network(self.net, key, jnp.zeros((1, *self.event_shape)), jnp.ones(1))
        return {"net": params}, {"net": state} if state else {}

    def _scores(
        self, params: Params, model_state: ModelState, batch: Batch, times: Array, noise: Array
    ) -> Metrics:
        """Scores of latents of the rows of a batch."""
        variables = {"params": params["net"], **model_state.get("net", {})}
        z = diffuse(self.units.encode(batch["x"]), noise, *self.process.scales(times))
        logits = logits_of_latents(self.net.apply, self.process)(variables, z, times)
        return scores_of(logits, batch["label"])

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean cross-entropy at stratified times, which are those of the global batch."""
        # Their key is the same everywhere.
        key_time, key_noise = jax.random.split(key)
        shape = batch["x"].shape
        shares = stratified_times(key_time, shape[0], axis_name=mapped_axes())
        noise = jax.random.normal(own_key(key_noise), shape)
        rows = self._scores(params, model_state, batch, self.process.times_of(shares), noise)
        loss, means = mean_scores(rows)
        return loss, (means, model_state)

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Scores over stratified times, and errors at single ones."""
        keys = keys_by_example(key, batch["index"])
        offsets = jax.vmap(jax.random.uniform)(fold_each(keys, 0))
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, self.event_shape))

        def at(times: Array, number: Array) -> Metrics:
            noise = draw_noise(fold_each(keys, number + 1))
            return self._scores(state.ema, state.model_state, batch, times, noise)

        def one_draw(number: Array) -> Metrics:
            return at(self.process.times_of(stratify(offsets, number, self.num_times)), number)

        draws = jax.lax.map(one_draw, jnp.arange(self.num_times))
        found = {name: jnp.mean(rows, axis=0) for name, rows in draws.items()}
        for time in EVALUATED:
            alone = at(jnp.full(offsets.shape, time), jnp.asarray(self.num_times))
            found[f"error_t{100 * time:.0f}"] = alone["error"]
        return found


def mean_scores(rows: Metrics) -> tuple[Array, Metrics]:
    """The loss of the scores of rows, and the means that are logged."""
    means = {name: jnp.mean(values) for name, values in rows.items()}
    return means["cross_entropy"], means


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
