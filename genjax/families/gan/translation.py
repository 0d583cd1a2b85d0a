"""What families that translate rows share: both sides' units, networks, errors of translations."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Metrics, PyTree, apply_in_training
from genjax.families.gan.judgement import loss_by_name
from genjax.families.levels import Ends, Reals, Units
from genjax.losses import AdversarialLoss


@dataclasses.dataclass(frozen=True)
class Side:
    """What is on one side of a translation.

    Attributes:
        shape: Shape of one example.
        num_levels: Number of grey levels; None for real numbers.
    """

    shape: tuple[int, ...]
    num_levels: int | None

    @classmethod
    def of(cls, feature: Any) -> "Side":
        """The side that a feature of the data stands on."""
        return cls(tuple(feature.shape), feature.num_levels)

    @property
    def units(self) -> Units:
        """Data to the units of the networks, [-1, 1] for grey levels, and back."""
        return Reals() if self.num_levels is None else Ends(self.num_levels)

    def example(self, rows: int = 1) -> Array:
        """Zeros of the shape of so many examples, in the units of the networks."""
        return jnp.zeros((rows, *self.shape))

    def errors(self, made: Array, truth: Array) -> Metrics:
        """How far translations are from what they should be.

        Args:
            made: Translations in the units of the networks, ``[B, *shape]``.
            truth: Rows of the data, ``[B, *shape]``.

        Returns:
            ``l1``, the mean absolute error of each row, and ``mse``, the mean squared one, ``[B]``,
            as shares of the range of grey levels after rounding to whole ones, or in the units of
            real numbers; of grey levels ``psnr``, the peak signal-to-noise ratio in decibels, of
            all channels together and without a border; 100 where an image is met exactly.
        """
        made = self.units.decode(made)
        range_of = 1.0 if self.num_levels is None else self.num_levels - 1.0
        difference = (made.astype(jnp.float32) - truth.astype(jnp.float32)) / range_of
        axes = tuple(range(1, difference.ndim))
        mse = jnp.mean(jnp.square(difference), axes)
        found = {"l1": jnp.mean(jnp.abs(difference), axes), "mse": mse}
        if self.num_levels is not None:
            # An image met exactly has no ratio. The floor is below one level at one pixel.
            found["psnr"] = -10.0 * jnp.log10(jnp.maximum(mse, 1e-10))
        return found


def loss_of_outputs(loss: AdversarialLoss | str) -> AdversarialLoss:
    """An adversarial loss of single outputs.

    Args:
        loss: Its name, or losses of both players.

    Returns:
        Losses of both players.

    Raises:
        ValueError: If there is none of this name, or it compares features of whole batches.
    """
    loss = loss_by_name(loss)
    if loss.witness is not None:
        raise ValueError("loss: translations need a loss of single outputs, not of features")
    return loss


def check_weights(**weights: float) -> None:
    """Refuses weights of losses that are negative, and all that are zero together.

    Raises:
        ValueError: If there are such.
    """
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} must not be negative, got {weight}")
    if not any(weights.values()):
        raise ValueError(f"one of {', '.join(weights)} must be positive: nothing is trained")


def check_translator(net: nn.Module, source: Side, target: Side, name: str) -> None:
    """Whether a network makes rows of one side of rows of the other, found on shapes alone.

    Args:
        net: The network.
        source: What it is given.
        target: What it should make.
        name: What it is called in messages.

    Raises:
        ValueError: If it does not.
    """
    made, _ = jax.eval_shape(
        lambda key: net.init_with_output(key, source.example(2)), jax.random.key(0)
    )
    if made.shape != (2, *target.shape):
        raise ValueError(
            f"the {name} must make rows of shape {target.shape} of rows of shape {source.shape}, "
            f"but it makes {made.shape[1:]}"
        )


def translated_in_training(
    net: nn.Module, params: PyTree, state: PyTree, source: Array, key: PRNGKeyArray
) -> tuple[Array, PyTree]:
    """Applies a translator in training.

    Args:
        net: The network, ``(source, train=...) -> rows``.
        params: Its parameters.
        state: Its other collections.
        source: Rows in the units of the networks, ``[B, ...]``.
        key: Key of its dropout.

    Returns:
        Its translations, ``[B, ...]``, and its collections after the pass.
    """
    return apply_in_training(net, params, state, source, rngs={"dropout": key})


def translated_one_by_one(
    net: nn.Module, params: PyTree, state: PyTree, source: Array, keys: Array
) -> Array:
    """Applies a translator as in training to each row by itself, as a batch of one.

    Dropout is on, and statistics of a batch are those of the row: what comes of a row depends on
    no other.

    Args:
        net: The network.
        params: Its parameters.
        state: Its other collections, which stay as they are.
        source: Rows in the units of the networks, ``[B, ...]``.
        keys: A key of the dropout of each row, ``[B]``.

    Returns:
        Its translations, ``[B, ...]``.
    """

    def one(row: Array, key: PRNGKeyArray) -> Array:
        return translated_in_training(net, params, state, row[None], key)[0][0]

    return cast(Array, jax.vmap(one)(source, keys))


def feature_of(spec: Mapping[str, Any], name: str, hint: str) -> Any:
    """A feature of the data that a translation needs.

    Raises:
        ValueError: If the data has none of this name.
    """
    if name not in spec:
        raise ValueError(
            f"translations start from {name}, which the data has not ({', '.join(spec)}): {hint}"
        )
    return spec[name]
