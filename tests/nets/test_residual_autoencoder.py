"""The encoder and decoder of latent diffusion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets

SMALL = dict(channels=8, multipliers=(1, 2), num_blocks=1, attention_sizes=(4,), num_groups=4)
IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_features_of_a_grid_and_of_its_pixels(dtype):
    encoder, decoder = (
        make(**SMALL, dtype=dtype) for make in (nets.ResidualEncoder, nets.ResidualDecoder)
    )
    features, variables = encoder.init_with_output(jax.random.key(0), IMAGES)
    assert features.shape == (2, 4, 4, 16) and features.dtype == jnp.dtype(dtype)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    pixels, _ = decoder.init_with_output(jax.random.key(1), jnp.ones((2, 4, 4, 5)))
    assert pixels.shape == (2, 8, 8, 8) and pixels.dtype == jnp.dtype(dtype)


def test_recomputing_changes_no_gradient():
    params = nets.ResidualEncoder(**SMALL).init(jax.random.key(0), IMAGES)

    def moved(leaf):  # residual branches start at zero, where most gradients are
        return leaf + 0.1 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))

    params = jax.tree.map(moved, params)
    kept, again = (
        jax.grad(lambda p, net: jnp.sum(net.apply(p, IMAGES) ** 2))(
            params, nets.ResidualEncoder(**SMALL, remat=remat)
        )
        for remat in ("none", "full")
    )
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        assert float(jnp.abs(a).max()) > 0
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * float(jnp.abs(a).max()))


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="images of 6x8 cannot be halved 2 times: give fewer"):
        nets.ResidualEncoder(channels=4, multipliers=(1, 1, 1)).init(
            jax.random.key(0), IMAGES[:, :6]
        )
