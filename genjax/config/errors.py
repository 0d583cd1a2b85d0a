"""Errors of configs, and what to suggest."""

import difflib
import re
import types
from collections.abc import Iterable
from typing import Any


class ConfigError(ValueError):
    """A config that cannot be run; the message is one line and names the key.

    Args:
        message: The message. What it quotes may have several lines: they are joined.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one it may be meant for, and all there are.

    Example:
        >>> nearest("chanels", ["channels", "dtype"])
        "; did you mean 'channels'? valid: channels, dtype"
    """
    valid = sorted(valid)
    by_lower = {other.lower(): other for other in valid}
    near = difflib.get_close_matches(name.strip().lower(), by_lower, n=1, cutoff=0.5)
    guess = f"; did you mean {by_lower[near[0]]!r}?" if near else ";"
    return f"{guess} valid: {', '.join(valid)}"


def shown(value: Any) -> str:
    """A value as messages quote it, with its type: short, and without the place in memory.

    Example:
        >>> shown("8"), shown(object()), shown(int)
        ("'8' (str)", 'object', "the type 'int'")
    """
    if isinstance(value, type):
        return f"the type {value.__name__!r}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    kind = type(value).__name__
    text = repr(value)
    if re.search(r" at 0x[0-9a-f]+>", text):  # it says nothing but the type
        name = getattr(value, "__name__", None)
        return f"{kind} {name!r}" if isinstance(name, str) else kind
    if len(text) > 80:
        text = f"{text[:77]}..."
    return f"{text} ({kind})"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, after its type if it is no ``ValueError``."""
    text = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
