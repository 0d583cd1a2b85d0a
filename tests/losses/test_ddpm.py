import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from genjax import losses
from genjax.diffusion import Chain, chain_steps

pytestmark = pytest.mark.usefixtures("strict")


def scales_of(chain):
    """Scales at the ends s and t of steps 2 to T, float64."""
    bar = np.cumprod(1.0 - chain.variances())
    pairs = np.sqrt(bar[:-1]), np.sqrt(1 - bar[:-1]), np.sqrt(bar[1:]), np.sqrt(1 - bar[1:])
    return tuple(map(jnp.asarray, pairs))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("alpha_s, sigma_s", [(0.9, 0.4), (1.0, 0.02), (1.0, 0.0)])
def test_the_posterior_is_bayes_rule_for_two_gaussians(alpha_s, sigma_s):
    alpha_t, sigma_t, x, z_t = 0.3, 0.9, -0.7, 1.3
    # Prior of z_s given x; likelihood of z_t given z_s: mean r z_s, variance what is left.
    r = alpha_t / alpha_s
    left = sigma_t**2 - (r * sigma_s) ** 2
    args = [jnp.asarray(v) for v in (alpha_s, sigma_s, alpha_t, sigma_t)]
    mean = losses.posterior_mean(jnp.full((1, 1), x), jnp.full((1, 1), z_t), *args)
    variance = losses.posterior_variance(*args)
    if sigma_s == 0.0:
        assert float(mean[0, 0]) == x and float(variance) == 0.0
        return
    precision = 1 / sigma_s**2 + r**2 / left
    expected = (alpha_s * x / sigma_s**2 + r * z_t / left) / precision
    assert float(mean[0, 0]) == pytest.approx(expected, rel=1e-12)
    assert float(variance) == pytest.approx(1 / precision, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_the_posterior_of_a_chain_is_equation_7():
    chain = Chain(num_timesteps=50, beta_max=0.01)
    beta = chain.variances()
    bar = np.cumprod(1 - beta)
    before = bar[:-1]
    found = losses.posterior_variance(*scales_of(chain))
    np.testing.assert_allclose(found, beta[1:] * (1 - before) / (1 - bar[1:]), rtol=1e-11)
    x, z = np.random.default_rng(0).normal(size=(2, 49, 3))
    mean = losses.posterior_mean(jnp.asarray(x), jnp.asarray(z), *scales_of(chain))
    of_x = np.sqrt(before) * beta[1:] / (1 - bar[1:])
    of_z = np.sqrt(1 - beta[1:]) * (1 - before) / (1 - bar[1:])
    np.testing.assert_allclose(mean, of_x[:, None] * x + of_z[:, None] * z, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("log_p", [0.3, -2.0])
def test_divergence_of_two_gaussians_is_the_integral_of_its_definition(log_p):
    q, p = stats.norm(0.4, np.exp(-0.25)), stats.norm(-0.2, np.exp(0.5 * log_p))
    expected = integrate.quad(lambda v: q.pdf(v) * (q.logpdf(v) - p.logpdf(v)), -8, 8)[0]
    rows = jnp.full((2, 3), 0.4), jnp.full((2, 3), -0.2)
    for shape in [(), (2,), (2, 3)]:
        found = losses.gaussian_kl_loss(
            rows[0], jnp.full(shape, -0.5), rows[1], jnp.full(shape, log_p)
        )
        np.testing.assert_allclose(found, 3 * expected, rtol=1e-5)


def test_divergence_of_almost_equal_gaussians_keeps_its_digits_and_is_never_negative():
    zero = jnp.zeros((1, 1))
    for excess in (1e-3, -1e-3):
        found = losses.gaussian_kl_loss(zero, jnp.asarray(excess), zero, jnp.asarray(0.0))
        # To second order, a quarter of the square.
        assert float(found[0]) == pytest.approx(0.25e-6, rel=2e-3)
    equal = losses.gaussian_kl_loss(zero, jnp.asarray(-7.3), zero, jnp.asarray(-7.3))
    assert float(equal[0]) == 0.0


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_gaussian_loss_is_minus_the_log_density(shape):
    x, mean = np.random.default_rng(0).normal(size=(2, 2, 3))
    expected = -stats.norm(mean, np.exp(-0.6)).logpdf(x).sum(1)
    found = losses.gaussian_loss(jnp.asarray(x), jnp.asarray(mean), jnp.full(shape, -1.2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("log_std", [
    pytest.param(-20.0, marks=pytest.mark.slow), -5.0, -2.7, 0.0, 3.0
])  # fmt: skip
def test_probabilities_of_all_levels_add_up_to_one(num_levels, log_std):
    levels = jnp.arange(num_levels)[:, None]
    for mean in (0.0, 0.31, -1.0, 4.0):
        nats = losses.discretized_gaussian_loss(
            levels, jnp.full((num_levels, 1), mean), jnp.asarray(log_std), num_levels=num_levels
        )
        assert float(jax.nn.logsumexp(-nats)) == pytest.approx(0.0, abs=2e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("log_std", [-6.0, -4.6, -3.0, -1.0, 1.0])
def test_a_level_has_the_probability_of_its_bin(log_std):
    # Against scipy's distribution and survival functions, wherever these have not underflown.
    levels = np.arange(17)[:, None]
    centre, reach, std = levels / 8.0 - 1.0, 1.0 / 16.0, np.exp(log_std)
    for mean in (0.0, 0.2, -0.93):
        low, high = (centre - reach - mean) / std, (centre + reach - mean) / std
        low[0], high[-1] = -np.inf, np.inf
        side = np.where(low + high > 0, -1, 1)
        low, high = np.sort([side * low, side * high], axis=0)
        expected = special.ndtr(high) - special.ndtr(low)
        found = losses.discretized_gaussian_loss(
            jnp.asarray(levels), jnp.full((17, 1), mean), jnp.asarray(log_std), num_levels=17
        )
        seen = expected[:, 0] > 1e-290
        assert seen.sum() > 1
        np.testing.assert_allclose(found[seen], -np.log(expected[seen, 0]), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("level", [0, 8, 16])
@pytest.mark.parametrize("log_std", [-12.0, -5.0, 0.0])
@pytest.mark.parametrize("mean", [
    pytest.param(-1e4, marks=pytest.mark.slow), -30.0, 50.0, 1e6
])  # fmt: skip
def test_far_from_the_mean_loss_and_slopes_are_those_of_the_tail(level, log_std, mean):
    def nats(mean, log_std):
        x = jnp.array([[level]])
        return losses.discretized_gaussian_loss(x, mean[None, None], log_std, num_levels=17)[0]

    args = jnp.asarray(mean), jnp.asarray(log_std)
    value, (by_mean, by_log_std) = jax.value_and_grad(nats, (0, 1))(*args)
    # The bins of the lowest and the highest level have no outer end: a mean there is inside.
    if (level == 0 and mean < 0) or (level == 16 and mean > 0):
        assert float(value) == pytest.approx(0.0, abs=1e-6)
        assert abs(float(by_mean)) < 1e-6 and abs(float(by_log_std)) < 1e-6
        return
    # Of a bin far out the end next to the mean decides: (end - mean)^2 / 2 std^2 to first order.
    end = level / 8.0 - 1.0 + (-1.0 / 16.0 if mean < 0 else 1.0 / 16.0)
    std = np.exp(log_std)
    distance = mean - end
    assert float(value) == pytest.approx(0.5 * (distance / std) ** 2, rel=0.02)
    assert float(by_mean) == pytest.approx(distance / std**2, rel=0.02)
    assert float(by_log_std) == pytest.approx(-((distance / std) ** 2), rel=0.02)


def test_narrow_bins_have_their_width_times_the_density():
    # With a standard deviation of 1000, ends of a bin have the same distribution function in
    # float32 but for some last digits.
    levels, mean = jnp.array([[3], [128], [200]]), jnp.array([[0.0], [-900.0], [2500.0]])
    log_std = jnp.asarray(np.log(1000.0), jnp.float32)
    found, slope = jax.value_and_grad(
        lambda m: losses.discretized_gaussian_loss(levels, m, log_std).sum()
    )(mean)
    x = np.asarray(levels) * 2 / 255 - 1
    density = stats.norm(np.asarray(mean), 1000.0)
    expected = -(density.logpdf(x) + np.log(2 / 255)).sum()
    assert float(found) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(slope, (np.asarray(mean) - x) / 1e6, rtol=1e-4, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_integrals_by_density_and_by_ends_meet():
    # Bins of a 16th of a standard deviation are integrated one way, wider ones the other.
    x, reach = 130 * 2 / 255 - 1, 1 / 255
    for mean in (0.5, 0.9):
        for log_std in np.log(32 * reach) + np.array([-1e-4, 1e-4]):
            ends = (x + np.array([-reach, reach]) - mean) / np.exp(log_std)
            expected = -np.log(np.diff(special.ndtr(ends)))
            found = losses.discretized_gaussian_loss(
                jnp.array([[130]]), jnp.array([[mean]]), jnp.asarray(log_std)
            )
            np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_levels_of_another_kind_or_number_are_refused(unchecked):
    x = jnp.zeros((1, 2))
    with pytest.raises(ValueError, match="whole numbers from 0 to 255, got float32"):
        losses.discretized_gaussian_loss(x, x, jnp.array(0.0))
    with pytest.raises(ValueError, match="num_levels must be at least 2, got 1"):
        losses.discretized_gaussian_loss(x.astype(int), x, jnp.array(0.0), num_levels=1)
    with pytest.raises(ValueError, match=r"levels \[1, 2\], mean \[1, 2, 1\]"):
        losses.discretized_gaussian_loss(x.astype(int), x[..., None], jnp.array(0.0))


def test_a_learned_variance_lies_between_two_in_the_log_domain():
    share = jnp.array([[-1.0, 0.0, 1.0, 2.0]])
    found = losses.interpolated_log_variance(share, jnp.array([-6.0]), jnp.array([-4.0]))
    np.testing.assert_allclose(found, [[-6.0, -5.0, -4.0, -3.0]], rtol=1e-6)


# The bound of N(0, 1/4) in one dimension under the optimal estimator, from the loss functions.
STD = 0.5
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
PAIRS = [a.ravel() for a in np.meshgrid(NODES, NODES)]
MASS = np.outer(WEIGHTS, WEIGHTS).ravel() / (2 * np.pi)


def expected_terms(log_variance, chain=Chain()):
    """Means of L_{t-1} for t = 2, ..., T over data and noise, by a quadrature exact for squares."""
    alpha_s, sigma_s, alpha_t, sigma_t = scales_of(chain)
    log_q = jnp.log(losses.posterior_variance(alpha_s, sigma_s, alpha_t, sigma_t))

    def term(*scales_and_logs):
        *scales, log_q, log_p = scales_and_logs
        x, noise = (jnp.asarray(a)[:, None] for a in PAIRS)
        x = STD * x
        z = scales[2] * x + scales[3] * noise
        noise_hat = scales[3] * z / (scales[2] ** 2 * STD**2 + scales[3] ** 2)
        x_hat = (z - scales[3] * noise_hat) / scales[2]
        mean, model = (losses.posterior_mean(v, z, *scales) for v in (x, x_hat))
        return jnp.sum(jnp.asarray(MASS) * losses.gaussian_kl_loss(mean, log_q, model, log_p))

    return jax.vmap(term)(alpha_s, sigma_s, alpha_t, sigma_t, log_q, log_variance(log_q))


def expected_decoder(log_variance, chain=Chain()):
    """Mean of L_0 under a Gaussian of this variance about the estimate from z_1."""
    beta = chain.variances()[0]
    x, noise = (jnp.asarray(a)[:, None] for a in PAIRS)
    x = STD * x
    z = np.sqrt(1 - beta) * x + np.sqrt(beta) * noise
    x_hat = np.sqrt(1 - beta) * STD**2 * z / ((1 - beta) * STD**2 + beta)
    return jnp.sum(jnp.asarray(MASS) * losses.gaussian_loss(x, x_hat, jnp.asarray(log_variance)))


def expected_prior(chain=Chain()):
    bar = np.prod(1 - chain.variances())
    x = jnp.asarray(STD * NODES)[:, None]
    terms = losses.gaussian_prior_loss(x, jnp.sqrt(bar), jnp.sqrt(1 - bar))
    return jnp.sum(jnp.asarray(WEIGHTS) / np.sqrt(2 * np.pi) * terms)


def optimal(log_q):
    """The posterior's variance and that of its mean under the optimal estimator."""
    chain = Chain()
    beta = chain.variances()[1:]
    bar = np.cumprod(1 - chain.variances())[1:]
    error = bar * STD**2 / (bar * STD**2 + 1 - bar)
    return jnp.log(jnp.exp(log_q) + beta**2 / ((1 - beta) * (1 - bar)) * error)


BETA = Chain().variances()
CHOICES = {
    "fixed_large": lambda log_q: jnp.log(jnp.asarray(BETA[1:])),
    "fixed_small": lambda log_q: log_q,
    "optimal": optimal,
}
BETA_TILDE_2 = BETA[1] * BETA[0] / (1 - (1 - BETA[0]) * (1 - BETA[1]))
# The variance of data given the first latent, by Bayes' rule.
FIRST = STD**2 * BETA[0] / ((1 - BETA[0]) * STD**2 + BETA[0])
# Computed in float64 from the closed forms of the expectations.
SUMS = {"fixed_large": 3.91326, "fixed_small": 4.36852, "optimal": 3.91217}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SUMS)
def test_terms_of_a_gaussian_under_the_optimal_estimator_add_up_to_known_sums(name):
    assert float(expected_terms(CHOICES[name]).sum()) == pytest.approx(SUMS[name], abs=5e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name, first, expected, within",
    [
        ("optimal", FIRST, 0.72579135, 1e-8),
        ("fixed_large", BETA[0], 0.72688, 5e-6),
        ("fixed_large", BETA_TILDE_2, 0.84046, 5e-6),
        ("fixed_small", BETA_TILDE_2, 1.29572, 5e-6),
    ],
)
def test_the_bound_of_a_gaussian_separates_every_choice_of_variance(name, first, expected, within):
    parts = expected_terms(CHOICES[name]).sum(), expected_decoder(np.log(first)), expected_prior()
    whole = float(sum(parts))
    assert whole == pytest.approx(expected, abs=within)
    entropy = 0.5 * np.log(2 * np.pi * np.e * STD**2)
    assert whole > entropy - 1e-12
    if name == "optimal":
        assert whole == pytest.approx(entropy, abs=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_prior_of_1000_steps_is_almost_reached():
    # Bits per dimension at x^2 = 1, float64.
    bar = np.prod(1 - BETA)
    loss = losses.gaussian_prior_loss(jnp.ones((1, 1)), jnp.sqrt(bar), jnp.sqrt(1 - bar))
    assert float(losses.nats_to_bits_per_dim(loss, 1)[0]) == pytest.approx(2.91e-5, rel=2e-3)
    assert bar == pytest.approx(4.036e-5, rel=2e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "betas, num_timesteps, expected",
    [("linear", 1000, 4.036e-5), ("cosine", 1000, 2.43e-9), ("cosine", 4000, 1.52e-10)],
)
def test_steps_of_a_chain_end_with_the_published_signal(betas, num_timesteps, expected):
    steps = chain_steps(Chain(betas=betas, num_timesteps=num_timesteps))
    assert float(steps.alpha[-1]) ** 2 == pytest.approx(expected, rel=2e-3)
