"""Pipelines: several stages that are trained one after the other, each an ordinary run.

A pipeline is an experiment file whose ``get_config()`` returns ``stages``, a mapping of names to
experiments. Wherever a stage names the workdir of another run, ``"stage:NAME"`` stands for that of
another stage, which is then trained before it.
"""

import ast
import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from genjax.config.arguments import call
from genjax.config.defaults import as_dict, complete, plain_value
from genjax.config.errors import ConfigError, nearest, shown
from genjax.config.frozen import PLACES
from genjax.config.reader import load_config, override_words, parallel_settings, read_file

PREFIX = "stage:"
"""What stands before the name of a stage in the place of its workdir."""
PROMPT = "prompt"
"""In the place of a stage in ``reads``: the texts that samples are asked for by."""
SECTIONS = ("stages", "sample")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """One stage of the chain that samples come from.

    Attributes:
        stage: Name of the stage.
        reads: Where features that it samples from come from: the name of an earlier stage of the
            chain, whose samples they are, or ``"prompt"``, by the name of the feature. None for
            what other stages are told, such as labels, alone.
    """

    stage: str
    reads: Mapping[str, str] | None = None

    @property
    def sources(self) -> Mapping[str, str]:
        """What it reads; empty where that is not said."""
        return self.reads or {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """The section ``sample`` of a pipeline.

    Attributes:
        chain: The stages that samples come from, in order, each a ``stage`` and what it ``reads``;
            the one stage that no other names, alone, if there are none.
    """

    chain: Sequence[Mapping[str, Any]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """A stage as it was said.

    Attributes:
        base: Its config, or that of the file it names; references are not resolved.
        said: What differs from the file, as sections.
        changes: Overrides by dotted key: words of a command line, or values.
        by_word: Whether they are words.
    """

    base: Mapping[str, Any]
    said: Mapping[str, Any]
    changes: Mapping[str, Any]
    by_word: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """A pipeline as it was said.

    Attributes:
        stages: Its stages in the order in which they are trained: each after those it names, and
            else as they were said (of a ``ConfigDict``, whose keys are sorted, by name).
        links: What samples come from, as far as it was said.
    """

    stages: Mapping[str, StageConfig]
    links: Sequence[Link]

    @property
    def chain(self) -> Sequence[Link]:
        """What samples come from.

        Raises:
            ConfigError: If it was not said, and several stages are named by no other.
        """
        if self.links:
            return self.links
        used = {other for name in self.stages for other in references(self, name)}
        last = [name for name in self.stages if name not in used]
        if len(last) > 1:
            raise ConfigError(
                f"sample.chain: say which stages samples come from, as no stage names "
                f"{' or '.join(last)}"
            )
        return (Link(stage=last[0]),)


def is_pipeline(config: Any) -> bool:
    """Whether a config, or an experiment file, is that of a pipeline.

    Raises:
        ConfigError: If the file cannot be read.
    """
    found = read_file(config) if isinstance(config, str | os.PathLike) else config
    return isinstance(found, Mapping | ConfigDict) and "stages" in found


def read_pipeline(config: Any, overrides: Sequence[str] | Mapping[str, Any] = ()) -> PipelineConfig:
    """Reads a pipeline; its stages are completed one by one (:func:`stage_config`).

    Args:
        config: Path of a file, or what its ``get_config()`` returns. A stage is a config, or the
            path of an experiment file (relative to the file of the pipeline), or both: ``file`` and
            sections of what differs.
        overrides: As of :func:`~genjax.config.load_config`, with ``stages.NAME.`` before keys.

    Returns:
        The pipeline.

    Raises:
        ConfigError: If it is none, or an override is of no stage.
    """
    folder = ""
    if isinstance(config, str | os.PathLike):
        folder = os.path.dirname(os.fspath(config).partition(":")[0])
        config = read_file(config)
    sections = as_dict(config)
    unknown = sorted(set(sections) - set(SECTIONS))
    if unknown:
        raise ConfigError(
            f"unknown section {unknown[0]!r} of a pipeline{nearest(unknown[0], SECTIONS)}; "
            "sections of an experiment stand in stages.NAME"
        )
    stages = sections.get("stages")
    if not stages:
        raise ConfigError("stages: a pipeline has at least one")
    for name in stages:
        # The folder of that name is what tells a single run.
        if not re.fullmatch(r"[A-Za-z]\w*", name) or name == "checkpoints":
            raise ConfigError(
                "stages: a name is made of letters, digits and _, begins with a letter and is not "
                f"'checkpoints', got {name!r}"
            )
    by_word = not isinstance(overrides, Mapping)
    pairs: Sequence[tuple[str, Any]] = (
        list(overrides.items()) if isinstance(overrides, Mapping) else override_words(overrides)
    )
    changes: dict[str, dict[str, Any]] = {name: {} for name in stages}
    sample = dict(sections.get("sample", {}))
    for path, value in pairs:
        where, _, key = str(path).partition(".")
        name, _, rest = key.partition(".")
        if where == "sample" and key:
            sample[key] = _literal(value) if by_word else plain_value(value, path)
        elif where != "stages" or name not in stages or not rest:
            raise ConfigError(
                f"unknown config key {str(path)!r} of a pipeline: expected stages.NAME.section.key "
                f"with NAME one of {', '.join(stages)}, or sample.chain"
            )
        else:
            changes[name][rest] = value if by_word else plain_value(value, path)
    read = {}
    for name, stage in stages.items():
        with stage_errors(name):
            base, said = _said(stage, folder)
        read[name] = StageConfig(base=base, said=said, changes=changes[name], by_word=by_word)
    found = PipelineConfig(stages=read, links=_chain(sample, list(stages)))
    return dataclasses.replace(found, stages={name: read[name] for name in _in_order(found)})


@contextlib.contextmanager
def stage_errors(name: str) -> Iterator[None]:
    """Makes errors of a config say which stage they are of."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"stages.{name}: {error}") from error


def stage_config(pipeline: PipelineConfig, name: str, places: Mapping[str, str]) -> dict[str, Any]:
    """The complete config of a stage.

    Args:
        pipeline: The pipeline.
        name: Name of the stage.
        places: Workdirs of stages, which take the place of ``stage:NAME``.

    Returns:
        Nested dicts.

    Raises:
        ConfigError: If it is wrong, or names a stage that is yet to be trained and not
            ``genjax.config.frozen.planned``.
    """
    stage = pipeline.stages[name]
    with stage_errors(name):
        base = with_places(stage.base, places)
        said = with_places(stage.said, places)
        changes = {
            path: with_places({path.rpartition(".")[2]: value}, places).popitem()[1]
            for path, value in stage.changes.items()
        }
        if said:
            base = load_config(base, _by_key(said, complete(base)))
        if stage.by_word:
            return as_dict(load_config(base, [f"--config.{k}={v}" for k, v in changes.items()]))
        return as_dict(load_config(base, changes))


def references(pipeline: PipelineConfig, name: str) -> set[str]:
    """Names of the stages that a stage names.

    Raises:
        ConfigError: If there is none of that name.
    """
    stage = pipeline.stages[name]
    last = {path.rpartition(".")[2]: value for path, value in stage.changes.items()}
    found: set[str] = set()

    def look_at(value: str) -> str:
        other = value.removeprefix(PREFIX)
        if other not in pipeline.stages:
            raise ConfigError(f"{value!r} names no stage{nearest(other, pipeline.stages)}")
        found.add(other)
        return value

    with stage_errors(name):
        for part in (stage.base, stage.said, last):
            _mapped(part, look_at)
    return found


def _in_order(pipeline: PipelineConfig) -> list[str]:
    """Names of the stages, each after those it names."""
    needed = {name: references(pipeline, name) for name in pipeline.stages}
    found: list[str] = []
    while len(found) < len(needed):
        ready = [name for name in needed if name not in found and needed[name] <= set(found)]
        if not ready:
            circle = [name for name in needed if name not in found]
            raise ConfigError(
                f"stages: none of {', '.join(circle)} can be the first: each names one"
            )
        found.append(ready[0])
    return found


def with_places(config: Any, places: Mapping[str, str]) -> Any:
    """A config with workdirs in place of ``stage:NAME``.

    Example:
        >>> with_places({"frozen": {"workdir": "stage:a"}}, {"a": "/runs/a"})
        {'frozen': {'workdir': '/runs/a'}}
    """
    return _mapped(config, lambda value: places[value.removeprefix(PREFIX)])


def with_names(config: Any, places: Mapping[str, str]) -> Any:
    """A config with ``stage:NAME`` in place of workdirs: what :func:`with_places` takes back."""
    names = {place: f"{PREFIX}{name}" for name, place in places.items()}
    return _replaced(config, "", lambda value: names.get(value, value))


def parallel_of(pipeline: PipelineConfig) -> dict[str, int]:
    """How many devices a CPU is divided into: what the stage that asks for most asks for.

    One process trains all stages, and decides on devices before any of them is completed.

    Returns:
        ``cpu_devices`` and ``plan_devices``.

    Raises:
        ConfigError: If a section is wrong.
    """
    most = {"cpu_devices": 1, "plan_devices": 0}
    for name, stage in pipeline.stages.items():
        own = {**stage.base.get("parallel", {}), **stage.said.get("parallel", {})}
        for path, value in stage.changes.items():
            if path.startswith("parallel."):
                own[path.removeprefix("parallel.")] = _literal(value) if stage.by_word else value
        with stage_errors(name):
            settings = parallel_settings({"parallel": own})
        most = {key: max(number, getattr(settings, key)) for key, number in most.items()}
    return most


def _said(stage: Any, folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of a stage, or of the file it names, and what is said besides the file."""
    if isinstance(stage, str):
        stage = {"file": stage}
    if not isinstance(stage, Mapping):
        raise ConfigError(f"expected sections, or an experiment file, got {shown(stage)}")
    said = dict(stage)
    file = said.pop("file", None)
    if file is None:
        return as_dict(said), {}
    if not isinstance(file, str):
        raise ConfigError(f"file must be a path, got {shown(file)}")
    found = read_file(os.path.join(folder, file))
    if is_pipeline(found):
        raise ConfigError(f"{file} is a pipeline itself: a stage is an experiment")
    return as_dict(found), as_dict(said)


def _chain(sample: Mapping[str, Any], stages: Sequence[str]) -> tuple[Link, ...]:
    """What samples come from, as far as it is said."""
    settings: ChainSettings = call(ChainSettings, sample, "sample")
    links: list[Link] = []
    for section in settings.chain:
        if not isinstance(section, Mapping):
            raise ConfigError(f"sample.chain: expected dict(stage=...), got {shown(section)}")
        link: Link = call(Link, section, "sample.chain")
        before = [one.stage for one in links]
        if link.stage not in stages or link.stage in before:
            said = "is there twice" if link.stage in before else "is none of the stages"
            raise ConfigError(f"sample.chain: {link.stage!r} {said}{nearest(link.stage, stages)}")
        for feature, source in link.sources.items():
            if source not in (*before, PROMPT):
                raise ConfigError(
                    f"sample.chain: {link.stage} reads {feature} from {source!r}, which is no "
                    f"earlier stage of the chain{nearest(source, [*before, PROMPT])}"
                )
        links.append(link)
    return tuple(links)


def _by_key(said: Mapping[str, Any], base: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """Sections as values by dotted key, as far as the config has sections of these names."""
    found: dict[str, Any] = {}
    for key, value in said.items():
        inside = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        # A network that was trained before is described by nothing else.
        if inside and not any(place in value for place in PLACES):
            found |= _by_key(value, base[key], f"{lead}{key}.")
        else:
            found[f"{lead}{key}"] = value
    return found


def _mapped(config: Any, change: Any) -> Any:
    """A config in which references to stages are changed."""

    def one(value: str) -> str:
        return change(value) if value.startswith(PREFIX) else value

    return _replaced(config, "", one)


def _replaced(node: Any, key: str, change: Any) -> Any:
    """A config in which strings that are workdirs are changed; so are those inside of literals."""
    if isinstance(node, Mapping):
        return {name: _replaced(value, str(name), change) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_replaced(value, key, change) for value in node)
    if isinstance(node, str) and (key == "workdir" or key.endswith("_workdir")):
        return change(node)
    if isinstance(node, str) and node.startswith("{") and PREFIX in node:
        return repr(_replaced(_literal(node), key, change))
    return node


def _literal(word: Any) -> Any:
    """The value that a word of a command line stands for."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
