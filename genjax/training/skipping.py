"""Updates that are skipped: of gradients that are not finite, or far too large."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array

SKIPPED = "skipped_updates"
"""Metric of a training step: number of updates that it skipped."""


class _Checked(NamedTuple):
    """Gradients, and a number that is not finite where they are to be skipped."""

    gradients: Any
    norm: Array


class SkipState(NamedTuple):
    """State of an optimiser that skips updates.

    Attributes:
        guarded: That of :func:`optax.apply_if_finite`, with the optimiser's in it.
        num_skipped: Number of updates skipped so far, int32 ``[]``.
    """

    guarded: optax.ApplyIfFiniteState
    num_skipped: Array


def skip_updates(
    optimizer: optax.GradientTransformation, skip_norm: float, max_skips: int
) -> optax.GradientTransformation:
    """An optimiser that leaves out updates of large gradients, and of those that are not finite.

    Parameters and the state of the optimiser stay as they were. A run of skips ends: a threshold
    that all gradients exceed would otherwise stop training without a word.

    Args:
        optimizer: The optimiser.
        skip_norm: Global norm of the gradient above which its update is skipped.
        max_skips: Updates in a row that are skipped at most; the next one is made, whatever its
            gradient.

    Returns:
        The optimiser, whose state is a :class:`SkipState`.

    Raises:
        ValueError: If an argument is not positive.

    References:
        Child, Very Deep VAEs, arXiv:2011.10650, section 4 and its published code.
    """
    if not skip_norm > 0:
        raise ValueError(f"skip_norm must be positive, got {skip_norm}")
    if max_skips < 1:
        raise ValueError(f"max_skips must be at least 1, got {max_skips}")

    def inner(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        made, state = optimizer.update(updates.gradients, state, params)
        return _Checked(made, jnp.zeros_like(updates.norm)), state

    guarded = optax.apply_if_finite(
        optax.GradientTransformation(optimizer.init, inner), max_consecutive_errors=max_skips
    )

    def init(params: Any) -> SkipState:
        return SkipState(guarded.init(params), jnp.zeros((), jnp.int32))

    def update(updates: Any, state: SkipState, params: Any = None) -> tuple[Any, SkipState]:
        norm = optax.global_norm(updates)
        checked = _Checked(updates, jnp.where(norm <= skip_norm, norm, jnp.inf))
        made, new = guarded.update(checked, state.guarded, params)
        # After so many in a row it was made all the same.
        skipped = ~new.last_finite & (new.notfinite_count <= max_skips)
        return made.gradients, SkipState(new, state.num_skipped + skipped)

    return optax.GradientTransformation(init, update)


def count_skips(opt_state: Any) -> Array | None:
    """Number of updates that were skipped, of all optimisers in a state.

    Args:
        opt_state: Optimiser states, in any tree.

    Returns:
        The number, int32 ``[]``; None if none of them skips.
    """
    found = optax.tree_utils.tree_get_all_with_path(opt_state, "num_skipped")
    if not found:
        return None
    return sum((count for _, count in found), jnp.zeros((), jnp.int32))
