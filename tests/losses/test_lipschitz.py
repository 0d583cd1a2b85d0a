import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import losses

KEY = jax.random.key(0)
MIX = jnp.array([0.1, 0.5, 0.9])


def quadratic(x):
    """Slope 2x at x, different for each example."""
    return jnp.sum(x**2, axis=tuple(range(1, x.ndim)))


def test_penalty_takes_one_mix_an_example_and_the_norm_over_the_whole_event():
    real, fake = (jax.random.normal(k, (3, 2, 2, 3)) for k in jax.random.split(KEY))
    mix = MIX[:, None, None, None]
    at = mix * real + (1 - mix) * fake
    norm = np.sqrt(np.sum(np.square(2 * at), axis=(1, 2, 3)))
    actual = losses.gradient_penalty(quadratic, real, fake, MIX)
    np.testing.assert_allclose(actual, (norm - 1) ** 2, rtol=1e-5)
    one_sided = losses.gradient_penalty(
        quadratic, real / 10, fake / 10, MIX, one_sided=True, target_norm=0.5
    )
    np.testing.assert_allclose(one_sided, np.maximum(norm / 10 - 0.5, 0) ** 2, rtol=1e-4, atol=1e-9)
    assert (np.asarray(one_sided) == 0).any() and (np.asarray(one_sided) > 0).any()


@pytest.mark.parametrize("shape", [(), (3, 2, 2, 3), (1,)])
def test_penalty_refuses_a_mix_for_the_batch_or_for_each_pixel(shape):
    # The two errors most often met in other code: one weight for all, and one for each pixel.
    rows = jnp.ones((3, 2, 2, 3))
    with pytest.raises(Exception, match="mix|shape"):
        losses.gradient_penalty(quadratic, rows, rows, jnp.ones(shape))


@pytest.mark.parametrize("name", ["gradient_penalty", "dragan_penalty", "r1_penalty", "r2_penalty"])
def test_penalties_and_their_gradients_are_finite_at_zero_slope(name):
    def penalty(w):
        critic = lambda x: w * jnp.sum(x, axis=1)  # noqa: E731
        rows = jnp.ones((3, 4))
        args = {"gradient_penalty": (rows, 0 * rows, MIX), "dragan_penalty": (rows, rows)}
        return getattr(losses, name)(critic, *args.get(name, (rows,))).sum()

    value, grad = jax.value_and_grad(penalty)(0.0)
    assert np.isfinite(value) and np.isfinite(grad)
    expected = 0.0 if name in ("r1_penalty", "r2_penalty") else 3.0
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_r1_and_r2_have_the_half():
    x = jax.random.normal(KEY, (3, 5))
    expected = 0.5 * np.sum(np.square(2 * np.asarray(x)), axis=1)
    np.testing.assert_allclose(losses.r1_penalty(quadratic, x), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.r2_penalty(quadratic, x), expected, rtol=1e-5)


def test_dragan_looks_near_the_data_at_the_scale_of_the_data():
    real = 3.0 * jax.random.normal(KEY, (3, 5))
    uniform = jax.random.uniform(jax.random.key(1), (3, 5))
    at = np.asarray(real) + np.std(real) * (np.asarray(uniform) - 0.5)
    expected = (np.sqrt(np.sum((2 * at) ** 2, axis=1)) - 1) ** 2
    np.testing.assert_allclose(losses.dragan_penalty(quadratic, real, uniform), expected, rtol=1e-5)


def test_penalty_is_differentiable_in_the_critic_and_keeps_double_precision(x64):
    x = jax.random.normal(KEY, (3, 4), jnp.float64)

    def penalty(w):
        return losses.gradient_penalty(lambda x: jnp.tanh(x @ w), x, -x, MIX.astype(x.dtype)).sum()

    w = jax.random.normal(jax.random.key(1), (4,), jnp.float64)
    assert penalty(w).dtype == jnp.float64
    numeric = [(penalty(w + e) - penalty(w - e)) / 2e-6 for e in 1e-6 * jnp.eye(4)]
    np.testing.assert_allclose(jax.grad(penalty)(w), np.array(numeric), rtol=1e-6, atol=1e-8)


def test_clipping_reaches_every_leaf():
    params = {"a": {"kernel": jnp.array([[5.0, -5.0]])}, "scale": jnp.array([0.5])}
    clipped = losses.clip_weights(params, 0.01)
    assert max(float(jnp.abs(p).max()) for p in jax.tree.leaves(clipped)) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="positive"):
        losses.clip_weights(params, 0.0)


# Maximum mean discrepancy.


def test_unbiased_estimate_has_mean_zero_on_equal_distributions_and_the_biased_one_not():
    x, y = jax.random.normal(KEY, (2, 400, 10, 3))
    unbiased = jax.vmap(losses.mmd_squared)(x, y)
    stderr = float(unbiased.std()) / 20
    assert abs(float(unbiased.mean())) < 4 * stderr and float(unbiased.min()) < 0
    biased = jax.vmap(lambda x, y: losses.mmd_squared(x, y, unbiased=False))(x, y)
    assert float(biased.min()) >= 0 and float(biased.mean()) > 10 * stderr


