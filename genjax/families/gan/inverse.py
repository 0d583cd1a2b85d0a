"""A generator and an encoder that inverts it, as they are used once trained."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Generating,
    Metrics,
    ModelState,
    Params,
    PyTree,
    Samples,
    TrainState,
    init_network,
    num_classes_of,
)
from genjax.families.draws import Latent, keys_by_example
from genjax.families.gan.heads import LatentHead
from genjax.families.levels import Units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inverse:
    """A generator and an encoder.

    Attributes:
        encoder: Rows to latents.
        generator: Module ``(latent, train=...) -> rows``.
        latents: The prior.
        units: Data to the units of the networks, and back.
        event_shape: Shape of one example.
    """

    encoder: LatentHead
    generator: nn.Module
    latents: Latent
    units: Units
    event_shape: tuple[int, ...]

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of both networks."""
        keys = jax.random.split(key)
        z, x = jnp.zeros((1, self.latents.latent_size)), jnp.zeros((1, *self.event_shape))
        made = {
            "generator": init_network(self.generator, keys[0], z),
            "encoder": init_network(self.encoder, keys[1], x),
        }
        return {n: p for n, (p, _) in made.items()}, {n: s for n, (_, s) in made.items()}

    def check_generator(self) -> None:
        """Finds on shapes alone whether the generator makes rows of the data.

        Raises:
            ValueError: If it does not, or a network takes labels.
        """
        for name, net in (("generator", self.generator), ("encoder", self.encoder.trunk)):
            if num_classes_of(net) is not None:
                raise ValueError(
                    f"inference is of models without labels: leave num_classes of the {name} out"
                )
        params, state = jax.eval_shape(self.init_networks, jax.random.key(0), {})
        z = jax.ShapeDtypeStruct((2, self.latents.latent_size), jnp.float32)
        variables = {"params": params["generator"], **state["generator"]}
        made = jax.eval_shape(self.generator.apply, variables, z)
        if made.shape != (2, *self.event_shape):
            raise ValueError(
                f"the generator must give rows of the data's shape {self.event_shape}, but it "
                f"gives {made.shape[1:]}"
            )

    # Means in place of draws, averaged parameters, running statistics.

    def rows(self, state: TrainState, z: Array) -> Float[Array, "B *event"]:
        """Rows of latents, in the units of the networks."""
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        return cast(Array, self.generator.apply(variables, z))

    def infer(self, state: TrainState, x: Array) -> Float[Array, "B Z"]:
        """Latents of rows in the units of the networks."""
        variables = {"params": state.ema["encoder"], **state.model_state["encoder"]}
        mean, _ = cast(Any, self.encoder.apply(variables, x))
        return self.latents.within(cast(Array, mean))

    def encode(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        """Latents of rows of data."""
        return self.infer(state, self.units.encode(batch["x"]))

    def decode(self, state: TrainState, latents: PyTree, batch: Batch) -> Array:
        """Rows of given latents, or of the nearest that the prior has, as data."""
        return self.units.decode(self.rows(state, self.latents.clip(latents)))

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Rows of latents of the prior."""
        key_latent, key_noise = jax.random.split(key)
        rows = self.rows(state, self.latents.draw(key_latent, batch["x"].shape[0]))
        if "noise" in state.ema:
            width = jnp.exp(state.ema["noise"]["log_std"])
            rows += width * jax.random.normal(key_noise, rows.shape)
        return Samples(rows=self.units.decode(rows))

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """How far rows are from what is generated from their latents, and from other latents."""
        x = self.units.encode(batch["x"])
        keys = keys_by_example(key, batch["index"])
        others = self.rows(state, jax.vmap(lambda k: self.latents.draw(k, 1)[0])(keys))
        squared = squared_distance(x, self.rows(state, self.infer(state, x)))
        return {
            "reconstruction_mse": squared / x[0].size,
            "reconstruction_distance": jnp.sqrt(squared),
            "random_distance": jnp.sqrt(squared_distance(x, others)),
        }

    def outlier_scores(self) -> Mapping[str, Callable[[TrainState, Batch, PRNGKeyArray], Array]]:
        """Distances among what evaluation gives, by name."""
        return self.as_scores("reconstruction_distance")

    def as_scores(
        self, *names: str
    ) -> Mapping[str, Callable[[TrainState, Batch, PRNGKeyArray], Array]]:
        """Metrics of evaluation as functions of their own."""

        def one(state: TrainState, batch: Batch, key: PRNGKeyArray, name: str) -> Array:
            return self.eval_step(state, batch, key)[name]

        return {name: functools.partial(one, name=name) for name in names}

    def generating(self, state: TrainState, batch: Batch) -> Generating:
        """The networks as inversion asks them."""
        variables = {"params": state.ema["encoder"], **state.model_state["encoder"]}
        return Generating(
            draw=self.latents.draw,
            clip=self.latents.clip,
            make=lambda z: self.rows(state, z),
            encode=self.units.encode,
            features=lambda x: cast(Any, self.encoder.bind(variables)).trunk(x),
        )


EVAL_PROTOCOL = {
    "reconstruction": "of the encoder's latent, without noise",
    "random_row": "generated from an unrelated latent",
}
"""What must be said beside the numbers of :meth:`Inverse.eval_step`."""


def squared_distance(x: Array, y: Array) -> Float[Array, " B"]:
    """Squared Euclidean distances of rows, summed over entries."""
    return jnp.sum(jnp.square(x - y), axis=tuple(range(1, x.ndim)))
