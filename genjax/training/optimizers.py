"""Optimisers, all from optax, put together the way papers in this field use them."""

from typing import Any

import jax
import optax


def decay_mask(params: Any) -> Any:
    """True for what weight decay applies to: kernels and embeddings.

    Biases, the scales of normalisation layers and the parameters of noise schedules are spared.
    """
    decayed = {"kernel", "embedding"}
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) in decayed, params
    )


def adamw(
    *,
    learning_rate: float = 2e-4,
    warmup_steps: int = 100,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdamW with a linear warm-up to a constant learning rate.

    Args:
        learning_rate: Learning rate after the warm-up.
        warmup_steps: Steps over which it rises linearly from 0.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled decay of kernels and embeddings (see :func:`decay_mask`).
        clip_norm: Largest global norm of the gradient, or None not to clip.

    Returns:
        The optimiser.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Loshchilov and Hutter, arXiv:1711.05101; the defaults are those of google-research/vdm.
    """
    for name, value in [("learning_rate", learning_rate), ("clip_norm", clip_norm), ("eps", eps)]:
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    for name, value in [("warmup_steps", warmup_steps), ("weight_decay", weight_decay)]:
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    for name, value in [("b1", b1), ("b2", b2)]:
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
    schedule = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    optimizer = optax.adamw(
        schedule if warmup_steps else learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        mask=decay_mask,
    )
    if clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
