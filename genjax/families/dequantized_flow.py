"""The likelihood of data under a normalizing flow, and samples of it."""

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
from genjax.devices import spread_rows
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    PyTree,
    Samples,
    Step,
    Suspicion,
)
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.imputing import likely_start
from genjax.families.langevin import langevin, langevin_within_bins
from genjax.families.levels import Bins, Reals, Units
from genjax.families.likelihood import draws_of, plane_density
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
        # -log P(x) <= -E[log p(x + u) - log q(u | x)], Ho et al., arXiv:1902.00275.
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
        # Networks draw dropout, continuous flows the signs of Hutchinson's estimate.
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
        # In grey levels, of which [0, 1) has so many; of real numbers relative to their size.
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

    def latents(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> PyTree:
        """Latents of each example, under the first draw of noise that scores it."""
        own = fold_each(keys_by_example(key, batch["index"]), 0)
        source = jax.vmap(lambda k: self.dequantizer.draw(k, self.event_shape))(own)
        rows, _ = self.rows_of(params, batch["x"], source)
        context = self.context_of(batch)
        return self.apply(params, model_state, "encode", rows, context)[0]

    def decode(self, params: Params, model_state: ModelState, z: PyTree, batch: Batch) -> Array:
        """The data that latents stand for, ``[B, *event]``."""
        x = self.apply(params, model_state, "decode", z, self.context_of(batch))
        return self.units.decode(x.reshape(-1, *self.event_shape))

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

    def impute(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, steps: int
    ) -> Array:
        """Rows whose missing entries are drawn by Langevin steps, ``[B, *event]``.

        Chains begin with samples that fit the known entries; grey levels walk within their bins, so
        that dequantisation adds no error.
        """
        of_start, of_walk = jax.random.split(key)
        known, x, context = batch["known"], batch["x"], self.context_of(batch)

        def log_density(rows: Array) -> Array:
            flat = rows.reshape(-1, *self.model.event_shape)
            return cast(Array, self.apply(params, model_state, "log_prob", flat, context))

        def candidate(key: PRNGKeyArray) -> tuple[Array, Array]:
            z = self.apply(params, model_state, "draw_latents", key, x.shape[0])
            drawn = self.apply(params, model_state, "decode", z, context).reshape(x.shape)
            rows = jnp.where(known, self.units.encode(x, jnp.full(x.shape, 0.5)), drawn)
            return rows, log_density(rows)

        start = likely_start(candidate, of_start)
        if self.num_levels is None:
            return langevin(log_density, start, ~known, of_walk, num_steps=steps)[0]
        levels = (x.astype(jnp.float32), start, known, self.num_levels)
        y = langevin_within_bins(log_density, *levels, of_walk, num_steps=steps)
        return jnp.where(known, x, self.units.decode(y))

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
