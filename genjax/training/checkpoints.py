"""Checkpoints with Orbax: asynchronous, atomic, and restored past damage."""

import contextlib
import dataclasses
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.sharding import NamedSharding
from orbax.checkpoint import checkpoint_managers as managers

from genjax.families.base import TrainState
from genjax.training.logs import write_atomically
from genjax.training.mesh import leaf_name

# A machine in trouble, not a damaged file: the checkpoint stays where it is.
_NOT_DAMAGE = (MemoryError, PermissionError)


_HOST_FILE = "metadata"


class CheckpointError(RuntimeError):
    """There is no checkpoint that can be read."""


class SaveError(RuntimeError):
    """A checkpoint could not be written; the older ones are as they were."""


@dataclasses.dataclass(frozen=True)
class Resumed:
    """Where a run goes on.

    Attributes:
        step: Number of steps it has taken.
        state: Its state, or None if it has not begun.
        window: Metrics of the steps since the last line of the log, as the loop keeps them.
        actions_due: Whether evaluation and samples of this very state are still to come: it was
            saved when they were cut short.
    """

    step: int = 0
    state: TrainState | None = None
    window: Sequence[Any] = ()
    actions_due: bool = False


class _HostHandler(ocp.AsyncCheckpointHandler):
    """JSON beside the arrays, with checksums that are computed while Orbax writes them.

    Checksums of a large state take as long as writing it, which training need not wait for.
    """

    async def async_save(self, directory: Any, args: "_HostSave") -> Any:
        """Starts to write."""

        async def write() -> None:
            if not jax.process_index():
                checksums = {name: _checksum(copy) for name, copy in args.copies.items()}
                content = {"loop": {"window": args.window}, "checksums": checksums}
                (directory / _HOST_FILE).write_text(json.dumps(content))

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="host")]

    def save(self, directory: Any, args: "_HostSave") -> None:
        """Not called: the manager saves asynchronously."""
        raise NotImplementedError

    def restore(self, directory: Any, args: "_HostRestore") -> Any:
        """Reads what was written."""
        return json.loads((directory / _HOST_FILE).read_text())


@ocp.args.register_with_handler(_HostHandler, for_save=True)
@dataclasses.dataclass
class _HostSave(ocp.args.CheckpointArgs):
    window: Sequence[Any]
    copies: Mapping[str, np.ndarray]


@ocp.args.register_with_handler(_HostHandler, for_restore=True)
@dataclasses.dataclass
class _HostRestore(ocp.args.CheckpointArgs):
    pass


