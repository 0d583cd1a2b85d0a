r"""An isotropic Gaussian fitted to a mixture of two: each divergence has its own best fit.

As figure 1 of Theis et al., arXiv:1511.01844. KL(p||q) matches moments and covers both modes,
KL(q||p) and JSD take the larger one, MMD is between as its bandwidth says. The best fits are found
by sums over a grid (MMD in closed form); then the same Gaussian is trained from samples as a
generator: by games whose best critic makes them these divergences, and by MMD itself.

    python scripts/why_gans_fail/gaussian_fits.py --figure=fits.png
"""

import argparse
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from genjax import families, losses, nets

WEIGHTS, STD, BANDWIDTH = np.array([0.65, 0.35]), 0.5, 1.0
CENTRES = np.array([[-1.2, 0.0], [1.2, 0.6]])
DIVERGENCES = ("kl", "reverse_kl", "jsd", "mmd")
RATE = 5e-3


def gaussian(points: jax.Array, mean: Any, std: Any) -> jax.Array:
    """Log-density of an isotropic Gaussian of the plane, ``[N]``."""
    squared = jnp.sum(((points - mean) / std) ** 2, axis=-1)
    return -0.5 * squared - 2.0 * jnp.log(std) - np.log(2.0 * np.pi)


def divergence(name: str, theta: jax.Array) -> jax.Array:
    """Of the mixture p from the Gaussian q of ``theta``: its mean and the log of its deviation."""
    mean, std = theta[:2], jnp.exp(theta[2])
    if name == "mmd":
        return exact_mmd(mean, std)
    axis = jnp.linspace(-7.0, 7.0, 141)
    points = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    area = (axis[1] - axis[0]) ** 2
    modes = zip(CENTRES, WEIGHTS, strict=True)
    log_p = jax.nn.logsumexp(
        jnp.stack([gaussian(points, c, STD) + np.log(w) for c, w in modes]), axis=0
    )
    log_q = gaussian(points, mean, std)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    log_m = jnp.logaddexp(log_p, log_q) - np.log(2.0)
    terms = {
        "kl": p * (log_p - log_q),
        "reverse_kl": q * (log_q - log_p),
        "jsd": 0.5 * p * (log_p - log_m) + 0.5 * q * (log_q - log_m),
    }
    return jnp.sum(terms[name]) * area


def exact_mmd(mean: jax.Array, std: jax.Array) -> jax.Array:
    """Squared discrepancy of the mixture and a Gaussian under a Gaussian kernel."""
    h2 = BANDWIDTH**2

    def kernel(difference: Any, variance: Any) -> Any:
        # The mean of the kernel of a normal difference of that mean and variance, in the plane.
        total = h2 + variance
        return h2 / total * jnp.exp(-0.5 * jnp.sum(difference**2, axis=-1) / total)

    within = WEIGHTS @ kernel(CENTRES[:, None] - CENTRES[None], 2.0 * STD**2) @ WEIGHTS
    across = WEIGHTS @ kernel(CENTRES - mean, STD**2 + std**2)
    return within + kernel(jnp.zeros(2), 2.0 * std**2) - 2.0 * across


def best(name: str) -> np.ndarray:
    """The best Gaussian, ``[3]``: from both modes and from the middle, the lowest."""
    with jax.enable_x64(True):
        slope = jax.jit(jax.value_and_grad(lambda theta: divergence(name, theta)))

        def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
            found, grad = slope(jnp.asarray(theta))
            return float(found), np.asarray(grad)

        starts = [np.array([*c, np.log(s)]) for c, s in [*((c, STD) for c in CENTRES), ([0, 0], 1)]]
        ends = [minimize(value, start, jac=True, method="BFGS") for start in starts]
        return np.asarray(min(ends, key=lambda end: end.fun).x)


class Gaussian(nn.Module):
    """A generator that is an isotropic Gaussian."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, latent: jax.Array, label: Any = None, *, train: bool = False) -> jax.Array:
        """Points of normal latents, ``[B, 2]``."""
        mean = self.param("mean", nn.initializers.zeros, (2,))
        log_std = self.param("log_std", nn.initializers.zeros, ())
        return mean + jnp.exp(log_std) * latent


class Itself(nn.Module):
    """A "critic" that gives points as they are, for the discrepancy of points themselves."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, label: Any = None, *, train: bool = False) -> jax.Array:
        """The points."""
        return x


