r"""Losses that fall while the divergence does not.

A critic's loss on its own rows: of two samples of the same distribution it falls all the same, as
the critic learns rows by heart; the bound on held-out rows stays below the truth, which is 0.

A generator's loss: against a critic that is slower than itself it falls below log 2, while the
generator goes away from eight modes on a ring. The Wasserstein critic's estimate, with a critic
that is kept good, goes down with the distance. The distance itself is the exact transport cost
between samples.

    python scripts/why_gans_fail/loss_curves.py --figure=curves.png
"""

import argparse
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import spearmanr

from genjax import evaluation, families, losses, nets

BATCH_SIZE, RECORDS = 128, 20


def by_heart(num_rows: int, counts: tuple[int, ...], seed: int = 0) -> list[tuple[float, ...]]:
    """Critics of two samples of one normal distribution in ten dimensions.

    Args:
        num_rows: Rows of each sample.
        counts: Steps of training; a critic for each.
        seed: Seed of samples and critics.

    Returns:
        For each: steps, the critic's loss on its rows, and estimates of the Jensen-Shannon
        divergence on these and on held-out rows.
    """
    x, y = np.random.default_rng(seed).normal(size=(2, num_rows, 10))
    fit = evaluation.CriticFit(hidden_size=64, seed=seed)
    found: list[tuple[float, ...]] = []
    for count in counts:
        # Without rows to choose by: a look at the last step is the last step's critic.
        last = dataclasses.replace(fit, num_steps=count, check_every=count)
        rows = evaluation.divergence_between(x, y, "jsd", fit=last)
        loss = 2.0 * math.log(2.0) - 2.0 * rows["train_value"]
        found.append((count, loss, rows["train_value"], rows["value"]))
    return found


class Game(NamedTuple):
    """A game on the ring."""

    loss: str
    critic_rate: float
    critic_steps: int
    penalties: dict[str, float] | None = None


GAMES = {
    "non-saturating, slow critic": Game("nonsaturating", 5e-5, 1),
    "non-saturating, r1": Game("nonsaturating", 1e-3, 1, {"r1": 0.1}),
    "wgan_gp": Game("wasserstein", 1e-3, 3, {"gradient_penalty": 1.0}),
}


