"""What a run was trained on, kept in its workdir: another data set does not go on with it."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from genjax.data import DataSet, difference, identity
from genjax.training.experiment import Stream
from genjax.training.logs import write_atomically
from genjax.training.workdir import WorkdirError

_FILE = "data.json"


def record_of(streams: Mapping[str, Stream]) -> dict[str, Any]:
    """Identities of the splits of all streams, JSON data."""
    return {
        name: {"train": identity(stream.train), "test": identity(stream.test)}
        for name, stream in streams.items()
    }


def read_record(workdir: epath.Path) -> dict[str, Any] | None:
    """What a run was trained on; None if it did not say.

    Raises:
        WorkdirError: If it cannot be read.
    """
    place = workdir / _FILE
    if not place.exists():
        return None
    try:
        found = json.loads(place.read_text())
        for stream in found.values():
            for split in ("train", "test"):
                difference(stream[split], stream[split])
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise WorkdirError(
            f"{place}, which says what the run was trained on, is damaged "
            f"({type(error).__name__}: {error}); allow_config_change writes it anew"
        ) from error
    return dict(found)


def write_record(workdir: epath.Path, record: Mapping[str, Any]) -> None:
    """Writes down what a run is trained on."""
    write_atomically(workdir / _FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")


def check_record(
    workdir: epath.Path, recorded: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    """Refuses data that is not the run's.

    Args:
        workdir: The workdir, for the message.
        recorded: What the run was trained on.
        found: What it would go on with; a split that is not there is not compared.

    Raises:
        WorkdirError: If they differ.
    """
    for name, splits in found.items():
        for split, own in splits.items():
            before = recorded.get(name, {}).get(split)
            changed = None if before is None else difference(before, own)
            if changed is not None:
                where = f"data.streams.{name}" if name else "data"
                raise WorkdirError(
                    f"the data differs from that of the run in {workdir}: {where}.{split}_split "
                    f"({own['name']}) has {changed}; point {where}.data_dir to the run's data, use "
                    "another workdir, or allow_config_change to go on all the same"
                )


def is_of(record: Mapping[str, Any], dataset: DataSet) -> bool:
    """Whether a split is one of those that a run was trained or tested on."""
    own = identity(dataset)
    return any(
        difference(recorded, own) is None
        for splits in record.values()
        for recorded in splits.values()
    )
