"""What numbers a key may have, by its name and the type of its argument.

Signatures say types; what a number counts is in its name. Sizes and counts are at least 1, a few
may be 0, and none is so large that a network would be put together without end, or that a size is
more than a device addresses.
"""

import math
import re
from typing import Any

from genjax.config.errors import ConfigError

_COUNT = re.compile(
    r"num_\w+|\w*size|hidden_sizes|\w*channels|\w+_steps|\w+_every|\w+_devices|keep_checkpoints|padding|fsdp|"
    r"accumulate_\w+|steps_per_call|\w+_factor|\w+_limit_mib|\w+_length"
)
_MAY_BE_0 = re.compile(
    r"num_(hidden_|final_)?(layers|blocks|couplings|halvings)|num_timesteps|num_workers|"
    r"plan_devices|warmup_steps|unroll_steps|num_minibatch_kernels|capacity_steps|context_size|\w+_every|\w+_limit_mib"
)
# These check themselves what is least: an experiment may be made of them without a config.
_SETTINGS = re.compile(r"data(\.streams\.[\w-]+)?|eval|parallel|sample|train")
_WIDTH = re.compile(
    r"\w*size|hidden_sizes|\w*channels|\w+_length|"
    r"num_(bins|classes|codes|components|features|frames|outputs|states|tokens)"
)
_DEVICES = re.compile(r"\w+_devices|num_workers|fsdp")
_REPEATED = re.compile(r"critic_steps|unroll_steps|accumulate_\w+|\w+_factor|padding")
MOST_REPEATED = 10_000
MOST_WIDTH = 10_000_000
MOST_DEVICES = 65_536
MOST = 2**31 - 1
_LARGEST_FLOAT = 3.4028234663852886e38
_SMALLEST_FLOAT = 1.1754943508222875e-38


def check_number(where: str, name: str, value: Any, *, known: bool) -> None:
    """Whether a number is one that its key may have.

    Args:
        where: Section of the key.
        name: Its name in the section.
        value: Its value; what is no number passes.
        known: Whether it is the argument of a function of this package, whose counts are at least
            1. In others -1 may have a meaning, and what counts nothing may be any number.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if isinstance(value, float):
        if math.isnan(value) or (known and abs(value) > _LARGEST_FLOAT):
            raise ConfigError(f"{where}.{name} must be a finite float32, got {value}")
        if known and 0 < abs(value) < _SMALLEST_FLOAT:
            raise ConfigError(f"{where}.{name} must not be 0 in float32, as {value} is; write 0.0")
        return
    if name == "seed":  # has a range of its own
        return
    if known and _COUNT.fullmatch(name) and not _SETTINGS.fullmatch(where):
        least = 0 if _MAY_BE_0.fullmatch(name) else 1
        if value < least:
            raise ConfigError(f"{where}.{name} must be at least {least}, got {value}")
    if not known and not _COUNT.fullmatch(name):
        return
    most = _most(where, name)
    if value > most:
        raise ConfigError(f"{where}.{name} must be at most {most}, got {value}")
    if value < -MOST:
        raise ConfigError(f"{where}.{name} must be at least {-MOST}, got {value}")


def _most(where: str, name: str) -> int:
    if name.endswith("_limit_mib"):  # of a limit, any number may be "none"
        return 2**63 - 1
    if _WIDTH.fullmatch(name):
        return MOST_WIDTH
    if _DEVICES.fullmatch(name):
        return MOST_DEVICES
    # Parts of networks are made one by one.
    counted = where.startswith(("model", "family.")) and name.startswith("num_")
    return MOST_REPEATED if counted or _REPEATED.fullmatch(name) else MOST
