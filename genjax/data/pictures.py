"""Pictures as files or bytes, decoded to arrays of one size."""

import concurrent.futures
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from genjax.data.errors import DamagedDataError
from genjax.data.features import ArraySource, Source

Channels = Literal[1, 3, 4]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Decoder:
    """Decodes pictures to 8-bit arrays ``[size, size, channels]``.

    A picture is turned as its camera says, scaled so that its shorter side has ``size`` pixels
    (with Pillow's antialiased Lanczos filter), and cut to the square in the middle.

    Args:
        size: Pixels of a side; None for pictures that already have one size.
        channels: 1 for grey levels, 3 for colours, 4 for colours and opacity. What is transparent
            becomes white where opacity is left out.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, size: int | None, channels: int):
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if channels not in _MODES:
            raise ValueError(f"channels must be 1, 3 or 4, got {channels}")
        self.size = size
        self.channels = channels

    def __call__(self, content: str | bytes) -> np.ndarray:
        """The picture in a file, or in the bytes of one, uint8 ``[H, W, C]``.

        Raises:
            DamagedDataError: If it cannot be decoded.
        """
        from PIL import Image, ImageOps

        try:
            opened: Any = io.BytesIO(content) if isinstance(content, bytes) else content
            with Image.open(opened) as file:
                image: Any = ImageOps.exif_transpose(file)
                image = self._of_mode(image, file.format)
                if self.size is not None:
                    image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.LANCZOS)
                pixels = np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            what = content if isinstance(content, str) else f"a picture of {len(content)} bytes"
            raise DamagedDataError(f"{what} cannot be decoded: {error}") from error
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def _of_mode(self, image: Any, image_format: str | None) -> Any:
        from PIL import Image

        if image.mode == "F" or (image.mode == "I" and image_format != "PNG"):
            raise ValueError(
                "it holds 32-bit numbers, whose scale no one knows; expected 8 or 16 bits a "
                "channel (or save arrays and take data.name 'npy')"
            )
        if image.mode in ("I", "I;16", "I;16B", "I;16L"):
            # Sixteen bits: Pillow's own conversion would clip all but the darkest levels.
            levels = np.asarray(image).astype(np.float64) / 257.0
            image = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
        see_through = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
        if self.channels < 4 and see_through:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return image.convert(_MODES[self.channels])

    def shape(self, contents: Sequence[str | bytes]) -> tuple[int, int, int]:
        """Shape of the pictures, of which the first are looked at if their size is not given.

        Raises:
            ValueError: If they have several sizes.
        """
        if self.size is not None:
            return self.size, self.size, self.channels
        first = self(contents[0]).shape
        for content in contents[1:64]:
            self._check_size(content, self(content).shape, first)
        return first

    def _check_size(self, content: Any, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            what = content if isinstance(content, str) else "one picture"
            raise ValueError(
                f"pictures must have one size: {what} has {found[0]} x {found[1]} pixels, the "
                f"first has {expected[0]} x {expected[1]}; set data.options.size"
            )


class PictureSource:
    """Pictures decoded each time they are asked for, in threads.

    Args:
        contents: ``index -> path or bytes`` of a picture.
        count: Number of pictures.
        decode: The decoder.
        shape: Shape of all pictures.
        **features: Further features of all examples, each ``[N, ...]``.
    """

    def __init__(
        self,
        contents: Callable[[int], str | bytes],
        count: int,
        decode: Decoder,
        shape: tuple[int, ...],
        **features: np.ndarray,
    ):
        self._contents = contents
        self._count = count
        self._decode = decode
        self._shape = shape
        self.features = features

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked.

        Raises:
            DamagedDataError: If a picture cannot be decoded.
            ValueError: If one has another size.
        """
        where = [int(i) for i in indices]

        def one(index: int) -> np.ndarray:
            content = self._contents(index)
            pixels = self._decode(content)
            self._decode._check_size(content, pixels.shape, self._shape)
            return pixels

        if len(where) < 8:
            x = [one(index) for index in where]
        else:
            threads = min(8, os.cpu_count() or 1)
            with concurrent.futures.ThreadPoolExecutor(threads) as pool:
                x = list(pool.map(one, where))
        stacked = np.stack(x) if x else np.zeros((0, *self._shape), np.uint8)
        return {"x": stacked, **{name: rows[where] for name, rows in self.features.items()}}

    def column(self, name: str) -> np.ndarray | None:
        """A feature of all examples; not ``x``, which would have to be decoded."""
        return self.features.get(name)


def kept(source: PictureSource, shape: tuple[int, ...], memory_limit_mib: int) -> Source:
    """The source, decoded once and for all if its pictures fit the memory."""
    if len(source) * int(np.prod(shape)) > memory_limit_mib * 2**20:
        return source
    return ArraySource(**source.rows(np.arange(len(source))))
