"""Denoising diffusion probabilistic models: the discrete chain and its bound, to the letter."""

import flax.linen as nn
import jax

from genjax.diffusion import Chain, ChainSampler
from genjax.families.averages import Average
from genjax.families.base import Family, Optimizer, Params
from genjax.families.chain_objective import ChainObjective
from genjax.families.denoising import denoising_family
from genjax.families.denoising_answers import Likelihood
from genjax.families.gaussian_chain import GaussianChain
from genjax.families.minimizing import minimizing
from genjax.families.sampling import Sampling, Trajectory
from genjax.families.told import Told


def ddpm(
    *,
    net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    process: Chain = Chain(),
    objective: ChainObjective = ChainObjective(),
    scored: Likelihood = Likelihood(),
    average: Average = Average(),
    accumulate_steps: int = 1,
    eval_num_times: int = 1,
    sampling: Sampling = Sampling(),
    trajectory: Trajectory = Trajectory(),
) -> Family:
    r"""Denoising diffusion probabilistic model.

    A chain of T Gaussian steps takes data to noise, and a network gives the mean, and if asked for
    the variance, of Gaussian steps back. Their bound is :math:`L_T + \sum_t L_{t-1} + L_0`:
    ``prior``, ``diffusion`` and ``reconstruction``. Grey levels go from -1 to 1, and
    :math:`L_0` is the probability of their bins under the last Gaussian; of real-valued data it is
    its density.

    Samples are drawn by the steps of the model itself, or by those of them that
    ``sample.num_steps`` keeps; any other sampler takes the chain as a process in continuous time,
    as the probability flow does (``likelihood="ode"``).

    Args:
        net: Module ``(z_t, t, label, deterministic=...) -> output``, of times in (0, 1]. For a
            learned variance its last axis is twice as long.
        optimizer: Optimiser of the network.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        process: The chain, of any length and any variances.
        objective: What the network estimates, the variances and the loss.
        scored: How rows are scored: by the bound, by the probability flow, or both.
        average: The moving average of the parameters, which evaluation and sampling read.
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_times: Steps, each with its own noise, for each example in evaluation: from T on
            every step is asked exactly once, as published numbers are computed. Fewer are
            stratified over the steps but that to data, which is asked besides.
        sampling: How samples are drawn; by the model's own steps if it names no sampler.
        trajectory: What is kept of the way to samples.

    Returns:
        The family. ``error`` is the squared error of what the network estimates, a mean over
        entries; ``bits_per_dim`` the bound, in training from one step for each example.

    Raises:
        ValueError: If an argument is out of range, or does not fit another.

    References:
        Ho et al., Denoising Diffusion Probabilistic Models, arXiv:2006.11239; Nichol and Dhariwal,
        Improved Denoising Diffusion Probabilistic Models, arXiv:2102.09672.
    """
    if not isinstance(process, Chain):
        raise ValueError(
            f"process must be a chain of steps, got {type(process).__name__}: use process "
            "dict(name='chain'), or the family 'diffusion', which takes any"
        )
    count = process.num_timesteps
    if sampling.sampler is None and sampling.num_steps > count:
        raise ValueError(
            f"sample.num_steps is {sampling.num_steps}, but the chain has {count} steps: set it to "
            f"{count} or fewer"
        )
    model = GaussianChain(
        net=net,
        process=process,
        objective=objective,
        event_shape=event_shape,
        num_levels=num_levels,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=average.decay,
        accumulate_steps=accumulate_steps,
    )

    def sampler(params: Params, told: Told) -> ChainSampler:
        return model.sampler(params, told, guided=sampling.guidance is not None)

    asked = f"{count} steps, each once"
    if eval_num_times < count:
        asked = f"{count} steps, for which {eval_num_times} and that to data are asked"
    return denoising_family(
        model,
        init=init,
        train_step=train_step,
        scored=scored,
        sampling=sampling,
        trajectory=trajectory,
        default=sampler,
        bound=f"{asked}; {objective.variance} variance"
        + (", estimates clipped to [-1, 1]" if model.clips else ""),
        end=f"step 1 of {count}",
        eval_num_times=min(eval_num_times, count),
        densities=("loss",) if objective.loss == "bound" else (),
    )
