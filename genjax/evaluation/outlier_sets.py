"""Rows that are out of a distribution, made from rows that are in it: arrays in, arrays out."""

import numpy as np


def rotated(images: np.ndarray) -> np.ndarray:
    """Images ``[N, H, W, C]`` turned by 180 degrees: the same pixels, other content."""
    return np.rot90(_images(images), 2, axes=(1, 2)).copy()


def uniform_noise(x: np.ndarray, num_levels: int, seed: int = 0) -> np.ndarray:
    """Grey levels drawn uniformly, of the shape and type of ``x``."""
    return _rng(seed).integers(num_levels, size=np.shape(x)).astype(np.asarray(x).dtype)


def constant_images(images: np.ndarray, num_levels: int, seed: int = 0) -> np.ndarray:
    """Images that are of one level, drawn uniformly for each image and channel."""
    count, _, _, channels = _images(images).shape
    level = _rng(seed).integers(num_levels, size=(count, 1, 1, channels))
    return np.broadcast_to(level, images.shape).astype(images.dtype)


def blank_images(images: np.ndarray) -> np.ndarray:
    """Images that are nothing but background: the most frequent level of all pixels."""
    x = _images(images)
    levels, counts = np.unique(x, return_counts=True)
    return np.full_like(x, levels[counts.argmax()])


def faded(images: np.ndarray) -> np.ndarray:
    """Images whose levels are half as high, rounded down: the same shapes, darker."""
    return _images(images) // 2


def half_contrast(images: np.ndarray) -> np.ndarray:
    """Images whose levels are half as far from the image's mean, rounded to whole levels."""
    x = _images(images).astype(np.float64)
    mean = x.mean((1, 2, 3), keepdims=True)
    return np.round(mean + 0.5 * (x - mean)).astype(images.dtype)


def blurred(images: np.ndarray, width: int | None = None) -> np.ndarray:
    """Images averaged over squares, rounded to whole levels.

    Args:
        images: ``[N, H, W, C]``.
        width: Side of the squares in pixels; an eighth of the image, at least 2, if None.

    Returns:
        The blurred images; edges are repeated outwards.
    """
    from scipy.ndimage import uniform_filter

    x = _images(images)
    width = max(2, x.shape[1] // 8) if width is None else width
    blur = uniform_filter(x.astype(np.float64), (0, width, width, 0), mode="nearest")
    return np.round(blur).astype(x.dtype)


def shuffled_pixels(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Images whose pixels are permuted, each image in its own way: the same levels, no content."""
    x = _images(images)
    count, height, width, channels = x.shape
    flat = x.reshape(count, height * width, channels)
    order = _rng(seed).permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)
    return np.take_along_axis(flat, order[..., None], axis=1).reshape(x.shape)


def enlarged_digits(images: np.ndarray, num_levels: int) -> np.ndarray:
    """The 1,797 handwritten digits of scikit-learn, enlarged to the size of some images.

    Args:
        images: ``[N, H, W, C]``, at least 16 pixels wide and high.
        num_levels: Number of grey levels to scale the digits' 17 to.

    Returns:
        At most ``N`` digits ``[N', H, W, C]`` on level 0, the same in all channels.

    Raises:
        ValueError: If the images are too small.
    """
    from sklearn.datasets import load_digits

    count, height, width, channels = _images(images).shape
    factor = min(height, width) // 8
    if factor < 2:
        raise ValueError(f"enlarged digits do not fit images of {height} x {width}")
    digits = load_digits().images[:count] * ((num_levels - 1) / 16.0)
    large = np.kron(np.round(digits), np.ones((1, factor, factor)))
    top, left = (height - 8 * factor) // 2, (width - 8 * factor) // 2
    x = np.zeros((len(large), height, width, channels), np.asarray(images).dtype)
    x[:, top : top + 8 * factor, left : left + 8 * factor] = large[..., None]
    return x


def shuffled_columns(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rows of a table whose columns are permuted one by one: the same margins, no dependence."""
    return _rng(seed).permuted(np.asarray(rows), axis=0)


def outlier_sets(x: np.ndarray, num_levels: int | None, seed: int = 0) -> dict[str, np.ndarray]:
    """All sets of outliers that can be made of some rows.

    Args:
        x: Rows of the distribution, ``[N, *event]``.
        num_levels: Number of grey levels; None for real numbers.
        seed: Seed of what is drawn.

    Returns:
        Rows of the kind of ``x`` by name. Of images of grey levels: ``rotated``, ``shuffled``,
        ``noise``, ``constant``, ``blank``, ``faded``, ``half_contrast``, ``blurred`` and, where
        they fit, ``digits``; of other rows: ``shuffled`` columns, rows ``far`` from the mean (three
        times as far in the same direction), and the ``mean`` itself.

    Example:
        >>> sorted(outlier_sets(np.zeros((4, 3)), None))
        ['far', 'mean', 'shuffled']
    """
    x = np.asarray(x)
    if x.ndim != 4 or num_levels is None:
        mean = x.mean(0, keepdims=True)
        made = {"shuffled": shuffled_columns(x, seed)}
        if num_levels is None:
            made["far"] = (mean + 3.0 * (x - mean)).astype(x.dtype)
            made["mean"] = np.broadcast_to(mean, x.shape).astype(x.dtype)
        return made
    made = {
        "rotated": rotated(x),
        "shuffled": shuffled_pixels(x, seed),
        "noise": uniform_noise(x, num_levels, seed),
        "constant": constant_images(x, num_levels, seed),
        "blank": blank_images(x),
        "faded": faded(x),
        "half_contrast": half_contrast(x),
        "blurred": blurred(x),
    }
    if min(x.shape[1:3]) >= 16:
        made["digits"] = enlarged_digits(x, num_levels)
    return made


def _images(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"expected images [N, H, W, C], got shape {x.shape}")
    return x


def _rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))
