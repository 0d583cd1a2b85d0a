"""Coupling layers: one part of the event is mapped by parameters computed from the other."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from genjax.bijectors.base import Bijector, Context, Kept
from genjax.bijectors.elementwise import Elementwise, sum_event

Conditioner = Callable[[int], nn.Module]
"""Number of outputs to a module ``(kept, context) -> [..., outputs]``."""


def half_mask(size: int, *, first: bool = True) -> Bool[np.ndarray, " D"]:
    """Keeps the first or the last half of the entries of the last axis.

    Args:
        size: Length of the axis, at least 2.
        first: Whether the first half is kept.

    Returns:
        True where an entry is kept, ``[size]``.

    Raises:
        ValueError: If there is nothing to split.

    Example:
        >>> half_mask(3).tolist()
        [True, False, False]
    """
    if size < 2:
        raise ValueError(f"expected at least two entries to split, got {size}")
    keep = np.arange(size) < size // 2
    return keep if first else ~keep


def alternating_mask(size: int, *, even: bool = True) -> Bool[np.ndarray, " D"]:
    """Keeps every second entry of the last axis.

    Args:
        size: Length of the axis, at least 2.
        even: Whether entries 0, 2, ... are kept.

    Returns:
        True where an entry is kept, ``[size]``.

    Raises:
        ValueError: If there is nothing to split.

    Example:
        >>> alternating_mask(3).tolist()
        [True, False, True]
    """
    if size < 2:
        raise ValueError(f"expected at least two entries to split, got {size}")
    return (np.arange(size) % 2 == 0) == even


def checkerboard_mask(height: int, width: int, *, even: bool = True) -> Bool[np.ndarray, "H W 1"]:
    """Keeps the squares of one colour, in all channels.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        even: Whether the colour of the first pixel is kept.

    Returns:
        True where a pixel is kept, ``[height, width, 1]``.

    Example:
        >>> checkerboard_mask(2, 2)[..., 0].tolist()
        [[True, False], [False, True]]
    """
    rows, columns = np.mgrid[:height, :width]
    return (((rows + columns) % 2 == 0) == even)[..., None]


class Coupling(Bijector):
    """Maps the entries that a mask does not keep, by parameters computed from those it keeps.

    A mask of one axis splits it: the network sees the kept entries alone. A mask over an image
    keeps its shape: the network sees zeros where entries are mapped, and its parameters there are
    used.

    Attributes:
        mask: True where an entry is kept: ``[D]``, or a shape that broadcasts to the event, such as
            ``[H, W, 1]``. (Kept as nested tuples, as Linen modules are hashable.)
        elementwise: The maps of single entries.
        conditioner: Makes, from a number of outputs, the network that gives the maps' parameters.
            Let its last layer start at zero, so that the coupling starts as the identity.
        axis: What a mask ``[D]`` splits: -1 for the last axis, 1 for tokens ``[B, T, C]`` (of which
            as many must be kept as mapped).

    References:
        Dinh et al., NICE, arXiv:1410.8516; Real NVP, arXiv:1605.08803, section 3.
    """

    mask: Sequence | np.ndarray
    elementwise: Elementwise
    conditioner: Conditioner
    axis: int = -1

    def __post_init__(self) -> None:
        if isinstance(self.mask, np.ndarray):
            self.mask = hashable(self.mask)
        super().__post_init__()

    @nn.compact
    def _raw(
        self, kept: Float[Array, "B ..."], context: Context | None, size: int
    ) -> Float[Array, "B ... P"]:
        """Parameters of the maps, ``[..., size, num_params]``."""
        net = self.conditioner(size * self.elementwise.num_params)
        return self.elementwise.by_entry(net(kept, context))

    def _map(self, x: Float[Array, "B *event"], context: Context | None, *, forward: bool) -> Kept:
        mask = np.asarray(self.mask, bool)
        if mask.all() or not mask.any():
            raise ValueError("a coupling mask must keep some entries and leave some to be mapped")
        apply = self.elementwise.towards(forward=forward)
        if mask.ndim > 1:
            # The network sees zeros where entries are mapped, so that no parameter depends on the
            # entry that it maps: the Jacobian is triangular.
            spread = np.broadcast_to(mask, x.shape[1:])
            raw = self._raw(jnp.where(spread, x, 0.0), context, x.shape[-1])
            y, log_slope = apply(x, raw)
            # Zero where the entry is kept, whatever the parameters there.
            return jnp.where(spread, x, y), sum_event(jnp.where(spread, 0.0, log_slope))
        axis = self.axis % x.ndim
        if mask.shape[0] != x.shape[axis]:
            raise ValueError(
                f"the mask is for {mask.shape[0]} entries of axis {axis}, got shape {x.shape}"
            )
        # Masks are known when the function is traced, and so are the places they keep.
        kept, changed = np.flatnonzero(mask), np.flatnonzero(~mask)
        along_last = axis == x.ndim - 1
        if not along_last and len(kept) != len(changed):
            raise ValueError(
                f"of {mask.size} tokens a coupling must keep half, got a mask that keeps "
                f"{len(kept)}; choose another size of patches or kind of mask"
            )
        still, moved = _pick(x, kept, axis), _pick(x, changed, axis)
        raw = self._raw(still, context, len(changed) if along_last else x.shape[-1])
        y, log_slope = apply(moved, raw)
        return _join(still.astype(y.dtype), y, kept, changed, axis), sum_event(log_slope)

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps the entries that are not kept."""
        return self._map(x, context, forward=True)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Undoes :meth:`forward_and_log_det`, at the same cost."""
        return self._map(y, context, forward=False)


def _stride(places: np.ndarray) -> int | None:
    """The distance between neighbours if it is the same for all, else None."""
    steps = set(np.diff(places).tolist()) or {1}
    return steps.pop() if len(steps) == 1 else None


def _pick(x: Array, places: np.ndarray, axis: int) -> Array:
    """The entries at increasing places of an axis: a slice where they are evenly spaced."""
    stride = _stride(places)
    if stride is None:
        return jnp.take(x, places, axis=axis)
    return jax.lax.slice_in_dim(x, int(places[0]), int(places[-1]) + 1, stride, axis)


def _join(a: Array, b: Array, at: np.ndarray, others: np.ndarray, axis: int) -> Array:
    """Undoes two picks that leave nothing out: no gather where the places are evenly spaced."""
    size = len(at) + len(others)
    stride, other_stride = _stride(at), _stride(others)
    if stride is None or other_stride is None:
        joined = jnp.concatenate([a, b], axis=axis)
        return jnp.take(joined, np.argsort(np.concatenate([at, others])), axis=axis)

    # Each part is padded with zeros to where its entries belong, and the two are added.
    def spread(part: Array, places: np.ndarray, stride: int) -> Array:
        config = [(0, 0, 0)] * part.ndim
        config[axis] = (int(places[0]), size - 1 - int(places[-1]), stride - 1)
        return jax.lax.pad(part, jnp.zeros((), part.dtype), config)

    return spread(a, at, stride) + spread(b, others, other_stride)


def hashable(mask: Bool[np.ndarray, "..."]) -> tuple:
    """A mask as nested tuples, as Linen modules hold it.

    Args:
        mask: True where an entry is kept, of any shape.

    Returns:
        The same values in tuples of tuples.
    """
    return tuple(hashable(row) if np.ndim(row) else bool(row) for row in mask)
