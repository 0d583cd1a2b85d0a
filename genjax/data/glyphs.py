"""Letters and digits of the fonts that matplotlib ships: small pictures with known attributes."""

import dataclasses
import functools
import os
import string
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import ArraySource, DataSet, Feature
from genjax.data.splits import held_out

CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
HELD_OUT_FONTS = ("DejaVuSerif-Italic", "STIXGeneralBol", "cmr10", "cmss10")
"""Faces that ``split_by="font"`` tests on; each has another face of the same attributes."""
ATTRIBUTES = {
    "weight": ("regular", "bold"),
    "slant": ("upright", "italic"),
    "serif": ("sans", "serif"),
    "width": ("proportional", "monospace"),
}
"""What is known of faces, with what it may be."""
# Positions in ATTRIBUTES, in their order. Oblique faces count as italic.
FACES: Mapping[str, tuple[int, int, int, int]] = {
    "DejaVuSans": (0, 0, 0, 0),
    "DejaVuSans-Bold": (1, 0, 0, 0),
    "DejaVuSans-Oblique": (0, 1, 0, 0),
    "DejaVuSans-BoldOblique": (1, 1, 0, 0),
    "DejaVuSansMono": (0, 0, 0, 1),
    "DejaVuSansMono-Bold": (1, 0, 0, 1),
    "DejaVuSansMono-Oblique": (0, 1, 0, 1),
    "DejaVuSansMono-BoldOblique": (1, 1, 0, 1),
    "DejaVuSerif": (0, 0, 1, 0),
    "DejaVuSerif-Bold": (1, 0, 1, 0),
    "DejaVuSerif-Italic": (0, 1, 1, 0),
    "DejaVuSerif-BoldItalic": (1, 1, 1, 0),
    "STIXGeneral": (0, 0, 1, 0),
    "STIXGeneralBol": (1, 0, 1, 0),
    "STIXGeneralItalic": (0, 1, 1, 0),
    "STIXGeneralBolIta": (1, 1, 1, 0),
    "cmr10": (0, 0, 1, 0),
    "cmb10": (1, 0, 1, 0),
    "cmss10": (0, 0, 0, 0),
    "cmti10": (0, 1, 1, 0),
    "cmtt10": (0, 0, 1, 1),
}
"""Names of the files of the faces, and weight, slant, serif and width of each."""
_DESIGNS = ("DejaVu", "STIX", "cm")  # how names of faces begin; none has two of the same attributes
_UNITS_PER_EM = 100  # of outlines
_MARGIN = 1 / 14  # of the side, on each side of the tallest or widest character of a face
_SHIFT, _LEAST_SIZE, _SHEAR = 1 / 14, 0.8, 0.1
_LARGEST = 256


