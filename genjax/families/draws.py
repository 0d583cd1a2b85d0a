"""Random draws that do not depend on how rows are batched or spread."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from genjax.devices import spread_rows


def keys_by_example(key: PRNGKeyArray, index: Int[Array, " B"]) -> Key[Array, " B"]:
    """A key for each example, from its position in the data set.

    What is drawn for an example is then the same in batches of any size, and different checkpoints
    are compared under the same noise.

    Args:
        key: Key of a pass over a split.
        index: Positions in the split, ``[B]``.

    Returns:
        Keys, ``[B]``.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def fold_each(keys: Key[Array, " B"], number: int | Array) -> Key[Array, " B"]:
    """Folds one number into each of some keys, ``[B] -> [B]``."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def check_label_dropout(share: float, *, conditional: bool) -> None:
    """Refuses shares of labels that cannot be left out.

    Args:
        share: Probability with which a row's label is left out.
        conditional: Whether the model takes labels.

    Raises:
        ValueError: If the share is not in [0, 1), or there are no labels.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"label_dropout must be in [0, 1), got {share}")
    if share and not conditional:
        raise ValueError(
            f"label_dropout is {share}, but the network takes no labels: set model.num_classes"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latent:
    """What generators start from.

    Attributes:
        latent_size: Length of the latent vector.
        latent: Its distribution: standard normal, or uniform on [-1, 1).
    """

    latent_size: int = 128
    latent: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, got {self.latent_size}")
        if self.latent not in ("normal", "uniform"):
            raise ValueError(f"latent must be 'normal' or 'uniform', got {self.latent!r}")

    def draw(self, key: PRNGKeyArray, count: int) -> Float[Array, "N size"]:
        """``count`` latents, spread over the mesh."""
        shape = (count, self.latent_size)
        if self.latent == "normal":
            return spread_rows(jax.random.normal(key, shape))
        return spread_rows(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))

    def within(self, numbers: Float[Array, "N size"]) -> Float[Array, "N size"]:
        r"""Any numbers brought smoothly to where the prior is, as an encoder's must be.

        For the uniform prior it is :math:`2\sigma(v) - 1`; a critic of latents would know numbers
        beyond it at once.

        References:
            Donahue et al., arXiv:1605.09782, by the published code: github.com/jeffdonahue/bigan,
            dist.py.
        """
        return numbers if self.latent == "normal" else jnp.tanh(0.5 * numbers)

    def clip(self, latents: Float[Array, "N size"]) -> Float[Array, "N size"]:
        """The nearest latents that may be drawn."""
        return latents if self.latent == "normal" else jnp.clip(latents, -1.0, 1.0)
