"""Configs of every family, each with one key made wrong, and what building them comes to.

    python tests/config/mutations.py --count=3500 --seed=0

prints how many were built, refused in one line that names the key, or ended otherwise.
"""

import argparse
import collections
import contextlib
import copy
import os
import pathlib
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

TINY_NETS: dict[str, dict[str, Any]] = {
    "score_mlp": dict(hidden_size=8, num_layers=1),
    "score_resnet": dict(channels=8, num_layers=1, num_groups=4),
    "unet": dict(channels=8, multipliers=(1, 2), num_blocks=1, num_groups=4),
    "dit": dict(hidden_size=8, num_layers=1, num_heads=2),
    "coupling_flow": dict(hidden_size=8, num_layers=2),
    "autoregressive_flow": dict(hidden_size=8, num_layers=2),
    "continuous_flow": dict(hidden_size=8, num_layers=1),
    "glow": dict(hidden_size=8, num_steps=1, num_scales=1),
    "jet": dict(hidden_size=8, num_heads=2, num_blocks=1, num_couplings=2),
    "real_nvp": dict(hidden_size=4, num_blocks=1, num_scales=1),
    "tarflow": dict(hidden_size=8, num_heads=2, num_blocks=1, num_layers=1),
    "conv_classifier": dict(channels=8, num_features=8),
    "gated_pixelcnn": dict(channels=4, num_layers=1),
    "made": dict(hidden_size=8),
    "pixelcnn": dict(channels=4, num_blocks=1),
    "pixelcnn_plus": dict(channels=4, num_blocks=1, num_halvings=1),
    "transformer": dict(hidden_size=8, num_blocks=1, num_heads=2),
}
GAMES: dict[str, dict[str, Any]] = {
    "gan": {},
    "fgan": dict(family=dict(divergence="kl")),
    "hinge_gan": dict(family=dict(penalties=dict(r1=0.1))),
    "lsgan": {},
    "mmd_gan": dict(critic=dict(num_outputs=4)),
    "r3gan": {},
    "sngan": dict(critic=dict(spectral_norm=True)),
    "wgan": dict(optimizer="rmsprop"),
    "wgan_gp": {},
}


def _one(data: str, model: str, family: Mapping[str, Any], optimizer: str) -> dict[str, Any]:
    """A config of a family with one network."""
    return dict(
        data=dict(name=data, batch_size=16),
        model=dict(name=model, **TINY_NETS[model]),
        family=dict(family),
        optimizer=dict(name=optimizer, **({"optimizer": "lion"} if optimizer == "optax" else {})),
        train=dict(num_steps=5, eval_every=0),
        eval=dict(batch_size=36),
        sample=dict(num_samples=4, num_steps=3),
    )


def _two(name: str, data: str, net: str, game: Mapping[str, Any]) -> dict[str, Any]:
    """A config of a game."""
    size: dict[str, Any] = dict(
        mlp=dict(hidden_size=8, num_layers=1), dcgan=dict(channels=8, min_channels=4),
        resnet=dict(channels=8),
    )[net]  # fmt: skip
    norm = {} if net == "mlp" else dict(norm="none")
    optimizer = dict(name=game.get("optimizer", "adam"))
    return dict(
        data=dict(name=data, batch_size=16),
        model=dict(
            generator=dict(name=net, **size),
            critic=dict(name=net, **size, **norm, **game.get("critic", {})),
        ),
        family=dict(name=name, latent_size=4, **game.get("family", {})),
        optimizer=dict(generator=optimizer, critic=optimizer),
        train=dict(num_steps=5, eval_every=0),
        eval=dict(batch_size=36),
        sample=dict(num_samples=4, num_steps=3),
    )


def _autoencoder(data: str, encoder: str, decoder: str, **family: Any) -> dict[str, Any]:
    """A config of a model with groups of latents."""
    sizes: dict[str, Any] = {
        "mlp_layers": dict(hidden_sizes=(8, 4), num_layers=1),
        "bottom_up": dict(channels=4, middle_channels=4, num_blocks=(0, 1)),
        "top_down": dict(channels=4, middle_channels=4, num_blocks=(0, 2)),
        "grid": dict(channels=4, num_blocks=1, residual_channels=4),
    }
    name = {"mlp_layers": "vae", "grid": "vq_vae"}.get(encoder, "hierarchical_vae")
    return dict(
        data=dict(name=data, batch_size=16),
        model=dict(
            encoder=dict(name=encoder, **sizes[encoder]),
            decoder=dict(name=decoder, **sizes[decoder]),
        ),
        family=dict(name=name, observation=dict(name="categorical"), **family),
        optimizer=dict(name="adam"),
        train=dict(num_steps=5, eval_every=0),
        eval=dict(batch_size=36),
        sample=dict(num_samples=4, num_steps=3),
    )


