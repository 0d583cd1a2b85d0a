"""Trained models that a second one sees the data through.

``data.first_stage=dict(workdir=...)`` makes a family one of the latents (codes) of the run there;
``data.embeddings=dict(workdir=...)`` tells it the vectors of a contrastive run, or makes it one of
these. A new run copies what was trained into its own state and what built it into its config, once:
whoever goes on with its ``config.json`` needs the other workdir no more.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax

from genjax.config.arguments import arguments, check, fill_in
from genjax.config.defaults import as_dict
from genjax.config.errors import ConfigError, shown
from genjax.config.frozen import config_of, read_state

_ALIKE = ("name", "options", "binarize", "standardize")
_SEEN = (*_ALIKE, "train_split", "classes", "first_stage")
"""What of a data section decides what a model sees."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStageSettings:
    """The section ``data.first_stage``.

    Attributes:
        workdir: Directory of the run that trained it.
        config: Its config; found in the workdir if None.
    """

    where: ClassVar[str] = "data.first_stage"

    workdir: str
    config: Mapping[str, Any] | None = None

    def load(self) -> dict[str, Any]:
        """What was trained, as families ask it: ``ema`` and ``model_state``.

        Raises:
            ConfigError: If the workdir has no checkpoint of it.
        """
        state, _ = read_state(self.workdir, self.where)
        kept = dict(state.get("model_state") or {})
        for view in ("binarization", "standardization"):  # are the second model's own
            kept.pop(view, None)
        return {"ema": jax.device_get(state["ema"]), "model_state": jax.device_get(kept)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingsSettings(FirstStageSettings):
    """The section ``data.embeddings``.

    Attributes:
        workdir: Directory of the run that trained it.
        config: Its config; found in the workdir if None.
        what: ``"told"``: networks may be told the vectors; ``"x"``: the model is one of the vectors
            of images, in place of images.
    """

    where: ClassVar[str] = "data.embeddings"

    what: Literal["told", "x"] = "told"


def complete_first_stage(
    settings: type[FirstStageSettings], section: Any, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The section with what the workdir says of the first model.

    Args:
        settings: Which section it is.
        section: The section.
        data: The section ``data`` that it stands in.

    Returns:
        The completed section.

    Raises:
        ConfigError: If it is wrong, the workdir has no run, or that run is of other data.
    """
    where = settings.where
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} must be a mapping with a workdir, got {shown(section)}")
    valid = arguments(settings)
    check(section, valid, where)
    filled = fill_in(section, valid)
    # Written down once, the run in the workdir is not needed to build the model again.
    if filled["config"] is None:
        # Read as JSON, sequences are lists.
        whole = as_dict(config_of(filled["workdir"], where))
        # Of its data what it has seen; the rest of that section may be changed at any time.
        filled["config"] = {
            **{name: whole.get(name, {}) for name in ("family", "model", "optimizer")},
            "data": {name: whole["data"].get(name) for name in _SEEN},
        }
    theirs = filled["config"]["data"]
    for name in _ALIKE:
        if theirs.get(name) != data.get(name):
            raise ConfigError(
                f"{where}: the run in {filled['workdir']} has data.{name} {theirs.get(name)!r}, "
                f"and this one {data.get(name)!r}: both stages must see the same data"
            )
    if theirs.get("first_stage") is not None:
        raise ConfigError(f"{where}: the run in {filled['workdir']} has a first stage itself")
    return filled
