r"""Two parallel lines: what divergences say of their distance, and what critics learn of it.

P is the points (0, z) and Q the points (theta, z), z uniform on [0, 1]: example 1 of Arjovsky et
al., arXiv:1701.07875. In closed form W1 = abs(theta), while JSD = log 2, TV = 1 and KL is infinite
wherever theta is not 0; a Gaussian kernel's MMD grows with theta and then stands still. Beside them
stand estimates by trained critics; then the slope that critics of several games give the generator
in theta, over their training; then theta itself, of a generator that is nothing else.

    python scripts/why_gans_fail/parallel_lines.py --figure=lines.png
"""

import argparse
import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from genjax import evaluation, families, losses, nets

THETAS = (0.1, 0.5, 1.0, 2.0)
BANDWIDTH = 0.5
FIT = evaluation.CriticFit(hidden_size=64, num_steps=1000)
GAMES: dict[str, dict[str, Any]] = {
    "minimax": dict(loss="minimax"),
    "nonsaturating": dict(loss="nonsaturating"),
    "least_squares": dict(loss="least_squares"),
    "hinge": dict(loss="hinge"),
    "wgan_gp": dict(loss="wasserstein", penalties=dict(gradient_penalty=10.0)),
    "nonsaturating, r1": dict(loss="nonsaturating", penalties=dict(r1=1.0)),
}


def exact(theta: float) -> dict[str, float]:
    """What divergences of the two lines are."""
    apart = theta != 0.0
    return {
        "w1": abs(theta),
        "jsd": math.log(2.0) * apart,
        "total_variation": 1.0 * apart,
        "kl": math.inf if apart else 0.0,
        "mmd": exact_mmd(theta),
    }


def exact_mmd(theta: float, bandwidth: float = BANDWIDTH) -> float:
    """Squared discrepancy under a Gaussian kernel: that along the lines times that across."""
    h = bandwidth
    # The mean of the kernel of z - z', whose density is 2 (1 - t) of its size t.
    along = h * math.sqrt(2.0 * math.pi) * math.erf(1.0 / (h * math.sqrt(2.0)))
    along -= 2.0 * h**2 * -math.expm1(-0.5 / h**2)
    return -2.0 * along * math.expm1(-0.5 * (theta / h) ** 2)


def lines(theta: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of both lines, ``[count, 2]`` each."""
    z = np.random.default_rng(seed).uniform(size=(2, count))
    return np.stack([0.0 * z[0], z[0]], 1), np.stack([theta + 0.0 * z[1], z[1]], 1)


def slope_control(game: dict[str, Any]) -> families.SlopeControl:
    """The penalties of a game."""
    return families.SlopeControl(penalties=game.get("penalties"))


def slopes_in_theta(game: dict[str, Any], theta: float, counts: tuple[int, ...]) -> list[float]:
    """Slope of the generator's loss in theta, from critics of so many steps of training."""
    x, y = lines(theta, 4000)
    loss, control = losses.ADVERSARIAL_LOSSES[game["loss"]], slope_control(game)
    found = []
    for count in counts:
        fit = dataclasses.replace(FIT, num_steps=count, check_every=count)
        critic_fn = evaluation.fit_critic(
            x, y, loss, fit=fit, penalty=control.penalty if control.weights else None
        )
        real = critic_fn(jnp.asarray(x, jnp.float32))

        def value(
            shift: jax.Array, critic_fn: Any = critic_fn, real: jax.Array = real
        ) -> jax.Array:
            made = jnp.asarray(y, jnp.float32) + shift * jnp.array([1.0, 0.0])
            return jnp.mean(loss.generator(real, critic_fn(made)))

        found.append(float(jax.grad(value)(jnp.zeros(()))))
    return found


class Line(nn.Module):
    """A generator that is the line (theta, z) and nothing else."""

    start: float
    num_classes: int | None = None

    @nn.compact
    def __call__(self, latent: jax.Array, label: Any = None, *, train: bool = False) -> jax.Array:
        """Points of latents that are uniform on [-1, 1), ``[B, 1]``."""
        theta = self.param("theta", nn.initializers.constant(self.start), ())
        return jnp.concatenate([theta + 0.0 * latent, 0.5 * (latent + 1.0)], axis=1)


def learned(game: dict[str, Any], start: float, num_steps: int, seed: int = 0) -> np.ndarray:
    """Theta over the steps of a game, ``[num_steps + 1]``."""
    critic_steps = 5
    family = families.gan(
        generator=Line(start),
        critic=nets.MLPCritic(hidden_size=64, num_layers=2),
        generator_optimizer=optax.sgd(1e-2),
        critic_optimizer=optax.adam(1e-3, b1=0.5),
        event_shape=(2,),
        num_levels=None,
        batch_size=64,
        loss=game["loss"],
        latents=families.Latent(latent_size=1, latent="uniform"),
        slope_control=slope_control(game),
        critic_steps=critic_steps,
    )

    def step(state: Any, key: jax.Array) -> Any:
        key_rows, key = jax.random.split(key)
        z = jax.random.uniform(key_rows, (critic_steps, 64, 1))
        state, _ = family.train_step(state, {"x": jnp.concatenate([0.0 * z, z], -1)}, key)
        return state, state.params["generator"]["theta"]

    state = family.init(jax.random.key(seed), {"x": jnp.zeros((critic_steps, 64, 2))})
    keys = jax.random.split(jax.random.key(seed + 1), num_steps)
    _, thetas = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))(state, keys)
    return np.concatenate([[start], thetas])


