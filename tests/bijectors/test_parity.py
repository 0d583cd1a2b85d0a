"""Splines against nflows, where it is installed (`pip install nflows torch`)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import bijectors as bij


@pytest.mark.parametrize("inverse", [False, True])
def test_spline_agrees_with_nflows(x64, inverse):
    torch = pytest.importorskip("torch", reason="the parity test needs nflows and torch")
    module = pytest.importorskip(
        "nflows.transforms.splines.rational_quadratic",
        reason="the parity test needs nflows and torch",
    )
    num_bins, bound, floor = 8, 3.0, 1e-3
    raw = jax.random.normal(jax.random.key(0), (200, 3 * num_bins - 1), jnp.float64)
    x = jnp.linspace(-4.0, 4.0, 200)
    spline = bij.rational_quadratic_spline(
        num_bins=num_bins, bound=bound, min_bin=floor, min_slope=floor
    )
    y, log_slope = (spline.inverse if inverse else spline.forward)(x, raw)
    parts = np.array(raw)
    # nflows' raw slopes have no offset that makes zeros the identity.
    slopes = parts[:, 2 * num_bins :] + math.log(math.expm1(1.0 - floor))
    theirs, their_log_slope = module.unconstrained_rational_quadratic_spline(
        torch.tensor(np.array(x)),
        torch.tensor(parts[:, :num_bins]),
        torch.tensor(parts[:, num_bins : 2 * num_bins]),
        torch.tensor(slopes),
        inverse=inverse,
        tail_bound=bound,
        min_bin_width=floor,
        min_bin_height=floor,
        min_derivative=floor,
    )
    np.testing.assert_allclose(y, theirs.numpy(), atol=1e-9)
    np.testing.assert_allclose(log_slope, their_log_slope.numpy(), atol=1e-8)
