"""Sections of a config as keyword arguments: names and types are those of signatures."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
from beartype import BeartypeConf
from beartype.door import is_bearable
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from genjax.config.errors import ConfigError, nearest
from genjax.data import MissingDataError


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a function, as a config sees it.

    Attributes:
        hint: Its type.
        default: Its default, or :data:`REQUIRED`.
    """

    hint: Any
    default: Any


REQUIRED = inspect.Parameter.empty
"""In place of a default: the argument must be given."""


def arguments(
    function: Callable[..., Any],
    extends: Callable[..., Any] | None = None,
    fixes: tuple[str, ...] = (),
) -> dict[str, Argument]:
    """Arguments of a function, a record or a Linen module.

    Args:
        function: What is called.
        extends: What it hands its ``**kwargs`` to.
        fixes: Arguments of ``extends`` that it decides itself.

    Returns:
        Its arguments by name, in the order of their definition.

    Raises:
        ConfigError: If it cannot be called.
    """
    if not callable(function):
        raise ConfigError(
            f"expected a function or a class, got {type(function).__name__} {function!r:.60}"
        )
    parameters = inspect.signature(function).parameters
    hints = _hints(function)
    own = {
        name: Argument(hints.get(name, Any), p.default)
        for name, p in parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if isinstance(function, type) and issubclass(function, nn.Module):
        del own["parent"], own["name"]  # Linen's own
    if extends is not None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        base = arguments(extends)
        own = {**{name: a for name, a in base.items() if name not in fixes}, **own}
    return own


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the arguments of anything that can be called."""
    if isinstance(function, functools.partial):
        return _hints(function.func)
    try:
        if isinstance(function, type):
            made_by: Any = function.__init__  # type: ignore[misc]
            return {**typing.get_type_hints(function), **typing.get_type_hints(made_by)}
        return typing.get_type_hints(function)
    except NameError:
        return {}  # of names that another package imports for type checkers only


def check(section: Mapping[str, Any], valid: Mapping[str, Argument], where: str) -> None:
    """Whether a section has the keys and types of some arguments.

    Raises:
        ConfigError: If it has others, or lacks one without default.
    """
    for name, value in section.items():
        if name not in valid:
            raise ConfigError(f"unknown config key '{where}.{name}'{nearest(str(name), valid)}")
        hint = valid[name].hint
        if not is_bearable(value, hint, conf=BeartypeConf(is_pep484_tower=True)):
            expected = getattr(hint, "__name__", None) if isinstance(hint, type) else hint
            raise ConfigError(
                f"{where}.{name} must be {str(expected).replace('typing.', '')}, got {value!r} "
                f"({type(value).__name__})"
            )
    missing = [n for n, a in valid.items() if a.default is REQUIRED and n not in section]
    if missing:
        raise ConfigError(f"the config has no {where}.{missing[0]}, which has no default")


def call(
    function: Callable[..., Any], section: Mapping[str, Any], where: str, /, **given: Any
) -> Any:
    """Calls a function with a section, checked, and what the config does not decide.

    Args:
        function: What is called.
        section: Its keyword arguments.
        where: Name of the section, for messages.
        **given: Further arguments, which are no keys of the section. Those that the function does
            not have are left out.

    Returns:
        What it returns.

    Raises:
        ConfigError: If the section does not fit, or the function refuses a value.
    """
    valid = arguments(function)
    given = {name: value for name, value in given.items() if name in valid}
    check(section, {n: a for n, a in valid.items() if n not in given}, where)
    return refusing(where, function, **section, **given)


def refusing(where: str, function: Callable[..., Any], /, **kwargs: Any) -> Any:
    """Calls a function; what it refuses is an error of a section.

    Raises:
        ConfigError: If it raises a ``ValueError``.
    """
    try:
        return function(**kwargs)
    except (ConfigError, MissingDataError):
        raise
    except ValueError as error:
        # Settings name their keys in full.
        message = str(error)
        named = not where or message.startswith(f"{where}.")
        raise ConfigError(message if named else f"{where}: {message}") from error


def fill_in(section: Mapping[str, Any], valid: Mapping[str, Argument]) -> dict[str, Any]:
    """A section with the defaults of what it leaves out, in the order of the arguments.

    Keys that are no arguments stay, to be refused by name later.
    """
    known = {
        name: section.get(name, argument.default)
        for name, argument in valid.items()
        if name in section or argument.default is not REQUIRED
    }
    # 0 for a float would let the command line set whole numbers only.
    floats = {name for name in known if valid[name].hint in (float, float | None)}
    filled = {
        name: float(value) if name in floats and type(value) is int else value
        for name, value in known.items()
    }
    return {**filled, **{name: value for name, value in section.items() if name not in filled}}


def settable(value: Any, hint: Any) -> Any:
    """A value as a flag can override it: None gets the type that its argument may have.

    Args:
        value: Value of a key.
        hint: Type of its argument.

    Returns:
        The value, or a placeholder of ``ml_collections``.
    """
    if value is not None:
        return value
    options = [hint]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [o for o in typing.get_args(hint) if o is not type(None)]
    if len(options) != 1:
        return placeholder(object)
    origin = typing.get_origin(options[0]) or options[0]
    if origin is typing.Literal:
        return placeholder(type(typing.get_args(options[0])[0]))
    if origin in (int, float, str, bool):
        return placeholder(origin)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return placeholder(ConfigDict)
    if isinstance(origin, type) and issubclass(tuple, origin):
        return placeholder(tuple)
    return placeholder(object)
