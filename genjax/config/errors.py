"""Errors of configs, and what to suggest."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A config that cannot be run; the message is one line and names the key."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: the one it may be meant for, and all there are.

    Example:
        >>> nearest("chanels", ["channels", "dtype"])
        "; did you mean 'channels'? valid: channels, dtype"
    """
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{guess} valid: {', '.join(valid)}"
