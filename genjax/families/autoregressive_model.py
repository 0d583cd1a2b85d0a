"""A model of data entry by entry: its likelihood in one pass, and samples one after the other."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key, spread_rows
from genjax.diffusion.guidance import untold
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Step,
    init_network,
)
from genjax.families.choosing import Choosing
from genjax.families.draws import check_label_dropout
from genjax.families.heads import WithShared
from genjax.families.observations import Entries, Observation
from genjax.families.told import Told, drop_told, reads_of, told_of
from genjax.losses.arrays import whole_levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoregressiveModel:
    """A causal network and what its outputs mean, as functions of parameters and rows.

    Attributes:
        net: Module ``(x, told) -> outputs``, whose outputs of an entry (or of a pixel, if
            ``net.by_pixel``) depend on those before it in raster order. Its fields ``num_levels``
            and ``num_outputs`` are set here. It may have ``empty_cache(batch_size, told)`` and
            ``step(entry, index, cache, told)``. What it is told is as :mod:`genjax.families.told`
            has it: the label of one that has classes.
        observation: The distribution of an entry or of the channels of a pixel.
        event_shape: Shape of one example.
        num_levels: Number of levels; None for real-valued data.
        choosing: How entries are drawn.
        label_dropout: Share of rows that are told nothing in training.
    """

    net: nn.Module
    observation: Observation
    event_shape: tuple[int, ...]
    num_levels: int | None
    choosing: Choosing = Choosing()
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        self.observation.check(self.num_levels)
        missing = [
            name
            for name in ("num_levels", "num_outputs", "by_pixel")
            if not hasattr(self.net, name)
        ]
        if missing:
            raise ValueError(
                f"{type(self.net).__name__} has no {' and no '.join(missing)}: an autoregressive "
                "network has fields num_levels and num_outputs and says whether it is by_pixel"
            )
        conditional = bool(self.reads)
        check_label_dropout(self.label_dropout, conditional=conditional)
        drops = self.label_dropout > 0.0
        self.choosing.check(self.observation, conditional=conditional, drops_labels=drops)

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told: the model is one of data given them."""
        return reads_of(self.net)

    @property
    def by_pixel(self) -> bool:
        """Whether the channels of a pixel are described together."""
        return bool(self.net.by_pixel)  # type: ignore[attr-defined]

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        return Entries(self.event_shape[-1] if self.by_pixel else 1, self.num_levels)

    @property
    def places(self) -> tuple[int, ...]:
        """Shape of the places that have outputs."""
        return self.event_shape[:-1] if self.by_pixel else self.event_shape

    @property
    def cached(self) -> bool:
        """Whether the network takes in entries one by one."""
        return hasattr(self.net, "step") and not self.by_pixel

    def observed_net(self) -> WithShared:
        """The network, told what its outputs are."""
        count = self.observation.num_outputs(self.entries)
        net = self.net.clone(num_levels=self.num_levels, num_outputs=count)
        return WithShared(net, self.observation.num_shared)

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of the network."""
        told = told_of(batch, self.reads)
        params, state = init_network(self.observed_net(), key, self._checked(batch["x"]), told)
        if state:
            raise ValueError(
                f"{type(self.net).__name__} carries {', '.join(state)} besides parameters, which "
                "an autoregressive model does not: batch statistics leak between rows"
            )
        return {"net": params}, {}

    def _checked(self, x: Array) -> Array:
        return x if self.num_levels is None else whole_levels(x, self.num_levels)

    def outputs(self, params: Params, x: Array, told: Told, rngs: Any = None) -> Array:
        """Parameters of the observation of each place given those before, ``[B, *places, P]``."""
        variables = {"params": params["net"]}
        return cast(Array, self.observed_net().apply(variables, x, told, rngs=rngs))

    def nats(self, params: Params, batch: Batch, rngs: Any = None, told: Told = None) -> Array:
        """Negative log-probability or log-density of rows, ``[B]``."""
        x = self._checked(batch["x"])
        told = told_of(batch, self.reads) if told is None else told
        outputs = self.outputs(params, x, told, rngs)
        return self.observation.nats(self._at_places(x), outputs, self.entries)

    def _at_places(self, x: Array) -> Array:
        """Data as it is observed, ``[B, *places, channels]``."""
        return x if self.by_pixel else x[..., None]

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean nats of a batch."""
        of_told, of_dropout = jax.random.split(own_key(key))
        told = drop_told(of_told, told_of(batch, self.reads), self.label_dropout)
        nats = self.nats(params, batch, {"dropout": of_dropout}, told)
        return jnp.mean(nats), ({}, model_state)

    def draw(self, key: PRNGKeyArray, outputs: Array) -> Array:
        """Data of all places at once, each with noise of its own position, ``[B, *event]``."""
        rows = outputs.shape[0]
        count = math.prod(self.places)
        flat = outputs.reshape(rows, count, outputs.shape[-1])
        drawn = jax.vmap(self._draw_place, in_axes=(None, 0, 1), out_axes=1)(
            key, jnp.arange(count), flat
        )
        return drawn.reshape(rows, *self.event_shape)

    def _draw_place(self, key: PRNGKeyArray, index: Array, outputs: Array) -> Array:
        """Data of one place ``[B, channels]`` of its outputs ``[B, P]``."""
        # A function of the position alone, whether places are drawn together or one by one.
        own = jax.random.fold_in(key, index)
        return self.observation.draw(own, self.choosing.logits(outputs, self.entries), self.entries)

    def _guided(self, outputs: Array) -> Array:
        """Of outputs of rows that are told and then of rows that are not, the guided ones."""
        with_told, without = jnp.split(outputs, 2)
        return without + self.choosing.guidance_scale * (with_told - without)

    @property
    def _asks_twice(self) -> bool:
        return self.choosing.guidance_scale != 1.0

    def _twice(self, told: Told) -> Told:
        if not self._asks_twice:
            return told
        return jax.tree.map(lambda *both: jnp.concatenate(both), told, untold(told))

    def sample(self, params: Params, key: PRNGKeyArray, told: Told, rows: int) -> Array:
        """Data drawn from the model, ``[rows, *event]``."""
        if self.cached:
            return self.sample_cached(params, key, told, rows)
        return self.sample_by_iteration(params, key, told, rows)[0]

    def _empty(self, rows: int) -> Array:
        of_type = self.draw_type()
        return spread_rows(jnp.zeros((rows, *self.event_shape), of_type))

    def draw_type(self) -> Any:
        """The type of what is drawn."""
        shape = (1, self.observation.num_outputs(self.entries) + self.observation.num_shared)
        example = jax.ShapeDtypeStruct(shape, jnp.float32)
        draw: Callable[[Array], Array] = lambda o: self.observation.draw(  # noqa: E731
            jax.random.key(0), o, self.entries
        )
        return jax.eval_shape(draw, example).dtype

    def sample_by_iteration(
        self,
        params: Params,
        key: PRNGKeyArray,
        told: Told,
        rows: int,
        given: Callable[[Array], Array] = lambda x: x,
    ) -> tuple[Array, Array]:
        """Data drawn by iterating on all entries at once until none changes.

        With the noise of each entry fixed, a sample is the fixed point of one function: after ``n``
        passes at least the first ``n`` entries are what drawing them one after the other gives, bit
        for bit, and mostly many more.

        Args:
            params: Parameters.
            key: Key of the noise.
            told: What the network is told, of as many rows, or None.
            rows: Number of samples.
            given: What puts entries that are given in the place of those that were drawn.

        Returns:
            The samples, ``[rows, *event]``, and the number of passes.

        References:
            Song et al., Accelerating Feedforward Computation via Parallel Nonlinear Equation
            Solving, arXiv:2002.03629, section 4.
        """
        told = self._twice(told)

        def drawn(x: Array) -> Array:
            seen = jnp.concatenate([x, x]) if self._asks_twice else x
            outputs = self.outputs(params, seen, told)
            outputs = self._guided(outputs) if self._asks_twice else outputs
            return given(self.draw(key, outputs))

        def going_on(carry: tuple[Array, Array, Array]) -> Array:
            _, changed, count = carry
            return changed & (count <= math.prod(self.places))

        def iterate(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            x, _, count = carry
            new = drawn(x)
            return new, jnp.any(new != x), count + 1

        start = (self._empty(rows), jnp.ones((), bool), jnp.zeros((), jnp.int32))
        x, _, count = jax.lax.while_loop(going_on, iterate, start)
        return x, count

    def sample_cached(self, params: Params, key: PRNGKeyArray, told: Told, rows: int) -> Array:
        """Data drawn entry by entry, by a network that keeps what it has seen.

        Args:
            params: Parameters.
            key: Key of the noise: that of the other way gives the same samples, but for rounding.
            told: What the network is told, of as many rows, or None.
            rows: Number of samples.

        Returns:
            The samples, ``[rows, *event]``.
        """
        net = self.observed_net()
        told = self._twice(told)
        copies = 2 if self._asks_twice else 1
        variables = {"params": params["net"]}

        def one(carry: tuple[Any, Array], index: Array) -> tuple[tuple[Any, Array], Array]:
            cache, entry = carry
            seen = jnp.tile(entry, copies)
            outputs, cache = net.apply(variables, seen, index, cache, told, method="step")
            drawn = self._draw_place(key, index, self._guided(outputs) if copies > 1 else outputs)
            return (cache, drawn[:, 0]), drawn[:, 0]

        cache = net.apply(variables, copies * rows, told, method="empty_cache")
        start = (cache, jnp.zeros((rows,), self.draw_type()))
        _, drawn = jax.lax.scan(one, start, jnp.arange(self.num_dims))
        return jnp.moveaxis(drawn, 0, 1).reshape(rows, *self.event_shape)
