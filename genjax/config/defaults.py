"""Configs with every default filled in from signatures.

An experiment says what differs from defaults. Completed, every key of it can be overridden on the
command line, and a run that is resumed after an upgrade notices a default that has changed.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from genjax.config.arguments import REQUIRED, Argument, arguments, fill_in, settable
from genjax.config.errors import ConfigError, first_line, nearest, shown
from genjax.config.features import FEATURES
from genjax.config.frozen import complete_frozen, trained_before
from genjax.config.guidance import SAMPLING
from genjax.config.recipes import Recipe, Slot, Table
from genjax.config.tables import (
    EDITS,
    OPTIMIZERS,
    TRANSFORMS,
    look_up_family,
    look_up_function,
)
from genjax.data import LOADERS
from genjax.training.experiment import (
    DataSettings,
    EvalSettings,
    ParallelSettings,
    SampleSettings,
    TrainSettings,
)

SETTINGS: Mapping[str, Callable[..., Any]] = {
    "data": DataSettings,
    "eval": EvalSettings,
    "parallel": ParallelSettings,
    "sample": SampleSettings,
    "train": TrainSettings,
}
SECTIONS = (*SETTINGS, "edit", "family", "model", "optimizer")
_OPTIONAL = ("eval", "parallel", "sample")
_NOT_KEYS = ("acts", "dataset", "event_shape")
"""Arguments of networks, optimisers and features that the config does not decide."""


def as_dict(config: Any) -> dict[str, Any]:
    """A config as plain data: NumPy's numbers and paths as Python's, lists as tuples.

    Args:
        config: ``ConfigDict`` or mapping of sections.

    Returns:
        Nested dicts.

    Raises:
        ConfigError: If it is neither, or a section is no mapping.
    """
    if not isinstance(config, ConfigDict | Mapping):
        raise ConfigError(
            f"a config is a mapping of sections, got {type(config).__name__}"
            + ("; does get_config() return it?" if config is None else "")
        )
    plain = plain_value(config, "")
    for name, section in plain.items():
        if not isinstance(section, dict):
            raise ConfigError(
                f"the config section {name!r} must be a mapping, got {shown(section)}"
            )
    return plain


def plain_value(value: Any, key: str) -> Any:
    """A value as configs hold it: NumPy's numbers and paths become Python's numbers and strings.

    Args:
        value: The value.
        key: Its dotted key, for messages.

    Returns:
        Nested dicts, tuples, numbers, strings, booleans and None.

    Raises:
        ConfigError: If it cannot be written down.
    """
    if isinstance(value, ConfigDict):
        try:
            value = value.to_dict()
        except ValueError as error:  # a placeholder that must be filled
            raise ConfigError(f"{key or 'the config'}: {first_line(error)}") from error
    if isinstance(value, Mapping):
        lead = f"{key}." if key else ""
        return {str(name): plain_value(inner, f"{lead}{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):  # JSON has lists only
        return tuple(plain_value(inner, key) for inner in value)
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise ConfigError(
            f"{key} must be plain data (a number, a string, a list or a mapping), got "
            f"{shown(value)}"
        )
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(f"{key} must not be NaN")
    return value


def as_json(value: Any) -> Any:
    """Plain data as it comes back from a JSON file."""
    if isinstance(value, Mapping):
        return {key: as_json(inner) for key, inner in value.items()}
    return [as_json(inner) for inner in value] if isinstance(value, tuple) else value


def complete(config: Any) -> dict[str, Any]:
    """A config with the defaults of all that it leaves out.

    Args:
        config: ``ConfigDict`` or mapping of sections, complete or not.

    Returns:
        Nested dicts. Keys that do not exist are left, to be refused by name later.

    Raises:
        ConfigError: If a section or a name is unknown or missing.
    """
    sections = as_dict(config)
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        raise ConfigError(f"unknown config section {unknown[0]!r}{nearest(unknown[0], SECTIONS)}")
    for name in _OPTIONAL:
        sections.setdefault(name, {})
    recipe = look_up_family(sections["family"].get("name")) if "family" in sections else None
    if recipe is not None and not recipe.optimizers:
        sections.setdefault("optimizer", {})
    if recipe is not None and not recipe.networks:
        sections.setdefault("model", {})
    for name in sorted(SECTIONS):
        # What is to be edited is no part of a run, and need not be said.
        if name not in sections and name != "edit":
            raise ConfigError(f"the config has no section {name!r}")
    assert recipe is not None
    # In the order of the recipe: which keys a section has depends on the name it was given.
    for where, section, valid in every_section(sections, recipe):
        put(sections, where, fill_in(section, valid))
    sections["data"]["transforms"] = completed_transforms(
        sections["data"].get("transforms"), "data.transforms"
    )
    return sections


def overridable(sections: Mapping[str, Any]) -> ConfigDict:
    """A completed config whose every key can be overridden by a flag, None included."""
    recipe = look_up_family(sections["family"].get("name"))
    settable_sections = plain_value(sections, "")
    for where, section, valid in every_section(sections, recipe):
        typed = {
            name: settable(value, valid[name].hint) if name in valid else value
            for name, value in section.items()
            if not isinstance(value, Mapping)
        }
        at(settable_sections, where).update(typed)
    return ConfigDict(settable_sections)


def every_argument(sections: Mapping[str, Any]) -> dict[str, Argument]:
    """The arguments that the keys of a completed config are, by dotted key."""
    recipe = look_up_family(sections["family"].get("name"))
    return {
        f"{where}.{name}": argument
        for where, _, valid in every_section(sections, recipe)
        for name, argument in valid.items()
    }


def every_section(
    sections: Mapping[str, Any], recipe: Recipe
) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Argument]]]:
    """Each section with its place, and the arguments that are its keys; ``name`` is one.

    Those of transforms, of further streams and of frozen networks are not among them.
    """
    for name, settings in SETTINGS.items():
        yield name, sections[name], arguments(settings)
    loader = sections["data"].get("name")
    if isinstance(loader, str) and (":" in loader or loader in LOADERS):
        options = sections["data"].get("options")
        if options is None:
            options = {}
            put(sections, "data.options", options)
        if isinstance(options, Mapping):
            made = arguments(look_up_function(LOADERS, loader, "data"))
            taken = ("split", "data_dir", "memory_limit_mib")
            yield "data.options", options, {n: a for n, a in made.items() if n not in taken}
    yield "family", sections["family"], {**_NAME, **recipe.keys(), **_part_keys(recipe)}
    for argument, table in recipe.parts.items():
        section = sections["family"].get(argument)
        if section is not None:
            yield from _named(f"family.{argument}", section, table)
    networks = dict(zip(recipe.model_sections(), recipe.networks, strict=True))
    for name, places in (("model", networks), ("optimizer", recipe.optimizer_sections())):
        free = [place for place, argument in places.items() if recipe.may_lack(argument)]
        _check_players(sections[name], name, list(places), free)
    for where, slot in recipe.model_sections().items():
        if is_left_out(sections, where, recipe):
            continue
        section = at(sections, where)
        place = trained_before(section)
        if place is not None:
            put(sections, where, {place: complete_frozen(section[place], where, place)})
        else:
            yield from _network(where, section, slot)
    for where in recipe.optimizer_sections():
        if is_left_out(sections, where, recipe):
            continue
        yield from _named(where, at(sections, where), OPTIMIZERS)
    if "edit" in sections:
        yield from _named("edit", sections["edit"], EDITS)
    features = sections["eval"].get("features")
    if isinstance(features, Mapping):
        yield from _named("eval.features", features, FEATURES)
    for name, table in SAMPLING.items():
        if isinstance(sections["sample"].get(name), Mapping):
            yield from _named(f"sample.{name}", sections["sample"][name], table)


def is_left_out(sections: Mapping[str, Any], where: str, recipe: Recipe) -> bool:
    """Whether a config has no section for a network or optimiser that its family can do without."""
    head, _, name = where.partition(".")
    if not name or name in sections[head]:
        return False
    argument = name if head == "model" else recipe.optimizer_sections()[where]
    return recipe.may_lack(argument)


def _check_players(
    section: Mapping[str, Any], where: str, places: list[str], free: list[str]
) -> None:
    """Whether a section that describes several things has one for each that may not be free."""
    players = [place.partition(".")[2] for place in places]
    if players == [""]:
        return
    if not players:
        if section:
            what = "network" if where == "model" else "optimiser"
            raise ConfigError(
                f"{where} must be left out: the family has no {what}; got {', '.join(section)}"
            )
        return
    needed = {place.partition(".")[2] for place in places if place not in free}
    fits = needed <= set(section) <= set(players)
    if not fits or not all(isinstance(v, Mapping) for v in section.values()):
        optional = [name for name in players if name not in needed]
        more = f", and may have {', '.join(optional)}" if optional else ""
        raise ConfigError(
            f"{where} must have the sections {', '.join(p for p in players if p in needed)}{more}, "
            f"each with a name; got {', '.join(map(str, section)) or 'none'}"
        )


_NAME = {"name": Argument(str, None)}
_SECTION = Argument(Mapping[str, Any] | None, None)


def _part_keys(recipe: Recipe) -> dict[str, Argument]:
    every = recipe.arguments()
    return {
        name: Argument(
            Mapping[str, Any] | None, None if every[name].default is not REQUIRED else REQUIRED
        )
        for name in recipe.parts
    }


def _named(
    where: str, section: Any, table: Table, slot: Slot | None = None
) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Argument]]]:
    """A section that names what it describes."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} must have a name, got {shown(section)}")
    made = look_up_function(table, section.get("name"), where)
    given = {*_NOT_KEYS, *(slot.given if slot else ())}
    valid = {name: a for name, a in arguments(made).items() if name not in given}
    yield where, section, {**_NAME, **valid}


