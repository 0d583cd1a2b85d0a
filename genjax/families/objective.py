"""What a denoising network estimates, at which times, and how much its error counts."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import mapped_axes, own_key
from genjax.diffusion import (
    Prediction,
    Process,
    independent_times,
    latest,
    stratified_times,
    time_of,
    weightings,
)
from genjax.diffusion import predictions as kinds

Kind = Literal["noise", "data", "v", "velocity", "score", "edm"]
Weight = Literal["simple", "bound", "data", "v", "velocity", "min_snr", "sigmoid", "edm"]
TimeDensity = Literal["uniform", "log_snr", "log_normal", "logit_normal"]
_KINDS: Mapping[str, Prediction] = {
    "noise": kinds.Noise(),
    "data": kinds.Data(),
    "v": kinds.V(),
    "velocity": kinds.Velocity(),
    "score": kinds.Score(),
}
_WEIGHTS: Mapping[str, weightings.Weighting] = {
    "simple": weightings.Simple(),
    "bound": weightings.Bound(),
    "data": weightings.DataError(),
    "v": weightings.VError(),
    "velocity": weightings.VelocityError(),
}
_TIMES = ("uniform", "log_snr", "log_normal", "logit_normal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    r"""The loss of a denoising network: keys of the family.

    Attributes:
        prediction: What the network estimates: ``"noise"``, ``"data"``, ``"v"``, ``"velocity"``,
            ``"score"``, or ``"edm"`` for EDM's preconditioned output, whose input has unit
            variance.
        weighting: How much the noise's squared error counts: 1 (``"simple"``), as in the
            ``"bound"``, as the error of ``"data"``, ``"v"`` or ``"velocity"``, ``"min_snr"``,
            ``"sigmoid"`` or ``"edm"``: see :mod:`genjax.diffusion.weightings`.
        snr_max: Largest signal-to-noise ratio of ``"min_snr"``.
        bias: Log signal-to-noise ratio at which ``"sigmoid"`` halves the bound's weight.
        times: How times are drawn: ``"uniform"``; ``"log_snr"``: uniform in the log ratio of signal
            and noise, so that the weighting ``"simple"`` is the bound's, of less variance than at
            uniform times; ``"log_normal"``: normal :math:`\log(\sigma/\alpha)`;
            ``"logit_normal"``: normal :math:`\log(t/(1 - t))`.
        times_mean: Mean of the two normals; EDM takes -1.2 for data of standard deviation 0.5.
        times_std: Standard deviation of the two normals; EDM takes 1.2.
        time_sampling: ``"stratified"`` over the global batch, or ``"independent"``.
        sigma_data: Standard deviation of the data in the units of the model, of ``"edm"``; that of
            the training split if None.
        label_dropout: Probability with which a row's label is left out in training, for
            classifier-free guidance.

    References:
        Kingma and Gao, arXiv:2303.00848, table 1; Karras et al., arXiv:2206.00364, table 1; Esser
        et al., arXiv:2403.03206, section 3.1, for the logit-normal times.
    """

    prediction: Kind = "noise"
    weighting: Weight = "simple"
    snr_max: float = 5.0
    bias: float = 2.0
    times: TimeDensity = "uniform"
    times_mean: float = 0.0
    times_std: float = 1.0
    time_sampling: Literal["stratified", "independent"] = "stratified"
    sigma_data: float | None = None
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, value, valid in [
            ("prediction", self.prediction, (*_KINDS, "edm")),
            ("weighting", self.weighting, (*_WEIGHTS, "min_snr", "sigmoid", "edm")),
            ("times", self.times, _TIMES),
            ("time_sampling", self.time_sampling, ("stratified", "independent")),
        ]:
            if value not in valid:
                raise ValueError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
        if not self.times_std > 0:
            raise ValueError(f"times_std must be positive, got {self.times_std}")
        if not 0.0 <= self.label_dropout < 1.0:
            raise ValueError(f"label_dropout must be in [0, 1), got {self.label_dropout}")
        self.weight(1.0)

    def kind(self, sigma_data: float) -> Prediction:
        """What the network estimates, of data with this standard deviation."""
        if self.prediction == "edm":
            return kinds.Preconditioned(sigma_data)
        return _KINDS[self.prediction]

    def weight(self, sigma_data: float) -> weightings.Weighting:
        """How much the noise's error counts, of data with this standard deviation."""
        if self.weighting == "min_snr":
            return weightings.MinSNR(self.snr_max)
        if self.weighting == "sigmoid":
            return weightings.Sigmoid(self.bias)
        if self.weighting == "edm":
            return weightings.EDM(sigma_data)
        return _WEIGHTS[self.weighting]

    def draw_times(self, key: PRNGKeyArray, count: int, process: Process) -> Array:
        """The times of a batch, of a step's key that is the same on all devices."""
        if self.time_sampling == "stratified":
            shares = stratified_times(key, count, axis_name=mapped_axes())
        else:
            shares = independent_times(own_key(key), count)
        if self.times == "uniform":
            return process.times_of(shares)
        if self.times == "log_snr":
            ends = jnp.stack([jnp.array(process.earliest), latest(process)])
            first, last = process.scales(ends).lam
            return time_of(process, first + (last - first) * shares, num_halvings=30)
        # The inverse of the normal distribution, of shares that are not at its ends.
        shares = jnp.clip(shares, 1e-6, 1.0 - 1e-6)
        drawn = self.times_mean + self.times_std * jax.scipy.special.ndtri(shares)
        if self.times == "logit_normal":
            return process.times_of(jax.nn.sigmoid(drawn))
        times = time_of(process, -drawn, num_halvings=30)
        return jnp.clip(times, process.earliest, 1.0)
