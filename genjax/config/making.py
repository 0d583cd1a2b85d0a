"""From sections of a config to a family of the data: networks, optimisers, parts and views."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from absl import logging

from genjax import data, families, nets
from genjax.config.arguments import REQUIRED, arguments, refusing
from genjax.config.defaults import at, is_left_out
from genjax.config.errors import ConfigError
from genjax.config.first_stage import EmbeddingsSettings, FirstStageSettings, SeenThrough
from genjax.config.frozen import build_frozen, build_network, frozen_text, trained_before
from genjax.config.guidance import SAMPLING, build_sampling_part
from genjax.config.recipes import GIVEN, Recipe, Slot
from genjax.config.tables import (
    OPTIMIZERS,
    build_named,
    imported,
    look_up,
    look_up_family,
    look_up_function,
)
from genjax.families.base import Acts, Family, FirstStage
from genjax.families.binarized import Binarization
from genjax.families.embedded import MADE_FROM, Embeddings, with_embeddings
from genjax.families.sampling import Sampling
from genjax.families.standardized import Standardization
from genjax.families.views import View, viewed
from genjax.training.experiment import (
    DataSettings,
    EvalSettings,
    SampleSettings,
    Stream,
    spec_of,
)
from genjax.training.optimizers import Scheduled


class Ready(NamedTuple):
    """What is made of the sections before there is data.

    Attributes:
        networks: Sections of the networks to train, by argument of the family.
        frozen: Sections of the frozen ones.
        started: Sections of those that another run has trained first.
        parts: The family's parts, by argument.
        draws: Whether samples are drawn while the run goes on: what they need is asked for now.
    """

    networks: Mapping[str, Mapping[str, Any]]
    frozen: Mapping[str, Mapping[str, Any]]
    started: Mapping[str, Mapping[str, Any]]
    parts: Mapping[str, Any]
    draws: bool = False


def before_data(recipe: Recipe, sections: Mapping[str, Any]) -> Ready:
    """Makes what needs no data; what is wrong with it is found now."""
    networks: dict[str, Any] = {}
    before: dict[str, dict[str, Any]] = {"frozen": {}, "start": {}}
    parts = {}
    for where, argument in zip(recipe.model_sections(), recipe.networks, strict=True):
        if is_left_out(sections, where, recipe):
            continue
        section = at(sections, where)
        place = trained_before(section)
        if place is not None:
            before[place][argument] = section[place]
        else:
            networks[argument] = section
    for name, table in recipe.parts.items():
        part = sections["family"].get(name)
        if part is None and recipe.arguments()[name].default is not REQUIRED:
            continue
        parts[name] = build_named(table, part or {}, f"family.{name}")
    for where in recipe.optimizer_sections():
        if is_left_out(sections, where, recipe):
            continue
        _make_optimizer(sections, where)(acts=Acts())
    return Ready(networks, before["frozen"], before["start"], parts)


class Assembled(NamedTuple):
    """A family, its networks by their names in the state, and what loads those trained before.

    ``loaders`` are those of frozen networks, ``started`` those of networks to train further.
    """

    family: Family
    networks: Mapping[str, Any]
    loaders: Mapping[str, Callable[[], Any]]
    started: Mapping[str, Callable[[], Any]]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a family sees: examples of this shape, with this many levels; data, or its latents."""

    event_shape: tuple[int, ...]
    num_levels: int | None
    latents: bool = False


