"""The training step of families that are fitted in closed form from sums over rows."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import average, total
from genjax.families.base import Batch, Metrics, PyTree, TrainState

Expectation: TypeAlias = Callable[[PyTree, Batch], tuple[Array, PyTree]]
"""From parameters and a batch to the mean loss ``[]`` and sums over its rows."""
Maximization: TypeAlias = Callable[[PyTree, PyTree], PyTree]
"""From the parameters that sums were taken at, and the sums, to better parameters."""


def expectation_maximization(
    *,
    name: str,
    init_parameters: Callable[[PRNGKeyArray, Batch], PyTree],
    expectation: Expectation,
    maximization: Maximization,
    accumulate_steps: int = 1,
) -> tuple[
    Callable[[PRNGKeyArray, Batch], TrainState],
    Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
]:
    """Builds ``init`` and ``train_step`` of a :class:`~genjax.families.base.Family`.

    Each step adds the sums of its batch; every so many steps parameters are made of them, and they
    begin at 0 again. Where the batches of these steps are the training set, that is exact
    expectation maximisation, and the likelihood never falls. There is no optimiser and no moving
    average.

    Args:
        name: What parameters and sums are kept under in the state.
        init_parameters: Makes the parameters from the first batch.
        expectation: The loss, and what parameters are made of: sums over rows.
        maximization: Makes parameters.
        accumulate_steps: Steps whose sums are added up before parameters are made of them.

    Returns:
        ``init`` and ``train_step``. The metric is ``loss``, at the parameters before the step.

    Raises:
        ValueError: If ``accumulate_steps`` is not positive.

    References:
        Dempster, Laird and Rubin, Maximum Likelihood from Incomplete Data via the EM Algorithm,
        Journal of the Royal Statistical Society B 39, 1977.
    """
    if accumulate_steps < 1:
        raise ValueError(f"accumulate_steps must be at least 1, got {accumulate_steps}")

    def init(key: PRNGKeyArray, batch: Batch) -> TrainState:
        parameters = init_parameters(key, batch)
        _, shapes = jax.eval_shape(expectation, parameters, batch)
        sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params={name: parameters},
            opt_state={},
            model_state={name: {"sums": sums}},
            ema={},
        )

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        del key
        parameters = state.params[name]
        loss, added = expectation(parameters, batch)
        sums = jax.tree.map(jnp.add, state.model_state[name]["sums"], total(added))
        step = state.step + 1
        due = step % accumulate_steps == 0
        parameters = jax.lax.cond(
            due, maximization, lambda parameters, _: parameters, parameters, sums
        )
        kept = jax.tree.map(lambda leaf: jnp.where(due, 0.0, leaf), sums)
        state = state.replace(
            step=step, params={name: parameters}, model_state={name: {"sums": kept}}
        )
        return state, {"loss": average(loss)}

    return init, train_step
