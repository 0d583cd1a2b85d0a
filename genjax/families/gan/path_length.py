"""How even the steps of a generator are held: path-length regularisation."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.devices import average
from genjax.families.base import ModelState, PyTree

PATH_LENGTH = "path_length"
"""Name of its state among those of the networks."""
_BATCH = "batch_stats"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathLength:
    """Path-length regularisation: steps of latents are held to move samples equally far everywhere.

    Its penalty is the squared distance of a sample's path length to the running mean of all,
    measured on latents of its own. Any generator may be held to it; of one with ``mapping`` and
    ``synthesis`` the length is that of a step of its styles.

    Attributes:
        path_weight: Weight of the penalty: 2 in the paper; 0 for none.
        path_every: Steps of the generator between penalties. Above 1 they are minimised in steps of
            their own, times ``path_every``, and the generator's optimiser is corrected for it
            (:func:`~genjax.training.optimizers.adam`).
        path_decay: How far the running mean moves to the mean of each batch, of which the penalty's
            gradient sees that share.
        path_batch_divisor: The batch size divided by the number of latents it is measured on.

    Raises:
        ValueError: If one of them is out of range.

    References:
        Karras et al., arXiv:1912.04958, section 3.2 and appendix B.
    """

    path_weight: float = 0.0
    path_every: int = 4
    path_decay: float = 0.01
    path_batch_divisor: int = 2

    def __post_init__(self) -> None:
        if self.path_weight < 0:
            raise ValueError(f"path_weight must not be negative, got {self.path_weight}")
        for name in ("path_every", "path_batch_divisor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 < self.path_decay <= 1.0:
            raise ValueError(f"path_decay must be in (0, 1], got {self.path_decay}")

    @property
    def active(self) -> bool:
        """Whether there is a penalty."""
        return self.path_weight > 0

    @property
    def lazy(self) -> bool:
        """Whether it is minimised in steps of its own."""
        return self.active and self.path_every > 1

    def start(self) -> ModelState:
        """The running mean before the first step, as a part of the network state."""
        return {PATH_LENGTH: {"mean": jnp.zeros(())}} if self.active else {}

    def rows(self, batch_size: int) -> int:
        """Number of latents for a batch."""
        return max(1, batch_size // self.path_batch_divisor)

    def check(self, generator_state: PyTree) -> None:
        """Whether a generator can be held to it.

        Args:
            generator_state: What the generator carries besides parameters, or its shapes.

        Raises:
            ValueError: If its rows depend on each other.
        """
        if self.active and _BATCH in generator_state:
            raise ValueError(
                "the generator has batch normalisation, under which path_weight does not see the "
                "step of single rows; take a generator without, such as stylegan2, or set "
                "path_weight to 0"
            )

    def penalty(
        self,
        generator: nn.Module,
        variables: Mapping[str, Any],
        mean: Array,
        latents: Array,
        label: Array | None,
        key: PRNGKeyArray,
    ) -> tuple[Array, Array, Array]:
        """The weighted penalty.

        Args:
            generator: Module ``(latent, label, train=...) -> rows``.
            variables: Its parameters and state.
            mean: Running mean of path lengths, ``[]``.
            latents: Latents, ``[B, Z]``.
            label: Class ids, ``[B]``, or None.
            key: Key of directions, and of the generator's own noise.

        Returns:
            The penalty, the mean path length and the new running mean, each ``[]``.
        """
        key_noise, key_direction = jax.random.split(key)
        generator_fn, where = _last_part(generator, variables, latents, label, key_noise)
        shape = jax.eval_shape(generator_fn, where).shape
        directions = jax.random.normal(key_direction, shape) / math.sqrt(math.prod(shape[1:-1]))
        lengths = losses.path_lengths(generator_fn, where, directions)
        length = average(jnp.mean(lengths))
        mean = mean + self.path_decay * (length - mean)
        value = self.path_weight * jnp.mean(jnp.square(lengths - mean))
        return value, length, jax.lax.stop_gradient(mean)


def _last_part(
    generator: nn.Module,
    variables: Mapping[str, Any],
    latents: Array,
    label: Array | None,
    key: PRNGKeyArray,
) -> tuple[Callable[[Array], Array], Array]:
    """What makes rows, of styles if the generator has them, else of latents; and of which."""
    apply: Callable[..., Any] = functools.partial(generator.apply, variables, rngs={"noise": key})
    if not hasattr(generator, "synthesis"):
        return lambda z: apply(z, label, train=True), latents
    styles = apply(latents, label, train=True, method="mapping")
    return lambda w: apply(w, method="synthesis"), styles
