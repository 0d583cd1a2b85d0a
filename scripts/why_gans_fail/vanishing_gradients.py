r"""What the best critic teaches a generator: nothing where it is sure (minimax), or another thing.

In closed form, for p = N(0, 1) and q = N(theta, 1): at the optimal critic the minimax loss has the
gradient of :math:`2\,JSD(p, q)` and the non-saturating loss that of
:math:`KL(q \| p) - 2\,JSD(p, q)` (Arjovsky and Bottou, arXiv:1701.04862, section 2). Noise on both
sides brings the first back.

From samples: a generator of the 8x8 digits is trained for some steps, then stands still, and a
fresh critic is trained against it, as in figures 2 and 3 of that paper; with and without noise.

    python scripts/why_gans_fail/vanishing_gradients.py --figure=vanishing.png
"""

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from genjax import families, losses, nets

SHIFTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
LATENT_SIZE, BATCH_SIZE = 16, 128


class Slopes(NamedTuple):
    """Slopes in theta: of the generator's losses, and of what they are said to be slopes of."""

    minimax: float
    twice_jsd: float
    nonsaturating: float
    kl_less_twice_jsd: float


def slopes(shift: float, noise: float = 0.0) -> Slopes:
    """All four for N(0, 1) and N(shift, 1), with noise of that deviation on both, by quadrature."""
    with jax.enable_x64(True):
        std = float(np.hypot(1.0, noise))
        reach = 14.0 * std
        z, x = jnp.linspace(-14.0, 14.0, 20_001), jnp.linspace(-reach, shift + reach, 20_001)
        weight = jnp.exp(-0.5 * z**2) * (z[1] - z[0]) / np.sqrt(2.0 * np.pi)

        def log_density(x: jax.Array, mean: Any) -> jax.Array:
            return -0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2.0 * np.pi))

        def of_generator(loss: Any) -> float:
            def value(theta: jax.Array) -> jax.Array:
                made = theta + std * z
                # The critic is the best one of where the generator was: it stands still.
                logits = log_density(made, 0.0) - log_density(made, shift)
                return jnp.sum(weight * loss(logits))

            return float(jax.grad(value)(shift))

        def twice_jsd(theta: jax.Array) -> jax.Array:
            log_p, log_q = log_density(x, 0.0), log_density(x, theta)
            log_m = jnp.logaddexp(log_p, log_q) - np.log(2.0)
            terms = jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)
            return jnp.sum(terms) * (x[1] - x[0])

        jsd, kl = float(jax.grad(twice_jsd)(shift)), shift / std**2
        return Slopes(
            of_generator(losses.minimax_generator_loss),
            jsd,
            of_generator(losses.nonsaturating_generator_loss),
            kl - jsd,
        )


class Noisy(nn.Module):
    """A generator with noise on its output, which comes with its latents."""

    net: nn.Module
    size: int
    std: float
    num_classes: int | None = None

    @nn.compact
    def __call__(self, latent: jax.Array, label: Any = None, *, train: bool = False) -> jax.Array:
        """Generates noisy rows of latents ``[B, latent_size + size]``."""
        z, noise = latent[:, : -self.size], latent[:, -self.size :]
        return self.net(z, label, train=train) + self.std * noise


def game(size: int, std: float, *, frozen: bool) -> families.Family:
    """A GAN of points, whose generator may stand still."""
    net = nets.MLPGenerator((size,), hidden_size=128, num_layers=2)
    adam = optax.adam(5e-4, b1=0.5)
    return families.gan(
        generator=Noisy(net, size, std),
        critic=nets.MLPCritic(hidden_size=128, num_layers=2),
        generator_optimizer=optax.set_to_zero() if frozen else adam,
        critic_optimizer=adam,
        event_shape=(size,),
        num_levels=None,
        batch_size=BATCH_SIZE,
        latents=families.Latent(latent_size=LATENT_SIZE + size),
    )


def steps(
    family: families.Family, start: Any, x: np.ndarray, std: float, count: int, seed: int
) -> Iterator[tuple[Any, Any]]:
    """Steps on rows of ``x`` with noise: the state and the metrics after every 25."""

    def step(state: Any, key: jax.Array) -> Any:
        key_rows, key_noise, key = jax.random.split(key, 3)
        rows = jnp.asarray(x)[jax.random.randint(key_rows, (BATCH_SIZE,), 0, len(x))]
        rows += std * jax.random.normal(key_noise, rows.shape)
        return family.train_step(state, {"x": rows}, key)

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))
    keys, state = jax.random.split(jax.random.key(seed), count), start
    for first in range(0, count, 25):
        state, metrics = run(state, keys[first : first + 25])
        yield state, jax.tree.map(lambda m: float(m[-1]), metrics)


