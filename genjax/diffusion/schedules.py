r"""Noise schedules :math:`\gamma(t) = -\log \mathrm{SNR}(t)`, increasing on [0, 1].

A schedule is a Linen module that maps times to gamma. Its parameters named ``gamma_0`` and
``gamma_1`` are its endpoints; a submodule named ``shape`` holds what bends the curve between them.
The continuous-time bound depends on the endpoints only, so the shape is free to lower the variance
of the bound's estimate instead (arXiv:2107.00630, sections 5.1 and I.2).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The endpoints of google-research/vdm: at gamma_0 the noise is a sixth of the distance between
# 8-bit grey levels, at gamma_1 less than 1 % of the variance is signal.
GAMMA_0 = -13.3
GAMMA_1 = 5.0


def _check_endpoints(gamma_0: float, gamma_1: float) -> None:
    if not gamma_0 < gamma_1:
        raise ValueError(f"gamma_0 must be below gamma_1, got {gamma_0} and {gamma_1}")


def gamma_and_slope(
    schedule_fn: Callable[[Array], Array], times: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    r"""Gamma and its exact derivative :math:`d\gamma/dt` at each time.

    Args:
        schedule_fn: Elementwise map from times to gamma.
        times: Times in [0, 1], of any shape.

    Returns:
        ``gamma_t`` and ``gamma_slope_t``, of the shape of ``times``.

    Example:
        >>> gamma_and_slope(lambda t: 18.0 * t - 13.0, jnp.array([0.5]))
        (Array([-4.], dtype=float32), Array([18.], dtype=float32))
    """
    # Each output depends on its own time alone, so that one product with ones gives all
    # derivatives.
    return jax.jvp(schedule_fn, (times,), (jnp.ones_like(times),))


class FixedLinearSchedule(nn.Module):
    r"""Straight line from ``gamma_0`` to ``gamma_1``; nothing to learn.

    Attributes:
        gamma_0: Negative log signal-to-noise ratio at t = 0.
        gamma_1: Negative log signal-to-noise ratio at t = 1, above ``gamma_0``.

    References:
        Kingma et al., arXiv:2107.00630, section 5 (the fixed baseline).
    """

    gamma_0: float = GAMMA_0
    gamma_1: float = GAMMA_1

    @nn.compact
    def __call__(self, times: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Maps times in [0, 1] to gamma."""
        _check_endpoints(self.gamma_0, self.gamma_1)
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * times


class LearnedLinearSchedule(nn.Module):
    r"""Straight line with both endpoints learned on the bound.

    Attributes:
        gamma_0: Initial negative log signal-to-noise ratio at t = 0.
        gamma_1: Initial negative log signal-to-noise ratio at t = 1, above ``gamma_0``.

    References:
        Kingma et al., arXiv:2107.00630, section 5; google-research/vdm calls it
        ``learnable_scalar`` and writes it as an offset and a slope.
    """

    gamma_0: float = GAMMA_0
    gamma_1: float = GAMMA_1

    @nn.compact
    def __call__(self, times: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Maps times in [0, 1] to gamma."""
        _check_endpoints(self.gamma_0, self.gamma_1)
        gamma_0 = self.param("gamma_0", nn.initializers.constant(self.gamma_0), ())
        gamma_1 = self.param("gamma_1", nn.initializers.constant(self.gamma_1), ())
        return gamma_0 + (gamma_1 - gamma_0) * times


class MonotoneCurve(nn.Module):
    r"""Increasing curve from (0, 0) to (1, 1): a straight line plus sigmoids, all weights positive.

    :math:`\tilde s(t) = |w_1| t + \frac1K \sum_j |v_j|\, \mathrm{sigmoid}(|w_j| (2t - 1) + b_j)`,
    then :math:`s(t) = (\tilde s(t) - \tilde s(0)) / (\tilde s(1) - \tilde s(0))`.

    The paper feeds the sigmoids :math:`l_1(t)` instead of :math:`2t - 1`. Both are increasing
    affine functions of t, which the next layer absorbs, so the two families of curves are the same.

    Attributes:
        num_features: Number of sigmoids.
    """

    num_features: int = 1024

    @nn.compact
    def __call__(self, times: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Maps times in [0, 1] to heights in [0, 1]."""
        if self.num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {self.num_features}")
        linear = self.param("linear", nn.initializers.ones, ())
        steepness = self.param("steepness", nn.initializers.normal(1.0), (self.num_features,))
        offset = self.param("offset", nn.initializers.normal(1.0), (self.num_features,))
        height = self.param("height", nn.initializers.normal(0.01), (self.num_features,))

        # Weights enter by their absolute values: they are positive whatever the optimiser does, and
        # the curve increases.
        def curve(t: Array) -> Array:
            features = jax.nn.sigmoid(jnp.abs(steepness) * (2.0 * t[..., None] - 1.0) + offset)
            return jnp.abs(linear) * t + jnp.mean(jnp.abs(height) * features, axis=-1)

        # Scaled to go through (0, 0) and (1, 1), so that the endpoints are no matter of the shape.
        low, high = curve(jnp.zeros(())), curve(jnp.ones(()))
        return (curve(times) - low) / (high - low)


class LearnedMonotoneSchedule(nn.Module):
    r"""Monotone network between two learned endpoints.

    :math:`\gamma(t) = \gamma_0 + (\gamma_1 - \gamma_0)\, s(t)` with :math:`s(0) = 0` and
    :math:`s(1) = 1` whatever the parameters of the network. ``gamma_0`` and ``gamma_1`` follow the
    bound, the parameters under ``shape`` the variance of its estimate.

    Attributes:
        gamma_0: Initial negative log signal-to-noise ratio at t = 0.
        gamma_1: Initial negative log signal-to-noise ratio at t = 1, above ``gamma_0``.
        num_features: Hidden units of the network; 1024 in the paper.

    References:
        Kingma et al., arXiv:2107.00630, appendices H and I.2.
    """

    gamma_0: float = GAMMA_0
    gamma_1: float = GAMMA_1
    num_features: int = 1024

    @nn.compact
    def __call__(self, times: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Maps times in [0, 1] to gamma."""
        _check_endpoints(self.gamma_0, self.gamma_1)
        gamma_0 = self.param("gamma_0", nn.initializers.constant(self.gamma_0), ())
        gamma_1 = self.param("gamma_1", nn.initializers.constant(self.gamma_1), ())
        height = MonotoneCurve(self.num_features, name="shape")(times)
        return gamma_0 + (gamma_1 - gamma_0) * height
