"""Reads experiment files and what overrides them."""

import contextlib
import json
import os
import re
import runpy
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from beartype.door import is_bearable
from ml_collections import ConfigDict, config_flags

from genjax.config.arguments import call, in_words
from genjax.config.defaults import (
    as_dict,
    as_json,
    at,
    complete,
    every_argument,
    every_section,
    overridable,
    plain_value,
    put,
    unknown_key,
)
from genjax.config.errors import ConfigError, first_line, shown
from genjax.config.first_stage import fill_in_stages
from genjax.config.tables import look_up_family
from genjax.training.experiment import ParallelSettings
from genjax.training.workdir import read_config, resolved


def load_config(config: Any, overrides: Sequence[str] | Mapping[str, Any] = ()) -> ConfigDict:
    """Reads a config, completes it, and applies overrides.

    Args:
        config: Path of an experiment file, with its argument after a colon if it takes one, or of
            a ``config.json``; or what ``get_config()`` returns.
        overrides: ``--config.section.key=value`` as on a command line, or a mapping of
            ``section.key`` to values.

    Returns:
        The complete config.

    Raises:
        ConfigError: If the file cannot be read, or an override fits no key.
    """
    sections = as_dict(read_file(config) if isinstance(config, str | os.PathLike) else config)
    if "stages" in sections:
        raise ConfigError(
            f"this is a pipeline of {len(sections['stages'])} stages, not one experiment: open it "
            "with genjax.Pipeline(config, workdir)"
        )
    by_key = isinstance(overrides, Mapping)
    changes = (
        list(overrides.items()) if isinstance(overrides, Mapping) else override_words(overrides)
    )
    for path, _ in changes:
        if not isinstance(path, str):
            raise ConfigError(f"overrides are by section.key, got {shown(path)}")
    changes = [(path, plain_value(value, path)) for path, value in changes]
    if any(path.startswith("edit.") for path, _ in changes):
        sections.setdefault("edit", {})
    # Names first: they decide which keys there are.
    filled = _renamed(sections, changes)
    for path, _ in changes:
        message = unknown_key(filled, path)
        if message:
            raise ConfigError(message)
    if not by_key:
        filled, changes = _with_flags(filled, changes)
    for path, value in changes:
        put(filled, path, value)
    # A value by key may be a section, which has defaults of its own.
    return ConfigDict(complete(filled) if by_key else filled)


def own_config(place: os.PathLike[str]) -> dict[str, Any]:
    """The complete config of the run in a workdir, as JSON data.

    Runs of older versions did not write down the defaults, which are filled in.

    Raises:
        WorkdirError: If it cannot be read.
        ConfigError: If it is no config.
    """
    sections = complete(read_config(resolved(place)))
    fill_in_stages(sections)
    return as_json(sections)


def read_file(file: str | os.PathLike[str]) -> Any:
    """What ``get_config()`` of an experiment file returns, or a ``config.json`` holds.

    Args:
        file: Path of the file, with its argument after a colon if it takes one.

    Returns:
        The config as it stands there.

    Raises:
        ConfigError: If it cannot be read.
    """
    path, _, argument = os.fspath(file).partition(":")
    if not os.path.exists(path):
        raise ConfigError(f"there is no experiment file {path or repr(path)}")
    if os.path.isdir(path):
        inside = sorted(name for name in os.listdir(path) if name.endswith(".py"))
        hint = f", such as {os.path.join(path, inside[0])}" if inside else ""
        raise ConfigError(f"{path} is a directory: expected an experiment file{hint}")
    if path.endswith(".json"):
        try:
            with open(path) as opened:
                return json.load(opened)
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the file may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{path} cannot be read: {reason}{_line_of(error, path)}; expected an experiment file, "
            "in Python with a function get_config(), or a config.json"
        ) from error
    if not callable(names.get("get_config")):
        raise ConfigError(f"{path} has no function get_config(), which returns the config")
    try:
        return names["get_config"](*([argument] if argument else []))
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    except (Exception, SystemExit) as error:  # noqa: BLE001
        raise ConfigError(
            f"{file}: get_config() failed: {type(error).__name__}: {error}{_line_of(error, path)}"
        ) from error


def _line_of(error: BaseException, path: str) -> str:
    """Where in a file an error was raised, for the end of a message."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f" (line {lines[-1]})" if lines else ""


def override_words(overrides: Any) -> list[tuple[str, Any]]:
    """Keys and values of ``--config.key=value`` or ``--config.key value``.

    Raises:
        ConfigError: If a word is none.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise ConfigError(
            "overrides must be a mapping of section.key to values, or a list of "
            f"--config.section.key=value, got {shown(overrides)}"
        )
    found, words = [], list(overrides)
    while words:
        word = str(words.pop(0))
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name.startswith("config."):
            raise ConfigError(f"expected --config.section.key=value, got {word!r}")
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"{word} has no value")
            value = words.pop(0)
        found.append((name.removeprefix("config."), value))
    return found