class Made(NamedTuple):
    """A family of what it sees, its arguments, and what loads its networks trained before."""

    family: Family
    kwargs: Mapping[str, Any]
    loaders: dict[str, Callable[[], Any]]
    started: dict[str, Callable[[], Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Basis:
    """What families are made of besides their sections.

    Attributes:
        streams: The data.
        settings: The sections of a run as records.
        measured: Gives the moments of the training rows.
        deviation: Gives the standard deviation of all their entries together.
        rates: Where learning rates of optimisers are put, as far as they are known.
    """

    streams: Mapping[str, Stream]
    settings: Mapping[str, Any]
    measured: Callable[[], data.Moments]
    deviation: Callable[[], float]
    rates: dict[str, Callable[[int], float]]

    @property
    def dataset(self) -> data.DataSet:
        """The training rows."""
        return self.streams[""].train

    def seen(self) -> Seen:
        """What families see of the data."""
        found = self.dataset
        if self.settings["data"].binarize is None:
            return Seen(found.event_shape, found.num_levels)
        if found.num_levels is None:
            raise ConfigError(
                f"data.binarize: {found.name} is real-valued; bits are drawn of grey levels"
            )
        if found.vocabulary is not None:
            raise ConfigError(f"data.binarize: {found.name} is text; bits are drawn of grey levels")
        return Seen(found.event_shape, 2)


def assemble(recipe: Recipe, sections: Mapping[str, Any], basis: Basis, ready: Ready) -> Assembled:
    """Makes the family from its sections, and as one of the data."""
    dataset, settings, seen = basis.dataset, basis.settings["data"], basis.seen()
    first = variables = embeddings = None
    if settings.first_stage is not None:
        asked = refusing("data.first_stage", FirstStageSettings, **settings.first_stage)
        first, variables = _first_stage(asked, basis)
        seen = Seen(first.event_shape, first.num_levels, latents=True)
    if settings.embeddings is not None:
        told = EmbeddingsSettings(**settings.embeddings)
        embeddings = _embeddings(told, basis)
        if embeddings.replaces is not None:
            shape = refusing("data.embeddings.form", lambda: embeddings.event_shape)
            seen = Seen(shape, embeddings.replaces.num_levels, latents=True)
    made = _family_of(recipe, sections, basis, ready, seen)
    of_recipe = {name: made.kwargs[name] for name in recipe.networks if name in made.kwargs}
    scale = _moments(dataset, settings, list(of_recipe.values()), basis.measured)
    family = made.family
    if first is not None and variables is not None:
        unit = asked.scale_of(first)
        family = families.of_latents(family, first, variables, dataset.event_shape, scale=unit)
    views: list[View] = []  # how what is in the middle sees data, from the innermost on
    if scale is not None:
        alike = tuple(
            name
            for name, feature in spec_of(basis.streams).items()
            if name.split("/")[-1] in ("x", "partner")
            and feature.num_levels is None
            and feature.shape == dataset.event_shape
        )
        views.append(Standardization(mean=scale.mean, std=scale.std, names=alike))
    if settings.binarize is not None and dataset.num_levels is not None:
        of = dict(num_levels=dataset.num_levels, event_shape=dataset.event_shape)
        views.append(refusing("data", Binarization, **of, method=settings.binarize))
    for view in views:
        family = viewed(family, view)
    if first is not None:
        made.loaders["first_stage"] = functools.partial(
            asked.load_scaled, first, dataset, views[::-1]
        )
    if embeddings is not None:
        family = refusing("data.embeddings", with_embeddings, family=family, embeddings=embeddings)
        made.loaders[embeddings.name] = functools.partial(told.load_measured, embeddings, dataset)
    elif unknown := MADE_FROM.keys() & set(family.reads):
        raise ConfigError(
            f"the network is told {min(unknown)}: name the contrastive run that makes it, "
            "data.embeddings=dict(workdir=...)"
        )
    networks = {recipe.networks[name].key or name: net for name, net in of_recipe.items()}
    networks |= {name: made.kwargs[name] for name in recipe.parts if name in made.kwargs}
    return Assembled(family, networks, made.loaders, made.started)


def _family_of(
    recipe: Recipe, sections: Mapping[str, Any], basis: Basis, ready: Ready, seen: Seen
) -> Made:
    """Makes the family of what it sees."""
    dataset = basis.dataset
    kwargs: dict[str, Any] = {}
    loaders: dict[str, Callable[[], Any]] = {}
    started: dict[str, Callable[[], Any]] = {}
    for (where, slot), name in zip(recipe.model_sections().items(), recipe.networks, strict=True):
        if is_left_out(sections, where, recipe):
            continue
        if name in ready.frozen:
            found = build_frozen(ready.frozen[name], f"{where}.frozen", seen.event_shape)
            kwargs[name] = found.module()
            loaders[slot.key or name] = found.for_state
        elif name in ready.started:
            found = build_frozen(ready.started[name], f"{where}.start", seen.event_shape)
            kwargs[name] = found.net
            started[slot.key or name] = found.variables
        else:
            section = ready.networks[name]
            if slot.classes_of_data and slot.classes in section:
                _fill_in_classes(section, slot.classes, dataset, where)
            _fill_in_text(section, spec_of(basis.streams), where)
            load = _complete_beside(slot, section, spec_of(basis.streams), where)
            if load is not None:
                loaders[slot.key or name] = load
            kwargs[name] = build_network(slot, section, where, seen.event_shape)
        _check_fit(kwargs[name], dataset, where, slot, seen)
    for where, name in recipe.optimizer_sections().items():
        if is_left_out(sections, where, recipe):
            continue
        kwargs[name] = _optimizer_factory(sections, where, basis.rates)
    kwargs |= ready.parts
    taken_out = {"name", *recipe.parts}
    section = {k: v for k, v in sections["family"].items() if k not in taken_out}
    own = recipe.arguments()
    for name, value in section.items():
        # Such as a loss: what may be more than a string may be an import path.
        plain = name not in own or own[name].hint in (str, str | None)
        if isinstance(value, str) and ":" in value and not plain:
            section[name] = imported(value, f"family.{name}")
    for name, group in recipe.groups.items():
        fields = {f for f in arguments(group) if f not in own and f not in recipe.fixes}
        taken = {f: section.pop(f) for f in sorted(fields & set(section))}
        kwargs[name] = refusing("family", group, **taken)
    given = _given(basis, seen, draws=ready.draws)
    kwargs |= {name: given[name] for name in GIVEN if name in own and name in given}
    if "data_std" in own and seen.latents:
        kwargs["data_std"] = 1.0  # that of scaled latents, or about that of their prior
    elif "data_std" in own:
        networks = [kwargs[name] for name in recipe.networks if name in kwargs]
        standardised = _moments(dataset, basis.settings["data"], networks, basis.measured)
        kwargs["data_std"] = 1.0 if standardised is not None else basis.deviation()
    return Made(refusing("family", recipe.make, **section, **kwargs), kwargs, loaders, started)


def _trained(asked: SeenThrough, basis: Basis) -> tuple[Family, Any]:
    """A family that another run has trained, and shapes of what it was trained to be."""
    assert asked.config is not None
    theirs, own = asked.config["data"], basis.settings["data"]
    for name in ("train_split", "classes"):
        # Moments that real numbers are standardised by are those of the training rows.
        if basis.dataset.num_levels is None and theirs.get(name) != getattr(own, name):
            raise ConfigError(
                f"{asked.where}: the run in {asked.workdir} has data.{name} {theirs.get(name)}, "
                f"and this one {getattr(own, name)}: both stages must see the same real numbers"
            )
    recipe = look_up_family(_name_of(asked))
    made = _family_of(
        recipe,
        asked.config,
        dataclasses.replace(basis, rates={}),
        before_data(recipe, asked.config),
        basis.seen(),
    )
    spec = spec_of(basis.streams)
    batch = {
        name: jax.ShapeDtypeStruct((1, *feature.shape), feature.dtype)
        for name, feature in spec.items()
    }
    state = jax.eval_shape(made.family.init, jax.random.key(0), batch)
    return made.family, state


def _first_stage(asked: FirstStageSettings, basis: Basis) -> tuple[FirstStage, Any]:
    """The trained model whose latents the family is of, and shapes of what it was trained to be.

    Raises:
        ConfigError: If it has no latents, or not those that are asked for.
    """
    family, state = _trained(asked, basis)
    if family.first_stage is None:
        raise ConfigError(
            f"{asked.where}: the run in {asked.workdir} is of the family {_name_of(asked)!r}, "
            "which has no latents to model: take a vq_vae, vq_gan or kl_autoencoder, or a vae "
            "without labels"
        )
    first = asked.asked_of(family.first_stage)
    return first, first.variables(state.ema, state.model_state)


def _name_of(asked: SeenThrough) -> str:
    """Name of the family that another run has trained."""
    assert asked.config is not None
    return str(asked.config["family"]["name"])


def _embeddings(asked: EmbeddingsSettings, basis: Basis) -> Embeddings:
    """What makes vectors of images and texts, if that can be of this data.

    Raises:
        ConfigError: If it cannot.
    """
    settings, dataset = basis.settings["data"], basis.dataset
    if dataset.num_levels is None or settings.binarize is not None or settings.standardize:
        raise ConfigError(
            f"{asked.where}: embeddings are of images of grey levels as they are: leave "
            "data.binarize and data.standardize out"
        )
    replaces = asked.seen_as()
    if replaces is not None and settings.first_stage is not None:
        raise ConfigError(f"{asked.where}: what='x' takes the place of data.first_stage: drop one")
    if replaces is not None and basis.settings["eval"].metrics:
        raise ConfigError(
            f"{asked.where}: eval.metrics compare samples with data, but with what='x' they are "
            "embeddings: leave them out (scripts/prior_table.py compares embeddings)"
        )
    family, state = _trained(asked, basis)
    embed = family.embed
    if embed is None:
        raise ConfigError(
            f"{asked.where}: the run in {asked.workdir} is of the family {_name_of(asked)!r}, "
            "which makes no vectors of images and texts: take contrastive, clip or siglip"
        )
    variables = {"ema": state.ema, "model_state": state.model_state}
    x = jax.ShapeDtypeStruct((1, *dataset.event_shape), dataset.spec["x"].dtype)
    size = jax.eval_shape(embed, variables, {"x": x})["embedding"].shape[-1]
    return Embeddings(embed=embed, variables=variables, size=size, replaces=replaces)


def _fill_in_classes(section: Any, key: str, dataset: data.DataSet, where: str) -> None:
    """Writes the data's number of classes down in the config, where it is left open."""
    if section[key] is not None:
        return
    if dataset.num_classes is None:
        raise ConfigError(f"{where}: {dataset.name} has no labels, which a classifier needs")
    section[key] = dataset.num_classes


def _complete_beside(
    slot: Slot, section: Any, spec: Mapping[str, data.Feature], where: str
) -> Callable[[], Any] | None:
    """Writes down what the data says of the sections within that of a network.

    Returns:
        What loads the state of a frozen text encoder, if there is one.
    """
    if "source" in section:
        _fill_in_source(section["source"], spec, f"{where}.source")
    if "text" not in section:
        return None
    text, within = section["text"], f"{where}.text"
    if "frozen" not in text:
        _fill_in_text(text, spec, within)
        return None
    text |= {"num_tokens": None, "text_length": None}
    _fill_in_text(text, spec, within)
    found, method = frozen_text(text, within), slot.beside["text"].method
    # What is told an image stands around what is told a text.
    path = ("net", "text") if "source" in section else ("text",)
    return _within(path, functools.partial(found.of_texts, method, text["text_length"]))


def _within(path: Sequence[str], load: Callable[[], Any]) -> Callable[[], Any]:
    """What loads the state of a network within others, as part of the outermost one's."""

    def at_path(values: Any) -> Any:
        for name in reversed(path):
            values = {name: values}
        return values

    return lambda: {kind: at_path(values) for kind, values in load().items()}


def _fill_in_text(section: Any, spec: Mapping[str, data.Feature], where: str) -> None:
    """Writes size of the vocabulary and length of the data's texts down, where they are open."""
    if "num_tokens" not in section or "text_length" not in section:
        return
    tokens = spec.get("tokens")
    if tokens is None or tokens.vocabulary is None:
        raise ConfigError(
            f"{where}: the data has no captions: expected a feature 'tokens', as captioned_digits "
            "has, or images with data.options.captions; its features are " + ", ".join(spec)
        )
    for key, value in (("num_tokens", tokens.vocabulary.size), ("text_length", tokens.shape[0])):
        if section[key] is None:
            section[key] = value


def _fill_in_source(section: Any, spec: Mapping[str, data.Feature], where: str) -> None:
    """Writes down the grey levels of the images that a network is told, where they are open."""
    source = spec.get("source")
    if source is None or len(source.shape) != 3:
        raise ConfigError(
            f"{where}: the data has no images 'source' to start from: add a transform that makes "
            "them of x, such as data.transforms=(dict(name='shrink', factor=2),); its features are "
            + ", ".join(spec)
        )
    if section.get("num_levels", 0) is None:
        section["num_levels"] = source.num_levels


def _moments(
    dataset: data.DataSet,
    settings: DataSettings,
    networks: Sequence[Any],
    measured: Callable[[], data.Moments],
) -> data.Moments | None:
    """Moments to standardise the data by, if that is asked for or needed."""
    asked = settings.standardize
    if asked is False or (asked is None and dataset.num_levels is not None):
        return None
    # A flow that begins with a logit is of data in an interval, which says its scale.
    bounded = any(getattr(net, "domain", None) is not None for net in networks)
    if bounded and asked:
        raise ConfigError(
            "data.standardize does not fit a flow that begins with a logit of data in an interval; "
            "leave it out, or take a flow without"
        )
    if bounded:
        return None
    try:
        found = measured()
    except ValueError as error:
        raise ConfigError(f"data.standardize: {error}") from error
    if len(dataset.event_shape) == 1 and len(found.constant):
        logging.warning(
            "data: columns %s of %s never change: a density of them has no bound; leave them out",
            ", ".join(map(str, found.constant[:10])), dataset.name,
        )  # fmt: skip
    return found if asked or len(found.far_from_standard()) else None


def _given(basis: Basis, seen: Seen, *, draws: bool) -> dict[str, Any]:
    """What families are told besides their section: see :data:`~genjax.config.recipes.GIVEN`."""
    evaluation: EvalSettings = basis.settings["eval"]
    sampling: SampleSettings = basis.settings["sample"]
    parts = {
        name: build_sampling_part(name, getattr(sampling, name), basis.dataset, draws=draws)
        for name in SAMPLING
    }
    spec = dict(spec_of(basis.streams))
    spec["x"] = dataclasses.replace(spec["x"], shape=seen.event_shape, num_levels=seen.num_levels)
    return {
        "batch_size": basis.streams[""].batch_size,
        "eval_num_draws": evaluation.num_times,
        "eval_num_times": evaluation.num_times,
        "event_shape": seen.event_shape,
        "num_classes": basis.dataset.num_classes,
        "num_levels": seen.num_levels,
        "sample_num_steps": sampling.num_steps,
        "sampling": Sampling(num_steps=sampling.num_steps, **parts),
        "spec": spec,
    }


def _optimizer_factory(
    sections: Mapping[str, Any], where: str, rates: dict[str, Callable[[int], float]]
) -> Callable[[Acts], Any]:
    """What makes an optimiser when the family says how often it acts; arguments are checked now."""
    section = at(sections, where)
    make = _make_optimizer(sections, where)
    told = "acts" in arguments(look_up(OPTIMIZERS, section.get("name"), where))

    def factory(acts: Acts) -> Any:
        if not told and acts.regularize_every > 1:
            raise ConfigError(
                f"{where}.name {section['name']!r} is not corrected for steps on penalties of "
                "their own (family.penalty_every or path_every above 1): it has no argument 'acts'"
            )
        made = make(acts=acts)
        if isinstance(made, Scheduled):  # another package's may not say
            rates[where.partition(".")[2]] = made.learning_rate
        return made

    return factory


def _make_optimizer(sections: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """What makes the optimiser of a section; what it makes is looked at."""
    section = at(sections, where)
    name = section.get("name")
    rated = "learning_rate" in arguments(look_up_function(OPTIMIZERS, name, where))

    def make(**given: Any) -> Any:
        # Without a learning rate optax has parts of optimisers, of which some go up the gradient.
        part = str(name).startswith("optax:") and not rated
        made = None if part else build_named(OPTIMIZERS, section, where, **given)
        if not (hasattr(made, "init") and hasattr(made, "update")):
            raise ConfigError(
                f"{where}.name {name!r} is no optimiser by itself: name one with a learning_rate, "
                "such as optax:lion, or a function of yours that returns an "
                "optax.GradientTransformation (package.module:NAME)"
            )
        return made

    return make


def _check_fit(net: Any, dataset: data.DataSet, where: str, slot: Slot, seen: Seen) -> None:
    """Whether a network takes such examples, as far as it says what it takes."""
    rank = getattr(net, "event_rank", None)
    if rank is not None and len(seen.event_shape) != rank:
        kinds = {1: "points [D]", 3: "images [H, W, C]"}
        called = type(net).__name__ if not isinstance(net, nets.Frozen) else "the frozen network"
        raise ConfigError(
            f"{where}: {called} takes {kinds.get(rank, f'{rank} axes')}, but an example of "
            f"{dataset.name} has shape {seen.event_shape}"
        )
    classes, key = getattr(net, slot.classes, None), f"{where}.{slot.classes}"
    if classes is not None and dataset.num_classes is None:
        raise ConfigError(f"{key} is {classes}, but {dataset.name} has no labels; set it to None")
    if classes is not None and classes != dataset.num_classes:
        raise ConfigError(
            f"{key} is {classes}, but {dataset.name} has {dataset.num_classes} classes"
        )
    domain = getattr(net, "domain", None)
    if domain is not None and isinstance(dataset.source, data.ArraySource):
        x = dataset.source.arrays["x"]
        low, high = (0.0, 1.0) if dataset.num_levels else (float(x.min()), float(x.max()))
        if low < domain[0] or high > domain[1]:
            raise ConfigError(
                f"{where}: this flow begins with a logit of data in {list(domain)}, but "
                f"{dataset.name} has values from {low:.4g} to {high:.4g}; scale them, or take a "
                "flow without"
            )
