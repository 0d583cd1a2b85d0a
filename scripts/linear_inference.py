r"""What adversarial inference finds of one number: a continuum of optima, and its ends.

Data is :math:`x \sim N(0, s^2)`, the prior :math:`z \sim N(0, 1)`, the generator :math:`x = az +
\tau\epsilon` and the encoder :math:`z = ex + \sigma\epsilon`. The joint distributions of both pairs
are equal, and the critic's loss is :math:`\log 4`, wherever :math:`|a| \le s`, :math:`e = a/s^2`,
:math:`\tau^2 = s^2 - a^2` and :math:`\sigma^2 = 1 - a^2/s^2`: from no dependence (:math:`a = 0`,
whose reconstructions know nothing of the row) to one-to-one (:math:`a = s`). The reconstruction
term of ALICE picks the latter. The critic is quadratic, which is optimal for Gaussians.

    python scripts/linear_inference.py --figure=/tmp/linear_inference.png
"""

import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from genjax import families
from genjax.families.base import TrainState

_STD = flags.DEFINE_float("std", 2.0, "Standard deviation s of the data.")
_STARTS = flags.DEFINE_list("starts", ["0.4", "0.8", "1.2", "1.6"], "Slopes a to start from.")
_WEIGHTS = flags.DEFINE_list("weights", ["0.0", "0.2"], "Weights of the reconstruction term.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 1500, "Training steps of each run.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of rows and noise.")
_JSON = flags.DEFINE_string("json", None, "File to write all numbers to.")
_FIGURE = flags.DEFINE_string("figure", None, "PNG to write: slopes of generator and encoder.")


class Slope(nn.Module):
    """Rows that are latents times a number."""

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool = False) -> jax.Array:
        """Rows ``[B, 1]``."""
        return self.param("a", nn.initializers.ones, (1,)) * z


class Same(nn.Module):
    """Features that are the rows."""

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """The rows."""
        return x


class Quadratic(nn.Module):
    """The critic that is optimal for Gaussians."""

    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array, *, train: bool = False) -> jax.Array:
        """Scores ``[B]``."""
        rows = jnp.concatenate([x, z, jnp.ones_like(x)], 1)
        q = self.param("q", nn.initializers.zeros, (3, 3))
        return jnp.einsum("bi,ij,bj->b", rows, q, rows)


def family_of(weight: float) -> families.Family:
    """The family with a weight of the reconstruction term."""
    return families.ali(
        encoder=Same(),
        generator=Slope(),
        critic=Quadratic(),
        generator_optimizer=optax.adam(4e-3, b1=0.5),
        critic_optimizer=optax.adam(1e-2, b1=0.5),
        event_shape=(1,),
        num_levels=None,
        batch_size=256,
        latents=families.Latent(latent_size=1),
        inference=families.Inference(generator_noise=True, reconstruction_weight=weight),
        slope_control=families.SlopeControl(penalties={"r1": 0.02}),
        average=families.HalfLife(ema_half_life_kimg=25.0),
    )


def on_the_continuum(state: TrainState, a: float) -> TrainState:
    """The state at an optimum."""
    left = 1.0 - (a / _STD.value) ** 2
    half = 0.5 * np.log(left)
    params = {
        **state.params,
        "generator": {"a": jnp.array([a])},
        "encoder": {
            "mean": {"kernel": jnp.array([[a / _STD.value**2]]), "bias": jnp.zeros(1)},
            "log_std": {"kernel": jnp.zeros((1, 1)), "bias": jnp.array([half])},
        },
        "noise": {"log_std": jnp.array([half + np.log(_STD.value)])},
    }
    return state.replace(params=params, ema={name: params[name] for name in state.ema})


def numbers(params: Any) -> dict[str, jax.Array]:
    """The four numbers of the model."""
    return {
        "a": params["generator"]["a"][0],
        "e": params["encoder"]["mean"]["kernel"][0, 0],
        "encoder_var": jnp.exp(2.0 * params["encoder"]["log_std"]["bias"][0]),
        "generator_var": jnp.exp(2.0 * params["noise"]["log_std"][0]),
    }


