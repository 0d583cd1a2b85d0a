"""Steps of the critic that a generator's loss looks ahead, and goes back through."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from genjax.devices import average
from genjax.families.base import Acts, ModelState, Optimizer, Params, make_optimizer

CriticLoss = Callable[[Params, ModelState], tuple[Array, ModelState]]
"""``(critic's networks, model_state) -> (loss, model_state)`` on given rows."""


def unrolled(
    loss_fn: CriticLoss,
    own: Params,
    model_state: ModelState,
    optimizer: optax.GradientTransformation,
    opt_state: Any,
    *,
    num_steps: int,
    project: Callable[[Params], Params] | None = None,
) -> tuple[Params, ModelState]:
    r"""The critic after some steps on the same rows, as a differentiable function of them.

    .. math:: \theta_D^{k+1} = \theta_D^k - \text{step}(\nabla f(\theta_G, \theta_D^k))

    Args:
        loss_fn: What the critic minimises, of rows that may depend on the generator.
        own: Its networks.
        model_state: Network state.
        optimizer: Its optimiser.
        opt_state: Where that is.
        num_steps: Number K of steps, written out one after the other; 0 gives what came in.
        project: Applied to its parameters before each step (weight clipping).

    Returns:
        Its networks and the network state after the steps.

    References:
        Metz et al., Unrolled Generative Adversarial Networks, arXiv:1611.02163, eq. 5 to 7.
    """
    for _ in range(num_steps):
        own = own if project is None else project(own)
        grads, model_state = jax.grad(loss_fn, has_aux=True)(own, model_state)
        updates, opt_state = optimizer.update(average(grads), opt_state, own)
        own = optax.apply_updates(own, updates)
    return own, model_state


def differentiable_optimizer(optimizer: Optimizer, acts: Acts) -> optax.GradientTransformation:
    """The optimiser of a player, if gradients may go through its steps.

    Args:
        optimizer: An optimiser, or what makes it.
        acts: How often it acts.

    Returns:
        The optimiser.

    Raises:
        ValueError: If the slope of its step is not finite at a gradient of 0, which dead units
            have: Adam takes a root there.
    """
    made = make_optimizer(optimizer, acts)
    params = {"kernel": jnp.ones(2)}

    def step(grads: Any) -> Array:
        updates, _ = made.update(grads, made.init(params), params)
        return jnp.sum(updates["kernel"])

    slope = jax.grad(step)({"kernel": jnp.array([0.0, 1.0])})["kernel"]
    if not jnp.isfinite(slope).all():
        raise ValueError(
            "unroll_steps goes back through the critic's optimiser, whose step has no slope at a "
            "gradient of 0: set optimizer.critic.eps_root, say to 1e-16"
        )
    return made
