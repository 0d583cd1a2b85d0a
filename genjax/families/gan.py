"""Generative adversarial networks: any adversarial loss, any control of the critic's slope."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.adversarial import Networks, Player, adversarial
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    TrainState,
    as_levels,
    scale_levels,
    spread_rows,
)
from genjax.losses import ADVERSARIAL_LOSSES, AdversarialLoss

_SPECTRAL, _BATCH = "spectral_stats", "batch_stats"
PENALTIES = ("gradient_penalty", "dragan", "r1", "r2")
Outputs = Array


def gan(
    *,
    generator: nn.Module,
    critic: nn.Module,
    generator_optimizer: optax.GradientTransformation,
    critic_optimizer: optax.GradientTransformation,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    batch_size: int,
    loss: AdversarialLoss | str = "nonsaturating",
    latent_size: int = 128,
    latent: Literal["normal", "uniform"] = "normal",
    critic_steps: int = 1,
    generator_batch_factor: int = 1,
    share_fakes: bool = False,
    joint_batches: bool = False,
    penalties: Mapping[str, float] | None = None,
    penalty_every: int = 1,
    penalty_target: float = 1.0,
    penalty_one_sided: bool = False,
    clip_limit: float | None = None,
    pack_size: int = 1,
    dequantize: bool = False,
    ema_half_life_kimg: float = 10.0,
    ema_rampup: float = 0.05,
) -> Family:
    r"""Generative adversarial network.

    Each step makes ``critic_steps`` steps of the critic, each on fresh data and fresh latents, and
    one of the generator, on fresh latents (but see ``share_fakes``). Images are scaled to [-1, 1].
    Generated rows take the labels of the real rows of their batch.

    During the critic's steps the generator normalises by the batch and its running statistics stand
    still; during the generator's step the critic's state does. Samples come from the averaged
    parameters with the running statistics of the current ones, which are copied, not averaged.

    Args:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Module ``(rows, label, train=...) -> [B]``, or ``[B, K]`` for an MMD GAN.
        generator_optimizer: Optimiser of the generator.
        critic_optimizer: Optimiser of the critic; two learning rates are a matter of these two
            (TTUR, arXiv:1706.08500).
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        batch_size: Examples in a batch.
        loss: Losses of both players, or a key of
            :data:`~genjax.losses.adversarial.ADVERSARIAL_LOSSES`.
        latent_size: Length of the latent vector.
        latent: Its distribution: standard normal, or uniform on [-1, 1).
        critic_steps: Steps of the critic for each of the generator.
        generator_batch_factor: Samples in a generator step, as a multiple of ``batch_size``.
        share_fakes: Whether to generate less: one pass of the generator makes the rows of all
            critic steps but the last, another those of the last, and the generator's own step goes
            back through the latter, with the last critic step's data (as the DCGAN of
            pytorch/examples). Batch normalisation then sees the rows of a pass together.
        joint_batches: Whether the critic sees real and generated rows in one pass, with joint batch
            statistics, or in two. In one pass the generator's step takes real rows, too.
        penalties: Weights of ``gradient_penalty``, ``dragan``, ``r1`` and ``r2``, each the mean of
            the function in :mod:`genjax.losses.lipschitz` (R1 and R2 have the half inside).
        penalty_every: Steps of the critic between penalties. Above 1 they are minimised in steps of
            their own, times ``penalty_every``; correct Adam for it (``adam.regularize_every``).
        penalty_target: Norm that ``gradient_penalty`` and ``dragan`` pull to.
        penalty_one_sided: Whether these two leave smaller norms alone.
        clip_limit: Largest absolute value of the critic's parameters, enforced before each of its
            steps; None for no clipping.
        pack_size: Rows of one origin that the critic sees as one, joined along the last axis
            (PacGAN, arXiv:1712.04086).
        dequantize: Whether to spread whole grey levels over their bins with uniform noise.
        ema_half_life_kimg: See :func:`~genjax.families.adversarial.adversarial`.
        ema_rampup: The same.

    Returns:
        The family. It has no ``eval_step``: a GAN is evaluated by its samples.

    Raises:
        ValueError: If arguments are out of range or contradict each other or the networks.

    References:
        Goodfellow et al., arXiv:1406.2661; for losses and penalties see their functions.
    """
    if isinstance(loss, str):
        if loss not in ADVERSARIAL_LOSSES:
            raise ValueError(f"loss must be one of {sorted(ADVERSARIAL_LOSSES)}, got {loss!r}")
        loss = ADVERSARIAL_LOSSES[loss]
    game = loss
    weights = dict(penalties or {})
    conditional = _check_networks(generator, critic)
    for name, value in [
        ("latent_size", latent_size),
        ("critic_steps", critic_steps),
        ("generator_batch_factor", generator_batch_factor),
        ("penalty_every", penalty_every),
        ("pack_size", pack_size),
    ]:
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if latent not in ("normal", "uniform"):
        raise ValueError(f"latent must be 'normal' or 'uniform', got {latent!r}")
    for name, weight in weights.items():
        if name not in PENALTIES:
            raise ValueError(f"penalties must be among {', '.join(PENALTIES)}, got {name!r}")
        if not weight > 0:
            raise ValueError(f"the weight of {name} must be positive, got {weight}")
    if batch_size % pack_size:
        raise ValueError(f"pack_size ({pack_size}) must divide the batch size ({batch_size})")
    if pack_size > 1 and conditional:
        raise ValueError("pack_size above 1 needs an unconditional model: packs mix labels")
    takes_real = game.uses_real or joint_batches
    if takes_real and generator_batch_factor > 1:
        raise ValueError(
            "generator_batch_factor above 1 does not fit a generator's step that sees as many real "
            "rows as generated ones (joint_batches, or a loss that compares the two)"
        )
    if share_fakes and generator_batch_factor > 1:
        raise ValueError(
            "share_fakes gives the generator's step the critic's rows, of which there are not "
            f"{generator_batch_factor} times as many: set generator_batch_factor to 1"
        )
    if penalty_every > 1 and not weights:
        raise ValueError(f"penalty_every is {penalty_every}, but there are no penalties")
    to_a_norm = {"gradient_penalty", "dragan"} & set(weights)
    if (penalty_target != 1.0 or penalty_one_sided) and not to_a_norm:
        raise ValueError(
            "penalty_target and penalty_one_sided belong to gradient_penalty and dragan, and there "
            "is neither"
        )
    if dequantize and num_levels is None:
        raise ValueError("dequantize is for data of whole grey levels")
    packed_shape = (*event_shape[:-1], event_shape[-1] * pack_size)

    def init_networks(key: PRNGKeyArray, batch: Batch) -> tuple[Networks, Networks]:
        key_generator, key_critic = jax.random.split(key)
        label = batch["label"][:1].reshape(-1)[:1] if conditional else None
        variables = {
            "generator": generator.init(key_generator, jnp.zeros((1, latent_size)), label),
            "critic": critic.init(key_critic, jnp.zeros((1, *packed_shape)), label),
        }
        params = {name: v["params"] for name, v in variables.items()}
        state = {name: {c: v[c] for c in v if c != "params"} for name, v in variables.items()}
        return params, state

    label_shape = {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if conditional else {}
    _, kept = jax.eval_shape(init_networks, jax.random.key(0), label_shape)
    rows = jax.ShapeDtypeStruct((2, *packed_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32) if conditional else None
    scored, _ = jax.eval_shape(critic.init_with_output, jax.random.key(0), rows, labels)
    rank = 1 if game.witness is None else 2
    if len(scored.shape) != rank:
        expected = "one number a row" if rank == 1 else "several features a row (num_outputs)"
        raise ValueError(
            f"this loss needs a critic with {expected}, but it gives {scored.shape[1:]} a row"
        )
    if _BATCH in kept["critic"] and weights:
        raise ValueError(
            f"the critic has batch normalisation, under which {', '.join(weights)} does not see "
            "the slope of single rows; set the critic's norm to 'layer' or 'none'"
        )
    if _SPECTRAL in kept["critic"] and clip_limit is not None:
        raise ValueError(
            "clip_limit does not fit a spectrally normalised critic, whose weights are divided by "
            "their norm; drop one of the two"
        )
    if clip_limit is not None and not clip_limit > 0:
        raise ValueError(f"clip_limit must be positive, got {clip_limit}")

    def encode(x: Array, key: PRNGKeyArray) -> Array:
        if num_levels is None:
            return x
        if dequantize:
            x = x.astype(jnp.float32) + jax.random.uniform(key, x.shape)
            return x * (2.0 / num_levels) - 1.0
        return scale_levels(x, num_levels)

    def decode(x: Array) -> Array:
        if num_levels is None:
            return x
        if dequantize:
            levels = jnp.floor((x + 1.0) * (0.5 * num_levels))
        else:
            levels = jnp.round((x + 1.0) * (0.5 * (num_levels - 1)))
        return as_levels(levels, num_levels)

    def draw_latent(key: PRNGKeyArray, count: int) -> Array:
        shape = (count, latent_size)
        if latent == "normal":
            return spread_rows(jax.random.normal(key, shape))
        return spread_rows(jax.random.uniform(key, shape, minval=-1.0, maxval=1.0))

    def run(
        network: nn.Module, params: Any, state: Any, x: Array, label: Array | None
    ) -> tuple[Array, Any]:
        """Applies a network in training; returns its output and its new state."""
        y, new = network.apply(
            {"params": params, **state}, x, label, train=True, mutable=list(state)
        )
        return cast(Array, y), {**state, **new}

    def label_of(batch: Batch) -> Array | None:
        return batch["label"] if conditional else None

    def pack(x: Array) -> Array:
        if pack_size == 1:
            return x
        rows = x.reshape(-1, pack_size, *x.shape[1:])
        return jnp.concatenate([rows[:, i] for i in range(pack_size)], axis=-1)

    def critic_on_both(
        params: Networks, state: Networks, real: Array, fake: Array, label: Array | None
    ) -> tuple[Outputs, Outputs, Any]:
        net, own, kept = critic, params["critic"], state["critic"]
        if joint_batches:
            both = None if label is None else jnp.concatenate([label, label])
            outputs, kept = run(net, own, kept, jnp.concatenate([real, fake]), both)
            real_outputs, fake_outputs = jnp.split(outputs, 2)
        else:
            real_outputs, kept = run(net, own, kept, real, label)
            fake_outputs, kept = run(net, own, kept, fake, label)
        return real_outputs, fake_outputs, kept

    def generate(
        params: Networks, state: Networks, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, Networks]:
        """``factor`` generated rows for each of a batch, packed, and the state after the pass."""
        _, key_latent, _ = jax.random.split(key, 3)
        label = label_of(batch)
        if label is not None:
            label = jnp.tile(label, factor)
        z = draw_latent(key_latent, batch["x"].shape[0] * factor)
        fake, kept = run(generator, params["generator"], state["generator"], z, label)
        return pack(fake), {**state, "generator": kept}

    def real_rows(batch: Batch, key: PRNGKeyArray) -> Array:
        """Rows of the data, packed."""
        key_noise, _, _ = jax.random.split(key, 3)
        return pack(encode(batch["x"], key_noise))

    def slope_penalty(
        params: Networks,
        state: Networks,
        real: Array,
        fake: Array,
        label: Array | None,
        key: PRNGKeyArray,
    ) -> Array:
        def outputs_of(x: Array) -> Array:
            variables = {"params": params["critic"], **state["critic"]}
            return cast(Array, critic.apply(variables, x, label, train=False))

        critic_fn = outputs_of
        if game.witness is not None:
            witness = game.witness
            ends = outputs_of(real), outputs_of(fake)

            def critic_fn(x: Array) -> Array:
                return witness(outputs_of(x), *ends)

        total = jnp.zeros(())
        options: Any = dict(target_norm=penalty_target, one_sided=penalty_one_sided)
        _, _, key_slope = jax.random.split(key, 3)
        key_mix, key_near = jax.random.split(key_slope)
        if "gradient_penalty" in weights:
            mix = jax.random.uniform(key_mix, (real.shape[0],))
            values = losses.gradient_penalty(critic_fn, real, fake, mix, **options)
            total += weights["gradient_penalty"] * jnp.mean(values)
        if "dragan" in weights:
            uniform = jax.random.uniform(key_near, real.shape)
            values = losses.dragan_penalty(critic_fn, real, uniform, **options)
            total += weights["dragan"] * jnp.mean(values)
        if "r1" in weights:
            total += weights["r1"] * jnp.mean(losses.r1_penalty(critic_fn, real))
        if "r2" in weights:
            total += weights["r2"] * jnp.mean(losses.r2_penalty(critic_fn, fake))
        return total

    def critic_loss(
        params: Networks, state: Networks, batch: Batch, fake: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Metrics, Networks]]:
        real, label = real_rows(batch, key), label_of(batch)
        real_outputs, fake_outputs, kept = critic_on_both(params, state, real, fake, label)
        value = jnp.mean(game.critic(real_outputs, fake_outputs))
        metrics = {"real_output": jnp.mean(real_outputs), "fake_output": jnp.mean(fake_outputs)}
        if game.correct is not None:
            metrics["critic_accuracy"] = jnp.mean(game.correct(real_outputs, fake_outputs))
        metrics["diversity"] = _diversity(fake) / jnp.maximum(_diversity(real), 1e-12)
        if weights and penalty_every == 1:
            penalty = slope_penalty(params, state, real, fake, label, key)
            metrics["penalty"] = penalty
            value += penalty
        return value, (metrics, {**state, "critic": kept})

    def penalty_loss(
        params: Networks, state: Networks, batch: Batch, fake: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Metrics, Networks]]:
        value = slope_penalty(params, state, real_rows(batch, key), fake, label_of(batch), key)
        return value, ({"penalty": value}, state)

    def generator_loss(
        params: Networks, state: Networks, batch: Batch, fake: Array, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Metrics, Networks]]:
        label = label_of(batch)
        if label is not None:
            label = jnp.tile(label, generator_batch_factor)
        if takes_real:
            real = real_rows(batch, key)
            real_outputs, fake_outputs, _ = critic_on_both(params, state, real, fake, label)
        else:
            fake_outputs, _ = run(critic, params["critic"], state["critic"], fake, label)
            real_outputs = fake_outputs  # not looked at
        return jnp.mean(game.generator(real_outputs, fake_outputs)), ({}, state)

    project = None
    if clip_limit is not None:
        limit = clip_limit

        def project(own: Networks) -> Networks:
            return cast(Networks, losses.clip_weights(own, limit))

    init, train_step, batches_per_step = adversarial(
        init_networks=init_networks,
        generate=generate,
        critic=Player(
            networks=("critic",),
            loss_fn=critic_loss,
            optimizer=critic_optimizer,
            project=project,
            regularizer_fn=penalty_loss if weights and penalty_every > 1 else None,
            regularize_every=penalty_every,
        ),
        generator=Player(
            networks=("generator",), loss_fn=generator_loss, optimizer=generator_optimizer
        ),
        critic_steps=critic_steps,
        share_fakes=share_fakes,
        generator_factor=generator_batch_factor,
        generator_batch=takes_real and not share_fakes,
        batch_images=batch_size,
        ema_half_life_kimg=ema_half_life_kimg,
        ema_rampup=ema_rampup,
    )

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Mapping[str, Array]:
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        z = draw_latent(key, batch["x"].shape[0])
        return {"samples": decode(cast(Array, generator.apply(variables, z, label_of(batch))))}

    return Family(
        init=init,
        train_step=train_step,
        sample=sample,
        eval_protocol={"parameters": "moving average" if ema_half_life_kimg else "current"},
        batches_per_step=batches_per_step,
        diagnose=diagnose,
    )


def _check_networks(generator: nn.Module, critic: nn.Module) -> bool:
    """Whether the model is conditional; raises if only one network is, or classes differ."""
    classes = [getattr(net, "num_classes", None) for net in (generator, critic)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"generator and critic must agree on num_classes, got {classes[0]} and {classes[1]}"
        )
    return classes[0] is not None


def _diversity(x: Array) -> Array:
    """Mean squared distance between neighbouring rows of a batch."""
    return jnp.mean(jnp.square(x - jnp.roll(x, 1, axis=0)))


def diagnose(metrics: Mapping[str, float]) -> Sequence[str]:
    """Names what looks wrong in the logged means of an adversarial run.

    Args:
        metrics: Means over a window of training steps, by name.

    Returns:
        One line for each suspicion; none if there is none.
    """
    found = []
    diversity = metrics.get("diversity", 1.0)
    if diversity < 0.05:
        found.append(
            f"mode collapse: generated rows differ by {diversity:.1%} of what real rows differ by "
            "(mean square); lower the generator's learning rate or strengthen the penalty"
        )
    accuracy = metrics.get("critic_accuracy", 0.5)
    if accuracy > 0.995:
        found.append(
            f"sure critic: it is right on {accuracy:.1%} of rows, so the generator learns little "
            "from it; lower its learning rate or add a penalty (r1, gradient_penalty)"
        )
    return found


# Aliases: a game by name, with the settings it was published with.


def _fixes(*names: str) -> Callable[[Callable[..., Family]], Callable[..., Family]]:
    """Notes which arguments of :func:`gan` an alias decides itself, for readers of configs."""

    def note(alias: Callable[..., Family]) -> Callable[..., Family]:
        alias.fixes = names  # type: ignore[attr-defined]
        return alias

    return note


@_fixes("loss")
def wgan(*, clip_limit: float = 0.01, critic_steps: int = 5, **kwargs: Any) -> Family:
    """Wasserstein GAN with weight clipping.

    Published with RMSprop at 5e-5 and batches of 64. (The authors also make 100 critic steps in the
    first 25 generator steps and in every 500th; here the number is the same throughout.)

    Args:
        clip_limit: See :func:`gan`.
        critic_steps: The same.
        **kwargs: The same.

    Returns:
        The family.

    References:
        Arjovsky et al., arXiv:1701.07875, algorithm 1.
    """
    return gan(loss="wasserstein", clip_limit=clip_limit, critic_steps=critic_steps, **kwargs)


@_fixes("loss", "penalties")
def wgan_gp(*, penalty_weight: float = 10.0, critic_steps: int = 5, **kwargs: Any) -> Family:
    """Wasserstein GAN with gradient penalty.

    Published with Adam at 2e-4 and decay rates 0 and 0.9, falling linearly to 0.

    Args:
        penalty_weight: Weight of the gradient penalty.
        critic_steps: See :func:`gan`.
        **kwargs: The same.

    Returns:
        The family.

    References:
        Gulrajani et al., arXiv:1704.00028, algorithm 1.
    """
    penalties = {"gradient_penalty": penalty_weight}
    return gan(loss="wasserstein", penalties=penalties, critic_steps=critic_steps, **kwargs)


@_fixes("loss")
def sngan(*, critic: nn.Module, critic_steps: int = 5, **kwargs: Any) -> Family:
    """Hinge loss with a spectrally normalised critic.

    Args:
        critic: Critic with ``spectral_norm``.
        critic_steps: See :func:`gan`.
        **kwargs: The same.

    Returns:
        The family.

    Raises:
        ValueError: If the critic has no spectral normalisation.

    References:
        Miyato et al., arXiv:1802.05957.
    """
    if not getattr(critic, "spectral_norm", False):
        raise ValueError("sngan needs a spectrally normalised critic: set its spectral_norm")
    if getattr(critic, "norm", "none") == "batch":
        raise ValueError(
            "sngan needs a critic without batch normalisation, which undoes the bound on its "
            "slope: set its norm to 'none'"
        )
    return gan(critic=critic, loss="hinge", critic_steps=critic_steps, **kwargs)


@_fixes("loss")
def fgan(
    *,
    divergence: str,
    form: Literal["paper", "ratio"] = "ratio",
    objective: Literal["alternative", "bound"] = "alternative",
    max_log_ratio: float | None = None,
    **kwargs: Any,
) -> Family:
    """f-GAN: the variational bound on an f-divergence.

    Args:
        divergence: A key of :data:`~genjax.losses.f_divergence.F_DIVERGENCES`.
        form: See :func:`~genjax.losses.f_divergence.f_gan_loss`.
        objective: What the generator minimises; ``generator`` there.
        max_log_ratio: See there.
        **kwargs: See :func:`gan`.

    Returns:
        The family.

    References:
        Nowozin et al., arXiv:1606.00709.
    """
    loss = losses.f_gan_loss(
        divergence, form=form, generator=objective, max_log_ratio=max_log_ratio
    )
    return gan(loss=loss, **kwargs)


@_fixes("loss")
def lsgan(
    *, real_code: float = 1.0, fake_code: float = 0.0, target: float = 1.0, **kwargs: Any
) -> Family:
    """Least-squares GAN on linear outputs.

    Args:
        real_code: See :func:`~genjax.losses.adversarial.least_squares_loss`.
        fake_code: The same.
        target: The same.
        **kwargs: See :func:`gan`.

    Returns:
        The family.

    References:
        Mao et al., arXiv:1611.04076.
    """
    loss = losses.least_squares_loss(real_code=real_code, fake_code=fake_code, target=target)
    return gan(loss=loss, **kwargs)


@_fixes("loss")
def hinge_gan(**kwargs: Any) -> Family:
    """GAN with the hinge loss.

    Args:
        **kwargs: See :func:`gan`.

    Returns:
        The family.

    References:
        Lim and Ye, arXiv:1705.02894.
    """
    return gan(loss="hinge", **kwargs)


@_fixes("loss")
def mmd_gan(
    *,
    critic: nn.Module,
    kernel: Literal["rbf", "rational_quadratic"] = "rational_quadratic",
    **kwargs: Any,
) -> Family:
    """MMD GAN: the critic's features are compared by their maximum mean discrepancy.

    Args:
        critic: Critic with ``num_outputs`` features.
        kernel: Mixture of Gaussian kernels (Li et al.) or of rational quadratic ones (Binkowski et
            al.), which were published with a gradient penalty on the witness function.
        **kwargs: See :func:`gan`.

    Returns:
        The family.

    Raises:
        ValueError: If the critic has a single output.

    References:
        Li et al., arXiv:1705.08584; Binkowski et al., arXiv:1801.01401.
    """
    if getattr(critic, "num_outputs", None) is None:
        raise ValueError("mmd_gan needs a critic of several features: set its num_outputs (say 16)")
    chosen = losses.rbf_kernel if kernel == "rbf" else losses.rational_quadratic_kernel
    return gan(critic=critic, loss=losses.mmd_gan_loss(chosen), **kwargs)


@_fixes("loss", "penalties")
def r3gan(*, penalty_weight: float = 1.0, **kwargs: Any) -> Family:
    r"""Relativistic pairing with R1 and R2, on any networks.

    The published runs also use networks and schedules of their own (no normalisation, grouped
    residual blocks, cosine schedules of learning rate, decay rates and penalty).

    Args:
        penalty_weight: :math:`\gamma` of both penalties.
        **kwargs: See :func:`gan`.

    Returns:
        The family.

    References:
        Huang et al., arXiv:2501.05441.
    """
    weights = {"r1": penalty_weight, "r2": penalty_weight}
    return gan(loss="relativistic", penalties=weights, **kwargs)
