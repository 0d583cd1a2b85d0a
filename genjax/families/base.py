"""What every family of models offers to the training loop."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import optax
from flax import struct
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Denoiser, Sampler

PyTree: TypeAlias = Any
Batch: TypeAlias = Mapping[str, Array]
"""Rows of named features: ``x`` ``[B, *event]`` (whole grey levels or real numbers), ``label``
``[B]`` where the data has class labels, ``stream/x`` of further streams, and ``index`` ``[B]``
(position in the data set) in evaluation."""
Metrics: TypeAlias = Mapping[str, Array]
Params: TypeAlias = Mapping[str, PyTree]
"""Parameters, keyed by network."""
ModelState: TypeAlias = Mapping[str, PyTree]
"""What networks carry besides parameters, keyed by network."""
Step: TypeAlias = Array
"""Number of training steps taken so far, int32 ``[]``."""


class TrainState(struct.PyTreeNode):
    """All a run needs to resume.

    Attributes:
        step: Number of training steps taken, int32 ``[]``.
        params: Parameters, keyed by network.
        opt_state: Optimiser states, keyed by player: ``model``, or ``generator`` and ``critic``.
        model_state: What networks carry besides parameters (batch statistics, codebooks, the
            variables of frozen parts), keyed by network. It is the same on all devices.
        ema: Moving averages of parameters, keyed by network; read by ``eval_step`` and ``sample``.
    """

    step: Array
    params: Params
    opt_state: Mapping[str, PyTree]
    model_state: ModelState
    ema: Params


@dataclasses.dataclass(frozen=True)
class Acts:
    """How often an optimiser acts, so that its schedules can count in training steps.

    Attributes:
        updates_per_step: Updates in a training step: several for a critic, ``1 / k`` where
            gradients of ``k`` steps are averaged first.
        regularize_every: Updates between extra updates on a regulariser, which share the
            optimiser's state; 1 where there are none.
    """

    updates_per_step: float = 1.0
    regularize_every: int = 1

    def updates(self, num_steps: int) -> int:
        """Number of updates in so many training steps, extra ones included; 1 at least."""
        updates = max(1, round(num_steps * self.updates_per_step))
        if self.regularize_every > 1:
            updates += updates // self.regularize_every
        return updates


Optimizer: TypeAlias = optax.GradientTransformation | Callable[[Acts], optax.GradientTransformation]
"""An optimiser, or what makes one when it is told how often it will act."""


def make_optimizer(optimizer: Optimizer, acts: Acts) -> optax.GradientTransformation:
    """The optimiser of a player that acts so often.

    Args:
        optimizer: An optimiser, whose schedules then count its own updates, or a factory.
        acts: How often it acts.

    Returns:
        The optimiser.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return optimizer(acts)


class Density(struct.PyTreeNode):
    """A density of the plane on a grid, for a picture.

    Attributes:
        values: Density at the points of the grid, ``[G, G]``, rows from low to high second
            coordinate.
        extent: What the grid covers: lowest and highest first coordinate, then lowest and highest
            second, ``[4]``.
    """

    values: Array
    extent: Array


class Samples(struct.PyTreeNode):
    """What a family draws.

    Attributes:
        rows: Samples, one for each row of the request, ``[B, *event]``.
        trajectory: How the first of them came about, ``[F, B', *event]``.
        density: The density they were drawn from, of points of the plane.
    """

    rows: Array
    trajectory: Array | None = None
    density: Density | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Denoising:
    """What edits ask of a model that goes from noise to data in steps.

    Attributes:
        denoiser: The model of the rows of a batch, guided where samples are.
        sampler: How samples are drawn.
        num_steps: Steps of the sampler.
        encode: Data ``[B, *event]`` to the units of the process.
        decode: And back.
        entrywise: Whether each entry of what is denoised is one of the data.
    """

    denoiser: Denoiser
    sampler: Sampler
    num_steps: int
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]
    entrywise: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generating:
    """What inversion asks of a model that makes rows of latents in one pass.

    Attributes:
        draw: ``(key, count) -> latents [count, Z]`` of the prior, whose mean is 0.
        clip: Latents to the nearest ones that the prior may give.
        make: Latents ``[B, Z]`` to rows ``[B, *event]`` in the units of the model, differentiable.
        encode: Data ``[B, *event]`` to these units.
        features: Rows in these units to the features ``[B, F]`` that the model's encoder makes
            latents of; None where there is no encoder.
    """

    draw: Callable[[PRNGKeyArray, int], Array]
    clip: Callable[[Array], Array]
    make: Callable[[Array], Array]
    encode: Callable[[Array], Array]
    features: Callable[[Array], Array] | None = None


