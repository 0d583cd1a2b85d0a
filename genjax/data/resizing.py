"""Images of another size, with Pillow's filters, which do not alias where they shrink."""

from typing import Literal, TypeAlias

import numpy as np

Method: TypeAlias = Literal["box", "bilinear", "bicubic", "lanczos"]
"""Filters of Pillow."""


def resized(x: np.ndarray, height: int, width: int, method: Method = "bicubic") -> np.ndarray:
    """Images of another size.

    Where images shrink the filter widens by as much, so that nothing aliases; where they grow it
    interpolates, with the cubic of Keys and a = -0.5 for ``"bicubic"``.

    Args:
        x: Images ``[N, H, W, C]`` of bytes or real numbers.
        height: Pixels of a column of the result.
        width: Pixels of a row of the result.
        method: The filter.

    Returns:
        Images ``[N, height, width, C]`` of the type of ``x``: of bytes rounded and clipped to what
        bytes hold, of real numbers computed in float32.

    Raises:
        ValueError: If ``x`` holds something else.

    References:
        Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.
    """
    from PIL import Image

    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"resize is for bytes or real numbers, got {x.dtype}")
    resample = Image.Resampling[method.upper()]
    planes = np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3])
    if x.dtype != np.uint8:
        planes = planes.astype(np.float32)
    made = [
        np.asarray(Image.fromarray(plane).resize((width, height), resample)) for plane in planes
    ]
    stacked = np.stack(made).reshape(len(x), x.shape[-1], height, width)
    return np.ascontiguousarray(np.moveaxis(stacked, 1, -1)).astype(x.dtype)
