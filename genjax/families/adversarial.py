"""The training step of every family in which two players minimise losses of their own."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import average, average_changes, nested, own_key
from genjax.families.averages import HalfLife
from genjax.families.base import (
    Acts,
    Batch,
    Metrics,
    ModelState,
    Params,
    PyTree,
    TrainState,
    make_optimizer,
)
from genjax.families.players import Generate, LossFn, Player, Turn

_Grads: TypeAlias = tuple[Params, Array, Metrics, ModelState]
"""A player's gradient, its loss and metrics, and the network state its loss returned."""


class _Part(NamedTuple):
    """One of the batches that a player's step averages its gradient over."""

    batch: Batch
    fake: PyTree
    key: PRNGKeyArray


def _mean_of(found: Sequence[_Grads]) -> _Grads:
    """The mean of gradients, losses and metrics; the network state after the last."""
    if len(found) == 1:
        return found[0]
    grads, loss, metrics = jax.tree.map(
        lambda *values: sum(values) / len(found), *[part[:3] for part in found]
    )
    return grads, loss, metrics, found[-1][3]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial:
    """``init``, ``train_step`` and ``batches_per_step`` of an adversarial family.

    In the order ``"critic first"`` a step is ``critic_steps`` steps of the critic, each on a batch
    of its own, and one of the generator. They are written out one after the other, not looped:
    XLA's CPU backend is several times slower on convolutions in loops, and there are few of them.
    In the order ``"together"`` one pass generates, both losses are computed at the old parameters,
    and then both players move.

    Attributes:
        init_networks: Makes ``(params, model_state)``, keyed by network, from one batch.
        generate: Makes generated rows. State of the generator's networks that it returns is kept
            from the pass of the generator's own step only.
        critic: The player that tells data from samples.
        generator: The player that makes samples.
        batch_size: Examples in a batch, in which the average is counted.
        accumulate_batches: Batches whose gradients are averaged for each step of a player, one
            after the other: its step is then one on so many times the rows in the memory of one
            batch (but for what looks at a batch as a whole, such as batch statistics).
        critic_steps: Steps of the critic for each of the generator.
        order: Who moves when.
        share_fakes: Whether the generator's step goes back through the pass that made the rows of
            the last critic step, and one pass makes those of all critic steps before it. Otherwise
            each step has a pass of its own on latents of its own.
        generator_factor: Generated rows in the generator's step for each of its batch.
        generator_batch: Whether the generator's loss gets a batch of its own; otherwise it gets the
            critic's last, of which it should read no more than labels and shapes.
        averaged: Networks with a moving average, of any player; those of the generator if None.
        average: How they are averaged.

    Raises:
        ValueError: If a count is out of range, a network has no or two owners, or the order
            contradicts other arguments.

    References:
        Lazy regularisation: Karras et al., arXiv:1912.04958, appendix B.
    """

    init_networks: Callable[[PRNGKeyArray, Batch], tuple[Params, ModelState]]
    generate: Generate
    critic: Player
    generator: Player
    batch_size: int
    accumulate_batches: int = 1
    critic_steps: int = 1
    order: Literal["critic first", "together"] = "critic first"
    share_fakes: bool = False
    generator_factor: int = 1
    generator_batch: bool = False
    averaged: tuple[str, ...] | None = None
    average: HalfLife = HalfLife()

    def __post_init__(self) -> None:
        for name in ("critic_steps", "accumulate_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.share_fakes and self.accumulate_batches > 1:
            raise ValueError(
                "share_fakes keeps the rows of whole steps, which accumulate_batches divides: use "
                "one of the two"
            )
        for name, player in self._players.items():
            if player.regularize_every < 1:
                raise ValueError(f"{name}: regularize_every must be at least 1")
        shared = set(self.critic.networks) & set(self.generator.networks)
        if shared:
            raise ValueError(f"both players own {', '.join(sorted(shared))}: give it to one")
        unowned = set(self.averaged or ()) - {*self.critic.networks, *self.generator.networks}
        if unowned:
            raise ValueError(f"no player owns {', '.join(sorted(unowned))}, which are averaged")
        if self.order not in ("critic first", "together"):
            raise ValueError(f"order must be 'critic first' or 'together', got {self.order!r}")
        if self.generator.starts_at or (self.order == "together" and self.critic.starts_at):
            raise ValueError("starts_at is of the critic, in the order 'critic first'")
        if self.critic.starts_at and self.critic.regularizer_fn:
            raise ValueError("starts_at is of critics without a regularizer_fn")
        if self.order == "together" and (
            self.critic_steps > 1 or self.share_fakes or self.generator_batch
        ):
            raise ValueError(
                "in the order 'together' both players share one pass and one batch: critic_steps "
                "must be 1, share_fakes and generator_batch False"
            )

    @property
    def _players(self) -> dict[str, Player]:
        return {"critic": self.critic, "generator": self.generator}

    @functools.cached_property
    def _optimizers(self) -> dict[str, optax.GradientTransformation]:
        updates = {"critic": self.critic_steps, "generator": 1}
        return {
            name: make_optimizer(
                player.optimizer,
                Acts(updates[name], player.regularize_every if player.regularizer_fn else 1),
            )
            for name, player in self._players.items()
        }

    @property
    def _averaged(self) -> tuple[str, ...]:
        return self.generator.networks if self.averaged is None else self.averaged

    @property
    def batches_per_step(self) -> int:
        """Batches that ``train_step`` takes."""
        return self._turns * self.accumulate_batches

    @property
    def _turns(self) -> int:
        """Steps of players, in a training step, that see rows of their own."""
        return self.critic_steps + self.generator_batch

    def init(self, key: PRNGKeyArray, batch: Batch) -> TrainState:
        """The state before the first step: see :class:`~genjax.families.base.Family`."""
        params, model_state = self.init_networks(key, batch)
        optimizers = self._optimizers
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={
                name: optimizers[name].init({n: params[n] for n in player.networks})
                for name, player in self._players.items()
            },
            model_state=model_state,
            # A copy: the state is donated, and two of its leaves may not share a buffer.
            ema=jax.tree.map(jnp.copy, {n: params[n] for n in self._averaged}),
        )

    def train_step(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """One step: see :class:`~genjax.families.base.Family`."""
        if self.batches_per_step == 1:
            batch = {name: rows[None] for name, rows in batch.items()}
        moves = self._together if self.order == "together" else self._critic_first
        state, metrics = moves(state, batch, key)
        step = state.step + 1
        decay = self.average.decay(step, self.batch_size * self.accumulate_batches)
        averaged = {n: state.params[n] for n in self._averaged}
        state = state.replace(
            step=step, ema=optax.incremental_update(averaged, state.ema, 1.0 - decay)
        )
        return state, metrics

    def _critic_first(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """Steps of the critic, then one of the generator; metrics of the critic are means."""

        # The generator's step takes the batches after the critic's, or the critic's last again.
        def rows_of(turn: int) -> list[Batch]:
            first = min(turn, self._turns - 1) * self.accumulate_batches
            return [
                {name: rows[first + i] for name, rows in batch.items()}
                for i in range(self.accumulate_batches)
            ]

        keys = jax.random.split(key, self.critic_steps + 1)
        last, fakes = self.critic_steps - 1, []
        if self.share_fakes:
            if last:
                # One pass for all steps but the last: their rows serve no gradient.
                before = {n: rows[:last].reshape(-1, *rows.shape[2:]) for n, rows in batch.items()}
                made, _, _ = self._pass_forward(state, before, 1, keys[0])
                fakes = [
                    jax.tree.map(lambda rows, i=i: jnp.split(rows, last)[i], made)
                    for i in range(last)
                ]
            # The last step's pass keeps what leads back, for the generator's own step.
            shared = self._pass_forward(state, rows_of(last)[0], 1, keys[last])
            fakes.append(shared[0])
        of_critic = []
        for i in range(self.critic_steps):
            parts = [
                _Part(rows, fakes[i] if self.share_fakes else self._made(state, rows, key), key)
                for rows, key in zip(rows_of(i), self._part_keys(keys[i]), strict=True)
            ]
            state, metrics = self._critic_turn(state, parts)
            # Counted over the run, so that a resumed run regularises on the same turns.
            turn = state.step * self.critic_steps + i
            state, regular = self._regularized("critic", state, parts, turn)
            of_critic.append({**metrics, **regular})

        rows, part_keys = rows_of(self.critic_steps), self._part_keys(keys[-1])
        passes = [shared] if self.share_fakes else None
        state, grads, parts = self._generator_turn(state, rows, part_keys, passes)
        state, metrics = self._moved("generator", state, grads)
        state, regular = self._regularized("generator", state, parts, state.step)
        means = jax.tree.map(lambda *values: sum(values) / self.critic_steps, *of_critic)
        return state, {**means, **metrics, **regular}

    def _critic_turn(
        self, state: TrainState, parts: Sequence["_Part"]
    ) -> tuple[TrainState, Metrics]:
        """The state after a step of the critic, and the metrics of its loss."""

        def play(state: TrainState) -> tuple[TrainState, Metrics]:
            state = self._projected("critic", state)
            grads = self._own_grads("critic", self.critic.loss_fn, state, parts)
            return self._moved("critic", state, grads)

        if not self.critic.starts_at:
            return play(state)
        return _where_due(state.step >= self.critic.starts_at, play, state)

    def _together(
        self, state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        """Both players' losses at the same parameters, from one pass; then both move."""
        count = self.accumulate_batches
        rows = [{name: part[i] for name, part in batch.items()} for i in range(count)]
        keys = self._part_keys(key)
        state = self._projected("generator", self._projected("critic", state))
        passes = self._passes(state, rows, keys)
        parts = [_Part(r, p[0], k) for r, p, k in zip(rows, passes, keys, strict=True)]
        of_critic = self._own_grads("critic", self.critic.loss_fn, state, parts)
        # The critic's networks go on from what its own loss left, the generator's from the pass.
        kept = state.replace(model_state=average_changes(state.model_state, of_critic[3]))
        _, of_generator, parts = self._generator_turn(kept, rows, keys, passes, project=False)
        state, critic_metrics = self._moved("critic", state, of_critic)
        state, generator_metrics = self._moved("generator", state, of_generator)
        metrics = {**critic_metrics, **generator_metrics}
        for name in self._players:
            state, regular = self._regularized(name, state, parts, state.step)
            metrics |= regular
        return state, metrics

    def _part_keys(self, key: PRNGKeyArray) -> list[PRNGKeyArray]:
        """A key for each batch of a step."""
        count = self.accumulate_batches
        return [key] if count == 1 else [jax.random.fold_in(key, i) for i in range(count)]

    def _made(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        """Generated rows for the critic."""
        return self._pass_forward(state, batch, 1, key)[0]

    def _generator_turn(
        self,
        state: TrainState,
        rows: Sequence[Batch],
        keys: Sequence[PRNGKeyArray],
        passes: Sequence[Any] | None,
        *,
        project: bool = True,
    ) -> tuple[TrainState, _Grads, list["_Part"]]:
        """The generator's mean gradient over some batches, and what it saw in them."""
        if passes is None:
            passes = self._passes(state, rows, keys)
        if project:
            state = self._projected("generator", state)
        found, going = [], state
        for batch, made, key in zip(rows, passes, keys, strict=True):
            found.append(self._generator_grads(going, batch, made, key))
            going = going.replace(model_state=found[-1][3])
        parts = [_Part(b, p[0], k) for b, p, k in zip(rows, passes, keys, strict=True)]
        return state, _mean_of(found), parts

    def _passes(
        self, state: TrainState, rows: Sequence[Batch], keys: Sequence[PRNGKeyArray]
    ) -> list[Any]:
        """Passes for the generator; each goes on from the network state the one before has left."""
        passes: list[Any] = []
        for batch, key in zip(rows, keys, strict=True):
            passes.append(self._pass_forward(state, batch, self.generator_factor, key))
            state = state.replace(model_state=self._after_pass(state, passes[-1]))
        return passes

    def _after_pass(self, state: TrainState, shared: Any) -> ModelState:
        """Network state after a pass, of which that of the generator's own networks is kept."""
        made = shared[2]
        own = {n: made[n] for n in self.generator.networks if n in made}
        return {**state.model_state, **own}

    # Parts of a step.

    def _pass_forward(
        self, state: TrainState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[PyTree, Callable[[PyTree], tuple[Params]], ModelState]:
        """Generated rows, what leads back from them to the generator, and its new state."""

        def make(own: Params) -> tuple[PyTree, ModelState]:
            networks = {**state.params, **own}
            return self.generate(networks, state.model_state, batch, factor, own_key(key))

        # Linearised once: the critic's step looks at the rows, the generator's goes back.
        return jax.vjp(make, self._own("generator", state), has_aux=True)

    def _own(self, name: str, state: TrainState) -> Params:
        return {n: state.params[n] for n in self._players[name].networks}

    def _projected(self, name: str, state: TrainState) -> TrainState:
        project = self._players[name].project
        if project is None:
            return state
        return state.replace(params={**state.params, **project(self._own(name, state))})

    def _own_grads(
        self,
        name: str,
        loss_fn: LossFn,
        state: TrainState,
        parts: Sequence["_Part"],
        weight: float = 1.0,
    ) -> _Grads:
        """The gradient of a loss in a player's own networks, generated rows held constant."""
        turn = Turn(state.step, state.opt_state)
        found, model_state = [], state.model_state
        for batch, fake, key in parts:

            def of_own(
                own: Params,
                before: ModelState = model_state,
                batch: Batch = batch,
                fake: PyTree = fake,
                key: PRNGKeyArray = key,
            ) -> tuple[Array, tuple[Metrics, ModelState]]:
                networks = {**state.params, **own}
                loss, aux = loss_fn(networks, before, batch, fake, own_key(key), turn)
                return weight * loss, aux

            value_and_grad = jax.value_and_grad(of_own, has_aux=True)
            (loss, (metrics, kept)), grads = value_and_grad(self._own(name, state))
            loss, metrics, grads = average((loss, metrics, grads))
            model_state = average_changes(model_state, kept)
            found.append((grads, loss / weight, metrics, model_state))
        return _mean_of(found)

    def _generator_grads(
        self, state: TrainState, batch: Batch, shared: Any, key: PRNGKeyArray
    ) -> _Grads:
        """The gradient of the generator's loss, through what it made and in its networks."""
        fake, back, _ = shared
        turn = Turn(state.step, state.opt_state)
        model_state = self._after_pass(state, shared)

        def of_own(own: Params, fake: PyTree) -> tuple[Array, tuple[Metrics, ModelState]]:
            networks = {**state.params, **own}
            return self.generator.loss_fn(networks, model_state, batch, fake, own_key(key), turn)

        # The chain rule in two parts: what the loss has of the networks itself, for most games
        # nothing, and what comes back through the generated rows.
        (loss, (metrics, kept)), (direct, slope) = jax.value_and_grad(
            of_own, argnums=(0, 1), has_aux=True
        )(self._own("generator", state), fake)
        grads = jax.tree.map(jnp.add, back(slope)[0], direct)
        loss, metrics, grads = average((loss, metrics, grads))
        return grads, loss, metrics, average_changes(state.model_state, kept)

    def _moved(self, name: str, state: TrainState, found: _Grads) -> tuple[TrainState, Metrics]:
        """The state after a step of a player's optimiser, and the metrics of its loss."""
        grads, loss, metrics, model_state = found
        own = self._own(name, state)
        updates, opt_state = self._optimizers[name].update(grads, state.opt_state[name], own)
        state = state.replace(
            params={**state.params, **optax.apply_updates(own, updates)},
            opt_state={**state.opt_state, name: opt_state},
            model_state=model_state,
        )
        norm = optax.global_norm(grads)
        return state, {**metrics, f"{name}_loss": loss, f"{name}_grad_norm": norm}

    def _regularized(
        self,
        name: str,
        state: TrainState,
        parts: Sequence["_Part"],
        turn: Array,
    ) -> tuple[TrainState, Metrics]:
        """The state after the step on a player's regulariser, where one is due in its ``turn``."""
        player = self._players[name]
        regularizer_fn, every = player.regularizer_fn, player.regularize_every
        if regularizer_fn is None:
            return state, {}

        def regularize(state: TrainState) -> tuple[TrainState, Metrics]:
            found = self._own_grads(name, regularizer_fn, state, parts, float(every))
            moved, _ = self._moved(name, state, found)
            # Zero in between: the mean over many steps is then that of the regulariser's own.
            return moved, {n: every * value for n, value in found[2].items()}

        return _where_due(turn % every == 0, regularize, state)


def _where_due(
    due: Array, play: Callable[[TrainState], tuple[TrainState, Metrics]], state: TrainState
) -> tuple[TrainState, Metrics]:
    """The state after a player's step where it is due, else as it was with metrics of zero."""

    def skip(state: TrainState) -> tuple[TrainState, Metrics]:
        _, shapes = jax.eval_shape(play, state)
        return state, {n: jnp.zeros(s.shape, s.dtype) for n, s in shapes.items()}

    with nested():
        return jax.lax.cond(due, play, skip, state)
