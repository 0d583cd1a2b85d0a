"""Attacks on a trained classifier: rows near those of the data that it decides wrongly."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from genjax.families.base import Family, TrainState
from genjax.losses.attacks import Norm, attack_step
from genjax.training.experiment import Experiment


class Classifies(Protocol):
    """What is attacked: a trained model."""

    family: Family
    experiment: Experiment

    def of_rows(self, name: str, function: Any, rows: Mapping[str, np.ndarray]) -> Any:
        """A function of the newest state and of rows, of all of them."""
        ...


@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack found.

    Attributes:
        rows: Attacked rows ``[N, *event]``, float32: grey levels as shares of the range from black
            to white, which need be no whole levels; real numbers in units of the data.
        natural: Decisions on the rows themselves, class ids ``[N]``.
        attacked: Decisions on the attacked rows, ``[N]``.
        protocol: How they were looked for.
    """

    rows: np.ndarray
    natural: np.ndarray
    attacked: np.ndarray
    protocol: Mapping[str, str | int | float]


def as_shares(experiment: Experiment, x: np.ndarray) -> np.ndarray:
    """Rows of data as attacks take them: grey levels as shares of their range, float32."""
    levels = experiment.spec["x"].num_levels
    return x.astype(np.float32) / np.float32(1 if levels is None else levels - 1)


def logits_of(model: Classifies, rows: np.ndarray) -> np.ndarray:
    """Logits ``[N, C]`` of rows as attacks take them.

    Raises:
        ValueError: If the family does not tell classes apart by itself.
    """
    function = _class_logits(model)
    found = model.of_rows("classifying", lambda s, b: function(s, b["x"]), {"x": rows})
    return np.asarray(found)


def attack(
    model: Classifies,
    rows: Mapping[str, np.ndarray],
    key: jax.Array,
    *,
    epsilon: float,
    num_steps: int,
    step_size: float | None,
    norm: Norm,
    num_restarts: int,
) -> Attacked:
    """Projected gradient ascent on the cross-entropy: see ``Run.attack``.

    Args:
        model: The trained model.
        rows: ``x`` and ``label`` of rows of the data.
        key: Key of the random starts.
        epsilon: Radius of the ball.
        num_steps: Number of steps.
        step_size: Length of a step.
        norm: Norm of the ball.
        num_restarts: Random starts.

    Returns:
        What was found.

    Raises:
        ValueError: If the family is no classifier of rows, or a number is out of range.
    """
    class_logits = _class_logits(model)
    for name, number in (("num_steps", num_steps), ("num_restarts", num_restarts)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if step_size is None:
        step_size = epsilon if num_steps == 1 else 2.5 * epsilon / num_steps
    box = (0.0, 1.0) if model.experiment.spec["x"].num_levels else (-math.inf, math.inf)

    def step(state: TrainState, batch: Mapping[str, Any]) -> Any:
        def loss_fn(x: jax.Array) -> jax.Array:
            return _cross_entropy(class_logits(state, x), batch["label"])

        return attack_step(
            loss_fn, batch["x"], batch["origin"], epsilon=epsilon, step_size=step_size, norm=norm,
            low=box[0], high=box[1],
        )  # fmt: skip

    origin, label = as_shares(model.experiment, rows["x"]), rows["label"]
    name = f"attacking {epsilon} {step_size} {norm}"
    natural = logits_of(model, origin)
    worst, decisions = origin, natural.argmax(1)
    loss = np.asarray(_cross_entropy(jnp.asarray(natural), jnp.asarray(label)))
    for number in range(num_restarts):
        x = origin
        if num_steps > 1:
            x = np.asarray(_start(jax.random.fold_in(key, number), origin, epsilon, norm, box))
        for _ in range(num_steps):
            x = np.asarray(model.of_rows(name, step, {"x": x, "origin": origin, "label": label}))
        logits = logits_of(model, x)
        found = np.asarray(_cross_entropy(jnp.asarray(logits), jnp.asarray(label)))
        wrong, before = logits.argmax(1) != label, decisions != label
        better = np.where(wrong == before, found > loss, wrong)
        worst = np.where(better.reshape(-1, *[1] * (x.ndim - 1)), x, worst)
        decisions, loss = (
            np.where(better, logits.argmax(1), decisions),
            np.where(better, found, loss),
        )
    protocol: dict[str, str | int | float] = {
        "attack": "pgd" if num_steps > 1 else "fgsm", "norm": norm, "epsilon": epsilon,
        "num_steps": num_steps, "step_size": step_size, "num_restarts": num_restarts,
        "parameters": "moving average",
    }  # fmt: skip
    return Attacked(worst, natural.argmax(1).astype(np.int32), decisions.astype(np.int32), protocol)


def _class_logits(model: Classifies) -> Any:
    found = model.family.class_logits
    if found is None:
        raise ValueError(
            "this family is no classifier of rows: train one with family.name classifier, dann or "
            "cdan, without a process"
        )
    return found


def _cross_entropy(logits: jax.Array, label: jax.Array) -> jax.Array:
    logs = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(logs, label[:, None].astype(jnp.int32), axis=1)[:, 0]


def _start(
    key: jax.Array, origin: np.ndarray, epsilon: float, norm: Norm, box: tuple[float, float]
) -> jax.Array:
    """Random places in the ball, in the box."""
    change = epsilon * jax.random.uniform(key, origin.shape, minval=-1.0)
    if norm == "l2":
        axes = tuple(range(1, origin.ndim))
        length = jnp.sqrt(jnp.sum(change**2, axis=axes, keepdims=True))
        # In many dimensions almost all of a ball is near its surface.
        change = change * jnp.minimum(1.0, epsilon / jnp.maximum(length, 1e-12))
    return jnp.clip(origin + change, *box)
