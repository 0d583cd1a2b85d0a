"""What games share about a critic's outputs: losses by name, and what is logged of them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses import ADVERSARIAL_LOSSES, AdversarialLoss


def loss_by_name(loss: AdversarialLoss | str) -> AdversarialLoss:
    """An adversarial loss, from its name in :data:`~genjax.losses.ADVERSARIAL_LOSSES`.

    Args:
        loss: The name, or losses of both players.

    Returns:
        Losses of both players.

    Raises:
        ValueError: If there is none of this name.
    """
    if not isinstance(loss, str):
        return loss
    if loss not in ADVERSARIAL_LOSSES:
        raise ValueError(f"loss must be one of {sorted(ADVERSARIAL_LOSSES)}, got {loss!r}")
    return ADVERSARIAL_LOSSES[loss]


def critic_metrics(
    loss: AdversarialLoss, real_outputs: Array, fake_outputs: Array
) -> dict[str, Array]:
    """What is logged of a critic.

    Args:
        loss: Losses of both players.
        real_outputs: The critic's outputs on data, ``[B, ...]``.
        fake_outputs: Its outputs on as many generated rows.

    Returns:
        The means of both, and the share that it gets right where the loss has a threshold, ``[]``.
    """
    metrics = {"real_output": jnp.mean(real_outputs), "fake_output": jnp.mean(fake_outputs)}
    if loss.correct is not None:
        metrics["critic_accuracy"] = jnp.mean(loss.correct(real_outputs, fake_outputs))
    return metrics


def diversity(fake: Array, real: Array) -> Float[Array, ""]:
    """Mean squared distance between neighbouring generated rows, as a share of the data's own.

    It is near zero where the generator has collapsed.
    """

    def spread(x: Array) -> Array:
        return jnp.mean(jnp.square(x - jnp.roll(x, 1, axis=0)))

    return spread(fake) / jnp.maximum(spread(real), 1e-12)
