"""Optimisers, all from optax, put together the way papers in this field use them.

Schedules count training steps, whatever an optimiser's own count is: families say how often it acts
(:class:`~genjax.families.base.Acts`).
"""

import contextlib
import difflib
import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import jax
import optax

from genjax.families.base import Acts
from genjax.training.skipping import skip_updates

DecayShape: TypeAlias = Literal["cosine", "linear"]
"""How a learning rate falls to 0."""


class Scheduled(optax.GradientTransformation):
    """An optimiser that knows its learning rate.

    Args:
        optimizer: The optimiser.
        learning_rate: Its learning rate, or that of its own count.
        acts: How often it acts.
    """

    def __new__(
        cls,
        optimizer: optax.GradientTransformation,
        learning_rate: optax.ScalarOrSchedule,
        acts: Acts,
    ) -> "Scheduled":
        """Makes it of an optimiser."""
        self = super().__new__(cls, optimizer.init, optimizer.update)
        self._learning_rate = learning_rate
        self._acts = acts
        return self

    def learning_rate(self, step: int) -> float:
        """Learning rate of the last update, on a regulariser or not, in the first ``step`` steps.

        Args:
            step: Number of training steps taken. Before the first update it is the rate of that.
        """
        if not callable(self._learning_rate):
            return float(self._learning_rate)
        # As families count: see Acts. One on a regulariser follows the first of every so many.
        updates = max(1, math.floor(step * self._acts.updates_per_step + 1e-6))
        every = self._acts.regularize_every
        count = updates - 1 + (-(-updates // every) if every > 1 else 0)
        with _on_the_host():
            return float(self._learning_rate(count))


def _on_the_host() -> contextlib.AbstractContextManager[Any]:
    """Computes on the CPU: an accelerator has a queue of training steps, which this would wait for.

    Where jax was told to look for no CPU, it does wait.
    """
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()


def decay_mask(params: Any) -> Any:
    """True for what weight decay applies to: kernels and embeddings.

    Biases, the scales of normalisation layers and the parameters of noise schedules are spared.
    """
    decayed = {"kernel", "embedding"}
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) in decayed, params
    )


def adamw(
    *,
    learning_rate: float = 2e-4,
    warmup_steps: int = 100,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_steps: int | None = None,
    decay_shape: DecayShape = "cosine",
    clip_norm: float | None = None,
    skip_norm: float | None = None,
    max_skips: int = 10,
    acts: Acts = Acts(),
) -> optax.GradientTransformation:
    """AdamW with a linear warm-up to a learning rate that stays, or falls to 0.

    Args:
        learning_rate: Learning rate after the warm-up.
        warmup_steps: Training steps over which it rises linearly from 0.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled decay of kernels and embeddings (see :func:`decay_mask`).
        decay_steps: Training steps, those of the warm-up included, after which the learning rate
            has fallen to 0; None to keep it.
        decay_shape: How it falls: along half a ``"cosine"``, or ``"linear"``.
        clip_norm: Largest global norm of the gradient, or None not to clip.
        skip_norm: Global norm above which an update is skipped, as is one of a gradient that is not
            finite; None to skip none.
        max_skips: Updates in a row that are skipped at most; the next one is made.
        acts: How often the optimiser acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Loshchilov and Hutter, arXiv:1711.05101; the defaults are those of google-research/vdm.
    """
    _check(learning_rate=learning_rate, clip_norm=clip_norm, skip_norm=skip_norm, eps=eps)
    if weight_decay < 0:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
    _check_decays(b1=b1, b2=b2)
    learning_rate, b1, b2 = _corrected(acts, learning_rate, b1, b2)
    schedule = _rate(learning_rate, warmup_steps, decay_steps, decay_shape, acts)
    optimizer = optax.adamw(
        schedule,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        mask=decay_mask,
    )
    return Scheduled(_guarded(optimizer, clip_norm, skip_norm, max_skips), schedule, acts)


