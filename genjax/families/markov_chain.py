"""Recursions over a chain of hidden states: what is observed at each time decides between paths.

They are in logarithms, so that no state's probability is rounded to 0 before later places have
spoken for it. ``parameters`` has ``log_initial`` ``[K]`` and ``log_transition`` ``[K, K]``, and
``emitted`` the log-probability of what is observed at each time in each state.

References:
    Rabiner, A Tutorial on Hidden Markov Models, Proceedings of the IEEE 77, 1989.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax.families.components import Parameters


def forward(parameters: Parameters, emitted: Float[Array, "T N K"]) -> Float[Array, "T N K"]:
    """Log-probability of each state together with all that was observed up to its time."""

    def step(before: Array, here: Array) -> tuple[Array, Array]:
        joint = before[:, :, None] + parameters["log_transition"]
        now = jax.nn.logsumexp(joint, axis=1) + here
        return now, now

    first = parameters["log_initial"] + emitted[0]
    _, later = jax.lax.scan(step, first, emitted[1:])
    return jnp.concatenate([first[None], later])


def backward(
    parameters: Parameters,
    emitted: Float[Array, "T N K"],
    forward: Float[Array, "T N K"],
) -> tuple[Float[Array, "T N K"], Float[Array, "K K"]]:
    """Probability of each state given the sequence, and the expected number of transitions."""
    evidence = jax.nn.logsumexp(forward[-1], axis=1)

    def step(made: tuple[Array, Array], part: tuple[Array, Array]) -> tuple[tuple, Array]:
        after, pairs = made
        here, following = part
        ahead = parameters["log_transition"] + (following + after)[:, None, :]
        joint = jnp.exp(here[:, :, None] + ahead - evidence[:, None, None])
        before = jax.nn.logsumexp(ahead, axis=2)
        return (before, pairs + jnp.sum(joint, axis=0)), before

    last = jnp.zeros_like(forward[-1])
    start = last, jnp.zeros_like(parameters["log_transition"])
    (_, pairs), earlier = jax.lax.scan(step, start, (forward[:-1], emitted[1:]), reverse=True)
    backward = jnp.concatenate([earlier, last[None]])
    return jax.nn.softmax(forward + backward, axis=-1), pairs


def best_path(parameters: Parameters, emitted: Float[Array, "T N K"]) -> Int[Array, "N T"]:
    """The most probable path of states of each sequence (Viterbi, 1967)."""

    def step(before: Array, here: Array) -> tuple[Array, Array]:
        joint = before[:, :, None] + parameters["log_transition"]
        return jnp.max(joint, axis=1) + here, jnp.argmax(joint, axis=1)

    def trace(state: Array, origin: Array) -> tuple[Array, Array]:
        earlier = jnp.take_along_axis(origin, state[:, None], axis=1)[:, 0]
        return earlier, earlier

    last, origins = jax.lax.scan(step, parameters["log_initial"] + emitted[0], emitted[1:])
    end = jnp.argmax(last, axis=1)
    _, earlier = jax.lax.scan(trace, end, origins, reverse=True)
    return jnp.concatenate([earlier, end[None]]).T


def draw_path(
    key: PRNGKeyArray, parameters: Parameters, forward: Float[Array, "T N K"]
) -> Int[Array, "N T"]:
    """A path of states of each sequence, drawn given all that was observed.

    Args:
        key: Random key.
        parameters: The chain.
        forward: What :func:`forward` gives.

    Returns:
        States, drawn from the last to the first.

    References:
        Scott, Bayesian Methods for Hidden Markov Models, JASA 97, 2002, section 2.3 (forward
        filtering, backward sampling).
    """
    of_last, of_others = jax.random.split(key)
    last = jax.random.categorical(of_last, forward[-1])

    def step(after: Array, part: tuple[Array, PRNGKeyArray]) -> tuple[Array, Array]:
        here, key = part
        logits = here + parameters["log_transition"][:, after].T
        state = jax.random.categorical(key, logits)
        return state, state

    keys = jax.random.split(of_others, forward.shape[0] - 1)
    _, earlier = jax.lax.scan(step, last, (forward[:-1], keys), reverse=True)
    return jnp.concatenate([earlier, last[None]]).T