def play(a: float, weight: float) -> dict[str, np.ndarray]:
    """The way of the four numbers, and the critic's loss, ``[num_steps]`` each."""
    family = family_of(weight)
    state = on_the_continuum(family.init(jax.random.key(0), {"x": jnp.zeros((2, 1))}), a)

    def step(state: TrainState, key: jax.Array) -> tuple[TrainState, Any]:
        key_x, key = jax.random.split(key)
        rows = {"x": _STD.value * jax.random.normal(key_x, (256, 1))}
        state, metrics = family.train_step(state, rows, key)
        return state, {**numbers(state.ema), "critic_loss": metrics["critic_loss"]}

    keys = jax.random.split(jax.random.key(_SEED.value + 1), _NUM_STEPS.value)
    _, way = jax.jit(lambda s: jax.lax.scan(step, s, keys))(state)
    return {name: np.asarray(values) for name, values in way.items()}


def draw(ways: dict[tuple[float, float], dict[str, np.ndarray]], path: str) -> None:
    """Draws the ways in the plane of both slopes, and the variances at their ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    plane, variances = figure.subplots(1, 2)
    s, a = _STD.value, np.linspace(0.0, _STD.value, 100)
    plane.plot(a, a / s**2, color="black", label="equal joints: $e = a/s^2$")
    variances.plot(a, 1.0 - a**2 / s**2, color="black", label="$1 - a^2/s^2$")
    for (start, weight), way in ways.items():
        color = "C0" if not weight else "C1"
        plane.plot(way["a"], way["e"], color=color, linewidth=0.8)
        plane.plot(way["a"][:1], way["e"][:1], "o", color=color, markersize=4, fillstyle="none")
        first = start == min(begin for begin, w in ways if w == weight)
        label = f"reconstruction weight {weight:g}" if first else None
        plane.plot(way["a"][-1:], way["e"][-1:], "o", color=color, markersize=5, label=label)
        ends = way["a"][-1:], way["encoder_var"][-1:]
        variances.plot(*ends, "o", color=color, markersize=5, label=label)
    plane.set(xlabel="slope $a$ of the generator", ylabel="slope $e$ of the encoder")
    variances.set(xlabel="slope $a$ of the generator", ylabel="variance of the encoder")
    for axes in (plane, variances):
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def main(_: list[str]) -> None:
    """Plays, prints, draws."""
    starts, weights = ([float(v) for v in f.value] for f in (_STARTS, _WEIGHTS))
    if not all(0.0 < a < _STD.value for a in starts):
        raise app.UsageError(f"--starts must be between 0 and --std, {_STD.value}")
    ways = {(a, weight): play(a, weight) for weight in weights for a in starts}
    names = ("a", "e", "encoder_var", "generator_var", "critic_loss")
    print("| weight | start | a | e | a/s² | encoder's variance | 1-a²/s² | critic's loss |")
    print("|---" * 8 + "|")
    kept = []
    for (start, weight), way in ways.items():
        end = {name: float(way[name][-200:].mean()) for name in names}
        slope, share = end["a"] / _STD.value**2, 1.0 - (end["a"] / _STD.value) ** 2
        print(
            f"| {weight:g} | {start:g} | {end['a']:.3f} | {end['e']:.3f} | {slope:.3f} | "
            f"{end['encoder_var']:.3f} | {share:.3f} | {end['critic_loss']:.4f} |"
        )
        kept.append({"weight": weight, "start": start, **end})
    print(f"\nlog 4 = {np.log(4.0):.4f}")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump({"std": _STD.value, "seed": _SEED.value, "runs": kept}, file, indent=1)
    if _FIGURE.value:
        draw(ways, _FIGURE.value)


if __name__ == "__main__":
    app.run(main)
