"""Maps of each entry on its own, with learned parameters."""

from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector, Context, Kept
from genjax.bijectors.coupling import hashable
from genjax.bijectors.elementwise import Elementwise, sum_event


class Marginal(Bijector):
    """Maps each entry of the last axis by parameters of its own, which no other entry changes.

    Starts at raw zeros, which for all maps here but Glow's is the identity.

    Attributes:
        elementwise: The maps of single entries.
        mask: True where an entry is mapped, ``[D]``; None for all entries.

    References:
        On the entries a coupling keeps: Durkan et al., arXiv:1906.04032, released code.
    """

    elementwise: Elementwise
    mask: Sequence[bool] | np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.mask, np.ndarray):
            self.mask = hashable(self.mask)
        super().__post_init__()

    @nn.compact
    def _raw(self, x: Float[Array, "B *place D"]) -> Float[Array, "D P"]:
        shape = (x.shape[-1], self.elementwise.num_params)
        return cast(Array, self.param("raw", nn.initializers.zeros_init(), shape))

    def _map(self, x: Float[Array, "B *event"], *, forward: bool) -> Kept:
        apply = self.elementwise.towards(forward=forward)
        raw = self._raw(x)
        y, log_slope = apply(x, jnp.broadcast_to(raw, (*x.shape, raw.shape[-1])))
        if self.mask is not None:
            mapped = np.asarray(self.mask, bool)
            if mapped.shape != x.shape[-1:]:
                raise ValueError(f"the mask is for {mapped.size} entries, got shape {x.shape}")
            # All entries are mapped and those that are not to be are put back.
            y, log_slope = jnp.where(mapped, y, x), jnp.where(mapped, log_slope, 0.0)
        return y, sum_event(log_slope)

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps all entries."""
        return self._map(x, forward=True)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes :meth:`forward_and_log_det`."""
        return self._map(y, forward=False)
