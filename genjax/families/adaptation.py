"""Domain adaptation: classifiers of labelled rows for rows of another domain without labels."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax import losses
from genjax.devices import mapped_axes, own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
    apply_any_in_training,
    init_network,
)
from genjax.families.classified import scores_of, units_of
from genjax.families.classifier import classifier
from genjax.families.minimizing import minimizing

TARGET = "target"
"""The stream of rows of the other domain."""


def dann(
    *,
    net: nn.Module,
    domain_net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    spec: Any,
    reversal: float = 1.0,
    ramp_steps: int = 10_000,
    ema_decay: float = 0.99,
) -> Family:
    r"""A classifier whose features do not tell the domain: domain-adversarial training.

    Labelled rows are those of the first stream, rows of the other domain those of a stream
    ``target``, whose labels are not read. One optimiser minimises the cross-entropy of the labels
    and that of a classifier of the domain, whose gradient is reversed where it enters the features.
    With ``reversal=0`` the classifier is the one that is trained on the source alone, bit for bit.

    A network with batch normalisation sees each domain as a batch of its own, the source first; its
    running statistics are of both.

    Args:
        net: Module ``x -> (logits, features)``, of grey levels in [-1, 1] or real numbers.
        domain_net: Module ``features -> log-odds of the source [B]``.
        optimizer: Optimiser of both together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        spec: Features of a batch, of both streams.
        reversal: What the reversed gradient is multiplied by in the end, :math:`\lambda`.
        ramp_steps: Training steps over which it grows from 0
            (:func:`genjax.losses.reversal_schedule`), whatever the length of the run.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family: of both, evaluated as a classifier is. Training logs the ``error`` on the
        source, and the ``domain_error`` and ``domain_cross_entropy`` (log 2 where the domains
        cannot be told apart), means of both domains.

    Raises:
        ValueError: If there is no stream ``target`` of like rows, or no label, or a number is out
            of range.

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, arXiv:1505.07818, equation 9
        and algorithm 1: the domain's loss is the sum of the means over both domains.
    """
    return _adapting(
        net=net, domain_net=domain_net, optimizer=optimizer, event_shape=event_shape,
        num_levels=num_levels, spec=spec, reversal=reversal, ramp_steps=ramp_steps,
        ema_decay=ema_decay,
    )  # fmt: skip


def cdan(
    *,
    net: nn.Module,
    domain_net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    spec: Any,
    reversal: float = 1.0,
    ramp_steps: int = 10_000,
    entropy_weighting: bool = True,
    ema_decay: float = 0.99,
) -> Family:
    r"""Conditional domain-adversarial training: features and decisions do not tell the domain.

    As :func:`dann`, but what the domains are told apart by are the products of all features and all
    class probabilities (:func:`genjax.losses.multilinear_features`), so that classes are matched to
    classes. The domain's loss is the mean of both domains, not their sum, as in published code.

    Args:
        net: Module ``x -> (logits, features)``, of grey levels in [-1, 1] or real numbers.
        domain_net: Module ``products [B, K F] -> log-odds of the source [B]``.
        optimizer: Optimiser of both together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        spec: Features of a batch, of both streams.
        reversal: What the reversed gradient is multiplied by in the end.
        ramp_steps: Training steps over which it grows from 0, whatever the length of the run.
        entropy_weighting: Whether rows of sure decisions count for more in the domain's loss
            (:func:`genjax.losses.entropy_weights`): CDAN+E.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family, as of :func:`dann`.

    Raises:
        ValueError: As :func:`dann`.

    References:
        Long et al., Conditional Adversarial Domain Adaptation, arXiv:1705.10667, equations 4 to 10.
    """
    return _adapting(
        net=net, domain_net=domain_net, optimizer=optimizer, event_shape=event_shape,
        num_levels=num_levels, spec=spec, reversal=reversal, ramp_steps=ramp_steps,
        ema_decay=ema_decay, conditional=True, weighted=entropy_weighting,
    )  # fmt: skip


def _adapting(
    *,
    net: nn.Module,
    domain_net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    spec: Any,
    reversal: float,
    ramp_steps: int,
    ema_decay: float,
    conditional: bool = False,
    weighted: bool = False,
) -> Family:
    """Either family."""
    if reversal < 0.0 or ramp_steps < 1:
        raise ValueError(
            "reversal must not be negative and ramp_steps at least 1, got "
            f"{reversal} and {ramp_steps}"
        )
    _check_streams(spec)
    units = units_of(num_levels, None)
    share = 0.5 if conditional else 1.0

    def seen(features: Array, logits: Array) -> Array:
        """What the domains are told apart by."""
        return losses.multilinear_features(features, logits) if conditional else features

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        # The network begins as that of a classifier of the source with this key does.
        example = units.encode(batch["x"].reshape(-1, *event_shape))
        params, state = init_network(net, key, example)
        logits, features = jax.eval_shape(net.apply, {"params": params, **state}, example)
        given = seen(jnp.zeros(features.shape), jnp.zeros(logits.shape))
        of_domain, _ = init_network(domain_net, jax.random.fold_in(key, 1), given)
        return {"net": params, "domain_net": of_domain}, {"net": state} if state else {}

    def domain_rows(
        params: Params, logits: Array, features: Array, factor: Array, source: float
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Loss and error of the classifier of the domain, means over rows of one domain."""
        given = losses.reverse_gradient(seen(features, logits), factor)
        odds: Any = domain_net.apply({"params": params["domain_net"]}, given)
        rows = losses.domain_loss(odds, jnp.full_like(odds, source))
        if weighted:
            rows = rows * losses.entropy_weights(logits, axis_name=mapped_axes())
        wrong = (odds > 0.0) != (source > 0.5)
        return jnp.mean(rows), jnp.mean(wrong.astype(jnp.float32))

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        keys = jax.random.split(own_key(key))
        factor = reversal * losses.reversal_schedule(step, ramp_steps)
        state = model_state.get("net", {})
        x, target = units.encode(batch["x"]), units.encode(batch[f"{TARGET}/x"])
        seen_by = functools.partial(apply_any_in_training, net, params["net"])
        (logits, features), state = seen_by(state, x, rngs={"dropout": keys[0]})
        (others, their_features), state = seen_by(state, target, rngs={"dropout": keys[1]})
        of_source = domain_rows(params, logits, features, factor, 1.0)
        of_target = domain_rows(params, others, their_features, factor, 0.0)
        found = {n: jnp.mean(rows) for n, rows in scores_of(logits, batch["label"]).items()}
        metrics = {
            **found,
            "domain_cross_entropy": 0.5 * (of_source[0] + of_target[0]),
            "domain_error": 0.5 * (of_source[1] + of_target[1]),
            "reversal": factor,
        }
        value = found["cross_entropy"] + share * (of_source[0] + of_target[0])
        return value, (metrics, {"net": state} if state else model_state)

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )
    alone = classifier(
        net=net, optimizer=optimizer, event_shape=event_shape, num_levels=num_levels,
        ema_decay=ema_decay,
    )  # fmt: skip
    return dataclasses.replace(alone, init=init, train_step=train_step)


def _check_streams(spec: Any) -> None:
    """Whether there are labelled rows and like rows of a target."""
    other = f"{TARGET}/x"
    if "label" not in spec:
        raise ValueError("domain adaptation needs labels of the first stream: its data has none")
    if other not in spec:
        raise ValueError(
            f"domain adaptation needs rows of another domain: add a stream "
            f"data.streams=dict({TARGET}=dict(name=...)); the data has {', '.join(spec)}"
        )
    ours, theirs = ((spec[n].shape, spec[n].num_levels) for n in ("x", other))
    if tuple(ours[0]) != tuple(theirs[0]) or ours[1] != theirs[1]:
        raise ValueError(
            f"expected like rows of both domains, got x {ours[0]} with {ours[1]} grey levels and "
            f"{other} {theirs[0]} with {theirs[1]}: transform one of them, as resize and to_rgb do"
        )