def configs() -> dict[str, dict[str, Any]]:
    """Small configs by name; all of their data is made in memory."""
    vdm = dict(name="vdm", schedule=dict(name="learned_monotone"))
    flow: dict[str, Any] = dict(name="flow")
    made = {
        "vdm": _one("digits", "score_resnet", vdm, "adamw"),
        "vdm points": _one("two_moons", "score_mlp", vdm, "optax"),
        "flow_matching": _one("two_moons", "score_mlp", dict(name="flow_matching"), "adam"),
        "unet": _one("digits", "unet", dict(name="flow_matching"), "adam"),
        "dit": _one("digits", "dit", vdm, "adam"),
        "classifier": _one("digits", "conv_classifier", dict(name="classifier"), "adam"),
    }
    made["noisy classifier"] = copy.deepcopy(made["classifier"])
    made["noisy classifier"]["family"]["process"] = dict(name="vp")
    guided = _one("digits", "score_resnet", dict(name="edm", label_dropout=0.1), "adam")
    guided["model"]["num_classes"] = 10
    guided["sample"] |= dict(
        sampler=dict(name="heun"), guidance=dict(name="classifier_free", scale=2.0)
    )
    made["guided edm"] = guided
    made["vdm"]["family"] = {**vdm, "schedule": dict(name="fixed_linear")}
    for recipe in ("coupling_flow", "autoregressive_flow", "continuous_flow"):
        made[recipe] = _one("two_moons", recipe, flow, "adamax")
    for recipe in ("glow", "jet", "real_nvp", "tarflow"):
        made[recipe] = _one("digits", recipe, flow, "adamw")
    made["glow"]["family"] = {**flow, "dequantizer": dict(name="variational", hidden_size=4)}
    made["vdm"]["data"]["transforms"] = [dict(name="random_crop", padding=1)]
    made["real_nvp"]["data"]["transforms"] = [dict(name="center_crop", size=4)]
    made["classifier"]["data"]["streams"] = dict(more=dict(name="two_moons"))
    made["vae"] = _autoencoder("two_moons", "mlp_layers", "mlp_layers", latent_size=(3, 2))
    made["vae"]["family"]["observation"] = dict(name="gaussian")
    made["hierarchical_vae"] = _autoencoder("digits", "bottom_up", "top_down")
    for kind in ("fsq", "vq"):
        made[kind] = _autoencoder("digits", "grid", "grid", quantizer=dict(name=kind))
    for net in ("gated_pixelcnn", "made", "pixelcnn", "pixelcnn_plus", "transformer"):
        family = dict(name="autoregressive", observation=dict(name="categorical"))
        made[net] = _one("digits", net, family, "adamw")
    made["transformer"]["model"]["num_classes"] = 10
    made["transformer"]["family"] |= dict(label_dropout=0.1, guidance_scale=2.0, top_k=3)
    for name, game in GAMES.items():
        made[name] = _two(name, "two_moons", "mlp", game)
    made["gan"]["eval"] |= dict(metrics=("w1",), num_samples=50, num_reference=50)
    made["dcgan"] = _two("gan", "digits", "dcgan", {})
    made["resnet gan"] = _two("wgan_gp", "digits", "resnet", {})
    return made


VALUES: dict[str, Any] = {
    "0": 0,
    "-1": -1,
    "True": True,
    "None": None,
    "10**12": 10**12,
    "inf": float("inf"),
    "nan": float("nan"),
    "''": "",
    "' x'": " x",
    "[]": [],
    "[1, 'a']": [1, "a"],
    "()": (),
    "(0,)": (0,),
    "{}": {},
    "{'a': 1}": {"a": 1},
    "{1: 2}": {1: 2},
    "set()": {1, 2},
    "object()": object(),
    "np.int64(3)": np.int64(3),
    "np.float32(0.5)": np.float32(0.5),
    "np.zeros(2)": np.zeros(2),
    "Path('a/b')": pathlib.Path("a/b"),
    "b'x'": b"x",
    "'3'": "3",
    "0.5": 0.5,
    "3": 3,
    "-0.5": -0.5,
    "1e-300": 1e-300,
    "2**40": 2**40,
    "lambda": lambda: 3,
    "int": int,
    "'a\\nb'": "a\nb",
    "'no.module.Name'": "no.module.Name",
    "'os:path'": "os:path",
    "'nowhere:Name'": "nowhere:Name",
    "':'": ":",
}
WORDS = (
    "0", "-1", "true", "None", "1000000000000", "1e400", "-inf", "nan", "", " x", "(1, 'a')", "[]",
    "{'a': 1}", "{", "(", "'", "abc", "0.5", "1e-400", "a=b", "no.module:Name", "os:path", "10**12",
    "a\nb", "--x",
)  # fmt: skip
"""What is written after ``--config.key=``."""
SPECIAL = ("missing", "extra", "upper case", "spaces", "list of it", "negative of it", "str of it")


class Mutation(NamedTuple):
    """A config with one key made wrong.

    Attributes:
        config: Name of the config.
        key: The key, dotted.
        what: What was done to it: a key of VALUES, one of SPECIAL, or ``=`` and one of WORDS.
    """

    config: str
    key: str
    what: str