def glyphs(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    size: int = 28,
    variants: int = 4,
    seed: int = 0,
    split_by: Literal["combination", "font"] = "combination",
    only: Mapping[str, str] | None = None,
    source: Mapping[str, str] | None = None,
    partner: Mapping[str, str] | None = None,
) -> DataSet:
    """The 62 characters A-Z, a-z and 0-9 in the 21 Latin faces that matplotlib ships.

    Outlines are drawn without hinting, white on black, with the share of each pixel that they
    cover. All characters of a face have one scale, at which the tallest reach from descenders to
    ascenders, or the widest from side to side, leaves a margin of a 14th of the picture; they stand
    on one baseline, the middle of that reach in the middle of the picture, and each is centred
    between left and right.

    Args:
        split: ``train`` or ``test``.
        data_dir: Not looked at: the fonts are where matplotlib is.
        memory_limit_mib: Larger sets are refused.
        size: Pixels of a side.
        variants: Further pictures of each of the 1,302 glyphs: of 0.8 to 1 times the size, sheared
            by up to 0.1 (an oblique face is by 0.2), and shifted by up to a 14th of the picture
            each way, but not out of it. They belong to the split of their glyph.
        seed: Seed of the variants.
        split_by: What the test split holds: ``"combination"``, a tenth of the pairs of character
            and face, always the same ones, whose characters and faces all occur in training in
            other pairs; or ``"font"``, the faces DejaVuSerif-Italic, STIXGeneralBol, cmr10 and
            cmss10 as a whole.
        only: Attributes of the faces that are kept, such as ``{"serif": "sans"}``; None for all.
        source: Attributes that the feature ``source`` differs in, such as
            ``{"weight": "regular"}``: it is the same character in the face of the same design
            (DejaVu, STIX or Computer Modern) that has these and else the attributes of the row's.
            Rows that have them already, or whose design has no such face, are left out. Variants
            are changed alike, as far as neither picture is cut.
        partner: As ``source``, for a feature ``partner``: the truth of a task that is learnt
            without pairs.

    Returns:
        The split: ``x`` uint8 ``[size, size, 1]``; ``label``, the character; and ``font``,
        ``weight``, ``slant``, ``serif`` and ``width`` of its face, all with names of classes;
        ``source`` and ``partner``, as ``x``, where they are asked for.

    Raises:
        MissingDataError: If the installed matplotlib lacks a face, or a face a character.
        ValueError: If an argument is out of range.
    """
    del data_dir
    check_size(size, variants, seed, pictures=1 + variants, memory_limit_mib=memory_limit_mib)
    if split_by not in ("combination", "font"):
        raise ValueError(f"split_by must be 'combination' or 'font', got {split_by!r}")
    if split not in ("train", "test"):
        raise ValueError(f"glyphs has the splits train and test, got {split!r}")
    face, character = np.divmod(_pairs(split, split_by), len(CHARACTERS))
    wanted = {n: _counterparts(n, w) for n, w in (("source", source), ("partner", partner)) if w}
    kept = _having("only", only or {})[face]
    for others in wanted.values():
        kept &= others[face] >= 0
    face, character = face[kept], character[kept]
    if not len(face):
        raise ValueError("no glyph has what only, source and partner ask for")
    pictures = drawn(size, variants, seed)[:, face, character]
    ids = {"label": character, "font": face}
    ids |= {n: np.array(list(FACES.values()))[face, i] for i, n in enumerate(ATTRIBUTES)}
    arrays = {name: np.tile(of_one, 1 + variants).astype(np.int32) for name, of_one in ids.items()}
    names = {"label": tuple(CHARACTERS), "font": tuple(FACES), **ATTRIBUTES}
    spec = {"x": Feature((size, size, 1), np.dtype(np.uint8), num_levels=256)}
    for name, classes in names.items():
        spec[name] = Feature((), np.dtype(np.int32), None, len(classes), classes)
    arrays["x"] = pictures.reshape(-1, size, size, 1)
    for name, others in wanted.items():
        others_drawn = drawn(size, variants, seed, tuple(others.tolist()))[:, face, character]
        arrays[name], spec[name] = others_drawn.reshape(-1, size, size, 1), spec["x"]
    return DataSet("glyphs", ArraySource(**arrays), spec, origin=versions())


def check_size(
    size: int, variants: int, seed: int, *, pictures: int, memory_limit_mib: int
) -> None:
    """Refuses arguments that are out of range, and sets that are too large.

    Args:
        size: Pixels of a side.
        variants: Further pictures of each glyph.
        seed: Seed of these.
        pictures: Pictures of each glyph in all.
        memory_limit_mib: Larger sets are refused.

    Raises:
        ValueError: If they are.
    """
    if not 8 <= size <= _LARGEST:
        raise ValueError(f"size must be from 8 to {_LARGEST} pixels, got {size}")
    if variants < 0 or seed < 0:
        raise ValueError(f"variants and seed must be at least 0, got {variants} and {seed}")
    mib = len(FACES) * len(CHARACTERS) * pictures * size**2 / 2**20
    if mib > memory_limit_mib:
        raise ValueError(
            f"glyphs of this size take {mib:.0f} MiB and are held in memory: lower size or "
            "variants, or raise data.memory_limit_mib"
        )


def _having(option: str, attributes: Mapping[str, str]) -> np.ndarray:
    """Which faces have some attributes, booleans ``[faces]``."""
    faces = np.array(list(FACES.values()))
    found = np.ones(len(faces), bool)
    for name, value in attributes.items():
        if value not in ATTRIBUTES.get(name, ()):
            known = "; ".join(f"{n}: {', '.join(v)}" for n, v in ATTRIBUTES.items())
            raise ValueError(f"{option}: no glyph has {name} {value!r}; they have {known}")
        number = list(ATTRIBUTES).index(name)
        found &= faces[:, number] == ATTRIBUTES[name].index(value)
    return found


