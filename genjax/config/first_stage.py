"""Trained models that a second one sees the data through.

``data.first_stage=dict(workdir=...)`` makes a family one of the latents (codes) of the run there;
``data.embeddings=dict(workdir=...)`` tells it the vectors of a contrastive run, or makes it one of
these. A new run copies what was trained into its own state and what built it into its config, once:
whoever goes on with its ``config.json`` needs the other workdir no more.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import jax
import numpy as np
from absl import logging

from genjax import data, families
from genjax.config.arguments import arguments, call, check, fill_in
from genjax.config.defaults import as_dict, completed_named
from genjax.config.errors import ConfigError, shown
from genjax.config.frozen import config_of, read_state
from genjax.config.tables import EMBEDDING_FORMS, look_up_function
from genjax.families.base import FirstStage
from genjax.families.embedded import FORM, Embeddings
from genjax.families.embedding_forms import EmbeddingForm
from genjax.families.views import View

_ALIKE = ("name", "options", "binarize", "standardize")
_SEEN = (*_ALIKE, "train_split", "classes", "first_stage")
"""What of a data section decides what a model sees."""
_NUM_ROWS = 4096
_BATCH = 256
"""Training rows, from first to last, that scales are measured on; and how many at a time."""


def some_rows(dataset: data.DataSet) -> Iterator[Any]:
    """Batches ``x`` of rows from first to last, to measure something on."""
    number = min(_NUM_ROWS, len(dataset.source))
    chosen = np.linspace(0, len(dataset.source) - 1, number).astype(int)
    # The last rows short of a batch are left out: each size would be compiled for.
    size = min(_BATCH, number)
    for start in range(0, number - size + 1, size):
        yield {"x": dataset.source.rows(chosen[start : start + size])["x"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenThrough:
    """A trained model that a second one sees the data through.

    Attributes:
        where: Name of the section.
        workdir: Directory of the run that trained it.
        config: Its config; found in the workdir if None.
    """

    where: ClassVar[str]

    workdir: str
    config: Mapping[str, Any] | None = None

    @classmethod
    def filled_in(cls, section: Mapping[str, Any]) -> dict[str, Any]:
        """The section with the defaults of all that it leaves out, checked.

        Raises:
            ConfigError: If a key does not exist or has a wrong value.
        """
        valid = arguments(cls)
        check(section, valid, cls.where)
        return dict(fill_in(section, valid))

    def load(self, keeps: Sequence[str] | None = None) -> dict[str, Any]:
        """What was trained, as families ask it: ``ema`` and ``model_state``.

        Args:
            keeps: Entries of the latter that are needed; None for all.

        Raises:
            ConfigError: If the workdir has no checkpoint of it.
        """
        state, _ = read_state(self.workdir, self.where)
        kept = dict(state.get("model_state") or {})
        for view in ("binarization", "standardization"):  # are the second model's own
            kept.pop(view, None)
        if keeps is not None:
            kept = {name: kept[name] for name in keeps}
        return {"ema": jax.device_get(state["ema"]), "model_state": jax.device_get(kept)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStageSettings(SeenThrough):
    """The section ``data.first_stage``.

    Attributes:
        workdir: Directory of the run that trained it.
        latents: Of a model of codes, ``"vectors"`` for what they are made of, before it is
            quantised, in place of ``"codes"``.
        scale: Real-valued latents are divided by their standard deviation in training rows, which
            is measured when a run begins: ``"one"`` number, or one for each ``"channel"``. None
            for latents as they are. Codes have none.
        config: Its config; found in the workdir if None.
    """

    where: ClassVar[str] = "data.first_stage"

    latents: Literal["codes", "vectors"] = "codes"
    scale: families.latents.Scale | None = "one"

    def __post_init__(self) -> None:
        for name, valid in (("latents", ("codes", "vectors")), ("scale", ("one", "channel", None))):
            if getattr(self, name) not in valid:
                raise ConfigError(
                    f"{self.where}.{name} must be one of {', '.join(map(repr, valid))}, got "
                    f"{getattr(self, name)!r}"
                )

    def asked_of(self, first: FirstStage) -> FirstStage:
        """The first stage by the latents that are asked for.

        Raises:
            ConfigError: If it has none of this kind.
        """
        if self.latents == "codes":
            return first
        if first.vectors is None:
            raise ConfigError(
                f"{self.where}.latents: the run in {self.workdir} has no codes that vectors would "
                "be quantised to; leave it out"
            )
        return first.vectors

    def scale_of(self, first: FirstStage) -> families.latents.Scale | None:
        """Which scale its latents have."""
        return None if first.num_levels is not None else self.scale

    def load_scaled(
        self,
        first: FirstStage,
        dataset: data.DataSet,
        views: Sequence[View],
    ) -> dict[str, Any]:
        """What was trained, and the scale of its latents.

        Args:
            first: The first stage.
            dataset: The training rows.
            views: How it sees them, from the data on.

        Returns:
            ``ema``, ``model_state`` and, where latents have one, ``scale``.

        Raises:
            ConfigError: If the workdir has no checkpoint of it, or latents do not vary.
        """
        found = self.load(first.keeps)
        scale = self.scale_of(first)
        if scale is None:
            return found

        def batches() -> Iterator[dict[str, Any]]:
            for number, rows in enumerate(some_rows(dataset)):
                key, batch = jax.random.fold_in(jax.random.key(1), number * _BATCH), rows
                for view in views:
                    batch = view.encode(view.kept(), batch, key)
                yield batch

        try:
            measured = families.latents.measured_scale(first, found, batches(), scale)
        except ValueError as error:
            raise ConfigError(f"{self.where}: {error}") from error
        said = "%s: latents are divided by %s, their standard deviation"
        logging.info(said, self.where, measured)
        return {**found, "scale": measured}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingsSettings(SeenThrough):
    """The section ``data.embeddings``.

    Attributes:
        workdir: Directory of the run that trained it.
        config: Its config; found in the workdir if None.
        what: ``"told"``: networks may be told the vectors; ``"x"``: the model is one of the vectors
            of images, in place of images.
        form: With ``what="x"``, the form in which the model sees vectors: ``dict(name="scaled")``
            (times the square root of their length, as None is), ``"standardized"``, or
            ``"principal_codes"`` for a model of codes, with ``num_components`` and ``num_levels``.
    """

    where: ClassVar[str] = "data.embeddings"

    what: Literal["told", "x"] = "told"
    form: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.form is not None and self.what != "x":
            raise ConfigError(
                f"{self.where}.form is how a model of vectors sees them: take what='x', or leave "
                "it out"
            )

    @classmethod
    def filled_in(cls, section: Mapping[str, Any]) -> dict[str, Any]:
        """The section with the defaults of all that it and its form leave out."""
        filled = super().filled_in(section)
        if filled["form"] is None:
            return filled
        # Its keys are checked where it is made.
        form = completed_named(filled["form"], EMBEDDING_FORMS, f"{cls.where}.form")
        return {**filled, "form": form}

    def seen_as(self) -> EmbeddingForm | None:
        """The form in which a model of vectors sees them; None of one that is told them.

        Raises:
            ConfigError: If there is none of that name, or its settings are wrong.
        """
        if self.what != "x":
            return None
        section, where = dict(self.form or {"name": "scaled"}), f"{self.where}.form"
        made = look_up_function(EMBEDDING_FORMS, section.pop("name", None), where)
        return cast(EmbeddingForm, call(made, section, where))

    def load_measured(self, embeddings: Embeddings, dataset: data.DataSet) -> dict[str, Any]:
        """What was trained, and what the form of vectors keeps of those of training rows.

        Args:
            embeddings: The contrastive model.
            dataset: The training rows.

        Returns:
            ``ema``, ``model_state`` and, where there is something to measure, ``form``.

        Raises:
            ConfigError: If the workdir has no checkpoint of it, or vectors do not vary.
        """
        found = self.load()
        form = embeddings.replaces
        if form is None or not form.kept(embeddings.size):
            return found
        embed = jax.jit(lambda variables, x: embeddings.embed(variables, {"x": x})["embedding"])
        vectors = [np.asarray(embed(found, batch["x"])) for batch in some_rows(dataset)]
        try:
            return {**found, FORM: form.measured(np.concatenate(vectors))}
        except ValueError as error:
            raise ConfigError(f"{self.where}.form: {error}") from error


STAGES: Mapping[str, type[SeenThrough]] = {
    "first_stage": FirstStageSettings,
    "embeddings": EmbeddingsSettings,
}
"""Sections of ``data`` that name a trained model."""


def fill_in_stages(sections: Mapping[str, Any]) -> None:
    """Writes the defaults of such sections of a complete config down, of what a run knew of them.

    Raises:
        ConfigError: If a key does not exist or has a wrong value.
    """
    for name, settings in STAGES.items():
        if isinstance(sections["data"].get(name), Mapping):
            sections["data"][name] = settings.filled_in(sections["data"][name])


def complete_first_stage(
    settings: type[SeenThrough], section: Any, data: Mapping[str, Any]
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
    filled = settings.filled_in(section)
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
