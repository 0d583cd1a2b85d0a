"""Families of binary data that is made of grey levels."""

import dataclasses
import math
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.families.base import Batch, Density, Family
from genjax.families.draws import keys_by_example
from genjax.families.levels import as_levels
from genjax.families.views import Kept, viewed

Method: TypeAlias = Literal["dynamic", "static", "threshold"]

_TAG = 0xB1
"""Tells the draws of bits from all others of a step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binarization:
    """Bits in place of grey levels: see :func:`binarized`.

    Attributes:
        num_levels: Number of grey levels of the data.
        event_shape: Shape of one example.
        method: How bits are made.
        name: Where in the state it would keep something.
    """

    num_levels: int
    event_shape: tuple[int, ...]
    method: Method = "dynamic"
    name: str = "binarization"
    shrinks = 1.0
    entrywise = True
    differentiable = False
    scores_in_training = True

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"binarize must be one of {get_args(Method)}, got {self.method!r}")
        if self.num_levels < 2:
            raise ValueError(f"num_levels must be at least 2, got {self.num_levels}")

    @property
    def protocol(self) -> dict[str, str]:
        """What protocols say of the data."""
        said = {
            "dynamic": "binarized anew in each step, of each test example once",
            "static": "binarized once (an own draw, not Larochelle's files)",
            "threshold": "binarized at half of the range",
        }
        return {"data": said[self.method]}

    def kept(self) -> Kept:
        """Nothing."""
        return {}

    def encode(self, kept: Kept, batch: Batch, key: PRNGKeyArray | None) -> Batch:
        """The batch, its ``x`` in bits."""
        x = batch["x"]
        if self.method == "threshold" or key is None:
            return {**batch, "x": self.encode_rows(kept, x)}
        lead = x.shape[: x.ndim - len(self.event_shape)]
        if self.method == "static":
            u = self._of_content(x.reshape(-1, *self.event_shape)).reshape(x.shape)
        elif "index" in batch:
            keys = keys_by_example(jax.random.fold_in(key, _TAG), batch["index"])
            u = jax.vmap(lambda k: jax.random.uniform(k, self.event_shape))(keys)
        else:
            u = jax.random.uniform(own_key(jax.random.fold_in(key, _TAG)), x.shape)
        assert u.shape == (*lead, *self.event_shape)
        # A level is the probability of a 1: the lowest never is one, the highest always.
        bits = u * (self.num_levels - 1) < x.astype(jnp.float32)
        return {**batch, "x": bits.astype(jnp.uint8)}

    def encode_rows(self, kept: Kept, x: Array) -> Array:
        """Whether levels are in the upper half of the range."""
        del kept
        return (2 * x.astype(jnp.int32) > self.num_levels - 1).astype(jnp.uint8)

    def decode_rows(self, kept: Kept, x: Array) -> Array:
        """The lowest and the highest level."""
        del kept
        return as_levels(x.astype(jnp.int32) * (self.num_levels - 1), self.num_levels)

    def decode_density(self, kept: Kept, density: Density) -> Density:
        """Bits have no density."""
        del kept
        return density

    def log_volume(self, kept: Kept, batch: Batch, seen: Batch) -> float:
        """Bits have probabilities."""
        del kept, batch, seen
        return 0.0

    def _of_content(self, x: Array) -> Array:
        """Uniform numbers of each row ``[B, *event]`` that are a function of the row alone."""
        # A linear hash modulo 2^32 with fixed odd weights.
        size = math.prod(self.event_shape)
        weights = np.random.default_rng(0).integers(0, 2**31, size, np.uint32) * 2 + 1
        flat = x.reshape(x.shape[0], size).astype(jnp.uint32)
        digest = jnp.sum(flat * jnp.asarray(weights, jnp.uint32), axis=1, dtype=jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), digest)
        return jax.vmap(lambda k: jax.random.uniform(k, self.event_shape))(keys)


def binarized(
    family: Family, num_levels: int, event_shape: tuple[int, ...], method: Method = "dynamic"
) -> Family:
    """A family of binary data, which sees bits that are drawn of grey levels.

    A grey level is the probability of a 1. What the family makes comes back as the lowest and the
    highest level, so that pictures and measures of samples are those of the data.

    Args:
        family: The family, of two levels.
        num_levels: Number of grey levels of the data.
        event_shape: Shape of one example.
        method: ``"dynamic"``: drawn anew in each step of training, and once for each test example
            of a pass, by its position; ``"static"``: one draw for each example, a function of its
            content, the same in all runs; ``"threshold"``: whether it is in the upper half.

    Returns:
        The family.

    Raises:
        ValueError: If the method is unknown.

    References:
        Salakhutdinov and Murray, On the Quantitative Analysis of Deep Belief Networks, 2008, for
        the draws; Burda et al., arXiv:1509.00519, section 5, for drawing anew.
    """
    view = Binarization(num_levels=num_levels, event_shape=event_shape, method=method)
    return viewed(family, view)
