"""Whether pictures of digits are what their captions ask for: digits, colours, and all at once."""

from collections.abc import Callable, Mapping

import numpy as np

from genjax.evaluation.arrays import chunks

# Linear sRGB to XYZ; rows are divided by their sums, which are the white point D65.
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_OPPONENTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])

PARTS = ("label", "right", "colour", "ground")
"""Class ids that captions may say."""


def cielab(rgb: np.ndarray) -> np.ndarray:
    """Colours in a space where equal distances look about equally far.

    Args:
        rgb: sRGB ``[..., 3]`` from 0 to 255.

    Returns:
        Lightness from 0 to 100, green to red and blue to yellow, ``[..., 3]``, for the white D65.

    Raises:
        ValueError: If there are not three channels.

    Example:
        >>> cielab(np.array([[255, 255, 255], [0, 0, 255]])).round(1).tolist()
        [[100.0, 0.0, 0.0], [32.3, 79.2, -107.9]]

    References:
        CIE 15:2004, section 8.2.1; IEC 61966-2-1 for sRGB.
    """
    values = np.asarray(rgb, np.float64) / 255.0
    if values.ndim < 1 or values.shape[-1] != 3:
        raise ValueError(f"expected colours [..., 3], got shape {values.shape}")
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    relative = linear @ (_XYZ / _XYZ.sum(1, keepdims=True)).T
    small = relative <= (6 / 29) ** 3
    bent = np.where(small, relative / (3 * (6 / 29) ** 2) + 4 / 29, np.cbrt(relative))
    return np.asarray(bent @ _OPPONENTS.T - np.array([16.0, 0.0, 0.0]))


