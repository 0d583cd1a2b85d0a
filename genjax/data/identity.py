"""What a run was trained on, in a few lines that tell one data set from another."""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.data.features import ArraySource, DataSet, Feature

# Rows that are read of a set which is not in memory: all of it may take hours.
_NUM_ROWS = 64


def identity(dataset: DataSet) -> dict[str, Any]:
    """What tells a split from another: its features, its length and checksums.

    There is a checksum of 64 rows from first to last, and one of all rows of a set in memory.

    Args:
        dataset: The split.

    Returns:
        JSON data.
    """
    count = len(dataset.source)
    some = np.linspace(0, count - 1, min(count, _NUM_ROWS)).astype(int)
    checksums = {f"{len(some)} rows": _checksum(dataset.source.rows(some))}
    if isinstance(dataset.source, ArraySource):
        checksums["all rows"] = _checksum(dataset.source.arrays)
    words = vocabularies(dataset.spec)
    return {
        "name": dataset.name,
        "num_examples": count,
        "features": {
            name: {
                "shape": list(feature.shape),
                "dtype": np.dtype(feature.dtype).name,
                "num_levels": feature.num_levels,
                "num_classes": feature.num_classes,
                **({"class_names": list(feature.class_names)} if feature.class_names else {}),
                **({"vocabulary": words[name]} if name in words else {}),
            }
            for name, feature in sorted(dataset.spec.items())
        },
        "checksums": checksums,
        **({"origin": dict(dataset.origin)} if dataset.origin else {}),
    }


def vocabularies(spec: Mapping[str, Feature]) -> dict[str, dict[str, Any]]:
    """What tells vocabularies from others: the same numbers may be other words.

    Args:
        spec: Features.

    Returns:
        Kind, size and checksum by feature, of those that have a vocabulary.
    """
    found = {}
    for name, feature in spec.items():
        vocabulary = feature.vocabulary
        if vocabulary is None:
            continue
        total = 0
        for part in ("\0".join(vocabulary.tokens), vocabulary.definition):
            total = crc32(np.frombuffer(part.encode(), np.uint8), total)
        found[name] = {
            "kind": vocabulary.kind, "size": vocabulary.size, "checksum": f"{total:08x}"
        }  # fmt: skip
    return found


def _checksum(rows: Mapping[str, np.ndarray]) -> str:
    total = 0
    for name in sorted(rows):
        total = crc32(rows[name], total)
    return f"{total:08x}"


def crc32(array: np.ndarray, before: int = 0) -> int:
    """CRC-32 of the bytes of an array, row by row.

    Args:
        array: The array.
        before: That of what comes before it.
    """
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, before)


def difference(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """What shows that a split is not the one that was recorded, in words; None if nothing does.

    The name is none of it: the same rows may lie elsewhere. Neither is the origin, which is said
    where something else differs. Checksums are compared where both are over the same rows: those
    of all depend on the memory a set may take.

    Args:
        recorded: An :func:`identity`.
        found: Another.

    Example:
        >>> old = {"num_examples": 5, "features": {}, "checksums": {"5 rows": "0"}}
        >>> difference(old, {**old, "num_examples": 4})
        '4 examples in place of 5'
    """
    changed = _changed(recorded, found)
    before, now = recorded.get("origin"), found.get("origin")
    if changed is None or before == now:
        return changed
    return f"{changed}; it comes of {_origin(now)}, and came of {_origin(before)}"


def _origin(origin: Mapping[str, str] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (origin or {}).items()) or "elsewhere"


def _changed(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """What differs between two identities."""
    features, others = recorded.get("features", {}), found.get("features", {})
    for name in sorted(set(features) | set(others)):
        old, new = features.get(name), others.get(name)
        if old and new and old.get("vocabulary") != new.get("vocabulary"):
            return f"another vocabulary of {name}"
        if old != new:
            return f"{name} is {_feature(new)} in place of {_feature(old)}"
    if recorded.get("num_examples") != found.get("num_examples"):
        return f"{found.get('num_examples')} examples in place of {recorded.get('num_examples')}"
    before, now = recorded["checksums"], found["checksums"]
    for rows in before.keys() & now.keys():
        if before[rows] != now[rows]:
            return f"other values (checksum of {rows}: {now[rows]}, not {before[rows]})"
    return None


def _feature(feature: Mapping[str, Any] | None) -> str:
    if feature is None:
        return "absent"
    kind = {"num_levels": "grey levels", "num_classes": "classes"}
    kinds = [f"{feature[key]} {word}" for key, word in kind.items() if feature.get(key)]
    kinds += [f"named {', '.join(feature['class_names'])}"] if feature.get("class_names") else []
    return " of ".join([f"{feature.get('dtype')}{feature.get('shape')}", *kinds])
