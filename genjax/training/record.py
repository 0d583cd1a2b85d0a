"""What a run was trained on, kept in its workdir: another data set does not go on with it."""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from genjax.data import DataSet, Feature, difference, identity, vocabularies
from genjax.training.experiment import Stream
from genjax.training.logs import write_atomically
from genjax.training.workdir import WorkdirError

_FILE = "data.json"
VOCABULARY_FILE = "vocabulary.json"
"""What the numbers of texts stand for, by feature; in workdirs of runs that have texts."""


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


def write_record(
    workdir: epath.Path, record: Mapping[str, Any], spec: Mapping[str, Feature]
) -> None:
    """Writes down what a run is trained on, and the vocabularies of its features."""
    write_atomically(workdir / _FILE, json.dumps(record, indent=2, sort_keys=True) + "\n")
    words = {name: f.vocabulary.as_json() for name, f in spec.items() if f.vocabulary is not None}
    if words:
        write_atomically(workdir / VOCABULARY_FILE, json.dumps(words, indent=2) + "\n")


def check_words(
    workdir: epath.Path, recorded: Mapping[str, Any], streams: Mapping[str, Stream]
) -> None:
    """Refuses texts of which the same numbers are other words than those of the run.

    Args:
        workdir: The workdir, for the message.
        recorded: What the run was trained on.
        streams: What it is to be used with.

    Raises:
        WorkdirError: If a vocabulary differs.
    """
    for name, stream in streams.items():
        before = recorded.get(name, {}).get("train", {}).get("features", {})
        for feature, own in vocabularies(stream.train.spec).items():
            if feature in before and before[feature].get("vocabulary") != own:
                where = f"data.streams.{name}" if name else "data"
                raise WorkdirError(
                    f"the vocabulary of {feature} is not that of the run in {workdir}, which its "
                    f"{VOCABULARY_FILE} has: point {where}.data_dir to the texts that it was "
                    "trained on, or allow_config_change to go on with other words all the same"
                )


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