def _rate(
    learning_rate: float,
    warmup_steps: int,
    decay_steps: int | None,
    decay_shape: str,
    acts: Acts,
) -> optax.ScalarOrSchedule:
    """A linear rise, then a constant or a fall to 0, of the optimiser's own count."""
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
    if decay_shape not in ("cosine", "linear"):
        raise ValueError(f"decay_shape must be 'cosine' or 'linear', got {decay_shape!r}")
    if decay_steps is not None:
        if decay_steps <= warmup_steps:
            raise ValueError(
                f"decay_steps counts the warm-up too: expected more than {warmup_steps}, got "
                f"{decay_steps}"
            )
        rise = acts.updates(warmup_steps) if warmup_steps else 0
        fall = max(rise + 1, acts.updates(decay_steps))
        if decay_shape == "linear":
            falling = optax.linear_schedule(learning_rate, 0.0, fall - rise)
            if not rise:
                return falling
            rising = optax.linear_schedule(0.0, learning_rate, rise)
            return optax.join_schedules([rising, falling], [rise])
        return optax.warmup_cosine_decay_schedule(0.0, learning_rate, rise, fall)
    if warmup_steps:
        return optax.linear_schedule(0.0, learning_rate, acts.updates(warmup_steps))
    return learning_rate


def _corrected(acts: Acts, learning_rate: float, *decays: float) -> tuple[float, ...]:
    """Learning rate and decays where ``k`` updates are spread over ``k + 1``.

    With ``c = k / (k + 1)`` they are ``c`` times the rate and the decays to the ``c``: Karras et
    al., arXiv:1912.04958, appendix B.
    """
    if acts.regularize_every == 1:
        return learning_rate, *decays
    share = acts.regularize_every / (acts.regularize_every + 1)
    return share * learning_rate, *(decay**share for decay in decays)


def _guarded(
    optimizer: optax.GradientTransformation,
    clip_norm: float | None,
    skip_norm: float | None,
    max_skips: int,
) -> optax.GradientTransformation:
    """The optimiser, behind limits on the global norm of the gradient if there are any."""
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    if skip_norm is not None:  # of the gradient as it comes, not as it is clipped
        optimizer = skip_updates(optimizer, skip_norm, max_skips)
    return optimizer


def adamax(
    *,
    learning_rate: float = 1e-3,
    warmup_steps: int = 100,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    decay_steps: int | None = None,
    decay_shape: DecayShape = "cosine",
    clip_norm: float | None = None,
    skip_norm: float | None = None,
    max_skips: int = 10,
    acts: Acts = Acts(),
) -> optax.GradientTransformation:
    """Adamax, whose steps are bounded by the learning rate: what Glow is trained with.

    Args:
        learning_rate: Learning rate after the warm-up.
        warmup_steps: Training steps over which it rises linearly from 0.
        b1: Decay of the first moment.
        b2: Decay of the largest gradient.
        eps: Added to the largest gradient.
        decay_steps: Training steps, those of the warm-up included, after which the learning rate
            has fallen to 0; None to keep it.
        decay_shape: How it falls: along half a ``"cosine"``, or ``"linear"``.
        clip_norm: Largest global norm of the gradient, or None not to clip.
        skip_norm: Global norm above which an update is skipped, as is one of a gradient that is not
            finite; None to skip none.
        max_skips: Updates in a row that are skipped at most; the next one is made.
        acts: How often the optimiser acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma and Ba, arXiv:1412.6980, section 7.1; Kingma and Dhariwal, arXiv:1807.03039.
    """
    _check(learning_rate=learning_rate, clip_norm=clip_norm, skip_norm=skip_norm, eps=eps)
    _check_decays(b1=b1, b2=b2)
    learning_rate, b1, b2 = _corrected(acts, learning_rate, b1, b2)
    schedule = _rate(learning_rate, warmup_steps, decay_steps, decay_shape, acts)
    optimizer = optax.adamax(schedule, b1=b1, b2=b2, eps=eps)
    return Scheduled(_guarded(optimizer, clip_norm, skip_norm, max_skips), schedule, acts)


