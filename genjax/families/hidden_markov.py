"""Hidden Markov models of sequences, fitted by Baum and Welch's expectation maximisation."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from genjax.families.base import Batch, Family, Metrics, PyTree, Samples, TrainState
from genjax.families.components import Component, Parameters, Sums, log_shares
from genjax.families.expectation_maximization import expectation_maximization
from genjax.families.levels import as_levels
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.markov_chain import backward, best_path, draw_path, forward
from genjax.families.observations import Entries
from genjax.families.seeding import clusters
from genjax.losses.arrays import whole_levels

_SOFTENED = 0.1
"""Share of each place that begins spread over all states: clusters alone never overlap."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenMarkov:
    """A chain of hidden states as functions of parameters and sequences.

    Attributes:
        component: The distribution of a place in each state.
        event_shape: Shape of a sequence, time first.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_states: Number of states.
    """

    component: Component
    event_shape: tuple[int, ...]
    num_levels: int | None
    num_states: int

    @property
    def entries(self) -> Entries:
        """What is observed at a time."""
        return Entries(math.prod(self.event_shape[1:]), self.num_levels)

    def places(self, x: Array) -> Float[Array, "R D"]:
        """Sequences as rows of numbers, one a time, ``[N * T, D]``."""
        if self.num_levels is not None:
            x = whole_levels(x, self.num_levels)
        return x.reshape(-1, self.entries.channels).astype(jnp.float32)

    def init(self, key: PRNGKeyArray, x: Array) -> Parameters:
        """Parameters of clusters of the places of some sequences, followed through time."""
        places, count = self.places(x), self.num_states
        found = clusters(key, places, jnp.ones(places.shape[0]), count)
        shares = (1.0 - _SOFTENED) * found + _SOFTENED / count
        emission = self.component.start(places, count, self.entries)
        for _ in range(2):  # the second time about the means that were found
            sums = self.component.sums(emission, places, shares, self.entries)
            weight = jnp.sum(shares, axis=0)
            emission = self.component.estimate(emission, weight, sums, self.entries)
        shares = shares.reshape(x.shape[0], -1, count)
        pairs = jnp.einsum("nti,ntj->ij", shares[:, :-1], shares[:, 1:])
        return {
            "log_initial": log_shares(jnp.sum(shares[:, 0], axis=0)),
            "log_transition": log_shares(pairs + 1.0, axis=1),
            **emission,
        }

    def emitted(
        self, parameters: Parameters, x: Array, known: Array | None = None
    ) -> Float[Array, "T N K"]:
        """Log-probability of what is observed at each time, in each state; of what is known."""
        if known is None:
            found = self.component.log_prob(parameters, self.places(x), self.entries)
        else:
            mask, places = known.reshape(-1, self.entries.channels), self.places(x)
            found = self.component.log_prob_known(parameters, places, mask, self.entries)
        return jnp.moveaxis(found.reshape(x.shape[0], -1, self.num_states), 0, 1)

    def log_prob(self, parameters: Parameters, x: Array) -> Float[Array, " N"]:
        """Log-probability of sequences, all paths of states summed."""
        return jax.nn.logsumexp(forward(parameters, self.emitted(parameters, x))[-1], axis=1)

    def expectation(self, parameters: Parameters, x: Array) -> tuple[Array, Sums]:
        """Mean nats of sequences, and sums by what explains each place."""
        emitted = self.emitted(parameters, x)
        filtered = forward(parameters, emitted)
        states, pairs = backward(parameters, emitted, filtered)
        shares = jnp.moveaxis(states, 0, 1).reshape(-1, self.num_states)
        sums = self.component.sums(parameters, self.places(x), shares, self.entries)
        own = {
            "weight": jnp.sum(shares, axis=0),
            "initial": jnp.sum(states[0], axis=0),
            "pairs": pairs,
        }
        return -jnp.mean(jax.nn.logsumexp(filtered[-1], axis=1)), {**own, **sums}

    def maximization(self, parameters: Parameters, sums: Sums) -> Parameters:
        """The parameters that are most likely given the states' probabilities."""
        return {
            "log_initial": log_shares(sums["initial"]),
            "log_transition": log_shares(sums["pairs"], axis=1),
            **self.component.estimate(parameters, sums["weight"], sums, self.entries),
        }

    def posterior(self, parameters: Parameters, x: Array) -> Float[Array, "N T K"]:
        """Probability of each state at each time, given the whole sequence."""
        emitted = self.emitted(parameters, x)
        states, _ = backward(parameters, emitted, forward(parameters, emitted))
        return jnp.moveaxis(states, 0, 1)

    def draw(self, key: PRNGKeyArray, parameters: Parameters, count: int) -> Array:
        """Sequences, ``[N, T, ...]``."""
        of_states, of_data = jax.random.split(key)
        keys = jax.random.split(of_states, self.event_shape[0])

        def step(state: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
            state = jax.random.categorical(key, parameters["log_transition"][state])
            return state, state

        first = jax.random.categorical(keys[0], parameters["log_initial"], shape=(count,))
        _, later = jax.lax.scan(step, first, keys[1:])
        states = jnp.concatenate([first[None], later]).T
        x = self.component.draw(of_data, parameters, states.reshape(-1), self.entries)
        x = x.reshape(count, *self.event_shape)
        return x if self.num_levels is None else as_levels(jnp.round(x), self.num_levels)

    def fill(
        self, key: PRNGKeyArray, parameters: Parameters, x: Array, known: Bool[Array, "N *event"]
    ) -> Array:
        """Sequences whose missing entries are drawn given the known ones."""
        of_states, of_data = jax.random.split(key)
        # What is not known need not be a level, nor a number.
        x = jnp.where(known, x, jnp.zeros_like(x))
        filtered = forward(parameters, self.emitted(parameters, x, known))
        states = draw_path(of_states, parameters, filtered).reshape(-1)
        places, mask = self.places(x), known.reshape(-1, self.entries.channels)
        filled = self.component.fill(of_data, parameters, states, places, mask, self.entries)
        filled = filled.reshape(x.shape)
        if self.num_levels is not None:
            filled = as_levels(jnp.round(filled), self.num_levels)
        return jnp.where(known, x, filled)


def hidden_markov(
    *,
    component: Component,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    num_states: int = 8,
    accumulate_steps: int = 1,
) -> Family:
    """Hidden Markov model of sequences.

    The first axis of an example is time: a sequence of numbers or symbols ``[T]``, of vectors
    ``[T, D]``, or the rows of an image. A chain of hidden states goes through time, each place is
    drawn of its state, and both are fitted by expectation maximisation from clusters of the places
    of the first batch.

    Args:
        component: The distribution of a place in each state.
        event_shape: Shape of one example, time first.
        num_levels: Number of grey levels (or symbols) of integer data; None for real-valued data.
        num_states: Number of states.
        accumulate_steps: Steps whose sums are added up before parameters are made of them: EM is
            exact where their batches are the training set.

    Returns:
        The family. ``encode`` gives the most probable ``path`` of states ``[B, T]``, and the
        ``posterior`` of the state at each time, ``[B, T, K]``.

    Raises:
        ValueError: If an argument is out of range, or the component is not of such data.

    References:
        Baum, Petrie, Soules and Weiss, A Maximization Technique Occurring in the Statistical
        Analysis of Probabilistic Functions of Markov Chains, 1970.
    """
    if num_states < 1:
        raise ValueError(f"num_states must be at least 1, got {num_states}")
    component.check(num_levels)
    model = HiddenMarkov(
        component=component, event_shape=event_shape, num_levels=num_levels, num_states=num_states
    )
    init, train_step = expectation_maximization(
        name="chain",
        init_parameters=lambda key, batch: model.init(key, batch["x"]),
        expectation=lambda parameters, batch: model.expectation(parameters, batch["x"]),
        maximization=model.maximization,
        accumulate_steps=accumulate_steps,
    )

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        del key
        return model.log_prob(state.params["chain"], batch["x"])

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        return likelihood_metrics(-log_prob(state, batch, key)[None], math.prod(event_shape))

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        return Samples(rows=model.draw(key, state.params["chain"], batch["x"].shape[0]))

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        del num_steps  # one draw is exact
        return model.fill(key, state.params["chain"], batch["x"], batch["known"])

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        del key
        parameters, x = state.params["chain"], batch["x"]
        return {
            "path": best_path(parameters, model.emitted(parameters, x)),
            "posterior": model.posterior(parameters, x),
        }

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        impute=impute,
        eval_protocol={"density": component.said(num_levels), "parameters": "current"},
        density_metrics=density_metrics(
            math.prod(event_shape), "bits_per_dim", in_nats=("loss", "nats")
        ),
    )
