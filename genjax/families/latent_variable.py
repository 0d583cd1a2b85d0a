"""A model of data by latents with Gaussian priors, and the bounds on its likelihood."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.devices import own_key
from genjax.families.base import Batch, Metrics, ModelState, Params, PyTree, Step, label_of
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.latent_groups import Explanation, LatentGroups, sum_groups
from genjax.families.levels import Ends, Reals, Units
from genjax.families.likelihood import draws_of
from genjax.families.observations import Entries, Observation
from genjax.families.variational_objective import VariationalObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentVariableModel:
    """Groups of latents and an observation, as functions of parameters and rows.

    Attributes:
        groups: The networks, and which latents there are.
        observation: The distribution of data at each place.
        objective: What is minimised.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
    """

    groups: LatentGroups
    observation: Observation
    objective: VariationalObjective
    event_shape: tuple[int, ...]
    num_levels: int | None

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def latent_size(self) -> int:
        """Entries of the latents of all groups."""
        return sum(self.groups.sizes)

    @property
    def conditional(self) -> bool:
        """Whether the model is one of data given labels."""
        return self.groups.conditional

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        return Entries(self.event_shape[-1], self.num_levels)

    @property
    def units(self) -> Units:
        """Data as the encoder sees it."""
        return Reals() if self.num_levels is None else Ends(self.num_levels)

    def _label(self, batch: Batch) -> Array | None:
        return label_of(batch, conditional=self.conditional)

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of all networks."""
        return self.groups.init(key, self.units.encode(batch["x"]), self._label(batch)), {}

    def look(self, params: Params, batch: Batch) -> PyTree:
        """What the encoder sees in rows."""
        return self.groups.look(params, self.units.encode(batch["x"]), self._label(batch))

    def explain(
        self,
        params: Params,
        batch: Batch,
        seen: PyTree,
        *,
        noise: Array | None = None,
        latents: Array | None = None,
    ) -> Explanation:
        """Latents of several draws of noise ``[K, B, Z]``, or given ones.

        Returns:
            The explanation, whose arrays are ``[K, B, ...]``.
        """
        given = noise if latents is None else latents
        assert given is not None
        count, rows = given.shape[:2]

        def repeated(a: Array) -> Array:
            return jnp.tile(a, (count,) + (1,) * (a.ndim - 1))

        def flat(a: Array | None) -> Array | None:
            return None if a is None else a.reshape(count * rows, -1)

        # As rows of one batch, for which convolutions are made, rather than mapped over.
        seen, label = jax.tree.map(repeated, (seen, self._label(batch)))
        found = self.groups.explain(params, seen, label, noise=flat(noise), latents=flat(latents))
        return jax.tree.map(lambda a: a.reshape(count, rows, *a.shape[1:]), found)

    def means(self, params: Params, batch: Batch) -> Array:
        """Latents of each row without noise, ``[B, Z]``: the posterior's means, group by group."""
        noise = jnp.zeros((1, batch["x"].shape[0], self.latent_size))
        return self.explain(params, batch, self.look(params, batch), noise=noise).latents[0]

    def data_nats(self, batch: Batch, found: Explanation) -> Array:
        """Nats of data given the latents, ``[K, B]``."""
        count, rows = found.outputs.shape[:2]
        outputs = found.outputs.reshape(count * rows, *found.outputs.shape[2:])
        x = jnp.tile(batch["x"], (count,) + (1,) * (batch["x"].ndim - 1))
        return self.observation.nats(x, outputs, self.entries).reshape(count, rows)

    def log_posterior(self, found: Explanation) -> Array:
        """Log-density of the latents under the encoder's Gaussians, ``[K, B]``."""
        return _log_normal(found.latents, *found.posterior)

    def noise(self, key: PRNGKeyArray, batch: Batch) -> Array:
        """Standard normal noise of the latents of each row, ``[B, Z]``.

        In evaluation it is that of a row's position, whatever it is batched with.
        """
        if "index" not in batch:
            return jax.random.normal(own_key(key), (batch["x"].shape[0], self.latent_size))
        keys = keys_by_example(key, batch["index"])
        return jax.vmap(lambda k: jax.random.normal(k, (self.latent_size,)))(keys)

    def log_weights(self, batch: Batch, found: Explanation) -> Array:
        """Log of ``p(x, z) / q(z | x)``, ``[K, B]``."""
        z = found.latents
        ratio = _log_normal(z, *found.prior) - _log_normal(z, *found.posterior)
        return ratio - self.data_nats(batch, found)

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean nats of a batch, weighted as the objective says."""
        goal = self.objective
        seen = self.look(params, batch)
        shape = (goal.num_draws, batch["x"].shape[0], self.latent_size)
        noise = jax.random.normal(own_key(key), shape)
        found = self.explain(params, batch, seen, noise=noise)
        kl = jnp.mean(divergence(found), axis=0)
        metrics = {"kl": jnp.mean(jnp.sum(kl, axis=1)), **self._by_group(kl)}
        if goal.bound == "importance":

            def log_weight(z: Array, frozen: bool) -> Array:
                again = self.explain(params, batch, seen, latents=z)
                if frozen:
                    constant = jax.lax.stop_gradient((params, seen))
                    q = self.explain(constant[0], batch, constant[1], latents=z).posterior
                    again = again._replace(posterior=q)
                return self.log_weights(batch, again)

            nats = losses.importance_weighted_loss(
                log_weight, found.latents, gradient=goal.gradient
            )
            return jnp.mean(nats), (metrics, model_state)
        data = jnp.mean(self.data_nats(batch, found))
        metrics |= {"reconstruction": data, "elbo": data + metrics["kl"]}
        if goal.kl == "sampled":
            z = found.latents
            ratio = log_entries(z, *found.posterior) - log_entries(z, *found.prior)
            kl = jnp.mean(ratio, axis=0)
        return data + self.weighted(kl, step), (metrics, model_state)

    def _by_group(self, kl: Array) -> Metrics:
        """Mean divergence of each of several groups, of ``[B, Z]``."""
        sizes = self.groups.sizes
        if len(sizes) == 1:
            return {}
        means = jnp.mean(sum_groups(kl, sizes), axis=0)
        return {f"kl_{number}": means[number - 1] for number in range(1, len(sizes) + 1)}

    def weighted(self, kl: Array, step: Step) -> Array:
        """The divergence ``[B, Z]`` as the loss has it."""
        goal = self.objective
        if goal.capacity is not None:
            reached = _share(step, goal.capacity_steps) * goal.capacity
            return jnp.mean(
                losses.capacity_loss(jnp.sum(kl, axis=1), reached, weight=goal.capacity_weight)
            )
        weight = goal.beta * _share(step, goal.warmup_steps)
        if goal.free_bits:
            each = kl if goal.free_bits_of == "entry" else sum_groups(kl, self.groups.sizes)
            return weight * losses.free_bits_loss(each, goal.free_bits)
        return weight * jnp.mean(jnp.sum(kl, axis=1))

    def draws(
        self, params: Params, batch: Batch, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Array, Array]:
        """Draws of the latents of each row, one after the other.

        Returns:
            Negative log weights, ``[num_draws, B]``, and the divergence of each group given the
            groups before it, ``[num_draws, B, G]``.
        """
        keys = keys_by_example(key, batch["index"])
        seen = self.look(params, batch)

        def one_draw(index: Array) -> tuple[Array, Array]:
            own = fold_each(keys, index)
            noise = jax.vmap(lambda k: jax.random.normal(k, (self.latent_size,)))(own)
            found = self.explain(params, batch, seen, noise=noise[None])
            kl = sum_groups(divergence(found), self.groups.sizes)
            return -self.log_weights(batch, found)[0], kl[0]

        return draws_of(one_draw, num_draws)

    def sample(
        self,
        params: Params,
        key: PRNGKeyArray,
        label: Array | None,
        rows: int,
        temperature: float = 1.0,
    ) -> Array:
        """Parameters of the observation for latents of the prior.

        Args:
            params: Parameters.
            key: Key of the latents.
            label: Class ids ``[B]``, or None.
            rows: Number of samples.
            temperature: What standard deviations of all priors are multiplied by.
        """
        noise = temperature * jax.random.normal(key, (rows, self.latent_size))
        return self.groups.imagine(params, label, noise)


def divergence(found: Explanation) -> Array:
    """Divergence of each entry of the latents from its prior, ``[K, B, Z]``.

    Where there are several groups it is that given the groups before, whose mean over draws of
    these is the divergence.
    """
    shape = found.latents.shape
    rows = [a.reshape(-1, shape[-1]) for a in (*found.posterior, *found.prior)]
    mean, log_std, mean_p, log_p = rows
    of_entry = jax.vmap(losses.gaussian_kl_loss, in_axes=-1, out_axes=-1)
    return of_entry(mean, 2.0 * log_std, mean_p, 2.0 * log_p).reshape(shape)


def _share(step: Step, steps: int) -> Array:
    """How far a rise over so many steps has come, in [0, 1]."""
    return jnp.minimum(step / steps, 1.0) if steps else jnp.ones(())


def log_entries(z: Array, mean: Array, log_std: Array) -> Array:
    """Log-density of each entry of latents under Gaussians, of the same shape."""
    square = jnp.square((z - mean) * jnp.exp(-log_std))
    return -0.5 * (square + math.log(2.0 * math.pi)) - log_std


def _log_normal(z: Array, mean: Array, log_std: Array) -> Array:
    return jnp.sum(log_entries(z, mean, log_std), axis=-1)