def test_mmd_of_two_gaussians_has_its_closed_form():
    # E k(x, y) = s / sqrt(s^2 + 2) exp(-d^2 / (2 (s^2 + 2))) for unit Gaussians d apart.
    s, d = 1.5, 2.0
    x = jax.random.normal(KEY, (4000, 1))
    y = d + jax.random.normal(jax.random.key(1), (4000, 1))
    norm = s / np.sqrt(s**2 + 2)
    expected = 2 * norm * (1 - np.exp(-(d**2) / (2 * (s**2 + 2))))

    def kernel(x, y):
        return losses.rbf_kernel(x, y, bandwidths=(s,))

    for unbiased in (True, False):
        actual = losses.mmd_squared(x, y, kernel=kernel, unbiased=unbiased)
        assert float(actual) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("kernel", [losses.rbf_kernel, losses.rational_quadratic_kernel])
def test_kernels_by_the_definition(kernel, x64):
    x, y = (
        jax.random.normal(k, (n, 3), jnp.float64)
        for n, k in zip((4, 5), jax.random.split(KEY), strict=True)
    )
    squared = np.sum((np.asarray(x)[:, None] - np.asarray(y)[None]) ** 2, axis=-1)
    if kernel is losses.rbf_kernel:
        expected = sum(np.exp(-squared / (2 * s**2)) for s in (1, 2, 4, 8, 16))
    else:
        expected = sum((1 + squared / (2 * a)) ** -a for a in (0.2, 0.5, 1, 2, 5))
    np.testing.assert_allclose(kernel(x, y), expected, rtol=1e-10)


def test_kernel_gradients_are_finite_where_points_coincide():
    x = jnp.zeros((3, 2))
    grad = jax.grad(lambda x: losses.mmd_squared(x, x, kernel=losses.rational_quadratic_kernel))(x)
    assert np.isfinite(grad).all()


def test_witness_mean_difference_is_the_biased_discrepancy():
    x, y = (jax.random.normal(k, (6, 2)) + i for i, k in enumerate(jax.random.split(KEY)))
    gap = losses.mmd_witness(x, x, y).mean() - losses.mmd_witness(y, x, y).mean()
    np.testing.assert_allclose(gap, losses.mmd_squared(x, y, unbiased=False), rtol=1e-4)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="at least 2 points"):
        losses.mmd_squared(jnp.ones((1, 2)), jnp.ones((4, 2)))


def test_game_moves_features_apart_and_samples_together():
    game = losses.mmd_gan_loss(losses.rational_quadratic_kernel)
    x, y = (jax.random.normal(k, (8, 2)) + i for i, k in enumerate(jax.random.split(KEY)))
    # The critic is paid for telling the sets apart, the generator for bringing its rows nearer.
    near, far = (game.critic(x, x + shift) for shift in (0.0, 5.0))
    assert float(far) < float(near) and float(far) < 0
    pull = jax.grad(lambda y: game.generator(x, y))(x + 5.0)
    assert (np.asarray(pull).mean(0) > 0).all(), "descent moves generated rows back"
    np.testing.assert_allclose(game.critic(x, y), -game.generator(x, y))


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4, 1e5])
def test_discrepancy_does_not_depend_on_where_the_points_lie(offset):
    # Whole eighths, so that the shifted points are exact in float32 up to 1e5.
    rng = np.random.default_rng(0)
    x = np.round(8 * rng.normal(size=(100, 8))) / 8
    y = np.round(8 * (rng.normal(size=(100, 8)) + 0.5)) / 8
    for kernel in (losses.rbf_kernel, losses.rational_quadratic_kernel):
        with jax.enable_x64(True):
            exact = float(losses.mmd_squared(jnp.asarray(x), jnp.asarray(y), kernel=kernel))
        shifted = (jnp.asarray(points + offset, jnp.float32) for points in (x, y))
        found = losses.mmd_squared(*shifted, kernel=kernel)
        assert float(found) == pytest.approx(exact, rel=1e-3)


def test_the_gradient_of_the_discrepancy_is_that_of_the_distances(x64):
    x, y = jax.random.normal(KEY, (2, 5, 3), jnp.float64)
    grad = jax.grad(lambda x: losses.mmd_squared(x, y))(x)
    numeric = [
        (losses.mmd_squared(x + e, y) - losses.mmd_squared(x - e, y)) / 2e-6
        for e in 1e-6 * jnp.eye(15).reshape(15, 5, 3)
    ]
    np.testing.assert_allclose(grad.reshape(-1), np.array(numeric), rtol=1e-6, atol=1e-9)