def print_divergences(count: int) -> list[dict[str, Any]]:
    """Prints exact divergences beside estimates from samples."""
    print("| theta | W1 | by a critic | JSD | by a critic | MMD^2 | from samples | TV | KL |")
    print("|---" * 9 + "|")
    rows = []
    for theta in THETAS:
        x, y = lines(theta, count)
        found = {
            "w1": evaluation.wasserstein_estimate(x, y, fit=FIT),
            "jsd": evaluation.divergence_between(x, y, "jsd", fit=FIT),
            "mmd": evaluation.mmd_estimate(x, y, bandwidth=BANDWIDTH),
        }
        true = exact(theta)
        cells = " | ".join(
            f"{true[n]:.4f} | {found[n]['value']:.4f} ± {found[n]['stderr']:.4f}" for n in found
        )
        print(f"| {theta:g} | {cells} | {true['total_variation']:g} | {true['kl']:g} |", flush=True)
        rows.append({"theta": theta, **{n: v["value"] for n, v in found.items()}})
    return rows


def draw(rows: list[dict[str, Any]], thetas: dict[str, np.ndarray], path: str) -> None:
    """Draws divergences over theta, and theta over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = np.linspace(-2.2, 2.2, 221)
    for i, name in enumerate(("w1", "jsd", "mmd")):
        left.plot(grid, [exact(t)[name] for t in grid], color=f"C{i}", label=name)
        left.plot([r["theta"] for r in rows], [r[name] for r in rows], "o", color=f"C{i}")
    left.set(xlabel="theta", title="exact (lines), estimated from samples (dots)")
    for name, values in thetas.items():
        right.plot(values, label=name, linewidth=1.0)
    right.set(xlabel="steps of the generator", title="theta of a generator of one parameter")
    for axes in (left, right):
        axes.legend(fontsize="x-small")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Estimates, trains, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--num_rows", type=int, default=4000, help="rows of each line")
    parser.add_argument("--critic_steps", default="100,1000,4000", help="steps of critics")
    parser.add_argument("--num_steps", type=int, default=2000, help="steps of the generator")
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    rows = print_divergences(args.num_rows)
    counts = tuple(int(c) for c in args.critic_steps.split(","))
    cells = " | ".join(f"slope after {c} critic steps" for c in counts)
    print(f"\n| game | {cells} | theta from 1, after {args.num_steps} steps |")
    print("|---" * (len(counts) + 2) + "|")
    thetas = {}
    for name, game in GAMES.items():
        found = " | ".join(f"{slope:.3g}" for slope in slopes_in_theta(game, 1.0, counts))
        thetas[name] = learned(game, 1.0, args.num_steps)
        last = thetas[name][-200:]
        print(f"| {name} | {found} | {last.mean():.3f} ± {last.std():.3f} |", flush=True)
    if args.figure:
        draw(rows, thetas, args.figure)


if __name__ == "__main__":
    main()
