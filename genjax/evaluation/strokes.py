"""Thickness and slant of what is drawn in grey images, and whether they follow an edit."""

import numpy as np


def thickness(images: np.ndarray) -> np.ndarray:
    r"""Thickness of strokes in pixels: twice their area over the length of their boundary.

    The area is the sum of an image, the length its total variation :math:`\sum \lvert\nabla
    I\rvert`, so that brightness does not matter. It is the width of long strokes and of rings, and
    the radius of discs: to a percent where edges are smooth, or along an axis; strokes with sharp
    edges in other directions come out a few percent thinner.

    Args:
        images: ``[N, H, W]`` or ``[N, H, W, C]``, not negative, of which channels are averaged; 0
            where nothing is drawn.

    Returns:
        ``[N]``, float64; NaN of images that are the same everywhere.

    Raises:
        ValueError: If they are no images.

    Example:
        >>> bars = np.zeros((2, 8, 8)); bars[0, :, 3:5] = 1; bars[1, 2:6] = 7
        >>> thickness(bars)
        array([2., 4.])
    """
    ink = _ink(images)
    across = np.diff(ink, axis=2, append=ink[:, :, -1:])
    down = np.diff(ink, axis=1, append=ink[:, -1:])
    boundary = np.sqrt(across**2 + down**2).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(boundary > 0, 2.0 * ink.sum((1, 2)) / boundary, np.nan)


def slant(images: np.ndarray) -> np.ndarray:
    r"""How far strokes lean to the right: columns to the right for each row upwards.

    It is :math:`-\mu_{11}/\mu_{02}` of the central moments, the shear that undone makes an image
    upright.

    Args:
        images: ``[N, H, W]`` or ``[N, H, W, C]``, as of :func:`thickness`.

    Returns:
        ``[N]``, float64; NaN of images that are black or of one row.

    Raises:
        ValueError: If they are no images.

    Example:
        >>> slant(np.eye(5)[None]), slant(np.eye(5)[None, ::-1])
        (array([-1.]), array([1.]))
    """
    ink = _ink(images)
    weight = np.maximum(ink.sum((1, 2)), 1e-300)
    rows, columns = np.arange(ink.shape[1])[:, None], np.arange(ink.shape[2])
    y = rows - ((ink * rows).sum((1, 2)) / weight)[:, None, None]
    x = columns - ((ink * columns).sum((1, 2)) / weight)[:, None, None]
    spread = (ink * y * y).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-9 * weight, -(ink * x * y).sum((1, 2)) / spread, np.nan)


def rank_correlation(x: np.ndarray, measured: np.ndarray) -> float:
    """Spearman's correlation of an edit's strength with what was measured, a mean over examples.

    Args:
        x: Strengths, ``[A]``.
        measured: What was measured of each example at each of them, ``[A, N]``.

    Returns:
        1 if the order of the strengths is that of the measure in all examples, -1 if it is the
        opposite. Examples whose measure is not finite, or does not change, are left out; NaN if
        that are all.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> rank_correlation(np.array([-1, 0, 1]), np.array([[0.0, 2.0], [0.1, 1.0], [5.0, 0.0]]))
        0.0
    """
    from scipy import stats  # it takes long to import

    x, measured = np.asarray(x, np.float64), np.asarray(measured, np.float64)
    if x.ndim != 1 or measured.ndim != 2 or len(x) != len(measured) or len(x) < 2:
        raise ValueError(
            "expected strengths [A] and measures [A, N] with A at least 2, got shapes "
            f"{x.shape} and {measured.shape}"
        )
    kept = np.isfinite(measured).all(0) & (np.ptp(np.nan_to_num(measured), axis=0) > 0)
    ranks = stats.rankdata(measured[:, kept], axis=0)
    own = stats.rankdata(x)
    own, ranks = own - own.mean(), ranks - ranks.mean(0)
    lengths = np.sqrt((own**2).sum() * (ranks**2).sum(0))
    if not kept.any() or not (own**2).sum():
        return float("nan")
    return float(((own[:, None] * ranks).sum(0) / lengths).mean())


def _ink(images: np.ndarray) -> np.ndarray:
    """Grey images ``[N, H, W]``, float64."""
    images = np.asarray(images, np.float64)
    if images.ndim == 4:
        images = images.mean(-1)
    if images.ndim != 3:
        raise ValueError(f"expected images [N, H, W] or [N, H, W, C], got shape {images.shape}")
    return images
