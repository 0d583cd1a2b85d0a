"""Trained models for use without genjax: StableHLO programs by ``jax.export``, and safetensors."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax import export as jax_export

from genjax.families.base import TrainState
from genjax.training.experiment import Experiment
from genjax.training.mesh import leaf_name

PLATFORMS = ("cpu", "cuda", "tpu")
"""What programs are lowered for."""

WEIGHTS_FILE = "weights.safetensors"
VOCABULARY_FILE = "vocabulary.json"


def export(
    experiment: Experiment,
    state: TrainState,
    folder: epath.PathLike,
    *,
    platforms: Sequence[str] = PLATFORMS,
) -> list[str]:
    """Writes what samples and scores with a trained model, and its weights.

    ``sample.stablehlo`` is ``(weights, seed, reads) -> rows [num_samples, *event]``, with an uint32
    seed and a mapping of what the family samples from; ``log_prob.stablehlo`` is ``(weights, batch)
    -> nats [batch_size]``, of a mapping of ``x``, further features and ``index``, int32, which
    numbers the rows (draws of noise are keyed by it). Numbers of rows are those of
    ``sample.num_samples`` and ``eval.batch_size``. ``weights`` is the mapping of names to arrays
    that is in ``weights.safetensors``, whose metadata holds the config. Of text, and of what is
    made of texts, ``vocabulary.json`` says what their numbers stand for.

    Args:
        experiment: What was trained.
        state: Its state.
        folder: Where the files go.
        platforms: Platforms the programs can run on.

    Returns:
        Names of the files.

    Raises:
        ValueError: If the family neither samples nor scores.
    """
    from safetensors.flax import save

    programs = _programs(experiment)
    if not programs:
        raise ValueError("this family neither samples nor scores rows: there is nothing to export")
    place = epath.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    bare = state.replace(opt_state={}, step=jnp.asarray(state.step))
    leaves, structure = jax.tree.flatten_with_path(bare)
    names = [leaf_name(path) for path, _ in leaves]
    values = dict(zip(names, jax.device_get([leaf for _, leaf in leaves]), strict=True))

    def with_weights(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(weights: Mapping[str, Any], *args: Any) -> Any:
            every = [weights.get(name, jnp.asarray(values[name])) for name in names]
            return function(jax.tree.unflatten(structure, every), *args)

        return called

    # Of parameters and their averages, mostly one is used.
    used: set[str] = set()
    for function, args in programs.values():
        used |= _used(with_weights(function), values, args)
    weights = {name: values[name] for name in names if name in used}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights)
    written = []
    for name, (function, args) in programs.items():
        exported = jax_export.export(jax.jit(with_weights(function)), platforms=platforms)(
            shapes, *args
        )
        (place / f"{name}.stablehlo").write_bytes(exported.serialize())
        written.append(f"{name}.stablehlo")
    metadata = {"step": str(int(state.step)), "config": json.dumps(experiment.config)}
    arrays: Any = {name: jnp.asarray(value) for name, value in weights.items()}
    (place / WEIGHTS_FILE).write_bytes(save(arrays, metadata=metadata))
    written.append(WEIGHTS_FILE)
    known = [experiment.spec[name].vocabulary for name in ("x", *experiment.family.reads)]
    vocabulary = next((found for found in known if found is not None), None)
    if vocabulary is not None:
        (place / VOCABULARY_FILE).write_text(json.dumps(vocabulary.as_json(), indent=2))
        written.append(VOCABULARY_FILE)
    return written


def _programs(experiment: Experiment) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Functions of a state and further arguments, and the shapes of these."""
    family, spec = experiment.family, experiment.spec
    found: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}

    def rows(name: str, count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *spec[name].shape), spec[name].dtype)

    if family.sample is not None:
        draw, count = family.sample, experiment.sample.num_samples

        def sample(state: TrainState, seed: jax.Array, reads: Mapping[str, jax.Array]) -> jax.Array:
            x = jnp.zeros((count, *spec["x"].shape), spec["x"].dtype)
            return draw(state, jax.random.key(seed), {"x": x, **reads}).rows

        seed = jax.ShapeDtypeStruct((), np.uint32)
        found["sample"] = sample, (seed, {name: rows(name, count) for name in family.reads})
    if family.log_prob is not None:
        score, size = family.log_prob, experiment.eval.batch_size

        def log_prob(state: TrainState, batch: Mapping[str, jax.Array]) -> jax.Array:
            return score(state, batch, jax.random.key(0))

        needed = [name for name in family.reads if name not in family.steers]
        batch = {name: rows(name, size) for name in ("x", *needed)}
        batch["index"] = jax.ShapeDtypeStruct((size,), np.int32)
        found["log_prob"] = log_prob, (batch,)
    return found


def _used(function: Callable[..., Any], values: Mapping[str, Any], args: Sequence[Any]) -> set[str]:
    """Names of the arrays that a function looks at."""
    traced = jax.make_jaxpr(function)(dict(values), *args).jaxpr
    seen = {id(v) for equation in traced.eqns for v in equation.invars}
    seen |= {id(v) for v in traced.outvars}
    # Leaves of a mapping come in the order of its sorted keys.
    return {name for name, v in zip(sorted(values), traced.invars, strict=False) if id(v) in seen}