def adam(
    *,
    learning_rate: float = 2e-4,
    b1: float = 0.5,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    l2: float = 0.0,
    warmup_steps: int = 0,
    decay_steps: int | None = None,
    decay_shape: DecayShape = "linear",
    clip_norm: float | None = None,
    skip_norm: float | None = None,
    max_skips: int = 10,
    acts: Acts = Acts(),
) -> optax.GradientTransformation:
    """Adam as adversarial training uses it: little momentum, at most a linear decay.

    Args:
        learning_rate: Learning rate after the warm-up.
        b1: Decay of the first moment: 0.5 in DCGAN, 0 in WGAN-GP and SNGAN.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        eps_root: Added to it under the root: above 0, gradients may go through the optimiser's
            steps (unrolled GANs), which have no slope at a gradient of 0 otherwise.
        l2: What is added to the gradient of kernels and embeddings (see :func:`decay_mask`), times
            them, before the moments: where gradients vanish, as those of a generator that is sure
            of its pixels do, weights shrink by whole steps.
        warmup_steps: Training steps over which the learning rate rises linearly from 0.
        decay_steps: Training steps, those of the warm-up included, after which the learning rate
            has fallen to 0; None to keep it.
        decay_shape: How it falls: ``"linear"``, or along half a ``"cosine"``.
        clip_norm: Largest global norm of the gradient, or None not to clip.
        skip_norm: Global norm above which an update is skipped, as is one of a gradient that is not
            finite; None to skip none.
        max_skips: Updates in a row that are skipped at most; the next one is made.
        acts: How often the optimiser acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma and Ba, arXiv:1412.6980.
    """
    _check(
        learning_rate=learning_rate,
        clip_norm=clip_norm,
        skip_norm=skip_norm,
        eps=eps,
        decay_steps=decay_steps,
    )
    _check_decays(b1=b1, b2=b2)
    for name, value in (("eps_root", eps_root), ("l2", l2)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    learning_rate, b1, b2 = _corrected(acts, learning_rate, b1, b2)
    schedule = _rate(learning_rate, warmup_steps, decay_steps, decay_shape, acts)
    optimizer = optax.adam(schedule, b1=b1, b2=b2, eps=eps, eps_root=eps_root)
    if l2:
        optimizer = optax.chain(optax.add_decayed_weights(l2, mask=decay_mask), optimizer)
    return Scheduled(_guarded(optimizer, clip_norm, skip_norm, max_skips), schedule, acts)


def rmsprop(
    *,
    learning_rate: float = 5e-5,
    decay: float = 0.99,
    eps: float = 1e-8,
    warmup_steps: int = 0,
    decay_steps: int | None = None,
    decay_shape: DecayShape = "linear",
    clip_norm: float | None = None,
    skip_norm: float | None = None,
    max_skips: int = 10,
    acts: Acts = Acts(),
) -> optax.GradientTransformation:
    """RMSprop without momentum, as in the Wasserstein GAN with weight clipping.

    Args:
        learning_rate: Learning rate after the warm-up.
        decay: Decay of the mean square.
        eps: Added to the root of the mean square.
        warmup_steps: Training steps over which the learning rate rises linearly from 0.
        decay_steps: Training steps, those of the warm-up included, after which the learning rate
            has fallen to 0; None to keep it.
        decay_shape: How it falls: ``"linear"``, or along half a ``"cosine"``.
        clip_norm: Largest global norm of the gradient, or None not to clip.
        skip_norm: Global norm above which an update is skipped, as is one of a gradient that is not
            finite; None to skip none.
        max_skips: Updates in a row that are skipped at most; the next one is made.
        acts: How often the optimiser acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Arjovsky et al., arXiv:1701.07875; decay and eps are those of torch.optim.RMSprop, which the
        authors' code uses.
    """
    _check(learning_rate=learning_rate, clip_norm=clip_norm, skip_norm=skip_norm, eps=eps)
    _check_decays(decay=decay)
    learning_rate, decay = _corrected(acts, learning_rate, decay)
    schedule = _rate(learning_rate, warmup_steps, decay_steps, decay_shape, acts)
    optimizer = optax.rmsprop(schedule, decay=decay, eps=eps, eps_in_sqrt=False)
    return Scheduled(_guarded(optimizer, clip_norm, skip_norm, max_skips), schedule, acts)


def any_of_optax(
    *,
    optimizer: str,
    learning_rate: float = 1e-3,
    arguments: Mapping[str, Any] | None = None,
    warmup_steps: int = 0,
    decay_steps: int | None = None,
    decay_shape: DecayShape = "cosine",
    schedule: Mapping[str, Any] | None = None,
    clip_norm: float | None = None,
    skip_norm: float | None = None,
    max_skips: int = 10,
    acts: Acts = Acts(),
) -> optax.GradientTransformation:
    """Any optimiser of optax, such as lion, with any of its schedules.

    Args:
        optimizer: Name of a function of optax that takes a learning rate: ``lion``, ``sgd``,
            ``lamb``, ``adafactor``...
        learning_rate: Learning rate after the warm-up.
        arguments: Its further arguments.
        warmup_steps: Training steps over which the learning rate rises linearly from 0.
        decay_steps: Training steps, those of the warm-up included, after which the learning rate
            has fallen to 0; None to keep it.
        decay_shape: How it falls: along half a ``"cosine"``, or ``"linear"``.
        schedule: In place of these, a schedule of ``optax.schedules``: its ``name`` and its
            arguments, of which those in steps count training steps.
        clip_norm: Largest global norm of the gradient, or None not to clip.
        skip_norm: Global norm above which an update is skipped, as is one of a gradient that is not
            finite; None to skip none.
        max_skips: Updates in a row that are skipped at most; the next one is made.
        acts: How often the optimiser acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If optax has no such optimiser or schedule, or it refuses its arguments.
    """
    _check(learning_rate=learning_rate, clip_norm=clip_norm, skip_norm=skip_norm)
    if acts.regularize_every > 1:
        raise ValueError(
            "optimisers by their optax name are not corrected for steps on penalties of their own "
            "(family.penalty_every above 1): take adam, adamw, adamax or rmsprop"
        )
    if not _takes_rate(optimizer):
        rated = [n for n in dir(optax) if not n.startswith("_") and _takes_rate(n)]
        near = difflib.get_close_matches(optimizer, rated, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(rated)}"
        raise ValueError(f"optax has no optimiser {optimizer!r} with a learning rate{hint}")
    rate = _rate(learning_rate, warmup_steps, decay_steps, decay_shape, acts)
    if schedule is not None:
        if warmup_steps or decay_steps is not None:
            raise ValueError("a schedule takes the place of warmup_steps and decay_steps: use one")
        counted = _called(optax.schedules, schedule, "schedule")
        per_step = acts.updates(1_000_000) / 1_000_000
        rate = lambda count: counted(count / per_step)  # noqa: E731
    section = {"name": optimizer, **(arguments or {}), "learning_rate": rate}
    made = _called(optax, section, "arguments")
    return Scheduled(_guarded(made, clip_norm, skip_norm, max_skips), rate, acts)


def _takes_rate(name: str) -> bool:
    """Whether optax has a function of this name that takes a learning rate."""
    make = getattr(optax, name, None)
    if not (inspect.isroutine(make) or isinstance(make, functools.partial)):
        return False
    return "learning_rate" in inspect.signature(cast(Any, make)).parameters


def _called(module: Any, section: Mapping[str, Any], where: str) -> Any:
    """A function of a module, called with what a section says besides its name."""
    kwargs = {name: value for name, value in section.items() if name != "name"}
    name = section.get("name")
    function = getattr(module, name, None) if isinstance(name, str) else None
    if not callable(function):
        known = ", ".join(n for n in dir(module) if n.endswith(("schedule", "_decay")))
        raise ValueError(f"{where}: optax has no {name!r}; it has {known}")
    valid = inspect.signature(function).parameters
    for given in kwargs:
        if given not in valid:
            raise ValueError(f"{where}: {name} has no {given!r}; it has {', '.join(valid)}")
    try:
        return function(**kwargs)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _check(**positive: float | None) -> None:
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _check_decays(**decays: float) -> None:
    for name, value in decays.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")
