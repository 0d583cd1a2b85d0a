"""The part of a checkpoint that is no array: the loop's own, scores, and what the arrays must be.

It is a line of JSON and a second line with the CRC-32 of the first.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from genjax.data.identity import crc32

FILE = "metadata"
"""Name of the file in the folder ``host`` of a checkpoint."""


@dataclasses.dataclass(frozen=True)
class HostPart:
    """What a checkpoint says besides its arrays.

    Attributes:
        window: Metrics of the steps since the last line of the log, as the loop keeps them; JSON.
        scores: Numbers that the evaluation of this very state found.
        checksums: CRC-32 of the bytes of each array. None for one that no process could read whole.
        shapes: Type and shape of each array, such as ``float32[2, 3]``. None in checkpoints of
            before, which have neither this, nor scores, nor a checksum of this part: they are read
            as they stand, and arrays without a checksum are believed.
    """

    window: Sequence[Any]
    scores: Mapping[str, float]
    checksums: Mapping[str, int | None]
    shapes: Mapping[str, str] | None

    def encoded(self) -> bytes:
        """The content of the file."""
        shapes = self.shapes or {}
        arrays = {name: [shape, self.checksums.get(name)] for name, shape in shapes.items()}
        content = {"window": self.window, "scores": self.scores, "arrays": arrays}
        line = json.dumps(content).encode()
        return b"%s\n%s\n" % (line, json.dumps({"crc32": zlib.crc32(line)}).encode())

    def check(self, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        """Whether restored arrays are those that were saved.

        Args:
            arrays: Those that this process can read whole, by name.
            names: Names of all arrays of the state.

        Raises:
            ValueError: If one has changed, or has no checksum that should have one.
        """
        unknown = sorted(set(self.checksums) - set(names))
        if unknown:
            raise ValueError(f"it has a checksum of {unknown[0]}, which is no array of the state")
        for name, array in arrays.items():
            if name not in self.checksums and self.shapes is not None:
                raise ValueError(f"it has no checksum of {name}")
            expected = self.checksums.get(name)
            if expected is not None and crc32(array) != expected:
                raise ValueError(f"the content of {name} has changed since it was saved")


def decoded(data: bytes) -> HostPart:
    """Reads what :meth:`HostPart.encoded` has written, or versions of before.

    Raises:
        ValueError: If it is damaged.
    """
    line, _, rest = data.partition(b"\n")
    try:
        content = json.loads(line)
        if rest and json.loads(rest)["crc32"] != zlib.crc32(line):
            raise ValueError("its checksum is another")
        if rest:
            arrays = content["arrays"]
            checksums = {name: crc for name, (_, crc) in arrays.items()}
            shapes = {name: shape for name, (shape, _) in arrays.items()}
            return HostPart(content["window"], content["scores"], checksums, shapes)
        before = HostPart(content["loop"]["window"], {}, content["checksums"], None)
        if not _is_sound(before):
            raise ValueError("it is no such file")
        return before
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"its host part is damaged: {reason}") from error


def _is_sound(part: HostPart) -> bool:
    """Whether a part without a checksum of its own is at least of the right types."""
    steps = [step for step, _ in part.window]
    rows = all(
        isinstance(value, float | int) and math.isfinite(value)
        for _, row in part.window
        for value in row.values()
    )
    consecutive = all(isinstance(step, int) for step in steps) and (
        not steps or steps == list(range(steps[0], steps[0] + len(steps)))
    )
    return rows and consecutive and all(isinstance(crc, int) for crc in part.checksums.values())


class HostHandler(ocp.AsyncCheckpointHandler):
    """Writes the part, with checksums that are computed while Orbax writes the arrays.

    Checksums of a large state take as long as writing it, which training need not wait for.
    """

    async def async_save(self, directory: Any, args: "HostArgs") -> Any:
        """Starts to write."""

        async def write() -> None:
            if not jax.process_index():
                found = {name: crc32(copy) for name, copy in args.copies.items()}
                part = dataclasses.replace(args.part, checksums=found)
                (directory / FILE).write_bytes(part.encoded())

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="host")]

    def save(self, directory: Any, args: "HostArgs") -> None:
        """Not called: the manager saves asynchronously."""
        raise NotImplementedError

    def restore(self, directory: Any, args: Any = None) -> HostPart:
        """Reads what was written."""
        return decoded((directory / FILE).read_bytes())


@ocp.args.register_with_handler(HostHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class HostArgs(ocp.args.CheckpointArgs):
    """What is saved.

    Attributes:
        part: The part, but for the checksums.
        copies: The arrays they are of.
    """

    part: HostPart
    copies: Mapping[str, np.ndarray]