Variables: TypeAlias = Mapping[str, PyTree]
"""What of a trained state another model needs: ``ema`` and ``model_state``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstStage:
    """A trained model of data by latents, as a model of its latents asks it.

    Attributes:
        event_shape: Shape of the latents of one example.
        num_levels: Number of codes; None for real-valued latents.
        encode: ``(variables, batch, key) -> latents [B, *event_shape]`` of rows; a draw, where the
            model has a distribution of them. The batch of evaluation has ``index``.
        decode: ``(variables, latents, batch) -> rows [B, *event]``.
        nats: ``(variables, batch, latents) -> [B]``: with the negative log-density of its latents
            added, a row has a bound on that of the data. None where latents have no distribution
            given a row, so that their density bounds nothing.
        keeps: Entries of ``model_state`` that it needs; None for all.
        vectors: Where latents are codes, the model by what these are made of: vectors of real
            numbers, which ``decode`` quantises. None for none.
    """

    event_shape: tuple[int, ...]
    num_levels: int | None
    encode: Callable[[Variables, Batch, PRNGKeyArray], Array]
    decode: Callable[[Variables, Array, Batch], Array]
    nats: Callable[[Variables, Batch, Array], Array] | None
    keeps: tuple[str, ...] | None = None
    vectors: "FirstStage | None" = None

    def variables(self, ema: Params, model_state: ModelState) -> Variables:
        """What it needs of a trained state."""
        kept = model_state if self.keeps is None else {n: model_state[n] for n in self.keeps}
        return {"ema": ema, "model_state": dict(kept)}


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """What looks wrong in the logged means of a run.

    Attributes:
        kind: What it is a case of; a run says a kind again only after it had gone.
        message: One line: what was seen, and what helps.
    """

    kind: str
    message: str


@dataclasses.dataclass(frozen=True)
class Derived:
    """A real-valued feature that is computed from another one where it is not given.

    Attributes:
        shape: Shape of one.
        source: The other feature.
    """

    shape: tuple[int, ...]
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Pure functions over global arrays: jittable, not jitted; no config, no I/O.

    ``train_step`` may also be mapped over devices (``jax.shard_map``, ``jax.pmap``), each with its
    rows, the whole state and the same key; it then averages over them (:mod:`genjax.devices`).

    Attributes:
        init: Makes the state before the first step from the run's first batch; layers that start
            from the data's statistics read its values, all else only its shapes.
        train_step: One step; scalars as metrics. The loop stops on a non-finite one.
        eval_protocol: What must be said beside a number: which bound it is, how many draws it took,
            which parameters.
        eval_step: Metrics of each example, every leaf ``[B]``; the same key for a whole pass.
            Draws are keyed by ``batch["index"]``, so that they do not depend on the batch size.
            None for models without a score of single examples.
        sample: Draws :class:`Samples`, one for each row of the batch, which has ``x`` (of which
            only the shape is read) and the features that ``reads`` names. None for what generates
            nothing.
        log_prob: Log-probability of each row of a batch in nats, ``[B]``, or the lower bound on it
            that ``eval_protocol`` names; keyed by ``batch["index"]``. None where there is none.
        outlier_scores: Further scores of rows by name, ``[B]`` in any unit, higher the more of an
            outlier a row is; keyed by ``batch["index"]``. What takes too long for evaluation, or is
            no likelihood.
        encode: Latents of each row of a batch, a tree of arrays ``[B, ...]``; keyed by
            ``batch["index"]`` where grey levels are dequantised. None where there are none.
        decode: Rows ``[B, *event]`` of latents; the batch has what ``reads`` names.
        reconstruct: Rows of a batch as they come back from their latents, ``[B, *event]``:
            ``(state, batch, key)``. None where latents lose nothing, or rows have none.
        impute: Rows of a batch whose missing entries are drawn given the known ones, which stay as
            they are: ``(state, batch, key, num_steps)``, where the batch has ``known``, of the
            shape of ``x`` and True where it may be read, and what ``reads`` names; a Markov chain
            takes that many steps. None for families that have no way of their own; what denoises
            needs none.
        denoising: The model as edits ask it, of a batch that has what ``reads`` names. None for
            what does not denoise.
        generating: The model as inversion asks it, of a batch that has what ``reads`` names. None
            for what does not make rows of latents in one pass.
        first_stage: The model as one of its latents asks it; None for what has none.
        class_logits: Logits of the classes ``[B, C]`` of rows ``[B, *event]``: ``(state, rows)``.
            Rows are real numbers, grey levels as shares of the range from black (0) to white (1),
            so that a slope in them can be taken. None for what tells no classes apart by itself.
        embed: Vectors of unit length of what a batch has: ``embedding`` ``[B, D]`` of its ``x``,
            ``text_embedding`` ``[B, D]`` of its ``tokens``, whose products say how well the two fit
            each other. Multiplied by the square root of ``D``, entries are of about unit size. It
            is asked by :data:`~genjax.families.base.Variables`, so that a model of such vectors in
            another run may hold what was trained. None for what does not compare images with texts.
        reads: Features of a batch that ``sample`` is conditioned on, such as ``label``.
        derived: Real-valued features, by name, that a batch may have in place of what they are
            computed from otherwise: ``embedding`` in place of ``x``.
        steers: Those of ``reads`` that guide samples only: scores and latents of rows need none.
        unlabelled: Class ids among ``reads`` that may be -1, which stands for no label.
        sample_protocol: What must be said beside samples and numbers about them: how they are
            drawn, in how many network calls.
        density_metrics: Metrics of ``train_step`` and ``eval_step`` that are negative log-densities
            of ``x``, and how much a nat of an example is in each (1 for those in nats): they follow
            a change of the units of ``x``.
        scores_in_training: Whether ``density_metrics`` of ``train_step`` are of the data, too.
        init_with: ``init``, with parts of ``model_state`` that are known before: ``(key, batch,
            parts by name)``. None where there are none that layers could start from.
        networks: Modules as they are applied, by their names in the state, where they are not those
            that the family was given.
        batches_per_step: Batches that ``train_step`` takes. If more than one, the leaves of its
            batch are ``[batches_per_step, B, ...]``.
        curves: Named curves ``(x, y)`` of the state that are worth a picture.
        diagnose: Looks at logged means of metrics of training, named without prefix.
    """

    init: Callable[[PRNGKeyArray, Batch], TrainState]
    train_step: Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]]
    eval_protocol: Mapping[str, str | int | float]
    eval_step: Callable[[TrainState, Batch, PRNGKeyArray], Metrics] | None = None
    sample: Callable[[TrainState, PRNGKeyArray, Batch], Samples] | None = None
    log_prob: Callable[[TrainState, Batch, PRNGKeyArray], Array] | None = None
    outlier_scores: Mapping[str, Callable[[TrainState, Batch, PRNGKeyArray], Array]] = (
        dataclasses.field(default_factory=dict)
    )
    encode: Callable[[TrainState, Batch, PRNGKeyArray], PyTree] | None = None
    decode: Callable[[TrainState, PyTree, Batch], Array] | None = None
    reconstruct: Callable[[TrainState, Batch, PRNGKeyArray], Array] | None = None
    impute: Callable[[TrainState, Batch, PRNGKeyArray, int], Array] | None = None
    denoising: Callable[[TrainState, Batch], Denoising] | None = None
    generating: Callable[[TrainState, Batch], Generating] | None = None
    first_stage: FirstStage | None = None
    class_logits: Callable[[TrainState, Array], Array] | None = None
    embed: Callable[[Variables, Batch], Mapping[str, Array]] | None = None
    reads: tuple[str, ...] = ()
    derived: Mapping[str, Derived] = dataclasses.field(default_factory=dict)
    steers: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    sample_protocol: Mapping[str, str] = dataclasses.field(default_factory=dict)
    density_metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scores_in_training: bool = True
    init_with: Callable[[PRNGKeyArray, Batch, Mapping[str, PyTree]], TrainState] | None = None
    networks: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)
    batches_per_step: int = 1
    curves: Callable[[TrainState], Mapping[str, tuple[Array, Array]]] | None = None
    diagnose: Callable[[Mapping[str, float]], Sequence[Suspicion]] | None = None