class Checkpoints:
    """The checkpoints of a run in ``workdir/checkpoints``.

    Kept are the last few and the one with the lowest ``best_metric``. A save returns once the state
    is copied; the files are written meanwhile and appear under their step only when complete, so a
    process may die at any moment.

    Args:
        workdir: Directory of the run.
        keep: Number of latest checkpoints to keep.
        best_metric: Metric whose lowest value marks the best checkpoint.
        read_only: Never write or delete.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        keep: int = 3,
        best_metric: str = "eval/bits_per_dim",
        read_only: bool = False,
    ):
        self._directory = epath.Path(workdir) / "checkpoints"
        self._due = epath.Path(workdir) / "actions_due"
        self._best_metric = best_metric
        self._read_only = read_only
        best = managers.BestN(
            get_metric_fn=lambda metrics: -metrics[best_metric],  # what sorts highest is kept
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        options = ocp.CheckpointManagerOptions(
            # Without it Orbax does not write the metrics down, and a resumed run forgets the best.
            best_fn=lambda metrics: metrics[best_metric],
            best_mode="min",
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(keep), best]),
            create=not read_only,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "host": _HostHandler(),
            },
        )

    def save(
        self,
        step: int,
        state: TrainState,
        window: Sequence[Any],
        metrics: Mapping[str, float] | None = None,
        *,
        actions_due: bool = False,
    ) -> None:
        """Starts saving.

        Args:
            step: Step of the state; nothing happens if it is saved already.
            state: State on devices.
            window: What the loop itself needs to resume exactly; JSON.
            metrics: Metrics of this very state, if it was evaluated.
            actions_due: Note that evaluation and samples of this state are still to come.

        Raises:
            SaveError: If the save before could not be completed.
        """
        if actions_due and not jax.process_index():
            write_atomically(self._due, str(step))
        if step in self._manager.all_steps():
            return
        score = (metrics or {}).get(self._best_metric, math.inf)
        if not math.isfinite(score):
            score = math.inf  # like what was not evaluated: never the best
        host = _HostSave(window, _copies(state))
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), host=host),
                metrics={self._best_metric: float(score)},
            )

    def _actions_due(self, step: int) -> bool:
        return self._due.exists() and self._due.read_text() == str(step)

    def actions_done(self) -> None:
        """Strikes the note that actions are due."""
        if not jax.process_index():
            self._due.unlink(missing_ok=True)

    def restore(self, template: TrainState) -> Resumed:
        """Restores the newest checkpoint that can be read.

        Damaged ones newer than it, down to a single flipped bit, are skipped with a warning and
        moved to ``damaged_<step>`` in the workdir. If none can be read, nothing is touched.

        Args:
            template: Shapes, dtypes and shardings to restore to (``jax.ShapeDtypeStruct`` leaves).

        Returns:
            What to go on from; nothing, at step 0, if there has never been a checkpoint.

        Raises:
            CheckpointError: If there are checkpoints and none can be read, or if a checkpoint is
                sound and of another model.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            try:
                shapes = _shapes(self._manager.item_metadata(step)["state"].tree)
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
                damaged.append(step)
                self._warn(step, error)
                continue
            self._check_fit(
                step, shapes, _shapes(ocp.tree.serialize_tree(template, keep_empty_nodes=True))
            )
            try:
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(template), host=_HostRestore()
                    ),
                )
                state, host = restored["state"], restored["host"]
                for name, array in _copies(state, held=True).items():
                    checksum = _checksum(array)
                    if host["checksums"].get(name, checksum) != checksum:
                        raise ValueError(f"the content of {name} has changed since it was saved")
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001
                damaged.append(step)
                self._warn(step, error)
                continue
            self._set_aside(damaged)
            return Resumed(step, state, host["loop"]["window"], self._actions_due(step))
        if steps:
            raise CheckpointError(
                f"none of the checkpoints in {self._directory} can be read "
                f"(steps {sorted(steps)}); the warnings above say why"
            )
        return Resumed()

    def restore_any(self, sharding: NamedSharding) -> tuple[int, dict[str, Any]] | None:
        """Restores the newest checkpoint whatever model it is of.

        Args:
            sharding: Where all arrays go.

        Returns:
            Step and the state as nested mappings; None if there is no checkpoint.

        Raises:
            CheckpointError: If there are checkpoints and none can be read.
        """
        latest = self._manager.latest_step()
        if latest is None:
            return None
        tree = self._manager.item_metadata(latest)["state"].tree
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )
        found = self.restore(template)
        return found.step, cast(dict[str, Any], found.state)

    def _check_fit(self, step: int, saved: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        for name in sorted(set(saved) | set(expected)):
            if saved.get(name) != expected.get(name):
                raise CheckpointError(
                    f"checkpoint {step} in {self._directory} is of another model: {name} is "
                    f"{saved.get(name, 'absent')} there and {expected.get(name, 'absent')} in this "
                    "config"
                )

    def _warn(self, step: int, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logging.warning(
            "checkpoint %d in %s cannot be read and is skipped: %s", step, self._directory, reason
        )

    def _set_aside(self, steps: list[int]) -> None:
        if self._read_only or jax.process_index():
            return
        for step in steps:
            target, copies = self._directory.parent / f"damaged_{step}", 1
            while target.exists():
                copies += 1
                target = self._directory.parent / f"damaged_{step}_{copies}"
            (self._directory / str(step)).rename(target)
        if steps:
            self._manager.reload()

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises:
            SaveError: If it could not be completed.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # Also on the way out of an error: a save under way is completed, not lost.
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says what a failed save means; its error may come with a later call."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - file systems and stores raise anything
            reason = str(error).strip() or type(error).__name__
            reason = "no space left on device" if _is_full(error) else reason.splitlines()[0][:300]
            raise SaveError(
                f"a checkpoint could not be written to {self._directory}: {reason}. Those before "
                f"it are intact (steps {sorted(self._manager.all_steps())}): make room or mend the "
                "storage, and the same command goes on from the last"
            ) from error


def _is_full(error: BaseException) -> bool:
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)


def _shapes(tree: Any) -> dict[str, str]:
    return {
        leaf_name(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
        if hasattr(leaf, "shape")
    }


def _copies(state: TrainState, *, held: bool = False) -> dict[str, np.ndarray]:
    """Host copies of every array that this process can read whole.

    Those are all but the ones spread over several processes: a checkpoint has no checksums for
    these, wherever it is restored.

    Args:
        state: State on devices.
        held: Whether it stays as it is while the copies are used. A training step reuses its
            memory, which on a CPU is what an array on the host looks at, too.

    Returns:
        The copies, by name.
    """
    whole = {
        leaf_name(path): leaf.addressable_data(0) if leaf.is_fully_replicated else leaf
        for path, leaf in jax.tree.leaves_with_path(state)
        if leaf.is_fully_replicated or leaf.is_fully_addressable
    }
    for leaf in whole.values():
        leaf.copy_to_host_async()
    fetch = np.asarray if held or jax.default_backend() != "cpu" else np.array
    return {name: fetch(leaf) for name, leaf in whole.items()}


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the bytes of an array."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