def _renamed(sections: dict[str, Any], changes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A completed config in which overrides of names are made.

    A key of the thing that was named before, which the new one has not, is forgotten.
    """
    names = {path.removesuffix(".name"): value for path, value in changes if path.endswith(".name")}
    if not names:
        return complete(sections)
    before: set[str] = set()
    # What is not whole without its overrides has said nothing of another thing.
    with contextlib.suppress(ConfigError):
        before = set(every_argument(complete(sections)))
    for where, name in names.items():
        _set_name(sections, where, name)
    filled = complete(sections)
    valid = every_argument(filled)
    unsaid = [where for where in names if where in valid and at(filled, where) is None]
    for where in unsaid:
        put(filled, where, {"name": names[where]})
    filled = complete(filled) if unsaid else filled
    recipe = look_up_family(filled["family"].get("name"))
    for where, section, own in list(every_section(filled, recipe)):
        if where in names:
            gone = {key for key in section if key not in own and f"{where}.{key}" in before}
            put(filled, where, {key: section[key] for key in section if key not in gone})
    return filled


def _set_name(sections: dict[str, Any], where: str, name: str) -> None:
    """Names another thing."""
    *path, last = where.split(".")
    node: Any = sections
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict) and isinstance(node.get(last), dict):
        node[last]["name"] = name


def _with_flags(
    sections: dict[str, Any], changes: Sequence[tuple[str, str]]
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A completed config with what ml_collections can read of words, and what is left to put."""
    config, valid = overridable(sections), every_argument(sections)
    words, absent = [], []
    for path, value in changes:
        emptied = value == "None" and path in valid and is_bearable(None, valid[path].hint)
        section = isinstance(at(config, path), ConfigDict) and not value.startswith("{")
        if section and not emptied:
            raise ConfigError(f"{path} is a section; did you mean --config.{path}.name={value}?")
        if value != "None":
            words.append(f"--config.{path}={value}")
            continue
        # ml_collections would take the word for a string, or refuse it.
        if path in valid and not is_bearable(None, valid[path].hint):
            raise ConfigError(f"{path} must not be None")
        absent.append((path, None))
    # Flags of their own: the program's are not touched, and the overrides are these words alone,
    # which else would be looked for in sys.argv.
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=["config", *words]
    )
    try:
        values(["config", *words])
    except (flags.Error, ValueError, TypeError) as error:
        found = re.match(r"flag --config\.([^=]+)=", str(error))
        path = found[1] if found else ""
        if path not in valid:
            raise ConfigError(f"an override cannot be read: {first_line(error)}") from error
        raise ConfigError(
            f"{path}={dict(changes)[path]} cannot be read: expected {in_words(valid[path].hint)}"
        ) from error
    return as_dict(holder.value), absent


def parallel_settings(config: Any) -> ParallelSettings:
    """The section ``parallel``, which is needed before jax looks for devices.

    Args:
        config: As for :func:`~genjax.config.build`.

    Returns:
        Its settings.

    Raises:
        ConfigError: If it is wrong.
    """
    settings: ParallelSettings = call(
        ParallelSettings, as_dict(config).get("parallel", {}), "parallel"
    )
    return settings


def divide_cpu(config: Any) -> None:
    """Makes ``parallel.cpu_devices`` devices of the CPU; call it before jax looks for devices.

    The flag of XLA that does the same, in the environment, has precedence.

    Args:
        config: As for :func:`~genjax.config.build`.

    Raises:
        ConfigError: If it is not a positive number.
    """
    count = parallel_settings(config).cpu_devices
    forced = re.search(
        r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    if forced:
        count = int(forced[1])
    elif count > 1:
        jax.config.update("jax_num_cpu_devices", count)
    if count > 1:
        # XLA's pool has a thread for each core, of which each device that waits for the others
        # holds one: on a busy machine none was left for those waited for, and XLA aborted. This is
        # how many XLA takes the cores to be.
        # With two devices cores + 2 have sufficed, beside three busy processes; eight, whose short
        # steps meet often, have run out of cores + 8.
        spare = count if count <= 2 else max(64, 4 * count)
        os.environ.setdefault("NPROC", str((os.cpu_count() or 1) + spare))
