"""The two players of an adversarial family: what they own, minimise and are told."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    PyTree,
    Step,
)


class Turn(NamedTuple):
    """What a loss may know of the game, besides networks and rows.

    Attributes:
        step: Number of training steps taken, int32 ``[]``, for warm-ups of weights.
        opt_state: Optimiser states of both players, by name: an unrolled loss makes steps of the
            opponent's optimiser from there.
    """

    step: Step
    opt_state: Mapping[str, PyTree]


LossFn: TypeAlias = Callable[
    [Params, ModelState, Batch, PyTree, PRNGKeyArray, Turn],
    tuple[Array, tuple[Metrics, ModelState]],
]
"""``(params, model_state, batch, fake, key, turn) -> (loss, (metrics, model_state))``, of all
networks and what was generated. The network state that comes back is kept."""
Generate: TypeAlias = Callable[
    [Params, ModelState, Batch, int, PRNGKeyArray], tuple[PyTree, ModelState]
]
"""``(params, model_state, batch, factor, key) -> (fake, model_state)``: a tree of generated rows,
``factor`` for each of the batch, and the state after a pass of training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Player:
    """One of the two players.

    Attributes:
        networks: Names of the networks it owns: those its optimiser moves.
        loss_fn: What it minimises. The critic's is differentiated with respect to its networks, the
            generator's with respect to its networks and through what they generated.
        optimizer: Optimiser of its networks together, or what makes it
            (:data:`~genjax.families.base.Optimizer`).
        project: Applied to its parameters before each of its steps (weight clipping).
        regularizer_fn: A second loss of its own networks, minimised in a step of its own right
            after every ``regularize_every``-th, on the same rows, times ``regularize_every`` ("lazy
            regularisation"). Generated rows come to it as constants. The optimiser's state is
            shared between both kinds of steps.
        regularize_every: Steps between the steps on ``regularizer_fn``.
        starts_at: Training step before which a critic stands still: its networks, their state and
            its optimiser's. Its metrics are 0 until then.
    """

    networks: tuple[str, ...]
    loss_fn: LossFn
    optimizer: Optimizer
    project: Callable[[Params], Params] | None = None
    regularizer_fn: LossFn | None = None
    regularize_every: int = 1
    starts_at: int = 0
