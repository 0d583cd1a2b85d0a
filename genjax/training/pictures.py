"""Pictures of samples: grids of images, scatter plots of points, curves."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from genjax.data import DataSet
from genjax.families.base import Samples


def image_grid(images: np.ndarray, num_levels: int, *, columns: int | None = None) -> np.ndarray:
    """Tiles images into one, with a grey line of one pixel between them.

    Args:
        images: ``[N, H, W, C]`` of whole grey levels. Of channels other than 1 or 3 the first is
            shown.
        num_levels: Number of grey levels; the highest becomes white.
        columns: Images in a row; as square as possible by default.

    Returns:
        ``[H', W', 3]`` uint8. Images smaller than 32 pixels are enlarged by a whole factor.
    """
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = np.round(images.astype(np.float64) * (255.0 / (num_levels - 1))).astype(np.uint8)
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
        samples: ``[N, *event]``. Images of real numbers are scaled from the least to the largest;
            of vectors the first two entries are shown, of single numbers the histogram.
        num_levels: Number of grey levels, if they are.

    Returns:
        ``[H, W, 3]`` uint8.
    """
    if samples.ndim == 4:
        shown = samples[:256]
        if num_levels is None:
            low, high = float(shown.min()), float(shown.max())
            shown = np.round((shown - low) * (255.0 / max(high - low, 1e-12)))
            num_levels = 256
        return image_grid(shown, num_levels)
    rows = samples.reshape(len(samples), -1)
    if rows.shape[1] > 1:
        return scatter(rows[None, :, :2])
    figure = _figure(4.0, 4.0)
    figure.add_subplot(1, 1, 1).hist(rows[:, 0], bins=100)
    return _pixels(figure)


def of_samples(
    drawn: Samples, dataset: DataSet, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """All pictures of what a family drew.

    Args:
        drawn: Samples, on the host.
        dataset: Data they imitate.
        curves: Curves of the state; none if empty.

    Returns:
        Pictures ``[H, W, 3]`` uint8: ``samples``, and ``trajectory``, ``density`` and ``curves``
        where there are any.
    """
    levels = dataset.num_levels
    shown = {"samples": samples_picture(np.asarray(drawn.rows), levels)}
    if drawn.trajectory is not None:
        frames = np.asarray(drawn.trajectory)
        if levels:  # one row a sample, time from left to right
            rows = frames.swapaxes(0, 1)
            flat = rows.reshape(-1, *rows.shape[2:])
            shown["trajectory"] = image_grid(flat, levels, columns=rows.shape[1])
        else:
            shown["trajectory"] = scatter(frames)
    if drawn.density is not None:
        rows = dataset.source.rows(np.arange(min(5000, len(dataset.source))))["x"]
        values, extent = np.asarray(drawn.density.values), np.asarray(drawn.density.extent)
        shown["density"] = density_map(values, extent, rows)
    if curves:
        shown["curves"] = plot_curves(curves)
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
    reach = 1.1 * float(np.quantile(np.abs(frames[-1]), 0.999))
    for index, points in enumerate(frames):
        axes = figure.add_subplot(1, len(frames), index + 1, aspect="equal")
        axes.plot(points[:, 0], points[:, 1], ".", markersize=2, alpha=0.5)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
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
    left, right, low, high = map(float, extent)
    # Columns in units of their own have no common scale.
    aspect: Any = "equal" if 0.2 < (right - left) / (high - low) < 5.0 else "auto"
    axes = figure.add_subplot(1, 2, 1, title="density")
    axes.imshow(density, origin="lower", extent=(left, right, low, high), vmin=0.0, aspect=aspect)
    axes = figure.add_subplot(1, 2, 2, aspect=aspect, title="data")
    axes.plot(points[:, 0], points[:, 1], ".", markersize=2, alpha=0.5)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    return _pixels(figure)


def plot_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Draws named curves side by side, ``[H, W, 3]`` uint8."""
    figure = _figure(5.0 * len(curves), 4.0)
    for index, (name, (x, y)) in enumerate(curves.items()):
        axes = figure.add_subplot(1, len(curves), index + 1, title=name)
        axes.plot(x, y)
        axes.grid(alpha=0.3)
    return _pixels(figure)
