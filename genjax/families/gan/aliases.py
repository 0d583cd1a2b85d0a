"""Games by name, with the settings they were published with."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn

from genjax import losses
from genjax.families.base import Family
from genjax.families.gan.family import gan
from genjax.families.gan.slope_control import SlopeControl


def wgan(
    *,
    clip_limit: float = 0.01,
    critic_steps: int = 5,
    slope_control: SlopeControl = SlopeControl(),
    **kwargs: Any,
) -> Family:
    """Wasserstein GAN with weight clipping.

    Published with RMSprop at 5e-5 and batches of 64. (The authors also make 100 critic steps in the
    first 25 generator steps and in every 500th; here the number is the same throughout.)

    Args:
        clip_limit: Largest absolute value of the critic's parameters.
        critic_steps: Steps of the critic for each of the generator.
        slope_control: Penalties besides the clipping.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Arjovsky et al., arXiv:1701.07875, algorithm 1.
    """
    clipped = dataclasses.replace(slope_control, clip_limit=clip_limit)
    return gan(loss="wasserstein", slope_control=clipped, critic_steps=critic_steps, **kwargs)


def wgan_gp(
    *,
    penalty_weight: float = 10.0,
    critic_steps: int = 5,
    slope_control: SlopeControl = SlopeControl(),
    **kwargs: Any,
) -> Family:
    """Wasserstein GAN with gradient penalty.

    Published with Adam at 2e-4 and decay rates 0 and 0.9, falling linearly to 0.

    Args:
        penalty_weight: Weight of the gradient penalty.
        critic_steps: Steps of the critic for each of the generator.
        slope_control: How often the penalty acts, and the norm it pulls to.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Gulrajani et al., arXiv:1704.00028, algorithm 1.
    """
    penalized = dataclasses.replace(slope_control, penalties={"gradient_penalty": penalty_weight})
    return gan(loss="wasserstein", slope_control=penalized, critic_steps=critic_steps, **kwargs)


def sngan(*, critic: nn.Module, critic_steps: int = 5, **kwargs: Any) -> Family:
    """Hinge loss with a spectrally normalised critic.

    Args:
        critic: Critic with ``spectral_norm``.
        critic_steps: Steps of the critic for each of the generator.
        **kwargs: Further arguments of :func:`gan`.

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
        form: Whether the critic's outputs pass through the paper's activation, or are log density
            ratios: see :func:`~genjax.losses.f_divergence.f_gan_loss`.
        objective: What the generator minimises; ``generator`` there.
        max_log_ratio: Limit that outputs in ratio form approach smoothly; None for no limit.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Nowozin et al., arXiv:1606.00709.
    """
    loss = losses.f_gan_loss(
        divergence, form=form, generator=objective, max_log_ratio=max_log_ratio
    )
    return gan(loss=loss, **kwargs)


def lsgan(
    *, real_code: float = 1.0, fake_code: float = 0.0, target: float = 1.0, **kwargs: Any
) -> Family:
    """Least-squares GAN on linear outputs.

    Args:
        real_code: What the critic should say of real rows: ``b`` of
            :func:`~genjax.losses.adversarial.least_squares_loss`.
        fake_code: What it should say of generated rows, ``a`` there.
        target: What the generator wants it to say of its rows, ``c`` there.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Mao et al., arXiv:1611.04076.
    """
    loss = losses.least_squares_loss(real_code=real_code, fake_code=fake_code, target=target)
    return gan(loss=loss, **kwargs)


def hinge_gan(**kwargs: Any) -> Family:
    """GAN with the hinge loss.

    Args:
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Lim and Ye, arXiv:1705.02894.
    """
    return gan(loss="hinge", **kwargs)


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
        **kwargs: Further arguments of :func:`gan`.

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


def r3gan(
    *,
    penalty_weight: float = 1.0,
    slope_control: SlopeControl = SlopeControl(),
    **kwargs: Any,
) -> Family:
    r"""Relativistic pairing with R1 and R2, on any networks.

    The published runs also use networks and schedules of their own (no normalisation, grouped
    residual blocks, cosine schedules of learning rate, decay rates and penalty).

    Args:
        penalty_weight: :math:`\gamma` of both penalties.
        slope_control: How often they act.
        **kwargs: Further arguments of :func:`gan`.

    Returns:
        The family.

    References:
        Huang et al., arXiv:2501.05441.
    """
    weights = {"r1": penalty_weight, "r2": penalty_weight}
    penalized = dataclasses.replace(slope_control, penalties=weights)
    return gan(loss="relativistic", slope_control=penalized, **kwargs)
