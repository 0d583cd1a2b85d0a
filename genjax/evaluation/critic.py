"""A critic trained to tell two samples apart, on a part of the rows that measures never see."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.losses import AdversarialLoss
from genjax.nets.gan_mlp import MLPCritic

CriticFn: TypeAlias = Callable[[Array], Array]
"""Rows ``[B, *event]`` to outputs ``[B]``, or features ``[B, K]``."""
Penalty: TypeAlias = Callable[[CriticFn, Array, Array, PRNGKeyArray], Array]
"""``(critic_fn, x, y, key) -> []``: what the critic pays besides its loss."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticFit:
    """How a critic of two samples is trained, by Adam with a rate that falls to 0.

    Attributes:
        hidden_size: Width of the hidden layers of the multilayer perceptron.
        num_layers: Number of its hidden layers.
        critic: Another module ``(rows, train=...) -> [B]`` without state, for images, say.
        num_steps: Most steps of the optimiser.
        batch_size: Rows of each sample in a step, drawn with replacement.
        learning_rate: Rate of the first step.
        check_every: Steps between looks at rows that are not trained on. The parameters that did
            best there are kept.
        seed: Seed of all draws.
    """

    hidden_size: int = 128
    num_layers: int = 2
    critic: nn.Module | None = None
    num_steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    check_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "num_steps", "batch_size", "check_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


class Parts(NamedTuple):
    """Rows of one sample, for three purposes.

    Attributes:
        train: What the critic is trained on, ``[N, *event]``.
        valid: What chooses between its parameters, and calibrates it.
        held_out: What is measured: seen by nothing before.
    """

    train: np.ndarray
    valid: np.ndarray
    held_out: np.ndarray


def split_rows(x: np.ndarray, seed: int = 0) -> Parts:
    """Divides a sample at random: 40 % to train on, 10 % to choose by, half to measure.

    Args:
        x: Rows, ``[N, *event]``, at least 20.
        seed: Seed of the division.

    Returns:
        The parts, float64.

    Raises:
        ValueError: If there are fewer than 20 rows, or numbers that are not finite.

    Example:
        >>> [len(part) for part in split_rows(np.zeros((20, 2)))]
        [8, 2, 10]
    """
    x = np.asarray(x, np.float64)
    if x.ndim < 2 or len(x) < 20:
        raise ValueError(
            f"expected at least 20 rows [N, ...] of a sample, got shape {x.shape}: of single "
            "numbers use x[:, None]"
        )
    if not np.isfinite(x).all():
        raise ValueError("the samples hold values that are not finite")
    x = x[np.random.Generator(np.random.Philox(seed)).permutation(len(x))]
    train, valid = (4 * len(x)) // 10, len(x) // 2
    return Parts(x[:train], x[train:valid], x[valid:])


def fit_critic(
    x: np.ndarray,
    y: np.ndarray,
    loss: AdversarialLoss,
    *,
    fit: CriticFit = CriticFit(),
    penalty: Penalty | None = None,
    valid: tuple[np.ndarray, np.ndarray] | None = None,
    max_output: float | None = None,
) -> CriticFn:
    """Trains a critic that tells rows of two samples apart.

    Args:
        x: Rows of one sample, the "data" of the loss, ``[N, *event]``.
        y: Rows of the other, the "generated" ones, ``[M, *event]``.
        loss: What the critic minimises, by the ``critic`` of a game.
        fit: How.
        penalty: What it pays besides; ``penalty`` of a
            :class:`~genjax.families.gan.slope_control.SlopeControl` is of that kind.
        valid: Further rows of both, on which the parameters that are kept do best; None to keep
            the last.
        max_output: Limit of the outputs, approached smoothly (``c tanh(v / c)``).

    Returns:
        The critic as a function of rows, which may be differentiated.

    Raises:
        ValueError: If rows of the samples differ in shape, or the module carries state.
    """
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"expected rows of one shape, got {x.shape[1:]} and {y.shape[1:]}")
    flat = fit.critic is None
    net = fit.critic or MLPCritic(hidden_size=fit.hidden_size, num_layers=fit.num_layers)

    def rows_of(points: np.ndarray) -> Array:
        return jnp.asarray(points, jnp.float32)

    def outputs(params: Any, rows: Array) -> Array:
        rows = rows.reshape(rows.shape[0], -1) if flat else rows
        v = cast(Array, net.apply({"params": params}, rows))
        return v if max_output is None else max_output * jnp.tanh(v / max_output)

    def objective(params: Any, real: Array, fake: Array, key: PRNGKeyArray) -> Array:
        value = jnp.mean(loss.critic(outputs(params, real), outputs(params, fake)))
        if penalty is not None:
            value += penalty(lambda rows: outputs(params, rows), real, fake, key)
        return value

    key, key_init = jax.random.split(jax.random.key(fit.seed))
    first = rows_of(x[:1])
    variables = net.init(key_init, first.reshape(1, -1) if flat else first)
    if set(variables) != {"params"}:
        raise ValueError(
            f"expected a critic without state, got one with {', '.join(sorted(variables))}: leave "
            "its normalisation out"
        )
    real, fake = rows_of(x), rows_of(y)
    looked_at = (real, fake) if valid is None else (rows_of(valid[0]), rows_of(valid[1]))
    params = _descend(
        objective, variables["params"], real, fake, looked_at, key, fit, valid is None
    )
    return lambda rows: outputs(params, rows)


def _descend(
    objective: Callable[..., Array],
    params: Any,
    real: Array,
    fake: Array,
    valid: tuple[Array, Array],
    key: PRNGKeyArray,
    fit: CriticFit,
    keep_last: bool,
) -> Any:
    """The parameters of the last step, or those that did best on further rows."""
    optimizer = optax.adam(optax.cosine_decay_schedule(fit.learning_rate, fit.num_steps))

    @jax.jit
    def some_steps(carry: Any, keys: Array, real: Array, fake: Array) -> Any:
        def step(carry: Any, key: PRNGKeyArray) -> Any:
            params, opt_state = carry
            key_real, key_fake, key_loss = jax.random.split(key, 3)
            rows = [
                jnp.take(x, jax.random.randint(k, (fit.batch_size,), 0, len(x)), axis=0)
                for k, x in ((key_real, real), (key_fake, fake))
            ]
            grads = jax.grad(objective)(params, *rows, key_loss)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, carry, keys)[0]

    # As many rows of each, which losses of pairs need.
    count = min(len(rows) for rows in valid)
    looked_at = [rows[:count] for rows in valid]
    score = jax.jit(objective)
    keys = jax.random.split(key, fit.num_steps)
    carry, best, least = (params, optimizer.init(params)), params, np.inf
    for start in range(0, fit.num_steps, fit.check_every):
        carry = some_steps(carry, keys[start : start + fit.check_every], real, fake)
        if keep_last:
            best = carry[0]
            continue
        value = float(score(carry[0], *looked_at, key))
        if value < least:
            best, least = carry[0], value
    return best