def kernel(x: jax.Array, y: jax.Array) -> jax.Array:
    """The kernel of :func:`exact_mmd`."""
    return losses.rbf_kernel(x, y, bandwidths=[BANDWIDTH])


GAMES: dict[str, tuple[str, losses.AdversarialLoss]] = {
    "kl": ("f-GAN of the KL bound", losses.f_gan_loss("kl", generator="bound", max_log_ratio=4.0)),
    # The best logit is log p/q: the mean of its negative over q is KL(q||p).
    "reverse_kl": (
        "density ratio",
        losses.AdversarialLoss(losses.logistic_critic_loss, lambda real, fake: -fake),
    ),
    "jsd": ("minimax GAN", losses.ADVERSARIAL_LOSSES["minimax"]),
    "mmd": ("MMD of batches", losses.mmd_gan_loss(kernel)),
}


def trained(name: str, num_steps: int, seed: int) -> np.ndarray:
    """The Gaussian that a game on fresh samples comes to: a mean over its last third, ``[3]``."""
    critic_steps, batch_size = (1, 256) if name == "mmd" else (5, 256)
    family = families.gan(
        generator=Gaussian(),
        critic=Itself() if name == "mmd" else nets.MLPCritic(hidden_size=64, num_layers=2),
        generator_optimizer=optax.adam(optax.cosine_decay_schedule(RATE, num_steps), b1=0.5),
        critic_optimizer=optax.adam(2e-3, b1=0.5),
        event_shape=(2,),
        num_levels=None,
        batch_size=batch_size,
        loss=GAMES[name][1],
        latents=families.Latent(latent_size=2),
        critic_steps=critic_steps,
    )
    lead = (family.batches_per_step, batch_size)  # more than one of each

    def step(state: Any, key: jax.Array) -> Any:
        key_mode, key_noise, key = jax.random.split(key, 3)
        second = jax.random.uniform(key_mode, lead) < WEIGHTS[1]
        rows = jnp.asarray(CENTRES, jnp.float32)[second.astype(int)]
        rows += STD * jax.random.normal(key_noise, rows.shape)
        state, _ = family.train_step(state, {"x": rows}, key)
        own = state.params["generator"]
        return state, jnp.append(own["mean"], own["log_std"])

    state = family.init(jax.random.key(seed), {"x": jnp.zeros((*lead, 2))})
    keys = jax.random.split(jax.random.key(seed + 1), num_steps)
    _, thetas = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))(state, keys)
    return np.asarray(thetas[-num_steps // 3 :].mean(0), np.float64)


def draw(exact: dict[str, np.ndarray], learned: dict[str, np.ndarray], path: str) -> None:
    """Draws the mixture, and circles of two deviations of the fits."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    figure = Figure(figsize=(11, 3.3), layout="constrained")
    axis = np.linspace(-3.5, 3.5, 141)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    squared = ((grid[..., None, :] - CENTRES) ** 2).sum(-1) / STD**2
    density = np.exp(-0.5 * squared) @ WEIGHTS
    for axes, name in zip(figure.subplots(1, len(exact)), exact, strict=True):
        axes.contourf(axis, axis, density, levels=8, cmap="Greys")
        for theta, style in [(exact[name], "-"), (learned[name], "--")]:
            radius = 2.0 * float(np.exp(theta[2]))
            circle = Circle((theta[0], theta[1]), radius, fill=False, linestyle=style, color="C3")
            axes.add_patch(circle)
        axes.set(title=name, aspect="equal", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


def main() -> None:
    """Fits, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--num_steps", type=int, default=1500, help="steps of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", help="PNG to write")
    args = parser.parse_args()
    exact = {name: best(name) for name in DIVERGENCES}
    learned = {}
    print("| divergence | best mean | deviation | value | trained by | mean | deviation | value |")
    print("|---" * 8 + "|")
    for name in DIVERGENCES:
        learned[name] = trained(name, args.num_steps, args.seed)
        cells = []
        for theta in (exact[name], learned[name]):
            with jax.enable_x64(True):
                value = float(divergence(name, jnp.asarray(theta)))
            mean = f"({theta[0]:.3f}, {theta[1]:.3f})"
            cells.append(f"{mean} | {np.exp(theta[2]):.3f} | {value:.4f}")
        print(f"| {name} | {cells[0]} | {GAMES[name][0]} | {cells[1]} |", flush=True)
    if args.figure:
        draw(exact, learned, args.figure)


if __name__ == "__main__":
    main()
