"""Networks that were trained in another run, to stand where a network may stand.

``frozen=dict(workdir=..., what="ema")`` in the place of a network's section takes the network of
that run as it is; ``start=dict(workdir=..., what="ema")`` takes it to train it further. A new run
copies its variables into its own state, once: from then on it needs the other workdir no more.
"""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from genjax import nets
from genjax.config.arguments import arguments, check, fill_in
from genjax.config.errors import ConfigError, first_line, nearest, shown
from genjax.config.recipes import Slot
from genjax.config.tables import build_named, look_up_family
from genjax.data.identity import crc32
from genjax.training.checkpoints import CheckpointError, Checkpoints
from genjax.training.mesh import make_mesh, replicated
from genjax.training.workdir import WorkdirError, read_config, resolved


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenSettings:
    """The section ``frozen``, or ``start``, in the place of a network.

    Attributes:
        workdir: Directory of the run that trained it.
        what: ``"ema"`` for its averaged parameters, ``"params"`` for the current ones.
        network: Which of its networks; None if there is one.
        family: Name of its family; found in the workdir if None.
        model: Section that describes the network; found in the workdir if None.
    """

    workdir: str
    what: Literal["ema", "params"] = "ema"
    network: str | None = None
    family: str | None = None
    model: Mapping[str, Any] | None = None


PLACES = ("frozen", "start")
"""Sections that describe a network by the run that trained it."""


def trained_before(section: Any) -> str | None:
    """Which of :data:`PLACES` the section of a network has; None if it has a name."""
    has = [place for place in PLACES if isinstance(section, Mapping) and place in section]
    return has[0] if has else None


def complete_frozen(section: Any, where: str, place: str = "frozen") -> dict[str, Any]:
    """The section with what the workdir says of the network.

    Args:
        section: The section.
        where: Name of the section that it stands in, for messages.
        place: Which of :data:`PLACES` it is.

    Returns:
        The completed section.

    Raises:
        ConfigError: If the section is wrong, or the workdir has no such network.
    """
    where = f"{where}.{place}"
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} must be a mapping with a workdir, got {shown(section)}")
    valid = arguments(FrozenSettings)
    check(section, valid, where)
    filled = fill_in(section, valid)
    # Written down once, the run in the workdir is not needed to build the network again.
    if filled["model"] is not None:
        return filled
    config = config_of(filled["workdir"], where)
    recipe = look_up_family(config["family"].get("name"))
    name = filled["network"]
    if not recipe.networks:
        raise ConfigError(
            f"{where}: the run in {filled['workdir']} has no network: its family is "
            f"{config['family']['name']!r}"
        )
    if name is None:
        if len(recipe.networks) > 1:
            raise ConfigError(
                f"{where}.network: the run in {filled['workdir']} has several networks; name one "
                f"of {', '.join(recipe.networks)}"
            )
        name = next(iter(recipe.networks))
    if name not in recipe.networks:
        raise ConfigError(f"unknown {where}.network {name!r}{nearest(name, recipe.networks)}")
    model = config["model"] if len(recipe.networks) == 1 else config["model"][name]
    return {**filled, "network": name, "family": config["family"]["name"], "model": dict(model)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenNetwork:
    """A trained network.

    Attributes:
        net: The network as it was trained.
        place: Workdir of its run.
        key: Its name in the state of that run.
        what: Which of its parameters.
    """

    net: nn.Module
    place: str
    key: str
    what: str

    def module(self, method: str | None = None) -> nets.Frozen:
        """The network as a family takes it.

        Args:
            method: Method that is called in place of ``__call__``, if the network has it.

        Returns:
            The network.
        """
        other: dict[str, Any] = {}
        if method is not None and hasattr(self.net, method):
            other["method"] = method
        return nets.Frozen(
            init_fn=functools.partial(self.net.init, **other),
            apply_fn=functools.partial(self.net.apply, **other),
            num_classes=getattr(self.net, "num_classes", None),
            event_rank=getattr(self.net, "event_rank", None),
            context_size=getattr(self.net, "context_size", None),
        )

    def load(self) -> tuple[Any, int]:
        """Its variables, and the step they are of.

        Raises:
            ConfigError: If the workdir has no checkpoint of it.
        """
        state, step = read_state(self.place, "frozen")
        kept = state.get("model_state") or {}
        try:
            params = jax.device_get(state[self.what][self.key])
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"frozen.workdir: the checkpoint in {self.place} has no {self.what} of {self.key}"
            ) from error
        # Some families put a layer of theirs after a network, whose parameters then lie beneath.
        others = jax.device_get(kept.get(self.key) or {})
        if isinstance(params, Mapping) and "trunk" in params:
            params = params["trunk"]
            others = {name: value.get("trunk", value) for name, value in others.items()}
        return {"params": params, **others}, step

    def variables(self) -> dict[str, Any]:
        """What a network starts from that is trained further: parameters and all else it has."""
        return dict(self.load()[0])

    def for_state(self) -> dict[str, Any]:
        """What the state of a run has of it: see :class:`genjax.nets.Frozen`."""
        return {"frozen": {"variables": self.load()[0]}}

    def of_texts(self, method: str | None, text_length: int) -> dict[str, Any]:
        """As :meth:`for_state`, of a network of texts: what the called method needs alone."""
        tokens = jnp.zeros((1, text_length), jnp.int32)
        net = self.module(method)
        needed = jax.eval_shape(lambda: net.init_fn(jax.random.key(0), tokens))
        return {"frozen": {"variables": _parts_of(self.load()[0], needed)}}