def places(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all sections and leaves; positions in lists are keys, too."""
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield f"{prefix}{key}"
            yield from places(inner, f"{prefix}{key}.")


def mutated(config: Mapping[str, Any], key: str, what: str) -> Any:
    """A copy of a config with one key made wrong."""
    made = copy.deepcopy(dict(config))
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    node: Any = made
    for part in path:
        if isinstance(node[part], tuple):
            node[part] = list(node[part])
        node = node[part]
    old = node[last]
    if what == "missing":
        del node[last]
    elif what == "extra":
        if isinstance(node, dict):
            node[f"{last}_"] = old
        else:
            node.append(old)
    elif what in VALUES:
        node[last] = VALUES[what]
    elif isinstance(old, str):
        changed = {"upper case": old.upper(), "spaces": f" {old}", "list of it": [old]}
        node[last] = changed.get(what, f"{old}{old}")
    elif what == "list of it":
        node[last] = [old]
    elif what == "negative of it":
        number = isinstance(old, int | float) and not isinstance(old, bool)
        node[last] = -old if number else ("-", old)
    else:
        node[last] = str(old)
    return made


def every_mutation(completed: Mapping[str, Mapping[str, Any]]) -> list[Mutation]:
    """All mutations of completed configs by name."""
    return [
        Mutation(name, key, what)
        for name, config in completed.items()
        for key in places(config)
        for what in (*VALUES, *SPECIAL, *(f"={word}" for word in WORDS))
        # Items of lists cannot be overridden.
        if not (what[0] == "=" and any(part.isdigit() for part in key.split(".")))
    ]


class Outcome(NamedTuple):
    """What building a config came to.

    Attributes:
        kind: ``built``, ``refused``, or what should not be: ``unnamed``, ``long``, ``raised``
            or ``hung``.
        message: What was said.
    """

    kind: str
    message: str


class Hung(BaseException):
    """Time is up. No ``Exception``, which what is built may catch."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises :class:`Hung` in what takes longer, as far as it is Python."""

    def ring(*_: Any) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(
    config: Mapping[str, Any], mutation: Mutation, seconds: float = 20.0, *, trace: bool = False
) -> Outcome:
    """Builds a mutated config, and says what it came to.

    Args:
        config: The config to mutate, complete.
        mutation: What is made wrong.
        seconds: Time after which it counts as hung.
        trace: Whether to trace all that a run compiles, too.
    """
    import genjax
    from genjax import data
    from genjax.config import ConfigError

    words = []
    if mutation.what.startswith("="):
        words = [f"--config.{mutation.key}{mutation.what}"]
    else:
        config = mutated(config, mutation.key, mutation.what)
    try:
        with at_most(seconds):
            experiment = genjax.build(config, words)
            if trace:
                traced(experiment)
    except (ConfigError, data.MissingDataError) as error:
        message = str(error)
        if "\n" in message or len(message) > 800 or "<class" in message or " at 0x" in message:
            return Outcome("long", message)
        # The section is enough where two keys contradict each other.
        parts = [part for part in mutation.key.split(".") if not part.isdigit()]
        named = parts[-1] in message or f"{parts[0]}:" in message or f"{parts[0]} " in message
        return Outcome("refused" if named else "unnamed", message)
    except Hung:
        return Outcome("hung", f"no end in {seconds} s")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        return Outcome("raised", f"{type(error).__name__}: {error}"[:300])
    return Outcome("built", "")


def traced(experiment: Any) -> None:
    """Traces a training step and samples on shapes alone."""
    import jax

    experiment.check_augment()
    experiment.check_step()
    family = experiment.family
    rows = {n: s for n, s in experiment.batch_shapes().items() if "/" not in n}
    rows["index"] = jax.ShapeDtypeStruct(rows["x"].shape[:1], np.int32)
    key = jax.random.key(0)
    if family.eval_step is not None:
        jax.eval_shape(family.eval_step, experiment.state_shapes, rows, key)
    if family.sample is not None:
        jax.eval_shape(family.sample, experiment.state_shapes, key, rows)


def completed_configs() -> dict[str, dict[str, Any]]:
    """The configs with all their defaults."""
    from genjax import config as genjax_configs

    return {name: genjax_configs.complete(config) for name, config in configs().items()}


def main() -> None:
    """Counts what mutations come to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", default="unnamed,long,raised,hung")
    parser.add_argument("--only", default="")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    completed = completed_configs()
    every = every_mutation(completed)
    if options.only:
        every = [m for m in every if options.only in f"{m.config} {m.key} {m.what}"]
    random.Random(options.seed).shuffle(every)
    counts: collections.Counter[str] = collections.Counter()
    for number, mutation in enumerate(every[: options.count]):
        found = outcome(completed[mutation.config], mutation, trace=options.trace)
        counts[found.kind] += 1
        if found.kind in options.show.split(","):
            print(f"{found.kind} | {' | '.join(mutation)} | {found.message!r}", flush=True)
        if number % 500 == 499:
            print(f"# {number + 1}: {dict(counts)}", flush=True)
    print(f"# of {len(every)}: {dict(counts)}")


if __name__ == "__main__":
    sys.exit(main())
