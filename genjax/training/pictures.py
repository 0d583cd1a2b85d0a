"""Pictures of samples: grids of images, scatter plots of points, histograms of numbers, curves.

What is not finite, as samples that did not converge, is left out of limits, bins and scales; such
pixels are black.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from etils import epath

from genjax.data import DataSet
from genjax.families.base import Samples

Curves: TypeAlias = Mapping[str, tuple[np.ndarray, np.ndarray]]
Window: TypeAlias = tuple[float, float, float, float]
"""Lowest and highest first coordinate, then lowest and highest second."""


def num_nonfinite(values: Any) -> int:
    """Number of values of an array that are NaN or infinite; 0 of None."""
    return 0 if values is None else int((~np.isfinite(np.asarray(values))).sum())


def _finite_range(*candidates: np.ndarray) -> tuple[float, float]:
    """Least and largest finite value of the first array that has one; 0 and 1 if none has."""
    for values in candidates:
        kept = values[np.isfinite(values)]
        if kept.size:
            return float(kept.min()), float(kept.max())
    return 0.0, 1.0


def _in_bytes(images: np.ndarray, num_levels: int | None) -> np.ndarray:
    """Brightness of images in 0 to 255, uint8: one scale for all, black where it is not finite."""
    low, high = (0.0, num_levels - 1.0) if num_levels else _finite_range(images)
    # Images that are the same everywhere, as those of one grey level, have no scale: black.
    scale = 255.0 / (high - low) if high > low else 0.0
    bright = np.round((np.nan_to_num(images, nan=low, posinf=low, neginf=low) - low) * scale)
    return np.clip(bright, 0.0, 255.0).astype(np.uint8)


def image_grid(
    images: np.ndarray, num_levels: int | None, *, columns: int | None = None
) -> np.ndarray:
    """Tiles images into one, with a grey line of one pixel between them.

    Args:
        images: ``[N, H, W, C]``. Of channels other than 1 or 3 the first is shown.
        num_levels: Number of whole grey levels, the highest of which becomes white; None for real
            numbers, of which the least that is finite becomes black and the largest white.
        columns: Images in a row; as square as possible by default.

    Returns:
        ``[H', W', 3]`` uint8. Images smaller than 32 pixels are enlarged by a whole factor.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = _in_bytes(images.astype(np.float64), num_levels)
    factor = max(1, math.ceil(32 / min(height, width)))
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = height * factor, width * factor
    grid = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1, 3), 128, np.uint8)
    for index, image in enumerate(pixels):
        top = (index // columns) * (height + 1) + 1
        left = (index % columns) * (width + 1) + 1
        grid[top : top + height, left : left + width] = image
    return grid


def samples_picture(samples: np.ndarray, num_levels: int | None) -> np.ndarray:
    """What shows samples of any shape best: a grid of images, points, or a histogram.

    Args:
        samples: ``[N, *event]``. Of vectors the first two entries are shown, of single numbers the
            histogram, of images the first 256.
        num_levels: Number of grey levels, if they are; images of real numbers are scaled from the
            least to the largest.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    if samples.ndim == 4:
        return image_grid(samples[:256], num_levels)
    return _points_picture(samples[None])


def trajectory_picture(frames: np.ndarray, num_levels: int | None) -> np.ndarray:
    """How samples of any shape came about, time from left to right.

    Args:
        frames: ``[F, N, *event]``.
        num_levels: Number of grey levels, if they are; images of real numbers have one scale in all
            frames.

    Returns:
        ``[H, W, 3]`` uint8: a row of images for each sample, points or a histogram for each frame.
    """
    if frames.ndim == 5:
        rows = frames.swapaxes(0, 1)
        return image_grid(rows.reshape(-1, *rows.shape[2:]), num_levels, columns=rows.shape[1])
    return _points_picture(frames)


def _points_picture(frames: np.ndarray) -> np.ndarray:
    """Points or histograms of ``[F, N, *event]``."""
    rows = frames.reshape(*frames.shape[:2], -1)
    return scatter(rows[..., :2]) if rows.shape[-1] > 1 else histograms(rows[..., 0])


def joined_images(
    samples: np.ndarray, num_levels: int | None, beside: Sequence[tuple[np.ndarray, int | None]]
) -> np.ndarray:
    """Images, each to the right of those it was made from, without a line between them.

    Args:
        samples: ``[N, H, W, C]``.
        num_levels: Number of grey levels, if they are.
        beside: What samples were made from, each ``[N, H, W', C']`` with its number of levels.

    Returns:
        ``[M, H, W'', 3]`` uint8 of 256 levels, of the first 128.
    """

    def in_colour(images: np.ndarray, levels: int | None) -> np.ndarray:
        shown = images[:128] if images.shape[-1] == 3 else images[:128, ..., :1]
        return _in_bytes(shown.astype(np.float64), levels).repeat(3 // shown.shape[-1], axis=-1)

    return np.concatenate([in_colour(*one) for one in (*beside, (samples, num_levels))], axis=2)


def beside_samples(
    samples: np.ndarray, num_levels: int | None, beside: Sequence[tuple[np.ndarray, int | None]]
) -> np.ndarray:
    """A grid of images beside those they were made from, ``[H', W'', 3]`` uint8.

    Arguments are those of :func:`joined_images`.
    """
    return image_grid(joined_images(samples, num_levels, beside), 256)


_CAPTION_WIDTH = 112
"""Pixels of a captioned image at least: some four words in a line."""
_LINE_HEIGHT = 13


def captioned_grid(
    images: np.ndarray, num_levels: int | None, captions: Sequence[str]
) -> np.ndarray:
    """A grid of images, each with its caption beneath.

    Args:
        images: ``[N, H, W, C]``, as of :func:`image_grid`.
        num_levels: Number of grey levels, if they are.
        captions: A text for each image, broken between words into at most four lines; what is
            longer ends in an ellipsis.

    Returns:
        ``[H', W', 3]`` uint8. Images narrower than a caption are enlarged by a whole factor.
    """
    from PIL import Image, ImageDraw

    shown = images if images.shape[-1] in (1, 3) else images[..., :1]
    pixels = _in_bytes(shown.astype(np.float64), num_levels)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    factor = max(1, math.ceil(_CAPTION_WIDTH / pixels.shape[2]))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    font = _font()
    lines = [_broken(text, pixels.shape[2] - 4, font.getlength) for text in captions]
    room = 4 + _LINE_HEIGHT * max(map(len, lines))
    tiles = []
    for image, own in zip(pixels, lines, strict=True):
        beneath = Image.new("RGB", (pixels.shape[2], room), "black")
        draw = ImageDraw.Draw(beneath)
        for number, line in enumerate(own):
            left = (pixels.shape[2] - font.getlength(line)) / 2.0
            draw.text((left, 1 + number * _LINE_HEIGHT), line, fill="white", font=font)
        tiles.append(np.concatenate([image, np.asarray(beneath)]))
    return image_grid(np.stack(tiles), 256)


def _font() -> Any:
    """The font that matplotlib ships, whatever the machine has."""
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 10)


def _broken(text: str, width: float, length: Callable[[str], float]) -> list[str]:
    """A text in lines of at most a width, four of them."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) == 4:
            lines[-1] += " \N{HORIZONTAL ELLIPSIS}"
            break
        else:
            lines.append(word)
    return lines


def of_samples(
    drawn: Samples,
    dataset: DataSet,
    curves: Callable[[], Curves] | None,
    beside: Sequence[tuple[np.ndarray, int | None]] = (),
    captions: Sequence[str] | None = None,
) -> dict[str, Callable[[], np.ndarray]]:
    """All pictures of what a family drew, each of which may fail on its own.

    Of texts there are none of samples and their trajectory.

    Args:
        drawn: Samples, on the host.
        dataset: Data they imitate.
        curves: Computes curves of the state; None if there are none.
        beside: What samples were made from, with numbers of levels; what are images of the height
            of samples stand beside them.
        captions: Texts that samples were made from, which stand beneath images.

    Returns:
        What draws each picture, ``[H, W, 3]`` uint8: ``samples``, ``trajectory``, ``density`` and
        ``curves``, where there are any.
    """
    levels = dataset.num_levels
    rows = np.asarray(drawn.rows)
    shown: dict[str, Callable[[], np.ndarray]] = {}
    sources = [one for one in beside if one[0].ndim == rows.ndim == 4]
    sources = [one for one in sources if one[0].shape[1] == rows.shape[1]]
    if rows.ndim == 4 and captions is not None:
        count = 128 if sources else 256

        def captioned() -> np.ndarray:
            images = joined_images(rows, levels, sources) if sources else rows[:count]
            return captioned_grid(images, 256 if sources else levels, captions[:count])

        shown["samples"] = captioned
    elif sources:
        shown["samples"] = functools.partial(beside_samples, rows, levels, sources)
    elif dataset.vocabulary is None:
        shown["samples"] = functools.partial(samples_picture, rows, levels)
    if dataset.vocabulary is None and drawn.trajectory is not None:
        frames = np.asarray(drawn.trajectory)
        shown["trajectory"] = functools.partial(trajectory_picture, frames, levels)
    if drawn.density is not None:
        values, extent = np.asarray(drawn.density.values), np.asarray(drawn.density.extent)

        def density() -> np.ndarray:
            points = dataset.source.rows(np.arange(min(5000, len(dataset.source))))["x"]
            return density_map(values, extent, points)

        shown["density"] = density
    if curves is not None:
        shown["curves"] = lambda: plot_curves(curves())
    return shown


def write_png(path: epath.Path, pixels: np.ndarray) -> None:
    """Writes ``[H, W, 3]`` uint8 as PNG."""
    from PIL import Image

    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, format="png")


def _figure(width: float, height: float):  # noqa: ANN202
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure) -> np.ndarray:  # noqa: ANN001
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def scatter(frames: np.ndarray) -> np.ndarray:
    """Draws sets of points side by side, on the axes that hold the last of them.

    Args:
        frames: ``[F, N, 2]``.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    figure = _figure(4.0 * len(frames), 4.0)
    window = _window(_finite_points(frames[-1]))
    for index, points in enumerate(frames):
        axes = figure.add_subplot(1, len(frames), index + 1)
        _plot_points(axes, points, window)
    return _pixels(figure)


def histograms(frames: np.ndarray) -> np.ndarray:
    """Draws histograms of numbers side by side, on the axis that holds the last of them.

    Args:
        frames: ``[F, N]``.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    figure = _figure(4.0 * len(frames), 4.0)
    low, high = _finite_range(frames[-1], frames)
    for index, numbers in enumerate(frames):
        axes = figure.add_subplot(1, len(frames), index + 1)
        axes.hist(numbers[np.isfinite(numbers)], bins=100, range=(low, high))
    return _pixels(figure)