def _parts_of(values: Any, needed: Any) -> Any:
    """The entries of nested mappings that others have, too."""
    if not isinstance(needed, Mapping):
        return values
    return {name: _parts_of(values[name], inner) for name, inner in needed.items()}


def build_frozen(
    section: Mapping[str, Any], where: str, event_shape: tuple[int, ...]
) -> FrozenNetwork:
    """The network that a completed section describes.

    Args:
        section: See :func:`complete_frozen`.
        where: Name of the section, for messages.
        event_shape: Shape of an example, for networks that are built for one.

    Returns:
        The network; nothing is loaded.

    Raises:
        ConfigError: If it cannot be built.
    """
    settings = FrozenSettings(**section)
    assert settings.family is not None and settings.model is not None
    recipe = look_up_family(settings.family)
    name = settings.network or next(iter(recipe.networks))
    slot = recipe.networks[name]
    return FrozenNetwork(
        net=build_network(slot, settings.model, f"{where}.model", event_shape),
        place=settings.workdir,
        key=slot.key or name,
        what=settings.what,
    )


def build_network(
    slot: Slot, section: Mapping[str, Any], where: str, event_shape: tuple[int, ...]
) -> Any:
    """The network that a section describes.

    Raises:
        ConfigError: If it cannot be built.
    """
    own = {name: value for name, value in section.items() if name not in slot.beside}
    net = build_named(slot.table, own, where, event_shape=event_shape, **slot.given)
    told = _with_vectors(slot, net, section, where)
    return _with_source(slot, told, section, where, event_shape)


def _with_vectors(slot: Slot, net: Any, section: Mapping[str, Any], where: str) -> Any:
    """The network with what ``text`` and ``embedding`` in its section describe before it."""
    if not {"text", "embedding"} & section.keys():
        return net
    text = embedding = size = None
    if "text" in section:
        text = text_network(slot.beside["text"], section["text"], f"{where}.text")
        size = text.context_size
    if "embedding" in section:
        embedding = _embedding_context(slot.beside["embedding"], section["embedding"], where, net)
        _check_embedding(embedding, size, f"{where}.embedding")
        if embedding.num_tokens:
            size = size or embedding.context_size or getattr(net, "context_size", None)
            embedding = embedding.clone(context_size=size)
    if size is None:
        return nets.Prompted(net=net, embedding=embedding)
    if getattr(net, "context_size", 0) == 0:  # None where a text may decide
        raise ConfigError(
            f"{where}.text: {section['name']} has no attention to a text; take unet, "
            "efficient_unet or dit"
        )
    if net.context_size not in (None, size):
        raise ConfigError(
            f"{where}.context_size is {net.context_size}, but vectors of {where}.text have "
            f"{size} entries: leave it out"
        )
    return nets.Prompted(net=net.clone(context_size=size), text=text, embedding=embedding)


def _check_embedding(embedding: nets.EmbeddingContext, size: int | None, where: str) -> None:
    """Refuses what would not act beside a text of vectors of a size, or without one."""
    if embedding.text_dropout_rate and size is None:
        raise ConfigError(f"{where}.text_dropout_rate: there is no text to drop; leave it out")
    if embedding.context_size is None:
        return
    if not embedding.num_tokens:
        raise ConfigError(f"{where}.context_size: there are no vectors; set num_tokens")
    if size not in (None, embedding.context_size):
        raise ConfigError(
            f"{where}.context_size is {embedding.context_size}, but vectors of the text have "
            f"{size} entries: leave it out"
        )


def _embedding_context(
    slot: Slot, section: Mapping[str, Any], where: str, net: Any
) -> nets.EmbeddingContext:
    """How a network is told embeddings, if it takes them."""
    made: nets.EmbeddingContext = build_named(
        slot.table, section, f"{where}.embedding", **slot.given
    )
    if "vector" not in inspect.signature(type(net).__call__).parameters:
        raise ConfigError(
            f"{where}.embedding: {type(net).__name__} is told no vector; take unet, "
            "efficient_unet or dit"
        )
    if not 0.0 <= made.text_dropout_rate < 1.0:
        raise ConfigError(
            f"{where}.embedding.text_dropout_rate must be in [0, 1), got {made.text_dropout_rate}"
        )
    return made


