import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from genjax import losses

SETS = losses.ADVERSARIAL_LOSSES
# Two discrete distributions on eight points, none of whose probabilities vanish.
P, Q = np.random.default_rng(0).dirichlet(np.ones(8) * 2, size=2)


def value_of_game(name, v):
    """The critic's expected loss under P and Q when it outputs ``v`` at each point."""
    grid = jnp.asarray(v)
    loss = SETS[name].critic
    # A pair's loss is a real part plus a fake part for all games but the relativistic ones.
    zero = loss(jnp.zeros(1), jnp.zeros(1))[0]
    real = loss(grid, jnp.zeros(8)) - zero
    fake = loss(jnp.zeros(8), grid) - zero
    return float(jnp.sum(P * real) + jnp.sum(Q * fake) + zero)


OPTIMA = {
    # Optimal outputs and value of the game, from the papers.
    "nonsaturating": (np.log(P / Q), None),
    "least_squares": (P / (P + Q), 0.5 * np.sum(P * Q / (P + Q))),
    "brier": (np.log(P / Q), 0.5 * np.sum(P * Q / (P + Q))),
    "hinge": (np.sign(P - Q), 2 * (1 - 0.5 * np.abs(P - Q).sum())),
}
M = (P + Q) / 2
JSD = 0.5 * np.sum(P * np.log(P / M)) + 0.5 * np.sum(Q * np.log(Q / M))
OPTIMA["nonsaturating"] = (np.log(P / Q), 2 * np.log(2) - 2 * JSD)


@pytest.mark.parametrize("name", OPTIMA)
def test_optimal_critic_and_value_of_the_game(x64, name):
    best, value = OPTIMA[name]
    assert value_of_game(name, best) == pytest.approx(value, rel=1e-9)
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert value_of_game(name, best + 0.3 * rng.normal(size=8)) >= value - 1e-12


@pytest.mark.parametrize(
    "name, value",
    dict(
        minimax=2 * np.log(2), nonsaturating=2 * np.log(2), least_squares=0.25, brier=0.25,
        hinge=2.0, wasserstein=0.0, relativistic=np.log(2),
        relativistic_average=2 * np.log(2),
    ).items(),
)  # fmt: skip
def test_value_at_equal_distributions(name, value):
    at = 0.5 if name == "least_squares" else 0.0
    v = jnp.full(3, at)
    np.testing.assert_allclose(SETS[name].critic(v, v), value, rtol=1e-6)


def test_pearson_coding_of_least_squares(x64):
    # Codes -1 and 1: the generator minimises Pearson's chi^2(p + q || 2 q), Mao et al., theorem 1.
    game = losses.least_squares_loss(real_code=1.0, fake_code=-1.0, target=0.0)
    best = jnp.asarray((P - Q) / (P + Q))
    both = jnp.sum((P + Q) * game.generator(best, best))
    chi2 = np.sum((P + Q - 2 * Q) ** 2 / (P + Q))
    assert 2 * float(both) == pytest.approx(chi2, rel=1e-9)


@pytest.mark.parametrize("name", SETS)
def test_losses_reward_the_right_direction_and_never_overflow(name):
    game = SETS[name]
    outputs = jnp.array([-1e4, -1.0, 0.0, 1.0, 1e4])
    grads = jax.grad(lambda r, f: jnp.sum(game.critic(r, f)), (0, 1))(outputs, outputs[::-1])
    own = jax.grad(lambda f: jnp.sum(game.generator(jnp.zeros(5), f)))(outputs)
    for leaf in (*grads, own):
        assert np.isfinite(leaf).all()
    if name != "least_squares":  # a parabola: it wants the code, not more
        assert (grads[0] <= 0).all() and (grads[1] >= 0).all() and (own <= 0).all()
    middle = slice(1, 4)
    assert (grads[0][middle] < 0).any() and (own[middle] < 0).any()


def test_the_nonsaturating_gradient_survives_a_sure_critic():
    sure = jnp.array([-50.0])
    saturating = jax.grad(lambda v: losses.minimax_generator_loss(v).sum())(sure)
    other = jax.grad(lambda v: losses.nonsaturating_generator_loss(v).sum())(sure)
    assert float(saturating[0]) == pytest.approx(0.0, abs=1e-20) and float(other[0]) == -1.0


@pytest.mark.parametrize("name", sorted(set(SETS) - {"wasserstein"}))
def test_accuracy_is_one_for_separated_outputs_and_zero_for_swapped(name):
    real, fake = jnp.array([3.0, 4.0]), jnp.array([-3.0, -2.0])
    assert SETS[name].correct(real, fake).tolist() == [1.0, 1.0]
    assert SETS[name].correct(fake, real).tolist() == [0.0, 0.0]


