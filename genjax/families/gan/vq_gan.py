"""Autoencoders of codes that a critic and features judge: VQGAN."""

import dataclasses

import flax.linen as nn

from genjax.families.averages import HalfLife
from genjax.families.base import Family, Optimizer
from genjax.families.code_model import CodeModel
from genjax.families.gan.autoencoder_training import training_of
from genjax.families.gan.coders import CodeCoder
from genjax.families.gan.family import diagnose
from genjax.families.gan.reconstruction_game import Judges, ReconstructionGame
from genjax.families.gan.translation import Side
from genjax.families.laplace_observation import Laplace
from genjax.families.observations import Observation
from genjax.families.quantizers import Quantizer
from genjax.families.vq_vae import code_family


def vq_gan(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    quantizer: Quantizer,
    autoencoder_optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    batch_size: int,
    critic: nn.Module | None = None,
    critic_optimizer: Optimizer | None = None,
    features: nn.Module | None = None,
    observation: Observation = Laplace(),
    judges: Judges = Judges(),
    average: HalfLife = HalfLife(),
) -> Family:
    r"""Autoencoder of codes that a critic judges: the first stage of a model of codes or vectors.

    .. math::
        \sum_i \Big(\frac{|x_i - \hat x_i| + w_{content} d_\phi(x, \hat x)}{e^s} + s\Big)
            + \beta \sum_j |z_j - \mathrm{sg}(e_j)|^2 + w_{critic} \lambda L_{gan}(\hat x)

    All is as in :func:`~genjax.families.kl_autoencoder` but what latents cost: the quantizer's
    ``commitment`` :math:`\beta` holds vectors to codes, and the codebook follows them by running
    means. (The published code has no scale, means in place of sums, and by default its
    :math:`\beta` before the term that moves codes, not before this one.) Without critic and
    features this is a :func:`~genjax.families.vq_vae`, and all it says of rows is the same.

    Args:
        encoder: Module ``x -> features [B, *places, F]`` of rows in [-1, 1] or real numbers.
        decoder: Module ``vectors [B, *places, D] -> features`` of each place of the example.
        quantizer: Vectors to codes and back.
        autoencoder_optimizer: Optimiser of encoder and decoder together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        batch_size: Examples in a batch.
        critic: Module ``(rows, train=...) -> [B]``, or ``[B, H, W]`` of patches; None for none.
        critic_optimizer: Optimiser of the critic.
        features: Module ``x -> (logits, features)`` of rows in [-1, 1], without parameters: a
            frozen classifier. None for none.
        observation: The distribution of data at each place.
        judges: How critic and features take part.
        average: Moving average of encoder and decoder.

    Returns:
        The family. As a first stage it gives codes, or the vectors before they are quantised
        (``data.first_stage.latents="vectors"``), which its decoder quantises.

    Raises:
        ValueError: If arguments are out of range, or do not fit each other or the data.

    References:
        Esser et al., Taming Transformers for High-Resolution Image Synthesis, arXiv:2012.09841;
        vectors: Rombach et al., arXiv:2112.10752, section 3.1.
    """
    observation.check(num_levels)
    model = CodeModel(
        encoder=encoder,
        decoder=decoder,
        quantizer=quantizer,
        observation=observation,
        event_shape=event_shape,
        num_levels=num_levels,
    )
    game = ReconstructionGame(
        coder=CodeCoder(model=model),
        judges=judges,
        side=Side(event_shape, num_levels),
        critic=critic,
        content=judges.content(features),
    )
    init, train_step = training_of(
        game,
        autoencoder_optimizer=autoencoder_optimizer,
        critic_optimizer=critic_optimizer,
        batch_size=batch_size,
        average=average,
    )
    family = code_family(model, init, train_step, averaged=average.ema_half_life_kimg > 0)
    return dataclasses.replace(family, diagnose=None if critic is None else diagnose)
