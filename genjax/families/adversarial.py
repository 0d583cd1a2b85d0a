"""The training step of every family in which two players minimise losses of their own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import average, own_key
from genjax.families.base import Batch, Metrics, PyTree, TrainState

Networks: TypeAlias = Mapping[str, PyTree]
LossFn: TypeAlias = Callable[
    [Networks, Networks, Batch, Array, PRNGKeyArray], tuple[Array, tuple[Metrics, Networks]]
]
"""``(params, model_state, batch, fake, key) -> (loss, (metrics, model_state))``, of all networks
and generated rows."""
Generate: TypeAlias = Callable[
    [Networks, Networks, Batch, int, PRNGKeyArray], tuple[Array, Networks]
]
"""``(params, model_state, batch, factor, key) -> (fake, model_state)``: ``factor`` generated rows
for each of the batch, and the state after a pass of training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Player:
    """One of the two players.

    Attributes:
        networks: Names of the networks it owns: those its optimiser moves.
        loss_fn: What it minimises.
        optimizer: Optimiser of its networks together.
        project: Applied to its parameters before each of its steps (weight clipping).
        regularizer_fn: A second loss, minimised in a step of its own right after every
            ``regularize_every``-th, on the same rows, times ``regularize_every`` ("lazy
            regularisation"). The optimiser's state is shared between both kinds of steps.
        regularize_every: Steps between the steps on ``regularizer_fn``.
    """

    networks: tuple[str, ...]
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    project: Callable[[Networks], Networks] | None = None
    regularizer_fn: LossFn | None = None
    regularize_every: int = 1


