r"""How far images are from the true ones: PSNR, SSIM and colours, on stated conventions."""

import numpy as np

from genjax.evaluation.arrays import chunks

_WINDOW, _SIGMA = 11, 1.5  # pixels of a side of SSIM's window, and its standard deviation
_LUMA = np.array([65.481, 128.553, 24.966])  # of BT.601, for R, G and B in [0, 1]


def _images(made: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of images in float64."""
    if np.shape(made) != np.shape(truth) or np.ndim(made) != 4 or not np.size(made):
        raise ValueError(
            f"expected images [N, H, W, C] of one shape, got {np.shape(made)} and {np.shape(truth)}"
        )
    return np.asarray(made, np.float64), np.asarray(truth, np.float64)


def psnr(made: np.ndarray, truth: np.ndarray, *, peak: float = 255.0) -> np.ndarray:
    r"""Peak signal-to-noise ratio of each image.

    .. math::
        10 \log_{10} \frac{\mathrm{peak}^2}{\mathrm{mean}\,(x - y)^2}

    Its mean over images is what tables have, which is not the ratio of the mean error.

    Args:
        made: Images ``[N, H, W, C]``.
        truth: What they should be, of the same shape.
        peak: Difference of the largest and the least value there may be.

    Returns:
        Decibels ``[N]``; infinite where an image is exact.

    Raises:
        ValueError: If these are no images of one shape.

    Example:
        >>> zero = np.zeros((1, 2, 2, 1))
        >>> round(float(psnr(zero + 25.5, zero)[0]), 6)
        20.0
    """
    x, y = _images(made, truth)
    squared = np.square(x - y).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(peak**2 / squared))


def consistency_psnr(high: np.ndarray, low: np.ndarray, *, peak: float = 255.0) -> np.ndarray:
    """PSNR between an enlargement, shrunk again, and the image that was enlarged.

    What a cascade or a super-resolution model adds must not change what it was given. Each pixel of
    the low resolution is compared with the mean of those it has become (area downsampling). Where
    the low resolution was made by another filter, such as the antialiased ones of Pillow, or is
    rounded to whole levels, the true image does not reach infinity either: its own value is the
    one to compare with.

    Args:
        high: Enlargements ``[N, H, W, C]``.
        low: What was enlarged, ``[N, h, w, C]``, where ``H / h`` and ``W / w`` are whole numbers.
        peak: Difference of the largest and the least value there may be.

    Returns:
        Decibels ``[N]``; infinite where an enlargement is exactly consistent.

    Raises:
        ValueError: If the second are not the first at a lower resolution.

    Example:
        >>> high = np.array([0.0, 51.0, 51.0, 0.0]).reshape(1, 2, 2, 1)
        >>> round(float(consistency_psnr(high, np.zeros((1, 1, 1, 1)))[0]), 6)
        20.0

    References:
        Saharia et al., Image Super-Resolution via Iterative Refinement, arXiv:2104.07636, who
        report consistency as a mean squared error.
    """
    large, small = np.shape(high), np.shape(low)
    if (
        len(large) != 4
        or len(small) != 4
        or not np.size(low)
        or (large[0], large[3]) != (small[0], small[3])
        or large[1] % small[1]
        or large[2] % small[2]
    ):
        raise ValueError(
            "expected enlargements [N, H, W, C] of images [N, h, w, C] by whole factors, got "
            f"{large} and {small}"
        )
    count, height, width, channels = small
    blocks = (count, height, large[1] // height, width, large[2] // width, channels)
    return psnr(np.asarray(high, np.float64).reshape(blocks).mean((2, 4)), low, peak=peak)


def luma(images: np.ndarray, *, peak: float = 255.0) -> np.ndarray:
    """The channel Y of colours as video has it, from 16 to 235 whatever the peak.

    Args:
        images: RGB ``[N, H, W, 3]`` from 0 to ``peak``.
        peak: The largest value.

    Returns:
        Y ``[N, H, W, 1]``, not rounded.

    Raises:
        ValueError: If there are not three channels.

    References:
        ITU-R BT.601-7, section 2.5; ``rgb2ycbcr`` of MATLAB, whose PSNR papers on super-resolution
        report.
    """
    if np.ndim(images) != 4 or np.shape(images)[-1] != 3:
        raise ValueError(f"expected colours [N, H, W, 3], got shape {np.shape(images)}")
    return 16.0 + (np.asarray(images, np.float64) / peak @ _LUMA)[..., None]


def psnr_of_luma(
    made: np.ndarray, truth: np.ndarray, *, border: int = 0, peak: float = 255.0
) -> np.ndarray:
    """PSNR of brightness alone, as papers on super-resolution report it.

    Colours are compared by :func:`luma` with a peak of 255, single channels as they are. What is
    within ``border`` pixels of an edge is left out: by custom as many as the factor of the
    enlargement.

    Args:
        made: Images ``[N, H, W, C]`` of one or three channels.
        truth: What they should be, of the same shape.
        border: Pixels on each side that are not looked at.
        peak: The largest value there may be.

    Returns:
        Decibels ``[N]``.

    Raises:
        ValueError: If these are no such images, or nothing is left of them.

    References:
        Ledig et al., arXiv:1609.04802, section 3.1.
    """
    _images(made, truth)
    height, width, channels = np.shape(made)[1:]
    if not 0 <= border < min(height, width) / 2:
        raise ValueError(
            f"border must be at least 0 and below half of {height} x {width}, got {border}"
        )
    inner = (slice(None), slice(border, height - border), slice(border, width - border))
    pair = [np.asarray(images)[inner] for images in (made, truth)]
    if channels == 3:
        return psnr(*[luma(images, peak=peak) for images in pair])
    return psnr(*pair, peak=peak)


def ssim(made: np.ndarray, truth: np.ndarray, *, peak: float = 255.0) -> np.ndarray:
    r"""Structural similarity of each image, with the authors' window and constants.

    .. math::
        \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
             {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    Moments are those under a Gaussian window of 11 x 11 pixels and standard deviation 1.5,
    :math:`C_1 = (0.01\,\mathrm{peak})^2` and :math:`C_2 = (0.03\,\mathrm{peak})^2`; the mean is
    over the windows that lie within the image, and over channels. It is ``structural_similarity``
    of scikit-image with ``gaussian_weights=True, use_sample_covariance=False``.

    Args:
        made: Images ``[N, H, W, C]``, of at least 11 pixels a side.
        truth: What they should be, of the same shape.
        peak: Difference of the largest and the least value there may be.

    Returns:
        Similarity ``[N]``, 1 for images that are equal.

    Raises:
        ValueError: If these are no such images.

    References:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004,
        eq. 13.
    """
    x, y = _images(made, truth)
    if min(x.shape[1:3]) < _WINDOW:
        raise ValueError(
            f"ssim is of images of at least {_WINDOW} pixels a side, got {x.shape[1]} x "
            f"{x.shape[2]}"
        )
    return np.concatenate([_ssim(x[rows], y[rows], peak) for rows in chunks(len(x))])


def _ssim(x: np.ndarray, y: np.ndarray, peak: float) -> np.ndarray:
    """Similarity of a few images, ``[N]``."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c_1, c_2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    above = (2.0 * mean_x * mean_y + c_1) * (2.0 * covariance + c_2)
    below = (mean_x**2 + mean_y**2 + c_1) * (variance_x + variance_y + c_2)
    return np.asarray((above / below).mean((1, 2, 3)))


def _windowed(images: np.ndarray) -> np.ndarray:
    """Means under the Gaussian window, ``[N, H - 10, W - 10, C]``, of ``[N, H, W, C]``."""
    from scipy import ndimage

    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-0.5 * np.square(offsets / _SIGMA))
    weights /= weights.sum()
    inner = slice(_WINDOW // 2, -(_WINDOW // 2))
    down = ndimage.correlate1d(images, weights, axis=1)[:, inner]
    return np.asarray(ndimage.correlate1d(down, weights, axis=2)[:, :, inner])


def chroma_histogram(images: np.ndarray, *, num_bins: int = 15, peak: float = 255.0) -> np.ndarray:
    """Shares of the pixels by their colour, whatever their brightness.

    Args:
        images: RGB ``[N, H, W, 3]`` from 0 to ``peak``.
        num_bins: Bins of each of the two differences of colour.
        peak: The largest value.

    Returns:
        Shares by the bins of Cb and Cr, ``[num_bins, num_bins]``, of sum 1. Grey is in the middle,
        where an odd number of bins has one and an even number an edge.

    Raises:
        ValueError: If there are not three channels, or not two bins.
    """
    if np.ndim(images) != 4 or np.shape(images)[-1] != 3 or not np.size(images):
        raise ValueError(f"expected colours [N, H, W, 3], got shape {np.shape(images)}")
    if num_bins < 2:
        raise ValueError(f"num_bins must be at least 2, got {num_bins}")
    rgb = np.asarray(images, np.float64).reshape(-1, 3) / peak
    brightness = rgb @ np.array([0.299, 0.587, 0.114])
    # Both from -0.5 to 0.5: 0.564 (B - Y) and 0.713 (R - Y) of BT.601.
    blue, red = (rgb[:, 2] - brightness) / 1.772, (rgb[:, 0] - brightness) / 1.402
    edges = np.linspace(-0.5, 0.5, num_bins + 1)
    edges[[0, -1]] = -np.inf, np.inf  # what rounding has taken out
    counts, _, _ = np.histogram2d(blue, red, bins=(edges, edges))
    return np.asarray(counts / counts.sum())


def chroma_distance(
    made: np.ndarray, truth: np.ndarray, *, num_bins: int = 15, peak: float = 255.0
) -> float:
    """Total variation of the colours of two sets of images.

    It looks at no place: what a model that is unsure of colours, and therefore makes greys, has
    lost shows here and hardly in its error.

    Args:
        made: RGB ``[N, H, W, 3]`` from 0 to ``peak``.
        truth: RGB ``[M, H', W', 3]``.
        num_bins: Bins of each difference of colour: see :func:`chroma_histogram`.
        peak: The largest value.

    Returns:
        Half the sum of differences of shares, in [0, 1]; 0 for the same colours.

    Raises:
        ValueError: If these are no colours.

    Example:
        >>> red, blue = np.zeros((2, 1, 2, 2, 3))
        >>> red[..., 0], blue[..., 2] = 255, 255
        >>> chroma_distance(red, blue), chroma_distance(red, red)
        (1.0, 0.0)

    References:
        Isola et al., arXiv:1611.07004, section 4.2, who report the intersection of histograms, 1
        less this, by channels of Lab.
    """
    ours = chroma_histogram(made, num_bins=num_bins, peak=peak)
    theirs = chroma_histogram(truth, num_bins=num_bins, peak=peak)
    return float(0.5 * np.abs(ours - theirs).sum())


def image_errors(
    made: np.ndarray, truth: np.ndarray, *, peak: float = 255.0, border: int = 0
) -> dict[str, float]:
    """How far images are from the true ones: means over images, and over finite PSNRs.

    Args:
        made: Images ``[N, H, W, C]``.
        truth: What they should be, of the same shape.
        peak: The largest value there may be.
        border: As in :func:`psnr_of_luma`, for that alone.

    Returns:
        ``l1`` and ``l2``, the mean of absolute differences and the root of that of squared ones,
        both as shares of the peak; ``psnr`` in decibels; ``psnr_y`` of images of 1 or 3 channels;
        ``ssim`` of those of at least 11 pixels a side; ``chroma`` of colours; ``num_exact``, the
        number of images without any error, which the PSNRs leave out.

    Raises:
        ValueError: If these are no images of one shape.
    """
    x, y = _images(made, truth)
    gaps = (x - y) / peak
    ratios = psnr(x, y, peak=peak)
    found = {
        "l1": float(np.abs(gaps).mean()),
        "l2": float(np.sqrt(np.square(gaps).mean())),
        "psnr": _finite_mean(ratios),
    }
    if x.shape[-1] in (1, 3):
        found["psnr_y"] = _finite_mean(psnr_of_luma(x, y, border=border, peak=peak))
    if min(x.shape[1:3]) >= _WINDOW:
        found["ssim"] = float(ssim(x, y, peak=peak).mean())
    if x.shape[-1] == 3:
        found["chroma"] = chroma_distance(x, y, peak=peak)
    return {**found, "num_exact": float(np.isinf(ratios).sum())}


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("inf")