def init_network(net: nn.Module, key: PRNGKeyArray, *args: Any) -> tuple[PyTree, PyTree]:
    """Initialises a network.

    Args:
        net: The network.
        key: Key of its parameters, and of noise and dropout between its layers, which act as in
            training: parameters that start from data see the rows that training shows them.
        *args: What it is called with.

    Returns:
        Its parameters, and its other collections, such as batch statistics or the variables of a
        frozen part. Both may be empty.
    """
    variables = net.init({"params": key, "dropout": jax.random.fold_in(key, 0xD)}, *args)
    state = {name: value for name, value in variables.items() if name != "params"}
    return variables.get("params", {}), state


def apply_in_training(
    net: nn.Module, params: PyTree, state: PyTree, *args: Any, rngs: Any = None
) -> tuple[Any, PyTree]:
    """Applies a network, which must take ``train``, in a training step.

    Args:
        net: The network. It is told ``train=True``.
        params: Its parameters.
        state: Its other collections, as :func:`init_network` gives them.
        *args: What it is called with.
        rngs: Keys of what is drawn inside it, such as ``dropout``.

    Returns:
        What it gives, and its other collections afterwards.
    """
    found, kept = net.apply(
        {"params": params, **state}, *args, train=True, mutable=list(state), rngs=rngs
    )
    return found, {**state, **kept}


def apply_any_in_training(
    net: nn.Module, params: PyTree, state: PyTree, *args: Any, rngs: Any = None
) -> tuple[Any, PyTree]:
    """Applies a network that may have no argument ``train`` in a training step.

    Args:
        net: The network. Without the argument its other collections stay as they are.
        params: Its parameters.
        state: Its other collections.
        *args: What it is called with.
        rngs: Keys of what is drawn inside it.

    Returns:
        As of :func:`apply_in_training`.
    """
    if "train" not in inspect.signature(type(net).__call__).parameters:
        return net.apply({"params": params, **state}, *args, rngs=rngs), state
    return apply_in_training(net, params, state, *args, rngs=rngs)


def num_classes_of(net: nn.Module) -> int | None:
    """Number of classes a network is conditional on; None if it is not."""
    return getattr(net, "num_classes", None)


def label_of(batch: Batch, *, conditional: bool) -> Array | None:
    """Class ids ``[B]`` of a batch for a conditional network, else None."""
    return batch["label"] if conditional else None