def adversarial(
    *,
    init_networks: Callable[[PRNGKeyArray, Batch], tuple[Networks, Networks]],
    generate: Generate,
    critic: Player,
    generator: Player,
    critic_steps: int,
    share_fakes: bool,
    generator_factor: int,
    generator_batch: bool,
    batch_images: int,
    ema_half_life_kimg: float,
    ema_rampup: float,
) -> tuple[
    Callable[[PRNGKeyArray, Batch], TrainState],
    Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
    int,
]:
    """Builds ``init``, ``train_step`` and ``batches_per_step`` of a family.

    A step is ``critic_steps`` steps of the critic, each on a batch of its own, and one of the
    generator. The steps are written out one after the other, not looped: XLA's CPU backend is
    several times slower on convolutions in loops, and there are few of them.

    Args:
        init_networks: Makes ``(params, model_state)``, keyed by network, from one batch.
        generate: Makes generated rows. The generator's loss depends on its networks through these
            alone.
        critic: The player that tells data from samples.
        generator: The player that makes samples; its networks are averaged. It has no regulariser.
        critic_steps: Steps of the critic for each of the generator.
        share_fakes: Whether the generator's step goes back through the pass that made the rows of
            the last critic step, and one pass makes those of all critic steps before it. Otherwise
            each step has a pass of its own on latents of its own.
        generator_factor: Generated rows in the generator's step for each of its batch.
        generator_batch: Whether the generator's loss gets a batch of its own; otherwise it gets the
            critic's last, of which it should read no more than labels and shapes.
        batch_images: Examples in a batch of the generator's step, in which the average is counted.
        ema_half_life_kimg: Half-life of the average, in thousands of examples; 0 for none.
        ema_rampup: The half-life is at most this share of the examples counted so far; 0 for no
            limit.

    Returns:
        ``init``; ``train_step``, whose batch has leaves ``[batches_per_step, B, ...]``, or
        ``[B, ...]`` if that is one; and ``batches_per_step``. Metrics of the critic are means over
        its steps.

    Raises:
        ValueError: If a count or a half-life is out of range.

    References:
        Averaging by half-life and lazy regularisation: Karras et al., arXiv:1912.04958, appendix B,
        and NVlabs/stylegan3's training loop.
    """
    if critic_steps < 1:
        raise ValueError(f"critic_steps must be at least 1, got {critic_steps}")
    for name, value in [("ema_half_life_kimg", ema_half_life_kimg), ("ema_rampup", ema_rampup)]:
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    players = {"critic": critic, "generator": generator}
    for name, player in players.items():
        if player.regularize_every < 1:
            raise ValueError(f"{name}: regularize_every must be at least 1")
    batches_per_step = critic_steps + generator_batch

    def init(key: PRNGKeyArray, batch: Batch) -> TrainState:
        params, model_state = init_networks(key, batch)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={
                name: player.optimizer.init({n: params[n] for n in player.networks})
                for name, player in players.items()
            },
            model_state=model_state,
            # A copy: the state is donated, and two of its leaves may not share a buffer.
            ema=jax.tree.map(jnp.copy, {n: params[n] for n in generator.networks}),
        )

    def moved(
        name: str, state: TrainState, model_state: Networks, grads: Networks
    ) -> tuple[TrainState, Array]:
        """The state after a step of a player's optimiser, and the norm of the gradient."""
        player = players[name]
        own = {n: state.params[n] for n in player.networks}
        updates, opt_state = player.optimizer.update(grads, state.opt_state[name], own)
        state = state.replace(
            params={**state.params, **optax.apply_updates(own, updates)},
            opt_state={**state.opt_state, name: opt_state},
            model_state=model_state,
        )
        return state, optax.global_norm(grads)

    def descend(
        loss_fn: LossFn,
        state: TrainState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        weight: float = 1.0,
    ) -> tuple[TrainState, Metrics]:
        """One step of the critic on one loss."""

        def of_own(own: Networks) -> tuple[Array, tuple[Metrics, Networks]]:
            networks = {**state.params, **own}
            loss, aux = loss_fn(networks, state.model_state, batch, fake, own_key(key))
            return weight * loss, aux

        own = {n: state.params[n] for n in critic.networks}
        (loss, (metrics, model_state)), grads = jax.value_and_grad(of_own, has_aux=True)(own)
        loss, metrics, grads = average((loss, metrics, grads))
        state, norm = moved("critic", state, model_state, grads)
        return state, {**metrics, "critic_loss": loss / weight, "critic_grad_norm": norm}

    def criticize(
        state: TrainState, batch: Batch, fake: Array, key: PRNGKeyArray, turn: Array
    ) -> tuple[TrainState, Metrics]:
        """One turn of the critic: a step on its loss and, when due, one on its regulariser."""
        if critic.project is not None:
            own = critic.project({n: state.params[n] for n in critic.networks})
            state = state.replace(params={**state.params, **own})
        state, metrics = descend(critic.loss_fn, state, batch, fake, key)
        regularizer_fn, every = critic.regularizer_fn, critic.regularize_every
        if regularizer_fn is None:
            return state, metrics

        def regularize(state: TrainState) -> tuple[TrainState, Metrics]:
            state, found = descend(regularizer_fn, state, batch, fake, key, float(every))
            # Zero in between: the mean over many steps is then that of the regulariser's own.
            return state, {n: every * v for n, v in found.items() if not n.startswith("critic")}

        def skip(state: TrainState) -> tuple[TrainState, Metrics]:
            _, shapes = jax.eval_shape(regularize, state)
            return state, {n: jnp.zeros(s.shape, s.dtype) for n, s in shapes.items()}

        state, of_regularizer = jax.lax.cond(turn % every == 0, regularize, skip, state)
        return state, {**metrics, **of_regularizer}

    def pass_forward(
        state: TrainState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, Callable[[Array], tuple[Networks]], Networks]:
        """Generated rows, what leads back from them to the generator, and its new state."""

        def make(own: Networks) -> tuple[Array, Networks]:
            networks = {**state.params, **own}
            return generate(networks, state.model_state, batch, factor, own_key(key))

        return jax.vjp(make, {n: state.params[n] for n in generator.networks}, has_aux=True)

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        if batches_per_step == 1:
            batch = {name: rows[None] for name, rows in batch.items()}

        def rows_of(index: int) -> Batch:
            return {name: rows[min(index, batches_per_step - 1)] for name, rows in batch.items()}

        start, keys = state.step, jax.random.split(key, critic_steps + 1)
        last, fakes = critic_steps - 1, []
        if share_fakes:
            if last:
                before = {n: rows[:last].reshape(-1, *rows.shape[2:]) for n, rows in batch.items()}
                fakes = list(jnp.split(pass_forward(state, before, 1, keys[0])[0], last))
            shared = pass_forward(state, rows_of(last), 1, keys[last])
            fakes.append(shared[0])
        of_critic = []
        for i in range(critic_steps):
            rows = rows_of(i)
            fake = fakes[i] if share_fakes else pass_forward(state, rows, 1, keys[i])[0]
            turn = start * critic_steps + i
            state, metrics = criticize(state, rows, fake, keys[i], turn)
            of_critic.append(metrics)

        rows, key = rows_of(critic_steps), keys[-1]
        if not share_fakes:
            shared = pass_forward(state, rows, generator_factor, key)
        fake, back, kept = shared
        (loss, (metrics, _)), slope = jax.value_and_grad(
            lambda fake: generator.loss_fn(
                state.params, state.model_state, rows, fake, own_key(key)
            ),
            has_aux=True,
        )(fake)
        kept = {**state.model_state, **{n: kept[n] for n in generator.networks}}
        loss, metrics, grads = average((loss, metrics, back(slope)[0]))
        state, norm = moved("generator", state, kept, grads)
        of_generator = {**metrics, "generator_loss": loss, "generator_grad_norm": norm}

        step = start + 1
        seen = step * (batch_images * 1e-3)
        half_life = jnp.asarray(ema_half_life_kimg, jnp.float32)
        if ema_rampup:
            half_life = jnp.minimum(half_life, ema_rampup * seen)
        decay = jnp.where(half_life > 0, 0.5 ** (batch_images * 1e-3 / half_life), 0.0)
        averaged = {n: state.params[n] for n in generator.networks}
        state = state.replace(
            step=step, ema=optax.incremental_update(averaged, state.ema, 1.0 - decay)
        )
        means = jax.tree.map(lambda *values: sum(values) / critic_steps, *of_critic)
        return state, {**means, **of_generator}

    return init, train_step, batches_per_step