def _with_source(
    slot: Slot, net: Any, section: Mapping[str, Any], where: str, event_shape: tuple[int, ...]
) -> Any:
    """The network with the image that the section ``source`` in its own describes."""
    if "source" not in section:
        return net
    source = build_named(slot.beside["source"].table, section["source"], f"{where}.source")
    inner: Any = net.net if isinstance(net, nets.Prompted) else net
    if "features" not in inspect.signature(type(inner).__call__).parameters:
        raise ConfigError(
            f"{where}.source: {section['name']} takes no features beside the time, as the level of "
            "the noise on the image is told; take unet, efficient_unet or dit"
        )
    # The image is channels of the input, and none of the output.
    changed = inner.clone(out_channels=inner.out_channels or event_shape[-1], add_input=False)
    return nets.ImageConditioned(
        net=net.clone(net=changed) if isinstance(net, nets.Prompted) else changed,
        source=source,
        event_shape=event_shape,
        add_input=inner.add_input,
    )


def text_network(slot: Slot, section: Mapping[str, Any], where: str) -> Any:
    """The text encoder that a completed section describes.

    Args:
        slot: Its place.
        section: Its section. That of a trained network has ``num_tokens`` and ``text_length`` of
            the data beside ``frozen``.
        where: Name of the section, for messages.

    Returns:
        The network, which has a ``context_size``.

    Raises:
        ConfigError: If it cannot be built, or makes no vectors of texts.
    """
    if "frozen" not in section:
        return build_named(slot.table, section, where, **slot.given)
    net = frozen_text(section, where).module(slot.method)
    if net.context_size is None:
        raise ConfigError(
            f"{where}.frozen: {section['frozen']['model'].get('name')} makes no vectors of texts; "
            "take a run of the family autoregressive with a transformer of captions, or one that "
            "has a text encoder"
        )
    return net


def frozen_text(section: Mapping[str, Any], where: str) -> FrozenNetwork:
    """The trained text encoder of a completed section: see :func:`text_network`."""
    shape = (section["text_length"],)
    found = build_frozen(section["frozen"], f"{where}.frozen", shape)
    if hasattr(found.net, "num_levels"):  # families of whole numbers set it
        found = dataclasses.replace(found, net=found.net.clone(num_levels=section["num_tokens"]))
    return found


def read_state(workdir: str, where: str) -> tuple[dict[str, Any], int]:
    """The newest checkpoint of the run in a workdir.

    Args:
        workdir: The workdir.
        where: Name of the section that asks, for messages.

    Returns:
        Its state as nested dicts, and its step.

    Raises:
        ConfigError: If there is none, or it cannot be read.
    """
    try:
        with Checkpoints(resolved(workdir), read_only=True) as checkpoints:
            found = checkpoints.restore_any(replicated(make_mesh()))
    except CheckpointError as error:
        raise ConfigError(f"{where}.workdir: {error}") from error
    except Exception as error:  # noqa: BLE001 - damaged files may raise anything
        raise ConfigError(
            f"{where}.workdir: the checkpoint in {workdir} cannot be read: {first_line(error)}"
        ) from error
    if found is None:
        raise ConfigError(f"{where}.workdir: {workdir} has no checkpoint yet")
    step, state = found
    return state, step


def config_of(workdir: str, where: str) -> dict[str, Any]:
    """The config of the run in a workdir.

    Args:
        workdir: The workdir.
        where: Name of the section that asks, for messages.

    Returns:
        The config, complete; of a run that is :func:`planned` the one that it will have.

    Raises:
        ConfigError: If there is no trained run.
    """
    if workdir in _PLANNED.get():
        return dict(_PLANNED.get()[workdir])
    try:
        place = resolved(workdir)
    except WorkdirError as error:
        raise ConfigError(f"{where}.workdir: {error}") from error
    try:
        config = read_config(place)
        config["family"], config["model"]  # noqa: B018 - both must be there
    except (WorkdirError, KeyError) as error:
        raise ConfigError(f"{where}.workdir: there is no trained run in {workdir}") from error
    return config


_PLANNED: contextvars.ContextVar[Mapping[str, Mapping[str, Any]]] = contextvars.ContextVar(
    "planned", default=types.MappingProxyType({})
)


@contextlib.contextmanager
def planned(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Makes runs that are yet to be trained known by their configs, while the context lasts.

    The later stages of a pipeline can so be checked before the first one is trained.

    Args:
        configs: Complete configs of runs, as JSON data, by workdir.
    """
    token = _PLANNED.set(configs)
    try:
        yield
    finally:
        _PLANNED.reset(token)


def checksum(tree: Any) -> str:
    """Tells two sets of weights apart."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = crc32(np.asarray(leaf), total)
    return f"{total:08x}"
