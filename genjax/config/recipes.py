"""How a family is put together from the sections of a config."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from genjax.config.arguments import REQUIRED, Argument, arguments
from genjax.families.base import Family

Table = Mapping[str, Callable[..., Any]]
"""What a ``name`` in a section may be; an import path ``package.module:NAME`` always may, too."""

GIVEN = (
    "batch_size", "data_std", "eval_num_draws", "eval_num_times", "event_shape", "num_classes",
    "num_levels", "sample_num_steps", "sampling", "spec",
)  # fmt: skip
"""Arguments of families that other sections or the data decide, so that they are no keys.

``spec`` is the mapping of all features (:class:`genjax.data.Feature`); ``event_shape`` and
``num_levels`` are those of ``x``, ``num_classes`` is that of ``label``, None without labels;
``eval_num_times`` and ``eval_num_draws`` are ``eval.num_times``. ``sampling`` is the section
``sample`` as :class:`~genjax.families.sampling.Sampling`. ``data_std`` is the standard deviation of
all entries of ``x`` in the training split: of grey levels in [-1, 1].
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """A place for a network in a family.

    Attributes:
        table: Networks it may be.
        given: Arguments of the network that the family decides, where the network has them.
        key: Name of the network in the state; that of the family's argument if None.
        classes: Attribute of the network that is its number of classes, if it is conditional.
        classes_of_data: Whether that number is the data's where a config leaves it None.
        beside: What may stand in the section of this one, by the names of the sections there, and
            what it makes is told to the network: ``text`` and ``embedding``, of
            :class:`genjax.nets.Prompted`, and ``source``, of
            :class:`genjax.nets.ImageConditioned`.
        method: Method of trained networks that is called in place of ``__call__``, if they have it.
    """

    table: Table
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None
    classes: str = "num_classes"
    classes_of_data: bool = False
    beside: Mapping[str, "Slot"] = dataclasses.field(default_factory=dict)
    method: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the sections of a config become the arguments of a family.

    Attributes:
        make: Function that makes the family.
        networks: Its networks, by argument. The only one is described by the section ``model``,
            several by ``model.ARGUMENT`` each, which may be left out where the argument has a
            default. A family without any has no section ``model``.
        optimizers: Arguments that are optimisers: ``optimizer`` is described by the section
            ``optimizer``, ``critic_optimizer`` by ``optimizer.critic``, which may be left out
            where the argument has a default. Empty for what has no optimiser, and no section
            ``optimizer``.
        parts: Arguments that are described by a section of their own in ``family``, with a name of
            these tables.
        groups: Arguments that are records, whose fields are keys of ``family`` itself.
        extends: What ``make`` hands its ``**kwargs`` to.
        fixes: Keys that ``make`` decides itself.
    """

    make: Callable[..., Family]
    networks: Mapping[str, Slot] = dataclasses.field(default_factory=dict)
    optimizers: tuple[str, ...] = ("optimizer",)
    parts: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    extends: Callable[..., Family] | None = None
    fixes: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Argument]:
        """All arguments of the function that makes the family."""
        return arguments(self.make, self.extends, self.fixes)

    def keys(self) -> dict[str, Argument]:
        """Keys of the section ``family`` besides ``name`` and the parts."""
        # What a section of its own describes, or the data decides, is no key.
        taken = {*self.networks, *self.optimizers, *self.parts, *self.groups, *GIVEN}
        own = {name: a for name, a in self.arguments().items() if name not in taken}
        for group in self.groups.values():
            fields = arguments(group)
            own |= {n: a for n, a in fields.items() if n not in own and n not in self.fixes}
        return own

    def model_sections(self) -> dict[str, Slot]:
        """Slots by the names of their sections."""
        if len(self.networks) == 1:
            return {"model": next(iter(self.networks.values()))}
        return {f"model.{name}": slot for name, slot in self.networks.items()}

    def may_lack(self, argument: str) -> bool:
        """Whether the section of a network or an optimiser may be left out."""
        return self.arguments()[argument].default is not REQUIRED

    def optimizer_sections(self) -> dict[str, str]:
        """Arguments that are optimisers by the names of their sections."""
        if self.optimizers == ("optimizer",):
            return {"optimizer": "optimizer"}
        return {f"optimizer.{a.removesuffix('_optimizer')}": a for a in self.optimizers}