def _counterparts(option: str, attributes: Mapping[str, str]) -> np.ndarray:
    """The face of the same design with other attributes, ``[faces]``; -1 where there is none."""
    designs = [next(d for d in _DESIGNS if name.startswith(d)) for name in FACES]
    changed = np.array(list(FACES.values()))
    already = _having(option, attributes)
    for name, value in attributes.items():
        changed[:, list(ATTRIBUTES).index(name)] = ATTRIBUTES[name].index(value)
    position = {
        (design, of_face): number
        for number, (design, of_face) in enumerate(zip(designs, FACES.values(), strict=True))
    }
    wanted = zip(designs, map(tuple, changed.tolist()), strict=True)
    return np.where(already, -1, [position.get(key, -1) for key in wanted])  # type: ignore[arg-type]


def _pairs(split: str, split_by: str) -> np.ndarray:
    """Pairs of face and character of a split: the first times 62, plus the second."""
    count = len(FACES) * len(CHARACTERS)
    if split_by == "combination":
        return held_out(count, 0.1, split)
    tested = np.repeat([name in HELD_OUT_FONTS for name in FACES], len(CHARACTERS))
    return np.flatnonzero(tested == (split == "test"))


def versions() -> dict[str, str]:
    """Versions that the pictures depend on."""
    import matplotlib
    from matplotlib import ft2font

    return {"matplotlib": matplotlib.__version__, "FreeType": ft2font.__freetype_version__}


@dataclasses.dataclass(frozen=True)
class _Outline:
    """The outline of a glyph.

    Attributes:
        path: A matplotlib path, of 100 units an em, y upwards from the baseline.
        low: Least x and y ``[2]``.
        high: Largest x and y ``[2]``.
    """

    path: Any
    low: np.ndarray
    high: np.ndarray


@functools.lru_cache(maxsize=1)
def _outlines() -> tuple[tuple[_Outline, ...], ...]:
    """Outlines of all characters of each face."""
    import matplotlib
    from matplotlib import ft2font
    from matplotlib.path import Path

    # An enumeration from matplotlib 3.10 on.
    flags = getattr(ft2font, "LoadFlags", None)
    unhinted = ft2font.LOAD_NO_HINTING if flags is None else flags.NO_HINTING  # type: ignore[attr-defined]
    folder = os.path.join(matplotlib.get_data_path(), "fonts", "ttf")
    version = f"matplotlib {matplotlib.__version__}"
    faces = []
    for name in FACES:
        place = os.path.join(folder, f"{name}.ttf")
        if not os.path.exists(place):
            raise MissingDataError(
                f"{version} has no font {place}, which glyphs are drawn from; install a "
                "matplotlib from PyPI, whose fonts are complete"
            )
        try:
            font = ft2font.FT2Font(place)
            font.set_size(_UNITS_PER_EM, 72)
        except RuntimeError as error:
            raise DamagedDataError(f"the font {place} cannot be read: {error}") from error
        found = []
        for character in CHARACTERS:
            if not font.get_char_index(ord(character)):
                raise MissingDataError(f"the font {place} of {version} has no {character!r}")
            font.load_char(ord(character), flags=unhinted)
            path = Path(*font.get_path())
            found.append(_Outline(path, *_bounds(path)))
        faces.append(tuple(found))
    return tuple(faces)


