"""Autoencoders in the parts that a game with a critic needs: by Gaussians, or by codes."""

import dataclasses
from typing import Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Metrics, ModelState, Params, PyTree, Step
from genjax.families.code_model import CodeModel
from genjax.families.gaussian_grid import GaussianGrid
from genjax.families.latent_groups import Explanation
from genjax.families.latent_variable import LatentVariableModel, divergence
from genjax.families.levels import Units
from genjax.families.observations import Entries, Observation


@runtime_checkable
class Coder(Protocol):
    """What is judged: an autoencoder, in parts."""

    @property
    def observation(self) -> Observation:
        """The distribution of data at each place."""
        ...

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        ...

    @property
    def units(self) -> Units:
        """Data to the units of the networks."""
        ...

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of ``encoder`` and ``decoder``, and state."""
        ...

    def code(
        self, params: Params, state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> dict[str, Array]:
        """Rows encoded and all but decoded: ``features`` of the decoder before its last layer."""
        ...

    def observe(self, params: Params, features: Array) -> Array:
        """The decoder's last layer: parameters of the observation."""
        ...

    def regularizer(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        made: PyTree,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What latents cost, of what :meth:`code` made, and the state after the step."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfModel:
    """What a coder has from the model that it takes apart."""

    model: LatentVariableModel | CodeModel

    @property
    def observation(self) -> Observation:
        """The distribution of data at each place."""
        return self.model.observation

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        return self.model.entries

    @property
    def units(self) -> Units:
        """Data to the units of the networks."""
        return self.model.units

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of both networks, and the codebook where there is one."""
        return self.model.init(key, batch)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianCoder(_OfModel):
    """A variational autoencoder whose latents are a grid of Gaussians.

    Attributes:
        model: The model, of one draw and the analytic divergence.
        groups: Its networks.
    """

    model: LatentVariableModel
    groups: GaussianGrid

    def code(
        self, params: Params, state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> dict[str, Array]:
        """Posterior, a draw of it, and the features of that."""
        mean, log_std = self.model.look(params, batch)
        z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        features = self.groups.networks["decoder"].apply(
            {"params": params["decoder"]},
            z.reshape(-1, *self.groups.shape),
            method="features",
        )
        return {"mean": mean, "log_std": log_std, "features": cast(Array, features)}

    def observe(self, params: Params, features: Array) -> Array:
        """The decoder's last layer."""
        decoder, own = self.groups.networks["decoder"], {"params": params["decoder"]}
        return cast(Array, decoder.apply(own, features, method="observe"))

    def regularizer(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        made: PyTree,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """The weighted divergence from the prior, summed over entries of latents."""
        mean, log_std = made["mean"][None], made["log_std"][None]
        zeros = jnp.zeros_like(mean)
        found = Explanation(mean, (mean, log_std), (zeros, zeros), made["features"])
        kl = divergence(found)[0]
        return self.model.weighted(kl, step), ({"kl": jnp.mean(jnp.sum(kl, axis=1))}, state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeCoder(_OfModel):
    """An autoencoder whose latents are codes.

    Attributes:
        model: The model.
    """

    model: CodeModel

    def code(
        self, params: Params, state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> dict[str, Array]:
        """Vectors before they are quantised, and the features of their codes."""
        vectors = self.model.vectors(params, batch["x"])
        found = self.model.quantizer.quantize(state["codebook"], vectors)
        features = self.model.to_outputs.apply(
            {"params": params["decoder"]}, self.model.on_grid(found.vectors), method="features"
        )
        return {"vectors": vectors, "features": cast(Array, features)}

    def observe(self, params: Params, features: Array) -> Array:
        """The decoder's last layer."""
        own = {"params": params["decoder"]}
        return cast(Array, self.model.to_outputs.apply(own, features, method="observe"))

    def regularizer(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        made: PyTree,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What holds vectors to codes, summed over places; moves the codebook."""
        vectors = made["vectors"]
        # Once more: codes are whole numbers, through which no gradient may be asked for.
        found = self.model.quantizer.quantize(state["codebook"], vectors)
        return self.model.held(state, vectors, found, batch["x"].shape[0], key)
