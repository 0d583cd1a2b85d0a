"""Sections of a config as keyword arguments: names and types are those of signatures."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from beartype import BeartypeConf
from beartype.door import is_bearable
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from genjax.config.errors import ConfigError, first_line, nearest, shown
from genjax.config.limits import check_number
from genjax.data import DamagedDataError, MissingDataError


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a function, as a config sees it.

    Attributes:
        hint: Its type.
        default: Its default, or :data:`REQUIRED`.
        known: Whether it is one of a function of this package.
    """

    hint: Any
    default: Any
    known: bool = True


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
        raise ConfigError(f"expected a function or a class, got {shown(function)}")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:  # as of some that are written in C
        raise ConfigError(f"{shown(function)} does not say which arguments it has") from error
    hints = _hints(function)
    known = is_own(function)
    own = {
        name: Argument(hints.get(name, Any), p.default, known)
        for name, p in parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if isinstance(function, type) and issubclass(function, nn.Module):
        del own["parent"], own["name"]  # Linen's own
    if extends is not None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        base = arguments(extends)
        own = {**{name: a for name, a in base.items() if name not in fixes}, **own}
    return own


def is_own(made: Any) -> bool:
    """Whether a function or a class is one of this package."""
    return str(getattr(made, "__module__", None)).partition(".")[0] == "genjax"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of the arguments of anything that can be called."""
    if isinstance(function, functools.partial):
        return _hints(function.func)
    try:
        if isinstance(function, type):
            made_by: Any = function.__init__  # type: ignore[misc]
            return {**typing.get_type_hints(function), **typing.get_type_hints(made_by)}
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - of names that another package imports for type checkers only
        return {}


def check(section: Mapping[str, Any], valid: Mapping[str, Argument], where: str) -> None:
    """Whether a section has the keys and types of some arguments.

    Raises:
        ConfigError: If it has others, or lacks one without default.
    """
    for name, value in section.items():
        if name not in valid:
            raise ConfigError(f"unknown config key {f'{where}.{name}'!r}{nearest(name, valid)}")
        hint = valid[name].hint
        if not _fits(value, hint):
            raise ConfigError(f"{where}.{name} must be {in_words(hint)}, got {shown(value)}")
        if name == "dtype" and valid[name].known and value is not None and not _is_float(value):
            raise ConfigError(
                f"{where}.{name} must be a type of real numbers, such as 'float32' or 'bfloat16', "
                f"got {shown(value)}"
            )
        # A section of its own is checked where it is one.
        if not (isinstance(value, Mapping) and _of_anything(hint)):
            for inner, number in _numbers(name, value):
                check_number(where, inner, number, known=valid[name].known)
    missing = [n for n, a in valid.items() if a.default is REQUIRED and n not in section]
    if missing:
        raise ConfigError(f"the config has no {where}.{missing[0]}, which has no default")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value has a type: True is no number, a string no list, and every item counts."""
    options = _options(hint)
    if any(option in (Any, object) for option in options):
        return True
    if isinstance(value, bool) and not any(_takes(option, bool) for option in options):
        return False
    if isinstance(value, str) and not any(_takes(option, str) for option in options):
        return False
    if isinstance(value, list | tuple | Mapping):
        items = list(value.values()) if isinstance(value, Mapping) else value
        for option in options:
            inner = [arg for arg in typing.get_args(option) if arg is not ...]
            # Of one kind: a Sequence[X], tuple[X, ...] or Mapping[str, X].
            uniform = len(inner) == (2 if isinstance(value, Mapping) else 1)
            if uniform and not all(_fits(item, inner[-1]) for item in items):
                return False
    try:
        return is_bearable(value, hint, conf=BeartypeConf(is_pep484_tower=True))
    except Exception:  # noqa: BLE001 - another package's types may be none that can be checked
        return True


def _is_float(name: Any) -> bool:
    """Whether something is the name of a type of real numbers."""
    try:
        return isinstance(name, str) and bool(jnp.issubdtype(jnp.dtype(name), jnp.floating))
    except (TypeError, ValueError):  # the latter of what looks like a record of several
        return False


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(inner for option in typing.get_args(hint) for inner in _options(option))
    return (hint,)


def _takes(hint: Any, kind: type) -> bool:
    """Whether a type that is no union may mean booleans, or strings."""
    if typing.get_origin(hint) is typing.Literal:
        return any(isinstance(option, kind) for option in typing.get_args(hint))
    origin = typing.get_origin(hint) or hint
    if not isinstance(origin, type):
        return True  # such as a variable for types
    lists = issubclass(tuple, origin) or issubclass(origin, Mapping)
    return not lists and origin not in {int, float, complex, str, bool, type(None)} - {kind}


def in_words(hint: Any) -> str:
    """A type as messages name it."""
    text = getattr(hint, "__name__", None) if isinstance(hint, type) else None
    return (text or str(hint)).replace("typing.", "").replace("collections.abc.", "")


def _of_anything(hint: Any) -> bool:
    """Whether a mapping of this type may have any values."""
    return any(Any in (option, *typing.get_args(option)) for option in _options(hint))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value with its name, or what is in it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(name, inner)
    else:
        yield name, value


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
        ConfigError: If it raises anything else than what is about the data.
    """
    try:
        return function(**kwargs)
    except (ConfigError, MissingDataError, DamagedDataError):
        raise
    except Exception as error:  # networks are traced in it, which may raise anything
        # Settings name their keys in full.
        message = first_line(error)
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
        name: float(value) if name in floats and type(value) is int and abs(value) < 1e38 else value
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