def ring(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Points of eight narrow modes on a circle of radius 2, ``[*shape, 2]``."""
    key_mode, key_noise = jax.random.split(key)
    angle = 2.0 * np.pi / 8.0 * jax.random.randint(key_mode, shape, 0, 8)
    centre = 2.0 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    return centre + 0.02 * jax.random.normal(key_noise, centre.shape)


def curves(game: Game, num_steps: int, seed: int = 0) -> np.ndarray:
    """Steps, the generator's loss, the critic's mean difference, W1 and modes, ``[21, 5]``."""
    generator = nets.MLPGenerator((2,), hidden_size=128, num_layers=2)
    critic = nets.MLPCritic(hidden_size=128, num_layers=2)
    loss = losses.ADVERSARIAL_LOSSES[game.loss]
    family = families.gan(
        generator=generator,
        critic=critic,
        generator_optimizer=optax.adam(1e-3, b1=0.0, b2=0.9),
        critic_optimizer=optax.adam(game.critic_rate, b1=0.0, b2=0.9),
        event_shape=(2,),
        num_levels=None,
        batch_size=BATCH_SIZE,
        loss=loss,
        latents=families.Latent(latent_size=16),
        critic_steps=game.critic_steps,
        slope_control=families.SlopeControl(penalties=game.penalties),
    )
    lead = (BATCH_SIZE,) if game.critic_steps == 1 else (game.critic_steps, BATCH_SIZE)

    def step(state: Any, key: jax.Array) -> Any:
        key_rows, key = jax.random.split(key)
        return family.train_step(state, {"x": ring(key_rows, lead)}, key)[0], None

    @jax.jit
    def measured(state: Any) -> Any:
        z = jax.random.normal(jax.random.key(77), (1000, 16))
        made = generator.apply({"params": state.params["generator"]}, z)
        real = ring(jax.random.key(78), (1000,))
        own: Any = {"params": state.params["critic"]}
        outputs = [jnp.asarray(critic.apply(own, rows)) for rows in (real, made)]
        gap = jnp.mean(outputs[0]) - jnp.mean(outputs[1])
        return made, real, jnp.mean(loss.generator(outputs[0], outputs[1])), gap

    state = family.init(jax.random.key(seed), {"x": jnp.zeros((*lead, 2))})
    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    keys = jax.random.split(jax.random.key(seed + 1), num_steps)
    angle = 2.0 * np.pi / 8.0 * np.arange(8)
    centres, found = 2.0 * np.stack([np.cos(angle), np.sin(angle)], 1), []
    for i in range(RECORDS + 1):
        made, real, value, gap = measured(state)
        w1 = evaluation.wasserstein_distance(np.asarray(made), np.asarray(real))
        modes = evaluation.mode_coverage(np.asarray(made), centres, 0.02)["modes_covered"]
        found.append((i * (num_steps // RECORDS), float(value), float(gap), w1, modes))
        if i < RECORDS:
            state = run(state, keys[i * (num_steps // RECORDS) : (i + 1) * (num_steps // RECORDS)])
    return np.array(found)


def draw(heart: list[tuple[float, ...]], found: dict[str, np.ndarray], path: str) -> None:
    """Draws both parts: the critic's claims, and losses beside the distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.2), layout="constrained")
    first, *rest = figure.subplots(1, 1 + len(found))
    steps, _, own, held_out = np.array(heart).T
    first.semilogx(steps, own, "o-", label="on its own rows")
    first.semilogx(steps, held_out, "o-", label="on held-out rows")
    first.axhline(0.0, color="black", linewidth=0.8, label="truth")
    first.set(title="JSD of a distribution and itself", xlabel="steps of the critic")
    first.legend(fontsize="x-small")
    for axes, (name, rows) in zip(rest, found.items(), strict=True):
        column, label = (2, "critic's estimate") if name == "wgan_gp" else (1, "generator's loss")
        axes.plot(rows[:, 0], rows[:, column], label=label)
        axes.plot(rows[:, 0], rows[:, 3], "k", label="W1")
        axes.set(title=name, xlabel="steps", ylim=(0, max(2.5, rows[:, 3].max() * 1.05)))
        axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Trains, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--num_steps", type=int, default=3000, help="steps of each game")
    parser.add_argument("--num_rows", type=int, default=500, help="rows of each equal sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    heart = by_heart(args.num_rows, (20, 80, 320, 1280), args.seed)
    print("| critic's steps | its loss | JSD on its own rows | on held-out rows | truth |")
    print("|---" * 5 + "|")
    for count, loss, own, held_out in heart:
        print(f"| {count} | {loss:.3f} | {own:.4f} | {held_out:.4f} | 0 |")
    print("\n| game | steps | generator's loss | critic's E f(x) - E f(G) | W1 | modes |")
    print("|---" * 6 + "|")
    found = {}
    for name, game in GAMES.items():
        rows = found[name] = curves(game, args.num_steps, args.seed)
        for row in rows[[0, 2, RECORDS // 2, RECORDS]]:
            cells = " | ".join(f"{v:.3f}" for v in row[1:4])
            print(f"| {name} | {row[0]:.0f} | {cells} | {row[4]:.0f} |", flush=True)
        ranks = [float(spearmanr(rows[:, i], rows[:, 3]).statistic) for i in (1, 2)]
        print(f"| {name}, rank correlation with W1 | | {ranks[0]:.2f} | {ranks[1]:.2f} | | |")
    if args.figure:
        draw(heart, found, args.figure)


if __name__ == "__main__":
    main()
