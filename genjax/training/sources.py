"""Which runs a run has copied networks from, kept in its workdir.

A run needs the others no more. A pipeline, whose stages belong together, looks here whether a stage
is still made from what the earlier ones are now.
"""

import dataclasses
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from genjax.training.checkpoints import Checkpoints
from genjax.training.files import write_atomically
from genjax.training.workdir import WorkdirError, has_run, resolved

_FILE = "sources.json"
_SECTIONS = ("frozen", "start", "first_stage", "embeddings")
"""Sections whose ``workdir`` is that of a run that is copied from, once."""
_COPIED = ("ema/", "model_state/", "params/")


@dataclasses.dataclass(frozen=True)
class Version:
    """Tells two states of a run apart.

    Attributes:
        step: Number of steps it had taken.
        checksum: CRC-32 over the checksums of its networks, as hexadecimal digits. The same steps
            on the same data have the same, wherever and whenever they are taken.
    """

    step: int
    checksum: str


def named(config: Mapping[str, Any]) -> dict[str, str]:
    """Workdirs of the runs that a config copies from, by the dotted names of their sections.

    Args:
        config: A complete config.

    Returns:
        Those that are copied when the run begins; not those of classifiers that samples are
        measured or guided by, which are read when they are used.

    Example:
        >>> named({"model": {"frozen": {"workdir": "/runs/a"}}})
        {'model.frozen': '/runs/a'}
    """
    return dict(_named(config, ""))


def _named(node: Mapping[str, Any], lead: str) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if not isinstance(value, Mapping):
            continue
        if key in _SECTIONS and isinstance(value.get("workdir"), str):
            # What that run has copied from others is part of it.
            yield f"{lead}{key}", value["workdir"]
        else:
            yield from _named(value, f"{lead}{key}.")


def version(place: epath.PathLike) -> Version | None:
    """The newest state of the run in a workdir, without reading its arrays.

    Returns:
        None if there is no checkpoint, or it is known to be damaged.
    """
    folder = resolved(place)
    if not has_run(folder):
        return None
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.newest()
    if found is None:
        return None
    step, host = found
    kept = {name: crc for name, crc in host.checksums.items() if name.startswith(_COPIED)}
    return Version(step, f"{zlib.crc32(json.dumps(kept, sort_keys=True).encode()):08x}")


def versions(config: Mapping[str, Any]) -> dict[str, Version]:
    """The newest states of the runs that a config copies from, by the names of their sections."""
    found = {where: version(place) for where, place in named(config).items()}
    return {where: one for where, one in found.items() if one is not None}


def write_sources(workdir: epath.Path, copied: Mapping[str, Version]) -> None:
    """Writes down what a run begins with; what is there is of a run that never began."""
    place = workdir / _FILE
    if copied:
        _write(place, {where: [dataclasses.asdict(one)] for where, one in copied.items()})
    else:
        place.unlink(missing_ok=True)


def accept(workdir: epath.Path, where: str, other: Version) -> None:
    """Notes that a run goes on although what it has copied is another now.

    Args:
        workdir: Its workdir.
        where: Name of the section that names what it has copied.
        other: What that is now.
    """
    content = {w: [dataclasses.asdict(one) for one in v] for w, v in read_sources(workdir).items()}
    content.setdefault(where, []).append(dataclasses.asdict(other))
    _write(workdir / _FILE, content)


def read_sources(workdir: epath.Path) -> dict[str, list[Version]]:
    """What a run was copied from, by section: the version it has, then those accepted since.

    Raises:
        WorkdirError: If the file is damaged.
    """
    place = workdir / _FILE
    if not place.exists():
        return {}
    try:
        content = json.loads(place.read_text())
        return {
            where: [Version(int(one["step"]), str(one["checksum"])) for one in found]
            for where, found in content.items()
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise WorkdirError(
            f"{place}, which says what the run has copied, is damaged ({type(error).__name__}: "
            f"{error}); delete it to go on unchecked"
        ) from error


def _write(place: epath.Path, content: Mapping[str, Any]) -> None:
    write_atomically(place, json.dumps(content, indent=2, sort_keys=True) + "\n")
