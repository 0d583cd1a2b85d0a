"""Guidance by networks that were trained in another run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array
from ml_collections import ConfigDict

from genjax import data
from genjax.config.errors import ConfigError, shown
from genjax.config.features import classifier_command, is_of_data
from genjax.config.frozen import build_frozen, complete_frozen
from genjax.config.recipes import Table
from genjax.config.tables import GUIDANCE, PROCESSES, SAMPLERS, build_named
from genjax.diffusion import ClassifierGuidance, Estimate, GammaProcess, Process
from genjax.diffusion.guidance import EstimateFn
from genjax.families.classified import log_prob_of_latents
from genjax.training.workdir import WorkdirError, read_config, resolved


class UntrainedError(ConfigError):
    """What guides samples is yet to be trained: needed where samples are drawn, not before."""


def classifier_guidance(
    *, dataset: data.DataSet, workdir: str, scale: float = 1.0, tells_label: bool = False
) -> ClassifierGuidance:
    """Guidance by a classifier of latents that was trained here on the same data.

    Args:
        dataset: Data the model imitates.
        workdir: Directory of the classifier's run, of the family ``classifier`` with a ``process``.
        scale: How much the slope of the classifier counts; 1 is what a perfect one asks for.
        tells_label: Whether a model that takes labels is told them, too.

    Returns:
        The guidance.

    Raises:
        UntrainedError: If there is no trained classifier.
        ConfigError: If what is there is none of latents of this data.
    """
    where = "sample.guidance"
    place = resolved(workdir)
    command = classifier_command(dataset, workdir, noisy=True)
    try:
        config = read_config(place)
    except WorkdirError:
        raise UntrainedError(
            f"{where}.workdir: there is no trained classifier in {workdir}; train one first "
            f"({command}), name another workdir, or leave {where} out"
        ) from None
    family, name = (config.get(section, {}).get("name") for section in ("family", "data"))
    if family != "classifier" or not is_of_data(place, name, dataset):
        raise ConfigError(
            f"{where}.workdir: {workdir} holds a {family} of {name}, not a classifier of this data "
            f"({dataset.name}); train one ({command})"
        )
    section = config["family"].get("process")
    if section is None:
        raise ConfigError(
            f"{where}.workdir: {workdir} holds a classifier of clean images, which guides nothing: "
            f"train one with family.process ({command})"
        )
    process = build_named(PROCESSES, section, f"{where}.process")
    frozen = build_frozen(complete_frozen({"workdir": workdir}, where), where, dataset.event_shape)
    try:
        # Samples may be traced already when a run asks for it first.
        with jax.ensure_compile_time_eval():
            variables, _ = frozen.load()
    except ConfigError as error:
        raise UntrainedError(f"{where}.workdir: {error}; run {command}") from error
    return ClassifierGuidance(
        log_prob_fn=log_prob_of_latents(frozen.net.apply, variables, process),
        scale=scale,
        tells_label=tells_label,
        process=process,
    )


SAMPLING: Mapping[str, Table] = {
    "guidance": {**GUIDANCE, "classifier": classifier_guidance},
    "sampler": SAMPLERS,
}
"""What sections of ``sample`` may name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Later(ClassifierGuidance):
    """Guidance by a classifier that is looked for when samples are drawn.

    Attributes:
        make: Makes the guidance, or says what is missing.
    """

    make: Callable[[], ClassifierGuidance]

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Array, against: Any = None
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes.

        Raises:
            UntrainedError: If there still is no trained classifier.
        """
        made = self.make()
        if not isinstance(process, GammaProcess):  # whose noise is known when it is computed
            made.check(process)
        return made.guided(process, estimate_fn, label, against)


def build_sampling_part(name: str, section: Any, dataset: data.DataSet, *, draws: bool) -> Any:
    """A sampler or guidance from its section.

    Args:
        name: ``"guidance"`` or ``"sampler"``.
        section: The section, or what a notebook brings in its place.
        dataset: Data the model imitates.
        draws: Whether samples are drawn for certain: what is not trained yet is refused now.

    Returns:
        What was built; values and None as they are.

    Raises:
        ConfigError: If it does not fit.
    """
    where, method = f"sample.{name}", _METHODS[name]
    if section is None or hasattr(section, method):
        return section
    if not isinstance(section, ConfigDict | Mapping):
        raise ConfigError(
            f"{where} must be a mapping with a name, or a value with a method {method!r}, got "
            f"{shown(section)}"
        )

    def make() -> Any:
        return build_named(SAMPLING[name], section, where, dataset=dataset)

    try:
        return make()
    except UntrainedError:
        if draws:
            raise
        told = {key: section[key] for key in ("scale", "tells_label") if key in section}
        return Later(make=make, log_prob_fn=_unknown, **told)


def _unknown(z: Array, t: Array, label: Array) -> Array:
    raise UntrainedError("sample.guidance: there is no trained classifier")


_METHODS = {"guidance": "guided", "sampler": "sample"}
"""What parts of sampling can do."""