def _network(
    where: str, section: Any, slot: Slot
) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Argument]]]:
    """The section of a network, and those of networks that stand in it."""
    beside = {}
    if isinstance(section, Mapping):
        beside = {name: other for name, other in slot.beside.items() if name in section}
    for own, found, valid in _named(where, section, slot.table, slot):
        yield own, found, {**valid, **{name: _SECTION for name in beside}}
    for name, other in beside.items():
        inner = section[name]
        place = trained_before(inner)
        if place is not None and name == "source":
            raise ConfigError(
                f"{where}.source.{place}: what makes an image ready has nothing to train; give it "
                "a name: noise_augmented"
            )
        if place == "start":
            raise ConfigError(
                f"{where}.{name}.start: a text encoder is trained with the model it is told to, or "
                "frozen: take frozen, or give it a name"
            )
        if place is not None:
            complete = complete_frozen(inner[place], f"{where}.{name}", place)
            put(section, name, {place: complete})
        else:
            yield from _named(f"{where}.{name}", inner, other.table, other)


def completed_transforms(transforms: Any, where: str) -> tuple[dict[str, Any], ...]:
    """The transforms of a section with all of their defaults.

    Raises:
        ConfigError: If they are no list of sections that have names.
    """
    if transforms is None:
        return ()
    if not isinstance(transforms, list | tuple):
        hint = "put it in brackets" if isinstance(transforms, Mapping) else "each with a name"
        raise ConfigError(f"{where} must be a list of mappings, got {shown(transforms)}: {hint}")
    for transform in transforms:
        if not isinstance(transform, Mapping):
            raise ConfigError(f"{where}: each must have a name, got {shown(transform)}")
    return tuple(completed_named(transform, TRANSFORMS, where) for transform in transforms)