def test_codes_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="real_code must be above"):
        losses.least_squares_loss(real_code=-1.0, fake_code=1.0)


def test_a_trained_classifier_gives_the_density_ratio_under_unequal_class_sizes():
    # N(0, 1) against N(1, 1): the log ratio is 1/2 - x. Four times as many of the second.
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=20_000), rng.normal(size=80_000) + 1.0
    x = jnp.asarray(np.concatenate([p, q]), jnp.float32)
    y = jnp.concatenate([jnp.ones(len(p)), jnp.zeros(len(q))])

    def loss(w):
        logits = w[0] + w[1] * x
        return jnp.mean(jax.nn.softplus(logits) - y * logits)

    w, hessian, grad = jnp.zeros(2), jax.jit(jax.hessian(loss)), jax.jit(jax.grad(loss))
    for _ in range(8):
        w = w - jnp.linalg.solve(hessian(w), grad(w))
    points = jnp.linspace(-1.0, 2.0, 7)
    ratio = losses.log_density_ratio(w[0] + w[1] * points, len(p), len(q))
    np.testing.assert_allclose(ratio, 0.5 - points, atol=0.05)
    with pytest.raises(ValueError, match="num_denominator"):
        losses.log_density_ratio(points, 1, 0)


# f-divergences.

VALUES = {
    "total_variation": 0.5 * np.abs(P - Q).sum(),
    "kl": np.sum(P * np.log(P / Q)),
    "reverse_kl": np.sum(Q * np.log(Q / P)),
    "pearson": np.sum((P - Q) ** 2 / Q),
    "neyman": np.sum((P - Q) ** 2 / P),
    "squared_hellinger": np.sum((np.sqrt(P) - np.sqrt(Q)) ** 2),
    "jensen_shannon": 2 * JSD,
    "gan": 2 * JSD - np.log(4),
    "jeffreys": np.sum((P - Q) * np.log(P / Q)),
    "bhattacharyya": 1 - np.sum(np.sqrt(P * Q)),
}


def test_every_divergence_of_the_table_has_a_value_here():
    assert VALUES.keys() == losses.F_DIVERGENCES.keys()


@pytest.mark.parametrize("name", VALUES)
def test_optimal_critic_makes_the_bound_the_divergence(x64, name):
    record = losses.F_DIVERGENCES[name]
    u = jnp.asarray(P / Q)
    assert float(jnp.sum(Q * record.f(u))) == pytest.approx(VALUES[name], rel=1e-9)
    t = record.critic(u)
    bound = jnp.sum(P * t) - jnp.sum(Q * record.conjugate(t))
    assert float(bound) == pytest.approx(VALUES[name], rel=1e-9)


@pytest.mark.parametrize("form", ["paper", "ratio"])
@pytest.mark.parametrize("name", VALUES)
def test_bound_is_reached_at_the_ratio_and_nowhere_exceeded(x64, name, form):
    record = getattr(losses.F_DIVERGENCES[name], form)

    def bound(v):
        # Pairs weighted by P on one side and Q on the other.
        zero = losses.f_divergence_bound(jnp.zeros(8), jnp.zeros(8), divergence=name, form=form)
        real = losses.f_divergence_bound(v, jnp.zeros(8), divergence=name, form=form) - zero
        fake = losses.f_divergence_bound(jnp.zeros(8), v, divergence=name, form=form) - zero
        return jnp.sum(P * real) + jnp.sum(Q * fake) + zero[0]

    value = VALUES[name]
    rng = np.random.default_rng(2)
    for scale in (0.1, 1.0, 3.0):
        v = jnp.asarray(scale * rng.normal(size=(50, 8)))
        assert float(jax.vmap(bound)(v).max()) <= value + 1e-12
    if record.log_ratio is None:
        far = 200.0 * jnp.asarray(np.sign(P - Q))
        assert float(bound(far)) == pytest.approx(value, rel=1e-9)
        return
    # Maximise over v; the ratio it stands for must come out as p/q.
    v = jnp.zeros(8)
    hessian, grad = jax.jit(jax.hessian(bound)), jax.jit(jax.grad(bound))
    for _ in range(200):  # uphill also where the bound is not concave in v; points are independent
        v = v + jnp.clip(grad(v) / jnp.abs(jnp.diag(hessian(v))), -0.3, 0.3)
    assert float(bound(v)) == pytest.approx(value, rel=1e-9)
    ratio = losses.f_divergence_log_ratio(v, divergence=name, form=form)
    np.testing.assert_allclose(ratio, np.log(P / Q), atol=1e-6)
    # The threshold is where the ratio is one.
    threshold = jnp.asarray(record.threshold)
    np.testing.assert_allclose(record.log_ratio(threshold), 0.0, atol=1e-12)
    np.testing.assert_allclose(
        record.critic(threshold), losses.F_DIVERGENCES[name].critic(jnp.asarray(1.0)), atol=1e-12
    )


