"""A model of data by codes at the places of a grid, as functions of parameters and rows."""

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    FirstStage,
    Metrics,
    ModelState,
    Params,
    Step,
    Variables,
    init_network,
)
from genjax.families.heads import ObservedFeatures, Vectors
from genjax.families.levels import Ends, Reals, Units
from genjax.families.observations import Entries, Observation
from genjax.families.quantizers import Codebook, Quantized, Quantizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeModel:
    """An encoder, a quantizer and a decoder: see :func:`genjax.families.vq_vae`.

    Attributes:
        encoder: Module ``x -> features [B, *places, F]``.
        decoder: Module ``vectors [B, *places, D] -> features`` of the example or of its places.
        quantizer: Vectors to codes and back.
        observation: The distribution of data at each place.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
    """

    encoder: nn.Module
    decoder: nn.Module
    quantizer: Quantizer
    observation: Observation
    event_shape: tuple[int, ...]
    num_levels: int | None

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        return Entries(self.event_shape[-1], self.num_levels)

    @property
    def units(self) -> Units:
        """Data as the encoder sees it."""
        return Reals() if self.num_levels is None else Ends(self.num_levels)

    @property
    def to_vectors(self) -> Vectors:
        """The encoder, with the layer that makes vectors."""
        return Vectors(self.encoder, self.quantizer.code_size)

    @property
    def to_outputs(self) -> ObservedFeatures:
        """The decoder, with the layer that makes parameters of the observation."""
        outputs = self.observation.num_outputs(self.entries)
        return ObservedFeatures(
            self.decoder, self.event_shape, outputs, self.observation.num_shared
        )

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """The grid."""
        example = jax.ShapeDtypeStruct((1, *self.event_shape), jnp.float32)
        found = jax.eval_shape(
            lambda x: self.to_vectors.init_with_output(jax.random.key(0), x)[0], example
        )
        return tuple(found.shape[1:-1])

    @property
    def uniform_nats(self) -> float:
        """What the codes of an example cost if all are alike."""
        return math.prod(self.places) * math.log(self.quantizer.num_codes)

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of both networks, and the codebook, of vectors of the batch."""
        params, x = {}, batch["x"]
        params["encoder"], _ = init_network(
            self.to_vectors, jax.random.fold_in(key, 0), self.units.encode(x)
        )
        grid = jnp.zeros((x.shape[0], *self.places, self.quantizer.code_size))
        params["decoder"], _ = init_network(self.to_outputs, jax.random.fold_in(key, 1), grid)
        vectors = self.vectors(params, x)
        return params, {"codebook": self.quantizer.init(jax.random.fold_in(key, 2), vectors)}

    def vectors(self, params: Params, x: Array) -> Array:
        """Vectors of all places of rows, ``[N, D]``."""
        found = self.to_vectors.apply({"params": params["encoder"]}, self.units.encode(x))
        return cast(Array, found).reshape(-1, self.quantizer.code_size)

    def on_grid(self, vectors: Array) -> Array:
        """Vectors at their places, ``[B, *places, D]``."""
        return vectors.reshape(-1, *self.places, self.quantizer.code_size)

    def outputs(self, params: Params, vectors: Array) -> Array:
        """Parameters of the observation for vectors of codes."""
        grid = self.on_grid(vectors)
        return cast(Array, self.to_outputs.apply({"params": params["decoder"]}, grid))

    def quantized(self, params: Params, kept: Codebook, x: Array) -> Quantized:
        """Vectors of rows, quantised."""
        return self.quantizer.quantize(kept, self.vectors(params, x))

    def loss(
        self, params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean nats of data given its codes, and what holds vectors to codes."""
        vectors = self.vectors(params, batch["x"])
        found = self.quantizer.quantize(model_state["codebook"], vectors)
        outputs = self.outputs(params, found.vectors)
        nats = jnp.mean(self.observation.nats(batch["x"], outputs, self.entries))
        held, (metrics, state) = self.held(model_state, vectors, found, batch["x"].shape[0], key)
        return nats + held, ({"reconstruction": nats, **metrics}, state)

    def held(
        self, model_state: ModelState, vectors: Array, found: Quantized, rows: int, key: Array
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What holds vectors to codes, summed over places; moves the codebook."""
        commitment = jnp.sum(found.commitment) / rows
        new = self.quantizer.update(model_state["codebook"], vectors, found.codes, key)
        metrics = {"commitment": commitment, **self.usage(new)}
        return commitment, (metrics, {**model_state, "codebook": new})

    def usage(self, kept: Codebook) -> dict[str, Array]:
        """How many codes are in use, and how evenly."""
        share = kept["usage"] / jnp.sum(kept["usage"])
        entropy = -jnp.sum(jax.scipy.special.xlogy(share, share))
        # In use: at least a tenth of what it would be if all were used alike.
        used = jnp.mean(share * self.quantizer.num_codes > 0.1)
        return {"codes_used": used, "codes_perplexity": jnp.exp(entropy)}

    def codes(self, variables: Variables, batch: Batch, key: PRNGKeyArray) -> Array:
        """Codes of rows, ``[B, *places, 1]``."""
        kept = variables["model_state"]["codebook"]
        codes = self.quantized(variables["ema"], kept, batch["x"]).codes
        return codes.reshape(batch["x"].shape[0], *self.places, 1)

    def nats(self, variables: Variables, batch: Batch, codes: Array) -> Array:
        """Nats of data given its codes, ``[B]``."""
        outputs = self.outputs(variables["ema"], self._looked_up(variables, codes))
        return self.observation.nats(batch["x"], outputs, self.entries)

    def rows(self, variables: Variables, codes: Array, batch: Batch) -> Array:
        """The data that codes stand for."""
        outputs = self.outputs(variables["ema"], self._looked_up(variables, codes))
        return self.observation.centre(outputs, self.entries)

    def _looked_up(self, variables: Variables, codes: Array) -> Array:
        return self.quantizer.look_up(variables["model_state"]["codebook"], codes[..., 0])

    def first_stage(self) -> FirstStage:
        """The model as one of its codes asks it, or of its vectors before they are quantised."""

        def encode(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Array:
            return self.on_grid(self.vectors(variables["ema"], batch["x"]))

        def decode(variables: Variables, latents: Array, batch: Batch) -> Array:
            vectors = latents.reshape(-1, self.quantizer.code_size)
            found = self.quantizer.quantize(variables["model_state"]["codebook"], vectors)
            outputs = self.outputs(variables["ema"], found.vectors)
            return self.observation.centre(outputs, self.entries)

        vectors = FirstStage(
            event_shape=(*self.places, self.quantizer.code_size),
            num_levels=None,
            encode=encode,
            decode=decode,
            nats=None,
            keeps=("codebook",),
        )
        return FirstStage(
            event_shape=(*self.places, 1),
            num_levels=self.quantizer.num_codes,
            encode=self.codes,
            decode=self.rows,
            nats=self.nats,
            keeps=("codebook",),
            vectors=vectors,
        )