def gradient_norms(size: int, std: float) -> Any:
    """A function of a state to the norms of both losses' gradients in the generator."""
    generator = Noisy(nets.MLPGenerator((size,), hidden_size=128, num_layers=2), size, std)
    critic = nets.MLPCritic(hidden_size=128, num_layers=2)
    z = jax.random.normal(jax.random.key(99), (512, LATENT_SIZE + size))

    def norms(state: Any) -> list[jax.Array]:
        def value(own: Any, loss: Any) -> jax.Array:
            made = generator.apply({"params": own}, z)
            return jnp.mean(loss(critic.apply({"params": state.params["critic"]}, made)))

        return [
            optax.global_norm(jax.grad(value)(state.params["generator"], loss))
            for loss in (losses.minimax_generator_loss, losses.nonsaturating_generator_loss)
        ]

    return jax.jit(norms)


def against_a_fresh_critic(
    x: np.ndarray, trained: int, std: float, num_steps: int, seed: int = 0
) -> np.ndarray:
    """Steps of the critic, its accuracy, norms of the minimax and non-saturating gradient.

    Args:
        x: Rows ``[N, D]``.
        trained: Steps of both players before the generator stands still.
        std: Deviation of the noise on data and generated rows that the fresh critic sees.
        num_steps: Steps of the fresh critic.
        seed: Seed of both.

    Returns:
        A row every 25 steps, ``[num_steps / 25, 4]``.
    """
    size = x.shape[1]
    playing, batch = game(size, 0.0, frozen=False), {"x": jnp.asarray(x[:BATCH_SIZE])}
    trained_state = playing.init(jax.random.key(seed), batch)
    for reached, _ in steps(playing, trained_state, x, 0.0, trained, seed + 1):
        trained_state = reached
    frozen = game(size, std, frozen=True)
    fresh = frozen.init(jax.random.key(seed + 2), batch)
    own = {"generator": trained_state.params["generator"], "critic": fresh.params["critic"]}
    start, norms, found = fresh.replace(params=own), gradient_norms(size, std), []
    for i, (state, metrics) in enumerate(steps(frozen, start, x, std, num_steps, seed + 3)):
        values = [float(v) for v in norms(state)]
        found.append([25 * (i + 1), metrics["critic_accuracy"], *values])
    return np.array(found)


def draw(found: dict[str, np.ndarray], path: str) -> None:
    """Draws the exact slopes by distance, and the norms over the critic's steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    shifts = np.geomspace(0.1, 16.0, 40)
    for noise in (0.0, 2.0, 8.0):
        left.loglog(
            shifts, [slopes(s, noise).minimax for s in shifts], label=f"minimax, noise {noise:g}"
        )
    left.loglog(shifts, [slopes(s).nonsaturating for s in shifts], "k--", label="non-saturating")
    left.set(
        xlabel="distance of the means",
        title="slope of the loss at the best critic",
        ylim=(1e-8, 50),
    )
    for i, (name, rows) in enumerate(found.items()):
        right.semilogy(rows[:, 0], rows[:, 2], color=f"C{i}", label=f"minimax, {name}")
        right.semilogy(rows[:, 0], rows[:, 3], "--", color=f"C{i}")
    right.set(
        xlabel="steps of a fresh critic",
        title="norm of the gradient (dashed: non-saturating)",
    )
    for axes in (left, right):
        axes.legend(fontsize="x-small")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Computes, trains, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--num_steps", type=int, default=2000, help="steps of the fresh critic")
    parser.add_argument("--trained", default="0,500,4000", help="steps of the generator before")
    parser.add_argument("--noise", type=float, default=1.0, help="deviation of the noise on digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    print("| distance | minimax | of 2 JSD | non-saturating | of KL(q,p) - 2 JSD | "
          "minimax, noise 2 | noise 8 |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for shift in SHIFTS:
        row = [*slopes(shift), slopes(shift, 2.0).minimax, slopes(shift, 8.0).minimax]
        print(f"| {shift:g} | {' | '.join(f'{v:.4g}' for v in row)} |")
    x = (load_digits().data / 8.0 - 1.0).astype(np.float32)
    found = {}
    runs = [(int(t), 0.0) for t in args.trained.split(",")]
    for trained, std in [*runs, (runs[-1][0], args.noise)]:
        name = f"{trained} steps" + (f", noise {std:g}" if std else "")
        found[name] = against_a_fresh_critic(x, trained, std, args.num_steps, args.seed)
    print("\n| generator | critic's accuracy at the end | minimax gradient, first and last | "
          "non-saturating, first and last |\n|---|---|---|---|")  # fmt: skip
    for name, rows in found.items():
        first, last = rows[0], rows[-1]
        cells = [f"{first[i]:.2g}, {last[i]:.2g}" for i in (2, 3)]
        print(f"| {name} | {last[1]:.3f} | {' | '.join(cells)} |")
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    main()