def density_map(density: np.ndarray, extent: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Draws a density of the plane beside points of the data.

    Args:
        density: Values on a grid, ``[G, G]``, rows from low to high.
        extent: Lowest and highest first coordinate of the grid, then of the second.
        points: ``[N, 2]``.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    figure = _figure(8.0, 4.0)
    window = (-1.0, 1.0, -1.0, 1.0)
    if np.isfinite(extent).all() and extent[1] > extent[0] and extent[3] > extent[2]:
        left, right, low, high = map(float, extent)
        window = (left, right, low, high)
    axes = figure.add_subplot(1, 2, 1, title="density")
    shown = np.ma.masked_invalid(density)
    axes.imshow(shown, origin="lower", extent=window, vmin=0.0, aspect=_aspect(window))
    axes = figure.add_subplot(1, 2, 2, title="data")
    _plot_points(axes, points, window)
    return _pixels(figure)


def _finite_points(points: np.ndarray) -> np.ndarray:
    """Those of points ``[N, D]`` that are finite in all entries."""
    return points[np.isfinite(points).all(1)]


def _window(points: np.ndarray) -> Window:
    """What holds all but the farthest of points: a square about 0, if they lie there."""
    if not points.size:
        return -1.0, 1.0, -1.0, 1.0
    reach = 1.1 * float(np.quantile(np.abs(points), 0.999)) or 1.0
    square = (-reach, reach, -reach, reach)
    # Columns in units of their own have centres and widths of their own.
    centre = np.median(points, axis=0)
    width = 1.1 * np.quantile(np.abs(points - centre), 0.999, axis=0)
    if not (width > 0).all() or width.min() > 0.2 * reach:
        return square
    (left, right), (low, high) = (
        (float(c - w), float(c + w)) for c, w in zip(centre, width, strict=True)
    )
    return left, right, low, high


def _aspect(window: Window) -> Any:
    """One scale for both axes, but where that would make a line of the window."""
    ratio = (window[1] - window[0]) / (window[3] - window[2])
    return "equal" if 0.2 < ratio < 5.0 else "auto"


def _plot_points(axes, points: np.ndarray, window: Window) -> None:  # noqa: ANN001
    """Draws those of points ``[N, 2]`` that are finite."""
    kept = _finite_points(points)
    axes.set_aspect(_aspect(window))
    axes.plot(kept[:, 0], kept[:, 1], ".", markersize=2, alpha=0.5)
    axes.set_xlim(window[0], window[1])
    axes.set_ylim(window[2], window[3])


def plot_curves(curves: Curves) -> np.ndarray:
    """Draws named curves side by side, ``[H, W, 3]`` uint8."""
    figure = _figure(5.0 * len(curves), 4.0)
    for index, (name, (x, y)) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1, title=name)
        kept = np.isfinite(x) & np.isfinite(y)
        axes.plot(np.where(kept, x, np.nan), np.where(kept, y, np.nan))
        axes.grid(alpha=0.3)
    return _pixels(figure)
