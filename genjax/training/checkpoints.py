"""Checkpoints with Orbax: asynchronous, atomic, and restored past damage."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.sharding import NamedSharding
from orbax.checkpoint import checkpoint_managers as managers

from genjax.families.base import TrainState
from genjax.training import host_part
from genjax.training.files import set_aside, write_atomically
from genjax.training.host_part import HostArgs, HostHandler, HostPart, decoded
from genjax.training.mesh import leaf_name
from genjax.training.processes import meet

# A machine in trouble, not a damaged file: the checkpoint stays where it is.
_NOT_DAMAGE = (MemoryError, PermissionError)


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


class _Preservation:
    """Keeps the last few checkpoints and the one with the lowest score, the later of equal ones.

    Orbax has such policies, over scores of its own: one of an old checkpoint that cannot be read
    would be in the way of every save.

    Args:
        keep: Number of latest checkpoints to keep.
        score: Score of a step; infinite if it has none.
    """

    def __init__(self, keep: int, score: Callable[[int], float]):
        self._keep = keep
        self._score = score

    def should_preserve(
        self, checkpoints: Sequence[managers.PolicyCheckpointInfo], *, context: Any
    ) -> Sequence[bool]:
        """Whether each is kept."""
        steps = sorted(info.step for info in checkpoints)
        kept = {*steps[-self._keep :], min(steps, key=lambda step: (self._score(step), -step))}
        return [info.step in kept for info in checkpoints]


class Checkpoints:
    """The checkpoints of a run in ``workdir/checkpoints``.

    Kept are the last few and the one with the lowest ``best_metric``. A save returns once the state
    is copied; the files are written meanwhile and appear under their step only when complete, so a
    process may die at any moment.

    Args:
        workdir: Directory of the run.
        keep: Number of latest checkpoints to keep.
        best_metric: Metric whose lowest value marks the best checkpoint.
        read_only: Never write or delete. Then only what reads arrays is done by all processes
            together; what looks at steps and at what is said of them may be asked by one alone.

    Raises:
        CheckpointError: If a file stands where the folder belongs.
        SaveError: If the folder cannot be made.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        keep: int = 3,
        best_metric: str = "eval/bits_per_dim",
        read_only: bool = False,
    ):
        self._workdir = epath.Path(workdir)
        self._directory = self._workdir / "checkpoints"
        self._due = self._workdir / "actions_due"
        self._best_metric = best_metric
        self._keep = keep
        self._read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        if self._directory.exists() and not self._directory.is_dir():
            raise CheckpointError(
                f"{self._directory} must be a folder of checkpoints and is a file: move it away, "
                "and put the folder back if there was one"
            )
        if not read_only:
            self._manager = self._make_manager()
        self._scores = {} if read_only else {step: self._score(step) for step in self._steps()}

    def _make_manager(self) -> ocp.CheckpointManager:
        """Makes Orbax's manager, at which all processes meet."""
        policy = _Preservation(self._keep, lambda step: self._scores.get(step, math.inf))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            create=not self._read_only,
            cleanup_tmp_directories=not self._read_only,
            # Without it Orbax reads scores of versions of before, and fails at one it cannot read.
            lightweight_initialize=True,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "host": HostHandler(),
        }
        with self._writing():
            return ocp.CheckpointManager(self._directory, options=options, item_handlers=handlers)

    def _steps(self) -> list[int]:
        if self._manager is not None:
            return sorted(self._manager.all_steps())
        if not self._read_only:
            return []
        # Orbax's manager would have to be made by all processes at once; one may look alone.
        names = ocp.path.step.standard_name_format()
        return sorted(found.step for found in names.find_all(self._directory))

    def _read_host(self, step: int) -> "HostPart | ValueError":
        try:
            return decoded((self._directory / str(step) / "host" / host_part.FILE).read_bytes())
        except _NOT_DAMAGE:
            raise
        except OSError as error:
            return ValueError(f"its host part cannot be read: {error}")
        except ValueError as error:
            return error

    def _score(self, step: int) -> float:
        """What the best checkpoint has the lowest of; infinite if it is not known."""
        host = self._read_host(step)
        if isinstance(host, ValueError):
            return math.inf
        if host.shapes is not None:
            return host.scores.get(self._best_metric, math.inf)
        # One of a version of before, which left scores to Orbax.
        try:
            file = self._directory / str(step) / "metrics" / "metrics"
            score = json.loads(file.read_bytes()).get(self._best_metric, math.inf)
            return float(score) if score == score else math.inf
        except _NOT_DAMAGE:
            raise
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logging.warning(
                "the score of checkpoint %d in %s cannot be read, it counts as never evaluated: %s",
                step, self._directory, error,
            )  # fmt: skip
            return math.inf

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
            SaveError: If this save cannot begin or the one before could not be completed.
        """
        assert self._manager is not None
        with self._writing():
            if actions_due and not jax.process_index():
                write_atomically(self._due, str(step))
            if step in self._steps():
                return
            scores = {
                name: float(value)
                for name, value in (metrics or {}).items()
                if isinstance(value, float) and math.isfinite(value)
            }
            shapes = _shapes(ocp.tree.serialize_tree(state, keep_empty_nodes=True))
            host = HostPart(window, scores, checksums={}, shapes=shapes)
            self._scores[step] = scores.get(self._best_metric, math.inf)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), host=HostArgs(host, _copies(state))
                ),
            )

    def actions_due(self, step: int) -> bool:
        """Whether there is a note that actions of this step are due.

        One that cannot be read counts, too: what is then done twice gives the same again.
        """
        try:
            if not self._due.exists():
                return False
            noted = self._due.read_bytes()
        except _NOT_DAMAGE:
            raise
        except OSError:
            noted = b""
        if noted.isdigit():
            return int(noted) == step
        if self._may_set_aside():
            logging.warning(
                "%s does not hold the number of a step: what was due may be done again; it is now "
                "%s", self._due, set_aside(self._due, self._workdir),
            )  # fmt: skip
        return True

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
        self.wait()
        damaged: dict[int, Exception] = {}
        for step in reversed(self._steps()):
            try:
                part = self._sound_host(step)
                saved = _shapes(self._metadata(step))
                if part.shapes is not None and part.shapes != saved:
                    raise ValueError("what it says of its arrays has changed since it was saved")
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
                damaged[step] = error
                self._warn(step, error)
                continue
            self._check_fit(
                step, saved, _shapes(ocp.tree.serialize_tree(template, keep_empty_nodes=True))
            )
            try:
                state = self._restored(step, template)
                names = [leaf_name(path) for path, _ in jax.tree.leaves_with_path(state)]
                part.check(_copies(state, held=True), names)
            except _NOT_DAMAGE:
                raise
            except Exception as error:  # noqa: BLE001
                damaged[step] = error
                self._warn(step, error)
                continue
            due = self.actions_due(step)
            for older in self._steps():
                host = self._read_host(older) if older < step else None
                if isinstance(host, ValueError):
                    damaged[older] = host
                    self._warn(older, host)
            self._set_aside(damaged)
            return Resumed(step, state, part.window, due)
        if damaged:
            raise CheckpointError(
                f"none of the checkpoints in {self._directory} can be read "
                f"(steps {sorted(damaged)}); the warnings above say why"
            )
        return Resumed()

    def newest(self) -> tuple[int, HostPart] | None:
        """Step of the newest checkpoint and what it says of its arrays, which are not read.

        Returns:
            None if there is no checkpoint, or it is known to be damaged without reading its arrays.
        """
        steps = self._steps()
        host = self._read_host(steps[-1]) if steps else None
        return (steps[-1], host) if isinstance(host, HostPart) else None

    def _sound_host(self, step: int) -> HostPart:
        host = self._read_host(step)
        if isinstance(host, ValueError):
            raise host
        return host

    def _metadata(self, step: int) -> Any:
        """Tree of what describes the arrays of a checkpoint."""
        handler: Any = ocp.StandardCheckpointHandler()
        return handler.metadata(self._directory / str(step) / "state").tree

    def _restored(self, step: int, template: TrainState) -> TrainState:
        if self._manager is None:
            self._manager = self._make_manager()
        items = ocp.args.Composite(state=ocp.args.StandardRestore(template))
        return cast(TrainState, self._manager.restore(step, args=items)["state"])

    def restore_any(self, sharding: NamedSharding) -> tuple[int, dict[str, Any]] | None:
        """Restores the newest checkpoint whatever model it is of.

        Args:
            sharding: Where all arrays go.

        Returns:
            Step and the state as nested mappings; None if there is no checkpoint.

        Raises:
            CheckpointError: If there are checkpoints and none can be read.
        """
        if not self._steps():
            return None
        tree = self._metadata(self._steps()[-1])
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

    def _may_set_aside(self) -> bool:
        return not self._read_only and not jax.process_index()

    def _set_aside(self, damaged: Mapping[int, Exception]) -> None:
        """Moves damaged checkpoints away: their steps will be saved again."""
        if self._read_only or not damaged:
            return
        assert self._manager is not None
        if self._may_set_aside():
            for step in damaged:
                set_aside(self._directory / str(step), self._workdir)
        meet("damaged checkpoints are set aside")
        with self._writing():
            self._manager.close()
        self._manager = self._make_manager()

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises:
            SaveError: If it could not be completed.
        """
        if self._manager is not None:
            with self._writing():
                self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        # Also on the way out of an error: a save under way is completed, not lost.
        if self._manager is not None:
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
                f"it are intact (steps {self._steps()}): make room or mend the "
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