@pytest.mark.parametrize("form", ["paper", "ratio"])
@pytest.mark.parametrize("name", VALUES)
def test_fused_conjugate_is_the_conjugate_of_the_critic(x64, name, form):
    record = losses.F_DIVERGENCES[name]
    v = jnp.linspace(-2.0, 2.0, 9)
    one = getattr(record, form)
    np.testing.assert_allclose(
        one.conjugate(v), record.conjugate(one.critic(v)), rtol=1e-9, atol=1e-12
    )
    assert (np.diff(one.critic(v)) > 0).all(), "outputs grow with 'more real'"


@pytest.mark.parametrize("form", ["paper", "ratio"])
@pytest.mark.parametrize("name", ["gan", "jensen_shannon", "total_variation"])
def test_bounded_forms_are_finite_at_extreme_outputs(name, form):
    game = losses.f_gan_loss(name, form=form)
    v = jnp.array([-300.0, 300.0])
    for f in (game.critic, game.generator):
        value, grads = jax.value_and_grad(lambda r, g, f=f: f(r, g).sum(), (0, 1))(v, v)
        assert np.isfinite(value) and np.isfinite(grads).all()


@pytest.mark.parametrize("name", VALUES)
def test_limited_ratio_form_is_finite_and_still_a_bound(name):
    game = losses.f_gan_loss(name, max_log_ratio=8.0)
    v = jnp.array([-1e4, 1e4])
    value, grads = jax.value_and_grad(lambda r, f: game.critic(r, f).sum(), (0, 1))(v, v)
    assert np.isfinite(value) and np.isfinite(grads).all()
    points = jnp.asarray(3.0 * np.random.default_rng(3).normal(size=(50, 8)), jnp.float32)
    zero = game.critic(jnp.zeros(1), jnp.zeros(1))
    real = game.critic(points, jnp.zeros((50, 8))) - zero
    fake = game.critic(jnp.zeros((50, 8)), points) - zero
    bounds = -(jnp.sum(P * real + Q * fake, axis=1) + zero)
    assert float(bounds.max()) <= VALUES[name] + 1e-4


def test_jeffreys_conjugate_against_scipys_lambert_w(x64):
    from scipy.special import lambertw

    t = np.linspace(-30, 30, 61)
    w = lambertw(np.exp(1 - t)).real
    actual = losses.F_DIVERGENCES["jeffreys"].conjugate(jnp.asarray(t))
    np.testing.assert_allclose(actual, w + 1 / w + t - 2, rtol=1e-10)
    slope = jax.vmap(jax.grad(losses.F_DIVERGENCES["jeffreys"].conjugate))(jnp.asarray(t))
    np.testing.assert_allclose(slope, 1 / w, rtol=1e-10)  # (f*)' is the ratio


def test_generator_choices_of_the_f_gan():
    v = jnp.array([0.3])
    bound = losses.f_gan_loss("reverse_kl", generator="bound").generator(v, v)
    other = losses.f_gan_loss("reverse_kl", generator="alternative").generator(v, v)
    np.testing.assert_allclose(bound, 1.0 - v, rtol=1e-6)
    np.testing.assert_allclose(other, jnp.exp(-v), rtol=1e-6)


@pytest.mark.parametrize(
    "args, message",
    [
        (dict(divergence="kll"), "divergence must be one of"),
        (dict(divergence="kl", form="rato"), "form"),
        (dict(divergence="kl", generator="x"), "generator"),
        (dict(divergence="kl", form="paper", max_log_ratio=3.0), "only limits the ratio form"),
    ],
)
def test_wrong_f_gan_arguments_are_refused(args, message):
    with pytest.raises(Exception, match=message):  # beartype's error under the hook
        losses.f_gan_loss(**args)


def test_total_variation_has_no_ratio():
    with pytest.raises(ValueError, match="which density is larger"):
        losses.f_divergence_log_ratio(jnp.zeros(1), divergence="total_variation")