def completed_named(section: Mapping[str, Any], table: Table, where: str) -> dict[str, Any]:
    """A section that names what it describes, with the defaults of all that it leaves out.

    Raises:
        ConfigError: If there is nothing of that name.
    """
    made = look_up_function(table, section.get("name"), where)
    return fill_in(section, {**_NAME, **arguments(made)})


def at(sections: Any, where: str) -> Any:
    """What is at a dotted place of a config."""
    node = sections
    walked: list[str] = []
    for key in where.split("."):
        walked.append(key)
        if not isinstance(node, Mapping | ConfigDict) or key not in node:
            raise ConfigError(f"the config has no section {'.'.join(walked)!r}")
        node = node[key]
    return node


def put(sections: Mapping[str, Any], where: str, value: Any) -> None:
    """Puts a value at a dotted place of a config."""
    parent, _, last = where.rpartition(".")
    node: Any = at(sections, parent) if parent else sections
    node[last] = value


def unknown_key(config: Any, path: str) -> str | None:
    """Says where a dotted ``path`` leaves the keys of a config, or None if it leads to one."""
    node: Any = config
    walked: list[str] = []
    for part in path.split("."):
        walked.append(part)
        keys = sorted(node) if isinstance(node, Mapping | ConfigDict) else []
        if part not in keys:
            return f"unknown config key {'.'.join(walked)!r}{nearest(part, keys)}"
        node = node[part]
    return None
