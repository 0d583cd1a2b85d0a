"""What the backward pass computes again instead of keeping it."""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax

Remat: TypeAlias = Literal["none", "dots", "full"]
"""Nothing, all but the results of matrix products and convolutions, or all."""


def with_remat(target: Any, remat: Remat, **options: Any) -> Any:
    """A module class or a function of modules under :func:`flax.linen.remat`.

    Args:
        target: The module class or function that the backward pass computes again.
        remat: How much of it is computed again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"``.
        options: Options of :func:`flax.linen.remat`. Inside a scan ``prevent_cse`` may be False:
            the loop itself keeps XLA from merging the two computations.

    Returns:
        The target itself if nothing is.

    Raises:
        ValueError: If ``remat`` is none of these.
    """
    if remat not in ("none", "dots", "full"):
        raise ValueError(f"remat must be none, dots or full, got {remat!r}")
    if remat == "none":
        return target
    policy = jax.checkpoint_policies.dots_saveable if remat == "dots" else None
    return nn.remat(target, policy=policy, **options)
