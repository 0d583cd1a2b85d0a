"""Normalizing flows trained by maximum likelihood."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.bijectors import (
    Flow,
    UniformDequantizer,
    VariationalDequantizer,
    standard_normal_log_prob,
)
from genjax.devices import largest, own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    PyTree,
    Samples,
    Step,
    Suspicion,
    TrainState,
)
from genjax.families.draws import fold_each, keys_by_example, spread_rows
from genjax.families.levels import Bins, Reals, Units
from genjax.families.likelihood import draws_of, likelihood_metrics, plane_density
from genjax.families.minimizing import minimizing
from genjax.losses import nats_to_bits_per_dim

# Rows that the round trip is measured on: it is about the map, not about the data.
_NUM_ROUND_TRIPS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class DequantizedFlow:
    """The likelihood of data under a flow, as functions of parameters and rows.

    Attributes:
        model: The flow, on events of this shape or on vectors of as many entries.
        dequantizer: Where the noise within grey levels comes from.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
    """

    model: Flow
    dequantizer: UniformDequantizer | VariationalDequantizer
    event_shape: tuple[int, ...]
    num_levels: int | None

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def units(self) -> Units:
        """Data to what the flow takes, and back."""
        return Reals() if self.num_levels is None else Bins(self.num_levels)

    def context_of(self, batch: Batch) -> Array | None:
        """The class label, one-hot, if the flow is conditional."""
        size = self.model.context_size
        return None if size is None else jax.nn.one_hot(batch["label"], size)

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters, started from the statistics of a batch where layers do so."""
        x = batch["x"]
        source = self.dequantizer.draw(jax.random.fold_in(key, 1), x.shape)
        params: dict[str, PyTree] = {"dequantizer": {}}
        if self.num_levels is not None:
            levels = x.astype(jnp.float32) / (self.num_levels - 1)
            made = self.dequantizer.init(jax.random.fold_in(key, 2), source, levels)
            params["dequantizer"] = made.get("params", {})
        rows, _ = self.rows_of(params, x, source)
        variables = self.model.init(key, rows, self.context_of(batch))
        state = {"constants": variables.get("constants", {}), "round_trip_error": jnp.zeros(())}
        return {**params, "flow": variables.get("params", {})}, {"flow": state}

    def rows_of(self, params: Params, x: Array, source: Array) -> tuple[Array, Array]:
        """Data as the flow takes it, and the log-density of its noise, ``[B]``."""
        log_noise = jnp.zeros(x.shape[0])
        if self.num_levels is not None:
            levels = x.astype(jnp.float32)
            noise, log_noise = cast(
                tuple[Array, Array],
                self.dequantizer.apply(
                    {"params": params["dequantizer"]}, source, levels / (self.num_levels - 1)
                ),
            )
            x = self.units.encode(x, noise)
        return x.reshape(x.shape[0], *self.model.event_shape), log_noise

    def apply(self, params: Params, model_state: ModelState, method: str, *args: Any) -> Any:
        """A method of the flow, without random draws."""
        return self.model.apply(_variables(params, model_state), *args, method=method)

    def encode(
        self,
        params: Params,
        model_state: ModelState,
        rows: Array,
        batch: Batch,
        rngs: Mapping[str, PRNGKeyArray] | None = None,
    ) -> tuple[PyTree, Array]:
        """Latents of rows, and the log-determinants ``[B]`` of the map to them."""
        encoded = self.model.apply(
            _variables(params, model_state),
            rows,
            self.context_of(batch),
            method="encode",
            rngs=cast(Any, rngs),
        )
        return cast(tuple[PyTree, Array], encoded)

    def nats(self, z: PyTree, log_det: Array, log_noise: Array) -> Array:
        """Negative log-likelihood of each example, or the bound on it, ``[B]``."""
        # Of density per unit of x to probability of a bin of width 1 / V.
        offset = 0.0 if self.num_levels is None else self.num_dims * math.log(self.num_levels)
        return offset + log_noise - standard_normal_log_prob(z) - log_det

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean bits per dimension of a batch."""
        del step
        source = self.dequantizer.draw(key, batch["x"].shape)
        rows, log_noise = self.rows_of(params, batch["x"], source)
        rngs = {"dropout": jax.random.fold_in(key, 1), "probe": jax.random.fold_in(key, 2)}
        z, log_det = self.encode(params, model_state, rows, batch, rngs)
        nats = self.nats(z, log_det, log_noise)
        mean = jnp.mean(nats_to_bits_per_dim(nats, self.num_dims))
        metrics = {"bits_per_dim": mean, "log_det_per_dim": jnp.mean(log_det) / self.num_dims}
        return mean, (metrics, model_state)

    def round_trip_error(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> Array:
        """How far decoding what was encoded is off at most: see :func:`flow`."""
        few = jax.tree.map(lambda rows: rows[:_NUM_ROUND_TRIPS], dict(batch))
        rows, _ = self.rows_of(params, few["x"], self.dequantizer.draw(key, few["x"].shape))
        z, _ = self.encode(params, model_state, rows, few)
        back = self.apply(params, model_state, "decode", z, self.context_of(few))
        error = jnp.abs(back - rows) * (self.num_levels or 1.0 / (1.0 + jnp.abs(rows)))
        # It warns; only the loss stops a run.
        return jnp.nan_to_num(jnp.max(error), nan=1e9, posinf=1e9).astype(jnp.float32)

    def draws(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        num_draws: int,
    ) -> Array:
        """Nats of each example for each draw of noise, ``[num_draws, B]``."""
        keys = keys_by_example(key, batch["index"])

        def one_draw(index: Array) -> Array:
            own = fold_each(keys, index)
            source = jax.vmap(lambda k: self.dequantizer.draw(k, self.event_shape))(own)
            rows, log_noise = self.rows_of(params, batch["x"], source)
            if self.model.divergence is None:
                z, log_det = self.encode(params, model_state, rows, batch)
                return self.nats(z, log_det, log_noise)

            def one_row(row: Array, example: Batch, k: PRNGKeyArray) -> Array:
                alone = jax.tree.map(lambda a: a[None], dict(example))
                rngs = {"probe": jax.random.fold_in(k, 1)}
                z, log_det = self.encode(params, model_state, row[None], alone, rngs)
                return self.nats(z, log_det, jnp.zeros(1))[0]

            # Steps and signs of its own for each row, so that none depends on its batch.
            return log_noise + jax.vmap(one_row)(rows, dict(batch), own)

        return draws_of(one_draw, num_draws)

    def sample(
        self,
        params: Params,
        model_state: ModelState,
        key: PRNGKeyArray,
        batch: Batch,
        temperature: float,
    ) -> Samples:
        """Samples from latents of a temperature, and the density of points of the plane."""
        z = self.apply(params, model_state, "draw_latents", key, batch["x"].shape[0])
        z = jax.tree.map(lambda part: spread_rows(temperature * part), z)
        x = self.apply(params, model_state, "decode", z, self.context_of(batch))
        rows = self.units.decode(x.reshape(-1, *self.event_shape))
        conditional = self.model.context_size is not None
        if self.num_levels is not None or self.event_shape != (2,) or conditional:
            return Samples(rows=rows)
        log_prob = lambda z: self.apply(params, model_state, "log_prob", z, None)  # noqa: E731
        return Samples(rows=rows, density=plane_density(rows, log_prob))

    def diagnose(self, metrics: Mapping[str, float]) -> Sequence[Suspicion]:
        """Whether the map can be inverted and is not at its limits."""
        found = []
        error = metrics.get("round_trip_error", 0.0)
        limit, unit = (0.01, "of 1 + |x|") if self.num_levels is None else (0.5, "grey levels")
        if error > limit:
            found.append(
                Suspicion(
                    "round trip",
                    f"round trip: decoding what was encoded misses by up to {error:.2g} {unit}, so "
                    "likelihood and samples are not those of one model; lower the learning rate or "
                    "clip gradients",
                )
            )
        log_det = metrics.get("log_det_per_dim", 0.0)
        if log_det > 0.9 * self.model.max_log_det_per_dim:
            found.append(
                Suspicion(
                    "log-determinant",
                    f"log-determinant: {log_det:.3f} nats a dimension of at most "
                    f"{self.model.max_log_det_per_dim:.3f} that this flow can reach; add couplings",
                )
            )
        return found


def _variables(params: Params, model_state: ModelState) -> dict[str, PyTree]:
    return {"params": params["flow"], "constants": model_state["flow"]["constants"]}


def flow(
    *,
    model: Flow,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    dequantizer: UniformDequantizer | VariationalDequantizer | None = None,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    temperature: float = 1.0,
    round_trip_every: int = 100,
) -> Family:
    r"""Normalizing flow.

    Real-valued data has a density; whole grey levels ``k`` are dequantised with noise ``u`` to
    :math:`(k + u) / V` in [0, 1], whose density bounds their probability from below. All transforms
    of the data belong to the model, so that its log-determinant holds them.

    Args:
        model: The flow, on events of this shape or on vectors of as many entries. If it has a
            ``context_size``, its context is the class label, one-hot.
        optimizer: Optimiser of the flow and the dequantiser together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        dequantizer: What the noise comes from; uniform if None.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of dequantisation noise for each example in evaluation.
        temperature: Standard deviation of the latents that samples are made from.
        round_trip_every: Steps between measurements of the round trip, which are logged until the
            next: how far decoding what was encoded is off at most, in grey levels or, for
            real-valued data, relative to ``1 + |x|``.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` (for grey levels the mean of single-draw
        bounds), with several draws also ``bits_per_dim_importance``, the tighter bound from their
        importance-weighted mean; and ``nats``, the negative log-likelihood of an example, which
        ``log_prob`` gives with its sign. With Hutchinson's estimate of a divergence they are
        unbiased, and the tighter bound is left out.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Dequantisation: Theis et al., arXiv:1511.01844, section 3.1; Ho et al., arXiv:1902.00275.
    """
    if eval_num_draws < 1 or not temperature > 0 or round_trip_every < 1:
        raise ValueError(
            "eval_num_draws and round_trip_every must be at least 1 and temperature positive, got "
            f"{eval_num_draws}, {round_trip_every} and {temperature}"
        )
    if math.prod(model.event_shape) != math.prod(event_shape):
        raise ValueError(f"a flow of events {model.event_shape} does not fit data {event_shape}")
    if num_levels is None:
        if dequantizer is not None:
            raise ValueError("real-valued data needs no dequantizer; leave it out")
        if model.divergence != "hutchinson":
            eval_num_draws = 1
    likelihood = DequantizedFlow(
        model=model,
        dequantizer=dequantizer or UniformDequantizer(),
        event_shape=event_shape,
        num_levels=num_levels,
    )
    init, minimize = minimizing(
        init_model=likelihood.init,
        loss_and_grad=jax.value_and_grad(likelihood.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        key = own_key(key)
        state, metrics = minimize(state, batch, key)
        kept = state.model_state["flow"]
        # After the step, not in its loss: the parameters that go on are the ones to look at.
        error = jax.lax.cond(
            (state.step - 1) % round_trip_every == 0,
            lambda: likelihood.round_trip_error(state.params, state.model_state, batch, key),
            lambda: kept["round_trip_error"],
        )
        error = largest(error)
        state = state.replace(model_state={"flow": {**kept, "round_trip_error": error}})
        return state, {**metrics, "round_trip_error": error}

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        draws = likelihood.draws(state.ema, state.model_state, batch, key, eval_num_draws)
        bounds = model.divergence != "hutchinson"
        return likelihood_metrics(draws, likelihood.num_dims, bounds=bounds)

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        draws = likelihood.draws(state.ema, state.model_state, batch, key, eval_num_draws)
        return -jnp.mean(draws, axis=0)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        return likelihood.sample(state.ema, state.model_state, key, batch, temperature)

    density = "exact"
    if num_levels is not None:
        variational = isinstance(dequantizer, VariationalDequantizer)
        density = f"{'variational' if variational else 'uniform'} dequantisation"
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        eval_protocol={
            "density": density,
            **({"divergence": model.divergence} if model.divergence else {}),
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
        reads=("label",) if model.context_size is not None else (),
        diagnose=likelihood.diagnose,
    )
