import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets import DiT
from genjax.nets.dit import Block, grid_positions

SMALL = dict(hidden_size=16, num_layers=2, num_heads=2)


def noisy(params):
    """Parameters with every zero-initialised layer switched on."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noise)


def inputs(batch=3, shape=(8, 6, 2)):
    z_t = jax.random.normal(jax.random.key(0), (batch, *shape))
    return z_t, jnp.linspace(-13.3, 5.0, batch)


@pytest.fixture(scope="module")
def params():
    return noisy(jax.jit(DiT(**SMALL).init)(jax.random.key(1), *inputs()))


@pytest.mark.parametrize(
    "fields, channels", [({}, 2), (dict(add_input=True), 2), (dict(out_channels=4), 4)]
)
def test_initial_network_predicts_zero_or_its_input(fields, channels):
    z_t, gamma_t = inputs()
    net = DiT(**SMALL, **fields, dtype="bfloat16", fourier_exponents=(0, 1))
    out, _ = jax.jit(net.init_with_output)(jax.random.key(1), z_t, gamma_t)
    assert out.dtype == jnp.float32
    expected = z_t if "add_input" in fields else jnp.zeros((*z_t.shape[:-1], channels))
    np.testing.assert_array_equal(out, expected)


def test_initial_block_is_the_identity():
    x, condition, context = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate(((2, 5, 8), (2, 8), (2, 3, 4)))
    )
    (y, _), _ = Block(2, 4.0, jnp.float32).init_with_output(
        jax.random.key(3), x, condition, context
    )
    np.testing.assert_array_equal(y, x)


# Table 1 of arXiv:2212.09748: layers, width and heads; its table 4: parameters in millions. The
# official networks predict noise and variance of 4-channel latents of 32x32 and know 1,000 classes.
@pytest.mark.parametrize(
    "num_layers, hidden_size, num_heads, millions",
    [(12, 384, 6, 33), (12, 768, 12, 130), (24, 1024, 16, 458), (28, 1152, 16, 675)],
)
def test_published_networks_have_their_published_sizes(
    num_layers, hidden_size, num_heads, millions
):
    net = DiT(
        patch_size=2, hidden_size=hidden_size, num_layers=num_layers, num_heads=num_heads,
        out_channels=8, num_classes=1000, scan_layers=True,
    )  # fmt: skip
    args = jnp.zeros((1, 32, 32, 4)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *args)
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6) == millions


def test_tokens_are_patches_and_outputs_return_to_their_places(params):
    z_t, gamma_t = inputs(1)
    # Blocks that change nothing leave each patch to itself.
    alone = jax.tree.map(lambda leaf: leaf, params)
    for i in range(2):
        layer = alone["params"][f"block_{i}"]["modulation"]
        alone["params"][f"block_{i}"]["modulation"] = jax.tree.map(jnp.zeros_like, layer)

    @jax.jit
    def slope_at(params):
        return jax.grad(lambda z: DiT(**SMALL).apply(params, z, gamma_t)[0, 5, 2, 1])(z_t)[0]

    slope = slope_at(alone)
    touched = jnp.any(slope != 0, axis=-1)
    np.testing.assert_array_equal(jnp.argwhere(touched), [[4, 2], [4, 3], [5, 2], [5, 3]])
    slope = slope_at(params)
    assert (slope != 0).all()


def test_positions_are_told_from_each_other():
    positions = grid_positions(3, 5, 8)
    assert positions.shape == (15, 8)
    gaps = jnp.abs(positions[:, None] - positions).max(axis=-1) + jnp.eye(15)
    assert float(gaps.min()) > 0.01
    # Column 4 of row 1: sines and cosines at the rates 1 and 1/100.
    angles = np.array([4.0, 0.04]), np.array([1.0, 0.01])
    expected = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)])
    np.testing.assert_allclose(positions[9], expected, rtol=1e-5)


@pytest.mark.slow
def test_rows_do_not_see_each_other(params):
    z_t, gamma_t = inputs()
    alone = DiT(**SMALL).apply(params, z_t[:1], gamma_t[:1])
    together = DiT(**SMALL).apply(params, z_t, gamma_t)[:1]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_gamma_label_and_context_all_matter(strict):
    z_t, gamma_t = inputs()
    net = DiT(**SMALL, num_classes=3, context_size=5)
    label, context = jnp.arange(3), jax.random.normal(jax.random.key(2), (3, 4, 5))
    params = noisy(jax.jit(net.init)(jax.random.key(1), z_t, gamma_t, label, context))
    apply = jax.jit(net.apply)
    base = apply(params, z_t, gamma_t, label, context)
    for other in (
        apply(params, z_t, gamma_t + 1.0, label, context),
        apply(params, z_t, gamma_t, label[::-1], context),
        apply(params, z_t, gamma_t, label, context + 1.0),
    ):
        assert float(jnp.abs(other - base).max()) > 1e-3
    # Tokens have no order, and may be more than there were.
    again = apply(params, z_t, gamma_t, label, jnp.tile(context[:, ::-1], (1, 2, 1)))
    np.testing.assert_allclose(again, base, rtol=1e-3, atol=1e-4)


def test_bfloat16_trunk_returns_float32_close_to_float32(params):
    z_t, gamma_t = inputs()
    exact = DiT(**SMALL).apply(params, z_t, gamma_t)
    rough = DiT(**SMALL, dtype="bfloat16").apply(params, z_t, gamma_t)
    assert rough.dtype == jnp.float32
    error = jnp.abs(rough - exact).max() / jnp.abs(exact).max()
    assert 0 < float(error) < 0.05


def stacked(params):
    """The parameters of a scanned network from those of an unrolled one."""
    tree = dict(params["params"])
    blocks = [tree.pop(f"block_{i}") for i in range(2)]
    return {"params": {**tree, "blocks": jax.tree.map(lambda *p: jnp.stack(p), *blocks)}}


def loss_and_grads(net, params):
    def loss(params):
        return jnp.sum(jnp.sin(net.apply(params, *inputs())))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope="module")
def plain(params):
    """The loss of the network without scan and remat, and its gradients."""
    return loss_and_grads(DiT(**SMALL), params)


@pytest.mark.parametrize(
    "scan, remat",
    [(False, "dots"), (False, "full"), (True, "none"), (True, "dots"), (True, "full")],
)
@pytest.mark.slow
def test_scan_and_remat_change_nothing(params, plain, scan, remat):
    value, grads = plain
    expected = value, stacked(grads) if scan else grads
    net = DiT(**SMALL, scan_layers=scan, remat=remat)
    found = loss_and_grads(net, stacked(params) if scan else params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_scanned_network_initialises_each_layer_differently():
    net = DiT(**SMALL, scan_layers=True)
    kernel = jax.jit(net.init)(jax.random.key(1), *inputs())["params"]["blocks"]["mlp_in"]["kernel"]
    assert kernel.shape == (2, 16, 64)
    assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 0.01


@pytest.mark.parametrize(
    "fields, args, message",
    [
        (dict(patch_size=4), (), r"patch_size \(4\) must divide .* \(8x6\)"),
        (dict(num_heads=3), (), r"num_heads \(3\) must divide hidden_size \(16\)"),
        (dict(hidden_size=18), (), "multiple of 4 features of a position, got 18"),
        (dict(num_layers=0), (), "num_layers must be at least 1, got 0"),
        (dict(mlp_ratio=0.0), (), "mlp_ratio must be above 0, got 0.0"),
        (dict(num_classes=2), (), "label is missing"),
        ({}, (jnp.zeros(3, jnp.int32),), "label is given"),
        (dict(context_size=2), (), "context is missing"),
        ({}, (None, jnp.zeros((3, 1, 2))), "context is given"),
        (dict(context_size=2), (None, jnp.zeros((3, 1, 4))), r"expected context \[B, T, 2\]"),
        (dict(add_input=True, out_channels=4), (), "z_t of 2 channels .* out_channels 4"),
        (dict(gamma_min=5.0), (), "gamma_min must be below gamma_max"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_raises(fields, args, message):
    net = DiT(**{**SMALL, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, jax.random.key(0), *inputs(), *args)
