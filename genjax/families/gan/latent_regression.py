"""Latent regression: an encoder that learns to invert a generator that was trained before."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
)
from genjax.families.draws import Latent
from genjax.families.gan.heads import LatentHead
from genjax.families.gan.inverse import EVAL_PROTOCOL, Inverse, squared_distance
from genjax.families.levels import Ends, Reals
from genjax.families.minimizing import minimizing


def latent_regression(
    *,
    encoder: nn.Module,
    generator: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    latents: Latent = Latent(),
    ema_decay: float = 0.0,
) -> Family:
    r"""Encoder that finds the latents of generated rows.

    It minimises :math:`\mathrm{E}\,\lVert z - E(G(z))\rVert^2` over latents of the prior; the data
    gives shapes only. The generator is that of another run:
    ``model.generator=dict(frozen=dict(workdir=..., network="generator"))``.

    Args:
        encoder: Module ``(x, train=...) -> features [B, F]``. A layer after it gives the latent.
        generator: Module ``(latent, train=...) -> rows`` without parameters to train.
        optimizer: Optimiser of the encoder.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        latents: The prior that the generator was trained with.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family. ``eval_step`` gives the distances of :func:`genjax.families.bigan` that need no
        critic, of rows of data, which the encoder never sees in training.

    Raises:
        ValueError: If the generator has parameters, or does not fit the data.

    References:
        Donahue et al., Adversarial Feature Learning, arXiv:1605.09782, section 4, where it is a
        baseline.
    """
    pair = Inverse(
        encoder=LatentHead(encoder, latents.latent_size),
        generator=generator,
        latents=latents,
        units=Reals() if num_levels is None else Ends(num_levels),
        event_shape=event_shape,
    )
    pair.check_generator()
    params, _ = jax.eval_shape(pair.init_networks, jax.random.key(0), {})
    if jax.tree.leaves(params["generator"]):
        raise ValueError(
            "latent_regression inverts a trained generator: "
            "model.generator=dict(frozen=dict(workdir=..., network='generator'))"
        )

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        z = latents.draw(own_key(key), batch["x"].shape[0])
        x = generator.apply({"params": params["generator"], **model_state["generator"]}, z)
        own = model_state["encoder"]
        (found, _), kept = pair.encoder.apply(
            {"params": params["encoder"], **own}, x, train=True, mutable=list(own)
        )
        value = jnp.mean(squared_distance(z, latents.within(found)))
        share = value / jnp.mean(squared_distance(z, jnp.zeros_like(z)))
        return value, ({"unexplained": share}, {**model_state, "encoder": {**own, **kept}})

    init, train_step = minimizing(
        init_model=pair.init_networks,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )
    return Family(
        init=init,
        train_step=train_step,
        eval_step=pair.eval_step,
        outlier_scores=pair.outlier_scores(),
        sample=pair.sample,
        encode=pair.encode,
        decode=pair.decode,
        generating=pair.generating,
        eval_protocol={
            "parameters": "moving average" if ema_decay else "current",
            **EVAL_PROTOCOL,
        },
        networks={"encoder": pair.encoder},
    )
