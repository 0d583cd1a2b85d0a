import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import losses

LN2 = math.log(2.0)


def uniform_levels_reconstruction(gamma_0: float, interior: bool) -> float:
    """Expected reconstruction loss in bits of one pixel, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    levels = np.arange(16, 240) if interior else np.arange(256)
    noise = np.broadcast_to(nodes, (len(levels), len(nodes)))
    levels = np.broadcast_to(levels[:, None], noise.shape)
    x = losses.grey_levels(jnp.asarray(levels), 256).astype(jnp.float64)
    z = x + math.exp(0.5 * gamma_0) * noise
    nats = losses.reconstruction_loss(
        jnp.asarray(levels.reshape(-1, 1)), z.reshape(-1, 1), jnp.asarray(gamma_0)
    )
    nats = np.asarray(nats).reshape(noise.shape)
    return float((nats @ (weights / weights.sum())).mean() / LN2)


def test_reconstruction_at_official_gamma_0_is_0_0104_bits(x64):
    # Published as 0.0104 and, for interior levels, 0.01043; to six digits by an independent
    # evaluation of the same integral: 0.010453 interior, 0.010412 over uniform levels.
    assert uniform_levels_reconstruction(-13.3, interior=True) == pytest.approx(0.010453, abs=2e-6)
    assert uniform_levels_reconstruction(-13.3, interior=False) == pytest.approx(0.010412, abs=2e-6)


def test_prior_of_cifar10_is_0_0012_bits(tfds_dir):
    from genjax import data

    images = data.load("cifar10", "test", data_dir=tfds_dir).source.rows(np.arange(2000))["x"]
    x = losses.grey_levels(jnp.asarray(images), 256)
    bits = losses.nats_to_bits_per_dim(losses.prior_loss(x, jnp.array(5.0)), 3072)
    assert float(bits.mean()) == pytest.approx(0.0012, abs=1e-4)


def test_prior_is_the_gaussian_kl_divergence():
    rng = np.random.default_rng(0)
    x, gamma = rng.normal(size=(5, 3, 2)).astype(np.float32), np.linspace(-3, 9, 5)
    alpha2, sigma2 = 1 / (1 + np.exp(gamma)), 1 / (1 + np.exp(-gamma))
    a, s = (v[:, None, None] for v in (alpha2, sigma2))
    expected = 0.5 * (a * x**2 + s - np.log(s) - 1).sum((1, 2))
    actual = losses.prior_loss(jnp.asarray(x), jnp.asarray(gamma, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=2e-5)


def test_prior_does_not_cancel_at_high_noise(x64):
    x, gamma = np.linspace(-1, 1, 7)[None], 20.0
    exact = losses.prior_loss(jnp.asarray(x), jnp.asarray(gamma))
    rough = losses.prior_loss(jnp.asarray(x, jnp.float32), jnp.asarray(gamma, jnp.float32))
    np.testing.assert_allclose(rough, exact, rtol=1e-4)


def softmax_nll(levels, z, gamma_0, num_levels):
    """The reconstruction loss of each pixel, from the logits of all levels."""
    log_probs = jax.nn.log_softmax(losses.decoder_logits(z, gamma_0, num_levels))
    return -jnp.take_along_axis(log_probs, levels[..., None], -1)[..., 0]


def test_reconstruction_is_the_softmax_of_the_decoder():
    rng = np.random.default_rng(0)
    levels = jnp.asarray(rng.integers(17, size=(4, 5)))
    z = losses.grey_levels(levels, 17) + 0.1 * jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    expected = softmax_nll(levels, z, jnp.array(-4.0), 17).sum(-1)
    actual = losses.reconstruction_loss(levels, z, jnp.array(-4.0), num_levels=17)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma_0", [
    pytest.param(-16.0, marks=pytest.mark.slow), -13.3, -9.3, -9.0, -8.0, -4.0, 2.0
])  # fmt: skip
@pytest.mark.parametrize("per_row", [False, True])
def test_reconstruction_over_near_levels_is_that_over_all(x64, gamma_0, per_row):
    rng = np.random.default_rng(0)
    levels = jnp.asarray(rng.integers(256, size=(6, 300)))
    levels = levels.at[:, :4].set(jnp.array([0, 1, 254, 255]))
    noise = jnp.asarray(rng.normal(size=levels.shape)) * 3.0
    gamma_0 = jnp.full(6 if per_row else (), gamma_0)

    def over_all(gamma_0, z, levels):
        return softmax_nll(levels, z, gamma_0, 256).sum(-1)

    def ours(gamma_0, z, levels):
        return losses.reconstruction_loss(levels, z, gamma_0)

    def derivatives(loss, dtype):
        def total(gamma_0, shift):
            at = jnp.exp(0.5 * gamma_0).reshape(-1, 1) * noise + shift
            z = (losses.grey_levels(levels, 256) + at).astype(jnp.float32)
            return loss(gamma_0.astype(dtype), z.astype(dtype), levels).astype(jnp.float64).sum()

        return jax.value_and_grad(total, (0, 1))(gamma_0, jnp.zeros(levels.shape))

    exact = derivatives(over_all, jnp.float64)
    chex.assert_trees_all_close(derivatives(ours, jnp.float64), exact, rtol=1e-9, atol=1e-12)
    value, (by_gamma_0, by_z) = derivatives(ours, jnp.float32)
    np.testing.assert_allclose(value, exact[0], rtol=1e-5)
    np.testing.assert_allclose(by_gamma_0, exact[1][0], rtol=1e-5, atol=1e-12)
    # In units of the noise.
    np.testing.assert_allclose(by_z, exact[1][1], rtol=1e-5, atol=1e-5 * np.exp(-gamma_0.min() / 2))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("gamma_0", [-13.3, -16.0, -40.0, -100.0])
def test_certain_levels_cost_nothing_in_any_dtype(dtype, gamma_0):
    levels = jnp.arange(256)[:, None]
    z = losses.grey_levels(levels, 256).astype(dtype)

    def loss(z, gamma_0):
        return losses.reconstruction_loss(levels, z, gamma_0)

    nats, pullback = jax.vjp(loss, z, jnp.asarray(gamma_0, dtype))
    np.testing.assert_allclose(nats, 0.0, atol=1e-6)
    for grad in pullback(jnp.ones_like(nats)):
        assert jnp.isfinite(grad.astype(jnp.float32)).all()


def test_reconstruction_of_no_examples_is_empty():
    none = jnp.zeros((0, 3))
    for gamma_0 in (jnp.float32(-13.3), jnp.zeros(0)):
        assert losses.reconstruction_loss(none.astype(int), none, gamma_0).shape == (0,)


@pytest.mark.slow
def test_reconstruction_has_second_derivatives(x64):
    levels = jnp.array([[3, 250, 128]])

    def over_all(z):
        return softmax_nll(levels, z, jnp.array(-11.0), 256).sum()

    def ours(z):
        return losses.reconstruction_loss(levels, z, jnp.array(-11.0)).sum()

    z = losses.grey_levels(levels, 256) + jnp.array([[0.002, -0.003, 0.0039]])
    np.testing.assert_allclose(jax.hessian(ours)(z), jax.hessian(over_all)(z), rtol=1e-9)


def test_reconstruction_holds_no_array_of_all_levels():
    levels = jnp.zeros((4, 64), jnp.uint8)

    def loss(gamma_0, z):
        return losses.reconstruction_loss(levels, z, gamma_0).sum()

    args = (jnp.float32(-13.3), jnp.zeros((4, 64)))
    _, saved = jax.vjp(loss, *args)
    assert sum(leaf.size for leaf in jax.tree.leaves(saved)) <= 10 * levels.size
    assert math.isnan(jax.jit(jax.grad(loss))(jnp.float32(math.nan), args[1]))


def test_gaussian_reconstruction_integrates_to_one():
    grid = jnp.linspace(-8, 8, 4001)[:, None]
    nats = losses.gaussian_reconstruction_loss(grid, jnp.full_like(grid, 0.7), jnp.array(0.5))
    assert float(jnp.exp(-nats).sum() * 16 / 4000) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("gamma_0", [-13.3, -30.0, -100.0, -500.0, 20.0])
def test_the_gaussian_decoder_scores_the_noise_however_little_of_it_there_is(gamma_0):
    noise = jax.random.normal(jax.random.key(0), (2000, 2))

    def mean(gamma_0):
        return losses.gaussian_decoder_loss(noise, gamma_0).mean()

    value, slope = jax.value_and_grad(mean)(jnp.float32(gamma_0))
    assert float(value) == pytest.approx(1.0 + gamma_0 + math.log(2 * math.pi), abs=0.1)
    assert float(slope) == pytest.approx(1.0, rel=1e-5)  # half of D: the squares have no part


@pytest.mark.parametrize("gamma_0", [-100.0, -300.0])
def test_gaussian_reconstruction_of_exact_data_is_finite(gamma_0):
    x = jnp.ones((1, 2))
    value, grads = jax.value_and_grad(
        lambda z, g: losses.gaussian_reconstruction_loss(x, z, g).sum(), (0, 1)
    )(x, jnp.float32(gamma_0))
    assert float(value) == pytest.approx(gamma_0 + math.log(2 * math.pi), rel=1e-6)
    assert jnp.isfinite(grads[0]).all() and float(grads[1]) == 1.0


@pytest.mark.slow
def test_discrete_loss_tends_to_the_continuous_one(x64):
    # A denoiser whose error depends on gamma; the integral over t by a fine midpoint rule.
    def error(gamma):
        return 0.3 + 0.2 * jnp.tanh(gamma)

    def gamma(t):
        return 6.0 * t + 2.0 * t**2 - 5.0

    fine = (jnp.arange(20000) + 0.5) / 20000
    ones = jnp.ones((20000, 1))
    hat = ones - error(gamma(fine))[:, None]
    continuous = losses.diffusion_loss(ones, hat, 6.0 + 4.0 * fine).mean()

    gaps = []
    for steps in (64, 128, 256):
        t = (jnp.arange(steps) + 1.0) / steps
        ones = jnp.ones((steps, 1))
        hat = ones - error(gamma(t))[:, None]
        discrete = losses.discrete_diffusion_loss(
            ones, hat, gamma(t - 1 / steps), gamma(t), num_timesteps=steps
        ).mean()
        gaps.append(float(discrete - continuous))
    assert all(gap > 0 for gap in gaps)  # more steps, tighter bound (paper, section 4.2)
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, rel=0.1)


ARGUMENTS = {
    "prior_loss": lambda d: (jnp.ones((3, 2, 2), d), jnp.array([-20.0, 0.0, 20.0], d)),
    "reconstruction_loss": lambda d: (
        jnp.array([[0, 255], [3, 4]], jnp.uint8),
        jnp.array([[-0.9, 3.0], [0.0, 0.1]], d),
        jnp.array(-13.3, d),
    ),
    "gaussian_reconstruction_loss": lambda d: (
        jnp.ones((2, 3), d),
        jnp.zeros((2, 3), d),
        jnp.array(-13.3, d),
    ),
    "diffusion_loss": lambda d: (
        jnp.ones((2, 3), d),
        jnp.zeros((2, 3), d),
        jnp.array([0.0, 18.3], d),
    ),
    "discrete_diffusion_loss": lambda d: (
        jnp.ones((2, 3), d),
        jnp.ones((2, 3), d),
        jnp.array([-13.3, 0.0], d),
        jnp.array([-13.3, 1.0], d),
    ),
}


def call(name, *args):
    kwargs = {"num_timesteps": 10} if name == "discrete_diffusion_loss" else {}
    return getattr(losses, name)(*args, **kwargs)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_losses_are_finite_per_example_and_the_same_jitted(name, strict):
    args = ARGUMENTS[name](jnp.float32)
    value = call(name, *args)
    chex.assert_shape(value, (args[0].shape[0],))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(jax.jit(lambda *a: call(name, *a))(*args), value, rtol=1e-5)
    floats = tuple(i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating))
    grads = jax.grad(lambda *a: call(name, *a).sum(), floats)(*args)
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


@pytest.mark.parametrize("name", ["prior_loss", "diffusion_loss", "discrete_diffusion_loss"])
def test_losses_keep_float64(name, x64, strict):
    assert call(name, *ARGUMENTS[name](jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize("name", ["reconstruction_loss", "diffusion_loss"])
def test_wrong_shapes_raise(name):
    args = list(ARGUMENTS[name](jnp.float32))
    args[1] = args[1][:, :1]
    with pytest.raises(Exception, match="shape|Float"):
        call(name, *args)


def test_gamma_of_another_batch_size_raises():
    with pytest.raises(ValueError, match="one value a row"):
        losses.prior_loss(jnp.ones((3, 2)), jnp.ones(2))


def test_bits_need_a_dimension():
    with pytest.raises(ValueError, match="num_dims"):
        losses.nats_to_bits_per_dim(jnp.ones(1), 0)
