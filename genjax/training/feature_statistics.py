"""Mean and covariance of features in a file, as FID is measured against them.

The layout is that of TTUR, pytorch-fid and clean-fid: an ``.npz`` with the arrays ``mu`` [D] and
``sigma`` [D, D].
"""

import dataclasses
import hashlib
import io
import zipfile
from typing import Any

import numpy as np
from etils import epath

from genjax.training.files import write_atomically

_LAYOUT = "mu [D] and sigma [D, D]"
_ARRAYS = ("mu", "sigma", "description", "features")  # the last two are this package's alone


@dataclasses.dataclass(frozen=True)
class FeatureStatistics:
    """Mean and covariance of the features of some data.

    Attributes:
        mean: Mean ``[D]``, float64.
        covariance: Covariance ``[D, D]``, float64.
        description: Which data or file, for the protocol.
        features: Network of the features, in the words of the protocol; None if it is not known.
    """

    mean: np.ndarray
    covariance: np.ndarray
    description: str
    features: str | None = None


def read_statistics(path: epath.PathLike) -> FeatureStatistics:
    """Reads statistics, of this package or of another.

    Args:
        path: The ``.npz``; further arrays are no matter.

    Returns:
        The statistics; the description has the name of the file and the first digits of its
        SHA-256.

    Raises:
        ValueError: If there is no such file, or it does not hold finite statistics.
    """
    place = epath.Path(path).expanduser()
    if not place.exists():
        raise ValueError(
            f"there is no file {path}; scripts/fid_statistics.py writes one, or take the .npz of "
            "another implementation"
        )
    if place.is_dir():
        raise ValueError(f"{path} is a folder, expected an .npz with {_LAYOUT}")
    content = place.read_bytes()
    try:
        file = np.load(io.BytesIO(content))
        if isinstance(file, np.ndarray):
            raise ValueError("it is a single array")
        with file:
            found: dict[str, Any] = {name: file[name] for name in _ARRAYS if name in file.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as an .npz with {_LAYOUT}: {' '.join(str(error).split())}"
        ) from error
    for name in ("mu", "sigma"):
        if name not in found:
            raise ValueError(f"{path} has no array {name!r}: expected {_LAYOUT}")
    mean, covariance = (_checked(path, name, found[name]) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(
            f"{path} has mu {list(mean.shape)} and sigma {list(covariance.shape)}: expected "
            f"{_LAYOUT}"
        )
    scale = np.abs(covariance).max(initial=0.0)
    if (np.diag(covariance) < 0).any() or np.abs(covariance - covariance.T).max() > 1e-3 * scale:
        raise ValueError(
            f"{path}: sigma is no covariance: expected it symmetric, with a diagonal that is not "
            "negative"
        )
    said = f" of {found['description']}" if "description" in found else ""
    return FeatureStatistics(
        mean,
        covariance,
        f"{place.name}{said}, SHA-256 {hashlib.sha256(content).hexdigest()[:16]}",
        str(found.get("features", "")) or None,
    )


def _checked(path: epath.PathLike, name: str, array: np.ndarray) -> np.ndarray:
    """An array of the file in float64, if it holds finite numbers."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {name} must hold real numbers, got {array.dtype}")
    count = int((~np.isfinite(array)).sum())
    if count:
        raise ValueError(f"{path}: {count} of {array.size} entries of {name} are not finite")
    return np.asarray(array, np.float64)


def write_statistics(path: epath.PathLike, statistics: FeatureStatistics) -> None:
    """Writes statistics where any implementation of FID can read them.

    Args:
        path: The ``.npz``.
        statistics: The statistics; the description is that of the data.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mu=statistics.mean,
        sigma=statistics.covariance,
        description=statistics.description,
        features=statistics.features or "",
    )
    place = epath.Path(path).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, buffer.getvalue())
