"""What the network of a chain estimates, which variance its steps have, and how it is trained."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import mapped_axes, own_key
from genjax.diffusion import (
    ChainSteps,
    Data,
    Estimate,
    Noise,
    Prediction,
    V,
    independent_times,
    stratified_times,
)
from genjax.diffusion.chain_steps import FirstVariance
from genjax.diffusion.samplers.chain import VarianceKind
from genjax.losses.arrays import per_row

_KINDS: dict[str, Prediction] = {"noise": Noise(), "data": Data(), "v": V()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainObjective:
    r"""The loss of a chain of Gaussian steps: keys of the family.

    Attributes:
        prediction: What the network estimates: ``"noise"``, ``"data"``, ``"v"``, or ``"mean"``: the
            mean of the posterior of the latent one step earlier.
        loss: ``"simple"``: the squared error of what is estimated, each step alike; ``"bound"``:
            the variational bound, from one step drawn for each example; ``"hybrid"``: the squared
            error and ``bound_weight`` times the bound in bits per dimension, of which the variance
            alone learns: the mean is held constant in it.
        bound_weight: Weight of the bound in ``"hybrid"``.
        variance: Variance of the model's steps: ``"fixed_small"``, that of the posterior,
            :math:`\tilde\beta`; ``"fixed_large"``, that of the forward step, :math:`\beta`;
            ``"learned"``, between the two in the log domain, for which the network has twice the
            channels (``model.out_channels``).
        first_variance: Variance of the step to data, where the posterior has none:
            ``"published"``: :math:`\tilde\beta_2`, for both fixed variances and as the lower end
            of a learned one, as in published code; ``"beta"``: :math:`\beta_1`.
        label_dropout: Probability with which a row's label is left out in training, for
            classifier-free guidance.
        time_sampling: How steps are drawn: ``"stratified"`` over the global batch, or
            ``"independent"``.
        clip_data: Whether estimates of data are clipped to [-1, 1] in evaluation by the bound and
            by the family's own sampler, not in training; other samplers have a ``threshold``. None
            for what published code does: of grey levels they are; real-valued data has no interval.

    References:
        Ho et al., arXiv:2006.11239, section 3; Nichol and Dhariwal, arXiv:2102.09672, section 3.1.
    """

    prediction: Literal["noise", "mean", "data", "v"] = "noise"
    loss: Literal["simple", "bound", "hybrid"] = "simple"
    bound_weight: float = 0.001
    variance: VarianceKind = "fixed_large"
    first_variance: FirstVariance = "published"
    label_dropout: float = 0.0
    time_sampling: Literal["stratified", "independent"] = "stratified"
    clip_data: bool | None = None

    def __post_init__(self) -> None:
        for name, value, valid in [
            ("prediction", self.prediction, (*_KINDS, "mean")),
            ("loss", self.loss, ("simple", "bound", "hybrid")),
            ("variance", self.variance, ("fixed_small", "fixed_large", "learned")),
            ("first_variance", self.first_variance, ("published", "beta")),
            ("time_sampling", self.time_sampling, ("stratified", "independent")),
        ]:
            if value not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
        if not self.bound_weight > 0:
            raise ValueError(f"bound_weight must be positive, got {self.bound_weight}")
        if self.learned and self.loss == "simple":
            raise ValueError(
                "variance 'learned' is not in loss 'simple', which is of the estimate alone: use "
                "loss 'hybrid' (or 'bound')"
            )
        if self.learned and self.first_variance != "published":
            raise ValueError(
                f"first_variance {self.first_variance!r} is for the fixed variances: a learned one "
                "lies between both; leave it out"
            )
        if not self.learned and self.loss == "hybrid":
            raise ValueError(
                f"loss 'hybrid' trains the variance by the bound, and {self.variance!r} has "
                "nothing to train: use loss 'simple', or variance 'learned'"
            )

    @property
    def learned(self) -> bool:
        """Whether the variance is learned."""
        return self.variance == "learned"

    def check_output(self, shape: tuple[int, ...], event_shape: tuple[int, ...]) -> None:
        """Refuses networks whose output is not what this asks for.

        Args:
            shape: Shape of the network's output for one latent.
            event_shape: Shape of the latent.

        Raises:
            ValueError: If it does not hold the estimate and, if learned, the variance.
        """
        channels = event_shape[-1] * (2 if self.learned else 1)
        fix = "leave model.out_channels out"
        if self.learned:
            fix = f"variance 'learned' needs model.out_channels={channels}, half for the variance"
        if shape != (*event_shape[:-1], channels):
            raise ValueError(
                f"the network must give {(*event_shape[:-1], channels)} for a latent "
                f"{event_shape}, got {shape}: {fix}"
            )

    def draw_steps(self, key: PRNGKeyArray, count: int, num_timesteps: int) -> Array:
        """Numbers of steps from 0 on, of a step's key that is the same on all devices."""
        if self.time_sampling == "stratified":
            shares = stratified_times(key, count, axis_name=mapped_axes())
        else:
            shares = independent_times(own_key(key), count)
        return step_of(shares, num_timesteps)

    def kind(self, steps: ChainSteps, like: Array) -> Prediction:
        """What the network estimates at the steps of rows ``[B, *event]``."""
        if self.prediction != "mean":
            return _KINDS[self.prediction]
        return PosteriorMean(per_row(steps.of_latent, like), per_row(steps.of_data, like))


def step_of(shares: Array, num_steps: int) -> Array:
    """Which of so many equal parts of [0, 1) shares are in, from 0 on."""
    # Rounding may bring a share to 1.
    return jnp.minimum(jnp.floor(shares * num_steps).astype(jnp.int32), num_steps - 1)


@dataclasses.dataclass(frozen=True)
class PosteriorMean:
    """The mean of the posterior of an earlier latent.

    Attributes:
        of_latent: Coefficient of the latent in it; broadcasts against rows.
        of_data: Coefficient of the data.
    """

    of_latent: Array
    of_data: Array

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """The mean given the data."""
        return self.of_latent * (alpha * x + sigma * noise) + self.of_data * x

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """The data that has this mean, and the noise that is then left."""
        return Data().estimate((out - self.of_latent * z) / self.of_data, z, alpha, sigma)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The data's error is that of the mean over the square of its coefficient."""
        return Data().log_noise_error(alpha, sigma) - 2.0 * jnp.log(self.of_data)