def _bounds(path: Any) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest x and y of a path of lines and quadratic curves."""
    points, codes = path.vertices, path.codes
    # Of a curve the control point and the end have the code, the beginning stands before them.
    control, end = np.flatnonzero(codes == path.CURVE3).reshape(-1, 2).T
    first, middle, last = points[control - 1], points[control], points[end]
    bend = first - 2.0 * middle + last
    # Where a coordinate of the curve turns, if it does so between its ends.
    turn = np.clip((first - middle) / np.where(bend == 0.0, np.inf, bend), 0.0, 1.0)
    turned = (1 - turn) ** 2 * first + 2 * turn * (1 - turn) * middle + turn**2 * last
    on_line = (codes == path.MOVETO) | (codes == path.LINETO)
    every = np.concatenate([points[on_line], last, turned])
    return every.min(0), every.max(0)


@functools.lru_cache(maxsize=4)
def drawn(size: int, variants: int, seed: int, others: tuple[int, ...] | None = None) -> np.ndarray:
    """All pictures, uint8 ``[1 + variants, faces, characters, size, size]``.

    Args:
        size: Pixels of a side.
        variants: Further pictures of each glyph.
        seed: Seed of these.
        others: Positions of the faces to draw in the places of all, changed as the variants of
            those are; below 0 for the face itself. None for each its own.
    """
    from matplotlib.transforms import Affine2D

    faces = _outlines()
    if others is not None:
        faces = tuple(
            faces[other] if other >= 0 else own for own, other in zip(faces, others, strict=True)
        )
    made = np.empty((1 + variants, len(faces), len(CHARACTERS), size, size), np.uint8)
    for variant in range(1 + variants):
        # A generator each, so that more variants leave those before them as they were.
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, variant))))
        change = rng.uniform(-1.0, 1.0, (len(faces), len(CHARACTERS), 4))
        if not variant:
            change[:] = 0.0
            change[..., 0] = 1.0  # full size
        for number, outlines in enumerate(faces):
            low = np.min([o.low for o in outlines], 0)
            high = np.max([o.high for o in outlines], 0)
            widest = max(float((o.high - o.low)[0]) for o in outlines)
            scale = (1 - 2 * _MARGIN) * size / max(high[1] - low[1], widest)
            placed = [
                _placed(outline, scale, (low[1] + high[1]) / 2, size, change[number, i])
                for i, outline in enumerate(outlines)
            ]
            row = [(o.path, Affine2D(m)) for o, m in zip(outlines, placed, strict=True)]
            made[variant, number] = _in_a_row(row, size)
    return made


def _placed(
    outline: _Outline, scale: float, middle: float, size: int, change: np.ndarray
) -> np.ndarray:
    """Where an outline comes to lie in a picture, y upwards.

    Args:
        outline: The outline.
        scale: Pixels a unit.
        middle: The y that comes to lie in the middle of the picture.
        size: Pixels of a side.
        change: Numbers in [-1, 1] that size, shear, and shifts to the right and upwards are made
            of.

    Returns:
        The affine map, ``[3, 3]``.
    """
    scale = scale * (_LEAST_SIZE + (1 - _LEAST_SIZE) * (change[0] + 1) / 2)
    linear = scale * np.array([[1.0, _SHEAR * change[1]], [0.0, 1.0]])
    centre = np.array([(outline.low[0] + outline.high[0]) / 2, middle])
    # Of a sheared box, whose ends the outline need not reach.
    corners = np.array([[x, y] for x in (outline.low[0], outline.high[0])
                        for y in (outline.low[1], outline.high[1])])  # fmt: skip
    reach = (corners - centre) @ linear.T + size / 2
    low, high = reach.min(0), reach.max(0)
    offset = np.clip(_SHIFT * size * change[2:], np.minimum(-low, 0), np.maximum(size - high, 0))
    made = np.eye(3)
    made[:2, :2] = linear
    made[:2, 2] = size / 2 + offset - linear @ centre
    return made


def _in_a_row(outlines: list[tuple[Any, Any]], size: int) -> np.ndarray:
    """Pictures of paths with their maps, uint8 ``[N, size, size]``: how much of a pixel is inside.

    Every path must lie within its picture.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    renderer = RendererAgg(len(outlines) * size, size, 72.0)
    context = renderer.new_gc()
    context.set_linewidth(0.0)
    context.set_snap(False)
    for number, (path, transform) in enumerate(outlines):
        moved = transform.translate(number * size, 0.0)
        renderer.draw_path(context, path, moved, rgbFace=(1.0, 1.0, 1.0))
    coverage = np.asarray(renderer.buffer_rgba())[..., 3]
    return coverage.reshape(size, len(outlines), size).swapaxes(0, 1)