def nearest_colour(rgb: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The colour of a palette that each colour looks most like: the nearest one in CIELAB.

    Hue alone would not do, for black and white have none; and distances in RGB make much of
    differences between dark colours that are hardly seen.

    Args:
        rgb: sRGB ``[N, 3]`` from 0 to 255.
        palette: The colours to choose from, ``[K, 3]``.

    Returns:
        Positions in the palette, int64 ``[N]``; of two that are as near, the first.

    Raises:
        ValueError: If these are no colours.

    Example:
        >>> nearest_colour(np.array([[200, 60, 50]]), np.array([[0, 0, 0], [255, 0, 0]])).tolist()
        [1]
    """
    colours, known = cielab(rgb), cielab(palette)
    if colours.ndim != 2 or known.ndim != 2:
        raise ValueError(
            f"expected colours [N, 3] and a palette [K, 3], got {np.shape(rgb)} and "
            f"{np.shape(palette)}"
        )
    return np.square(colours[:, None] - known).sum(-1).argmin(1)


def stroke_and_ground(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two colours of pictures of a digit on a plain ground.

    The ground is the median of each channel over the edge of the picture (a fourteenth of its
    shorter side, at least one pixel), where digits hardly reach. The stroke is the median over the
    fiftieth of the pixels (at least three) that are farthest from the ground: where a pen has
    covered a pixel by half its colour is a mixture, and that of red and yellow is orange, so that
    a mean over the whole stroke would often name a third colour. Medians forgive single pixels that
    are wrong. In a picture of one colour both are that colour.

    Args:
        images: RGB ``[N, H, W, 3]`` from 0 to 255.

    Returns:
        The stroke and the ground, float64 ``[N, 3]`` each.

    Raises:
        ValueError: If these are no colours.
    """
    if np.ndim(images) != 4 or np.shape(images)[-1] != 3 or not np.size(images):
        raise ValueError(f"expected colours [N, H, W, 3], got shape {np.shape(images)}")
    _, height, width, _ = np.shape(images)
    edge = np.ones((height, width), bool)
    wide = max(1, min(height, width) // 14)
    edge[wide:-wide, wide:-wide] = False
    most = min(max(3, height * width // 50), height * width)
    found = []
    for rows in chunks(len(images)):
        pixels = np.asarray(images[rows], np.float64)
        ground = np.median(pixels[:, edge], axis=1)
        flat = pixels.reshape(len(pixels), -1, 3)
        far = np.square(flat - ground[:, None]).sum(-1)
        chosen = np.argpartition(far, -most, axis=1)[:, -most:]
        found.append((np.median(np.take_along_axis(flat, chosen[..., None], 1), axis=1), ground))
    stroke, ground = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return stroke, ground


def stroke_share(images: np.ndarray, stroke: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """How much of each pixel is stroke: the digit without its colours, white on black.

    Pixels are projected on the line from the colour of the ground to that of the stroke.

    Args:
        images: RGB ``[N, H, W, 3]`` from 0 to 255.
        stroke: Colour of the stroke of each, ``[N, 3]``.
        ground: Colour of its ground, ``[N, 3]``.

    Returns:
        Shares in [0, 1], float32 ``[N, H, W, 1]``; 0 where both colours are the same.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> red, blue = np.array([[200.0, 0, 0]]), np.array([[0, 0, 200.0]])
        >>> pixels = np.array([[[[200, 0, 0], [100, 0, 100], [0, 0, 200]]]])
        >>> stroke_share(pixels, stroke=red, ground=blue).ravel().tolist()
        [1.0, 0.5, 0.0]
    """
    count = np.shape(images)[0] if np.ndim(images) == 4 else -1
    if np.shape(images)[-1:] != (3,) or not np.shape(stroke) == np.shape(ground) == (count, 3):
        raise ValueError(
            "expected images [N, H, W, 3] and their colours [N, 3], got shapes "
            f"{np.shape(images)}, {np.shape(stroke)} and {np.shape(ground)}"
        )
    shares = np.empty((*np.shape(images)[:3], 1), np.float32)
    for rows in chunks(count):
        start = np.asarray(ground[rows], np.float64)[:, None, None]
        line = np.asarray(stroke[rows], np.float64)[:, None, None] - start
        length = np.square(line).sum(-1, keepdims=True)
        along = ((images[rows] - start) * line).sum(-1, keepdims=True)
        shares[rows] = np.clip(along / np.where(length > 0, length, np.inf), 0.0, 1.0)
    return shares


def digit_slots(images: np.ndarray, *, pair: bool = False) -> list[np.ndarray]:
    """The digits of pictures as a classifier of plain ones takes them: one by one, white on black.

    Args:
        images: ``[N, H, W, C]`` from 0 to 255, grey (``C`` 1) or in colour (``C`` 3).
        pair: Whether a picture is of two digits side by side, to be cut in the middle.

    Returns:
        The digit of each picture, or the left and the right ones: shares of white in [0, 1],
        float32 ``[N, H, W, 1]``.

    Raises:
        ValueError: If these are no such images, or a pair has no middle.
    """
    shape = np.shape(images)
    if len(shape) != 4 or shape[-1] not in (1, 3) or not np.size(images):
        raise ValueError(f"expected images [N, H, W, C] of 1 or 3 channels, got shape {shape}")
    if pair and shape[2] % 2:
        raise ValueError(f"expected pairs of an even width, got {shape[2]} pixels")
    parts = np.split(np.asarray(images), 2, axis=2) if pair else [np.asarray(images)]
    if shape[-1] == 3:
        return [stroke_share(part, *stroke_and_ground(part)) for part in parts]
    return [np.clip(part.astype(np.float32) / np.float32(255.0), 0.0, 1.0) for part in parts]


def caption_accuracy(
    images: np.ndarray,
    classify: Callable[[np.ndarray], np.ndarray],
    asked: Mapping[str, np.ndarray],
    *,
    colours: np.ndarray | None = None,
    grounds: np.ndarray | None = None,
) -> dict[str, float]:
    """How many pictures of digits are as their captions ask, a part at a time and in all parts.

    A digit is what a classifier takes it for (:func:`digit_slots`); colours are the nearest
    (:func:`nearest_colour`) of those of the picture (:func:`stroke_and_ground`), a digit's
    among those of grounds, too: what is not there, or is white, has none of the colours that digits
    are asked for in.

    Args:
        images: ``[N, H, W, C]`` from 0 to 255.
        classify: Shares of white ``[N, H, W, 1]`` of single digits to class ids ``[N]``.
        asked: Class ids that captions say, ``[N]`` each: ``label``, the (left) digit; ``right``,
            where pictures are of two; ``colour`` and ``ground``, positions in the palettes. Other
            entries are not looked at.
        colours: RGB of the colours of digits, ``[K, 3]``; needed where a colour is asked for.
        grounds: RGB of the colours of grounds, ``[L, 3]``.

    Returns:
        Shares in [0, 1] of each part that is asked for, ``exact`` for all of them at once, each
        with its standard error as ``..._stderr``, the binomial ``sqrt(p (1 - p) / N)``: 0 where all
        are right or wrong; and ``num_samples``.

    Raises:
        ValueError: If nothing is asked for, or shapes do not fit.
    """
    parts = [name for name in PARTS if name in asked]
    if "label" not in parts or ("colour" in parts) != ("ground" in parts):
        raise ValueError(
            "expected a label, and both colour and ground or neither, asked for; got "
            f"{', '.join(asked) or 'nothing'}"
        )
    for name in parts:
        if np.shape(asked[name]) != (len(images),):
            raise ValueError(
                f"{name}: expected class ids [{len(images)}], one an image, got shape "
                f"{np.shape(asked[name])}"
            )
    slots = digit_slots(images, pair="right" in parts)
    digits = [name for name in ("label", "right") if name in parts]
    found: dict[str, np.ndarray] = {
        name: np.asarray(classify(slot)) for name, slot in zip(digits, slots, strict=True)
    }
    if "colour" in parts:
        if colours is None or grounds is None:
            raise ValueError("colours are asked for: give the palettes colours and grounds")
        stroke, ground = stroke_and_ground(images)
        found["colour"] = nearest_colour(stroke, np.concatenate([colours, grounds]))
        found["ground"] = nearest_colour(ground, grounds)
    right = {name: found[name] == np.asarray(asked[name]) for name in parts}
    right["exact"] = np.logical_and.reduce(list(right.values()))
    result: dict[str, float] = {}
    for name, ones in right.items():
        share = float(ones.mean())
        result |= {name: share, f"{name}_stderr": float(np.sqrt(share * (1 - share) / len(ones)))}
    return {**result, "num_samples": float(len(images))}
