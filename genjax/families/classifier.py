"""Classifiers, whose features and decisions serve to evaluate generators, or to guide them."""

import flax.linen as nn
import jax

from genjax.diffusion import Process
from genjax.families.adversaries import Adversary
from genjax.families.base import Family, Optimizer
from genjax.families.classified import OfLatents, OfRows, units_of
from genjax.families.minimizing import minimizing


def classifier(
    *,
    net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    process: Process | None = None,
    adversary: Adversary | None = None,
    eval_num_times: int = 1,
    ema_decay: float = 0.99,
) -> Family:
    r"""Classifier of examples, or of latents of a process, trained on cross-entropy.

    With a process it is trained on latents :math:`z_t = \alpha_t x + \sigma_t \epsilon` at uniform
    stratified times, and told the time: its slope in ``z_t`` guides diffusion models
    (:class:`~genjax.diffusion.ClassifierGuidance`).

    Args:
        net: Module ``x -> (logits, features)``, of grey levels in [-1, 1] or real numbers as they
            are, whose noise and dropout act where an rng ``dropout`` is given, in training; with a
            process
            ``(latents, times) -> (logits, features)``, of latents of about unit size.
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        process: The process of the latents; None for a classifier of clean examples.
        adversary: What moves the rows of each batch before they are trained on, so that the
            classifier withstands such changes; None for training on the rows themselves. Metrics of
            training are then those of the moved rows, evaluation is of clean ones.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation,
            where there is a process.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family. ``eval_step`` gives ``cross_entropy`` in nats and ``error`` (the share of wrong
        decisions); with a process both are means over times, and ``error_t25`` and the like are
        those at single times, in percent of the way from data to noise. There is nothing to sample.

    Raises:
        ValueError: If ``eval_num_times`` is not positive, or there are both a process and an
            adversary.

    References:
        Dhariwal and Nichol, arXiv:2105.05233, section 4.1, for classifiers of latents.
        Madry et al., arXiv:1706.06083, section 2, for training against an adversary.
    """
    if eval_num_times < 1:
        raise ValueError(f"eval_num_times must be at least 1, got {eval_num_times}")
    if process is not None and adversary is not None:
        raise ValueError("an adversary moves clean rows: leave process or adversary out")
    units = units_of(num_levels, process)
    of: OfRows | OfLatents
    if process is None:
        of = OfRows(net, units, event_shape, num_levels, adversary)
    else:
        of = OfLatents(net, units, event_shape, process, eval_num_times)
    init, train_step = minimizing(
        init_model=of.init,
        loss_and_grad=jax.value_and_grad(of.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )
    return Family(
        init=init,
        train_step=train_step,
        eval_step=of.eval_step,
        eval_protocol={"parameters": "moving average", **of.protocol},
        class_logits=of.class_logits if isinstance(of, OfRows) else None,
    )
