"""Transforms that give each row a second image made of it: what a translation starts from."""

import dataclasses
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from genjax.data.resizing import Method, resized

PAIRED = ("source", "partner")
"""Features that belong to ``x`` pixel by pixel: what moves its pixels has to move theirs alike.

``source`` is what a paired translation starts from; ``partner`` is the true translation of a row
whose family is to learn without pairs, for measures to compare with."""
Follows: TypeAlias = Literal["alike", "same size", "left"]
"""What a transform does to features paired with ``x``: the same, whatever their size; the same, if
they have the height and width of ``x``; nothing."""


@runtime_checkable
class Pairing(Protocol):
    """A transform that makes the feature ``source`` of ``x``."""

    def pair(self, x: np.ndarray, num_levels: int | None) -> np.ndarray:
        """What belongs to rows ``[N, *event]``, in their units: ``[N, *event']`` of their type.

        Args:
            x: The rows.
            num_levels: Number of grey levels, or None of real numbers.
        """
        ...


def _check_images(x: np.ndarray, name: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name} is for images [H, W, C], got examples of shape {x.shape[1:]}")


def luma(x: np.ndarray) -> np.ndarray:
    """The brightness of images ``[N, H, W, C]``, float32 ``[N, H, W, 1]`` in their units.

    Of three channels it is 0.299 R + 0.587 G + 0.114 B, of one the channel itself.

    Raises:
        ValueError: If there are other numbers of channels.

    References:
        ITU-R BT.601-7, section 2.5.1.
    """
    if x.shape[-1] == 1:
        return x.astype(np.float32)
    if x.shape[-1] != 3:
        raise ValueError(f"brightness is that of images of 1 or 3 channels, got {x.shape[-1]}")
    return (x.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _like(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Real numbers in the type of ``x``, rounded if that is whole."""
    whole = np.issubdtype(x.dtype, np.integer)
    return (np.rint(values) if whole else values).astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grey:
    """The brightness of images as ``source``: a model that starts from it has to find colours."""

    def pair(self, x: np.ndarray, num_levels: int | None) -> np.ndarray:
        """Brightness ``[N, H, W, 1]`` of ``[N, H, W, 3]``: see :func:`luma`.

        Raises:
            ValueError: If these are no images of three channels.
        """
        _check_images(x, "grey")
        if x.shape[-1] != 3:
            raise ValueError(f"grey is for images of 3 channels, got {x.shape[-1]}")
        return _like(luma(x), x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shrink:
    """Images of a low resolution as ``source``, filtered so that they do not alias.

    Attributes:
        factor: How many times lower height and width are.
        method: Filter of Pillow: ``"box"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``.
    """

    factor: int = 4
    method: Method = "bicubic"

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor must be at least 2, got {self.factor}")

    def pair(self, x: np.ndarray, num_levels: int | None) -> np.ndarray:
        """Images ``[N, H / factor, W / factor, C]`` of ``[N, H, W, C]``.

        Raises:
            ValueError: If the factor does not divide height and width, or these are no images.
        """
        _check_images(x, "shrink")
        height, width = x.shape[1:3]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"shrink: factor must divide height and width, got {self.factor} for images of "
                f"{height} x {width}"
            )
        return resized(x, height // self.factor, width // self.factor, self.method)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edges:
    """The edges of images as ``source``, white on black, in one channel.

    Attributes:
        method: ``"canny"`` for lines of one pixel: of slopes that are largest across the edge,
            those from ``high`` on, and those from ``low`` on that hang together with them.
            ``"sobel"`` for the slopes themselves.
        sigma: Standard deviation in pixels of the Gaussian that images are smoothed with before;
            0 for none.
        low: Least slope of a line, 1 being the largest there is.
        high: Slope that some pixel of a line must have.

    References:
        Canny, A Computational Approach to Edge Detection, 1986.
    """

    method: Literal["canny", "sobel"] = "canny"
    sigma: float = 1.0
    low: float = 0.05
    high: float = 0.15

    def __post_init__(self) -> None:
        if self.method not in ("canny", "sobel"):
            raise ValueError(f"edges: method must be 'canny' or 'sobel', got {self.method!r}")
        if self.sigma < 0.0 or not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(
                "edges: sigma must be at least 0, and 0 <= low <= high <= 1, got "
                f"{self.sigma}, {self.low} and {self.high}"
            )

    def pair(self, x: np.ndarray, num_levels: int | None) -> np.ndarray:
        """Edges ``[N, H, W, 1]`` of images ``[N, H, W, C]``.

        Raises:
            ValueError: If these are no images of grey levels, of 1 or 3 channels.
        """
        _check_images(x, "edges")
        if num_levels is None:
            raise ValueError("edges are of whole grey levels, got real numbers")
        # A few rows at a time, whose slopes in floating point take little memory.
        parts = [x[start : start + 4096] for start in range(0, len(x), 4096)]
        found = [self._of(luma(part)[..., 0] / (num_levels - 1)) for part in parts]
        return _like(np.concatenate(found)[..., None] * (num_levels - 1), x)

    def _of(self, brightness: np.ndarray) -> np.ndarray:
        """Edges in [0, 1] of brightness in [0, 1], both ``[N, H, W]``."""
        from scipy import ndimage

        smooth = brightness.astype(np.float32)
        if self.sigma:
            smooth = ndimage.gaussian_filter(smooth, (0, self.sigma, self.sigma), mode="nearest")
        # Divided so that the steepest slope, across the corner of a step from 0 to 1, is at most 1.
        down, right = (slopes(smooth, axis) / (4.0 * np.sqrt(2.0)) for axis in (1, 2))
        slope = np.hypot(down, right)
        if self.method == "sobel":
            return slope
        thin = _largest_across(slope, down, right)
        # Connected within an image, diagonals included, never from one image to the next.
        within = np.zeros((3, 3, 3), int)
        within[1] = 1
        lines, count = ndimage.label(thin & (slope >= self.low), within)
        strong = np.zeros(count + 1, bool)
        strong[np.unique(lines[thin & (slope >= self.high)])] = True
        strong[0] = False
        return strong[lines].astype(np.float32)


def slopes(images: np.ndarray, axis: int) -> np.ndarray:
    """Sobel's differences along an axis: smoothed by [1, 2, 1] along the other, edges repeated.

    Args:
        images: ``[N, H, W]``.
        axis: 1 for downwards, 2 for to the right.

    Returns:
        ``[N, H, W]``: 4 at a step from 0 to 1.
    """
    from scipy import ndimage

    across = ndimage.correlate1d(images, [-1.0, 0.0, 1.0], axis, mode="nearest")
    return np.asarray(ndimage.correlate1d(across, [1.0, 2.0, 1.0], 3 - axis, mode="nearest"))


def _largest_across(slope: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where a slope is the largest of three along its own direction, booleans ``[N, H, W]``."""
    height, width = slope.shape[1:]
    padded = np.pad(slope, [(0, 0), (1, 1), (1, 1)])
    # Directions of 0, 45, 90 and 135 degrees; opposite ones are the same.
    turn = np.rint(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    found = np.zeros(slope.shape, bool)
    for number, (i, j) in enumerate([(0, 1), (1, 1), (1, 0), (1, -1)]):
        ahead = padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]
        behind = padded[:, 1 - i : 1 - i + height, 1 - j : 1 - j + width]
        # Of two that are equal one counts, or lines would be two pixels wide.
        found |= (turn == number) & (slope > behind) & (slope >= ahead)
    return found
