"""The directory of a run: whose it is, and who may write to it."""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from etils import epath

from genjax.training.files import is_remote, set_aside, write_atomically

# Keys that may differ from the run's config: none changes what a step computes (but rounding).
FREE_KEYS = frozenset(
    {
        "data.data_dir",
        "data.device_limit_mib",
        "data.memory_limit_mib",
        "data.num_workers",
        "data.options.tokenizer",  # its content is in data.json
        "eval.features.weights",
        "eval.features.workdir",
        "eval.statistics",
        "sample.guidance.workdir",
        "train.loggers",
        "train.num_steps",
    }
)
SAMPLING_KEYS = frozenset({"model.generator.truncated_layers", "model.generator.truncation"})
"""Keys outside of ``eval`` and ``sample`` that are not read in training."""
# What a run writes besides its config and checkpoints, which are work to protect.
_KINDS = {
    ".lock": "file",
    "actions_due": "file",
    "metrics.jsonl": "file",
    "samples": "folder",
    "tensorboard": "folder",
}


class WorkdirError(ValueError):
    """A workdir that cannot be used as asked; the message is one line."""


def resolved(workdir: epath.PathLike) -> epath.Path:
    """The absolute path of a workdir; that of an object store as it is.

    Raises:
        WorkdirError: If it is in an object store that checkpoints cannot be written to, or the
            packages that reach it are not installed.
    """
    place = os.fspath(workdir)
    scheme, separator, _ = place.partition("://")
    if not separator:
        return epath.Path(workdir).expanduser().resolve()
    if scheme != "gs":
        copied = f"aws s3 sync DIR {place}" if scheme == "s3" else "a tool of that store"
        raise WorkdirError(
            f"a workdir cannot be in {scheme}://: Orbax writes checkpoints to file systems and "
            f"gs://BUCKET/FOLDER only; train in a local folder, and copy it ({copied})"
        )
    if not all(map(_is_installed, ("gcsfs", "google.cloud.storage"))):
        raise WorkdirError(
            f"{place} needs the packages that reach Google Cloud Storage: pip install -e '.[gcs]'"
        )
    return epath.Path(workdir)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of what it is a part of
        return False


def make_writable(workdir: epath.Path) -> None:
    """Makes the directory if it is not there; sets aside what stands where a run writes.

    Raises:
        WorkdirError: If nothing can be written to it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
        if is_remote(workdir) or jax.process_index():
            return
        for name, kind in _KINDS.items():
            place = workdir / name
            if place.exists() and place.is_dir() != (kind == "folder"):
                logging.warning("%s is no %s; it is now %s", place, kind, set_aside(place, workdir))
    except OSError as error:
        raise WorkdirError(f"the workdir {workdir} cannot be written: {error}") from error


def lock(workdir: epath.Path) -> Any:
    """Keeps a second run out of the workdir until the result is closed or this process ends.

    Raises:
        WorkdirError: If another run is going on in it.
    """
    import fcntl

    if is_remote(workdir):  # object stores have no locks
        return None
    file = open(workdir / ".lock", "w")  # noqa: SIM115 - open, and locked, as long as the run
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise WorkdirError(
            f"another run is going on in {workdir}; wait for it or stop it"
        ) from error
    return file


def has_run(workdir: epath.Path) -> bool:
    """Whether there is work to protect, or to evaluate.

    Raises:
        WorkdirError: If an object store cannot be asked.
    """
    try:
        return (workdir / "checkpoints").exists()
    except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own
        reason = (str(error).splitlines() or [""])[0]
        hint = "; it needs the package for such addresses, and credentials"
        raise WorkdirError(
            f"the workdir {workdir} cannot be reached: {type(error).__name__}: {reason}"
            f"{hint if is_remote(workdir) else ''}"
        ) from error


def read_config(workdir: epath.Path) -> dict[str, Any]:
    """The config of the run in a workdir.

    Raises:
        WorkdirError: If there is none that can be read.
    """
    try:
        config = json.loads((workdir / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise WorkdirError(
            f"the config.json of {workdir} cannot be read ({error}); allow_config_change writes "
            "it anew"
        ) from error
    if not isinstance(config, dict) or not all(isinstance(v, dict) for v in config.values()):
        raise WorkdirError(
            f"the config.json of {workdir} does not hold a config; allow_config_change writes it "
            "anew"
        )
    return config


def write_config(workdir: epath.Path, config: Mapping[str, Any]) -> None:
    """Writes the config of a run."""
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    place = workdir / "config.json"
    if place.is_dir():
        set_aside(place, workdir)
    write_atomically(place, text)


def check_config(
    workdir: epath.Path, own: Mapping[str, Any], config: Mapping[str, Any], *, training: bool
) -> None:
    """Refuses a config that is not the run's.

    Args:
        workdir: The workdir, for the message.
        own: Complete config of the run that is there.
        config: Complete config that is asked for, as JSON data.
        training: Whether the run goes on; otherwise evaluation and sampling may differ.

    Raises:
        WorkdirError: If they differ in more than may.
    """
    changed = {key for key in changed_keys(own, config) if not _is_free(key)}
    # A state goes on on any devices; only the strategy changes what a step computes.
    changed = {
        key for key in changed if not key.startswith("parallel.") or key == "parallel.strategy"
    }
    changed = {key for key in changed if key.split(".")[0] != "edit"}
    if not training:
        changed = {key for key in changed if key.split(".")[0] not in ("eval", "sample")}
        changed -= SAMPLING_KEYS
    if changed:
        raise WorkdirError(
            f"the config differs from that of the run in {workdir}: {', '.join(sorted(changed))}; "
            "use another workdir, or allow_config_change to go on all the same"
        )


def _is_free(key: str) -> bool:
    """Whether a run may go on with another value of a key."""
    # A further stream's section is like that of the first; a frozen part was copied at the start.
    key = re.sub(r"^data\.streams\.[^.]+\.", "data.", key)
    return key in FREE_KEYS or key.endswith(
        (".frozen.workdir", ".start.workdir", ".first_stage.workdir", ".embeddings.workdir")
    )


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of the keys whose values differ between two configs read from JSON.

    Example:
        >>> changed_keys({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
        ['a.b']
    """
    names = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += [f"{key}.{inner}" for inner in changed_keys(a, b)]
        elif a != b or (key in old) != (key in new):
            names.append(key)
    return names