@pytest.mark.parametrize("name", ["kl", "gan", "squared_hellinger", "jeffreys"])
def test_a_trained_critic_recovers_the_log_ratio_of_two_gaussians(name):
    # p = N(0, 1), q = N(1, 1.5^2), the ratio a parabola; critic quadratic in x.
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=40_000), jnp.float32)
    y = jnp.asarray(1.0 + 1.5 * rng.normal(size=40_000), jnp.float32)

    def features(x):
        return jnp.stack([jnp.ones_like(x), x, x**2 - 1.0], axis=1)

    def loss(w):
        return jnp.mean(losses.f_gan_loss(name).critic(features(x) @ w, features(y) @ w))

    optimizer = optax.lbfgs()
    w = jnp.zeros(3)
    state, value_and_grad = optimizer.init(w), optax.value_and_grad_from_state(loss)

    @jax.jit
    def step(w, state):
        value, grad = value_and_grad(w, state=state)
        updates, state = optimizer.update(grad, state, w, value=value, grad=grad, value_fn=loss)
        return optax.apply_updates(w, updates), state

    for _ in range(30):
        w, state = step(w, state)
    points = np.linspace(-1.5, 1.5, 7)
    exact = stats.norm.logpdf(points) - stats.norm.logpdf(points, 1.0, 1.5)
    outputs = features(jnp.asarray(points, jnp.float32)) @ w
    learned = losses.f_divergence_log_ratio(outputs, divergence=name)
    np.testing.assert_allclose(learned, exact, atol=0.08)
    if name == "kl":
        kl, _ = integrate.quad(
            lambda t: stats.norm.pdf(t)
            * (stats.norm.logpdf(t) - stats.norm.logpdf(t, 1.0, 1.5)),
            -10, 10,
        )  # fmt: skip
        assert -float(loss(w)) == pytest.approx(kl, abs=0.02)


def test_parallel_lines():
    # Two lines at distance theta: W1 = theta, while JS is log 2 and KL infinite at every theta.
    theta, z = 0.7, jnp.linspace(0.0, 1.0, 64)
    real = jnp.stack([jnp.zeros(64), z], axis=1)
    fake = jnp.stack([jnp.full(64, theta), z], axis=1)
    critic = lambda x: -x[:, 0]  # noqa: E731 - the optimal 1-Lipschitz critic
    w1 = -losses.wasserstein_critic_loss(critic(real), critic(fake)).mean()
    assert float(w1) == pytest.approx(theta, rel=1e-6)
    assert losses.gradient_penalty(critic, real, fake, jnp.full(64, 0.5)).max() < 1e-10

    # A critic that separates the lines ever more surely.
    def bound(divergence, scale):
        v = lambda x: scale * jnp.where(x[:, 0] > theta / 2, -1.0, 1.0)  # noqa: E731
        return float(losses.f_divergence_bound(v(real), v(fake), divergence=divergence).mean())

    assert bound("jensen_shannon", 40.0) / 2 == pytest.approx(np.log(2), rel=1e-6)
    kl = [bound("kl", scale) for scale in (5.0, 20.0, 80.0)]
    assert kl[0] < kl[1] < kl[2] and kl[2] == pytest.approx(81.0, rel=1e-6)  # without bound


def test_limited_outputs_stand_for_limited_ratios():
    v = jnp.array([3.0])
    limited = 1.5 * np.tanh(2.0)
    ratio = losses.f_divergence_log_ratio(v, divergence="kl", max_log_ratio=1.5)
    np.testing.assert_allclose(ratio, limited, rtol=1e-6)
    bound = losses.f_divergence_bound(v, v, divergence="kl", max_log_ratio=1.5)
    game = losses.f_gan_loss("kl", max_log_ratio=1.5)
    np.testing.assert_allclose(bound, -game.critic(v, v), rtol=1e-6)


def test_jeffreys_in_the_papers_form_is_finite_as_far_as_its_value_is():
    conjugate = losses.F_DIVERGENCES["jeffreys"].paper
    t = jnp.array([-200.0, -60.0, 0.0, 60.0, 80.0])
    slope = jax.vmap(jax.grad(conjugate.conjugate))(t)
    assert np.isfinite(conjugate.conjugate(t)).all() and np.isfinite(slope).all()
    np.testing.assert_allclose(slope[3:], np.exp(t[3:] - 1), rtol=1e-4)
    np.testing.assert_allclose(conjugate.log_ratio(jnp.array([100.0])), 99.0, rtol=1e-6)


def test_relativistic_averages_are_those_of_the_batch():
    # softplus(mean(f) - r) + softplus(f - mean(r)), by hand for two pairs of means 1 and 0.
    real, fake = jnp.array([2.0, 0.0]), jnp.array([-1.0, 1.0])
    found = losses.relativistic_average_critic_loss(real, fake)
    expected = [np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-2.0)), np.log(2.0) + np.log(2.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Both sides move with differences only, and the generator's is the critic's exchanged.
    moved = losses.relativistic_average_critic_loss(real + 5.0, fake + 5.0)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.relativistic_average_generator_loss(real, fake),
        losses.relativistic_average_critic_loss(fake, real),
    )
