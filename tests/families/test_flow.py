import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from genjax import bijectors as bij
from genjax import families

KEY = jax.random.key(0)


class Probit(bij.Bijector):
    """The inverse of the normal distribution function: what makes the flow uniform on [0, 1]."""

    def forward_and_log_det(self, x, context=None):
        y = jax.scipy.special.ndtri(x)
        return y, -jnp.sum(jax.scipy.stats.norm.logpdf(y), axis=1)

    def inverse_and_log_det(self, y, context=None):
        return jax.scipy.special.ndtr(y), jnp.sum(jax.scipy.stats.norm.logpdf(y), axis=1)


def build(model=None, *, event_shape=(2,), num_levels=None, **kwargs):
    size = math.prod(event_shape)
    model = model or bij.coupling_flow(
        event_shape=(size,), num_layers=2, hidden_size=16, num_bins=4, bound=4.0
    )
    kwargs.setdefault("optimizer", optax.adam(1e-2))
    return families.flow(model=model, event_shape=event_shape, num_levels=num_levels, **kwargs)


def levels(size=32, num_levels=17):
    x = np.random.default_rng(0).integers(num_levels, size=(size, 4, 1))
    return {"x": jnp.asarray(x, jnp.uint8), "index": jnp.arange(size, dtype=jnp.int32)}


def perturbed(params, scale=0.3):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [p + scale * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("num_levels", [2, 256])
def test_a_uniform_density_scores_the_bits_of_the_levels(num_levels):
    model = bij.Flow(bij.Chain((Probit(), bij.ActNorm())), (4,))
    family = build(model, event_shape=(4, 1), num_levels=num_levels, eval_num_draws=3)
    data = levels(num_levels=num_levels)
    state = family.init(KEY, data)
    state = state.replace(ema=jax.tree.map(jnp.zeros_like, state.ema))  # actnorm as the identity
    result = jax.jit(family.eval_step)(state, data, KEY)
    expected = math.log2(num_levels)
    np.testing.assert_allclose(result["bits_per_dim"], expected, atol=2e-4)
    np.testing.assert_allclose(result["bits_per_dim_importance"], expected, atol=2e-4)


@pytest.mark.parametrize("make", [bij.coupling_flow, bij.autoregressive_flow])
@pytest.mark.parametrize("elementwise", ["affine", "spline"])
def test_density_integrates_to_one_and_samples_follow_it(make, elementwise):
    model = make(event_shape=(2,), elementwise=elementwise, num_layers=2, hidden_size=8)
    x = jax.random.normal(KEY, (64, 2))
    variables = {"params": perturbed(jax.jit(model.init)(KEY, x)["params"], 0.1)}
    log_prob = jax.jit(lambda x: model.apply(variables, x, method="log_prob"))
    axis = jnp.linspace(-9.0, 9.0, 500)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(log_prob(grid)) * float(axis[1] - axis[0]) ** 2
    assert density.sum() == pytest.approx(1.0, abs=5e-3)
    drawn = model.apply(variables, KEY, 20_000, method="sample")
    for moment in (lambda x: x, np.square):
        expected = (moment(np.asarray(grid)) * density[:, None]).sum(0)
        actual = moment(np.asarray(drawn))
        np.testing.assert_allclose(
            actual.mean(0), expected, atol=5 * actual.std(0).max() / math.sqrt(20_000) + 0.02
        )


def test_importance_bound_is_tighter_and_neither_depends_on_the_batch():
    family = build(event_shape=(4, 1), num_levels=17, eval_num_draws=8)
    data = levels()
    state = jax.jit(family.init)(KEY, data)
    state = state.replace(ema=perturbed(state.ema, 0.1))
    evaluate = jax.jit(family.eval_step)
    whole = evaluate(state, data, KEY)
    assert (whole["bits_per_dim_importance"] < whole["bits_per_dim"]).all()
    half = evaluate(state, jax.tree.map(lambda x: x[16:], data), KEY)
    for name, values in half.items():
        np.testing.assert_allclose(values, whole[name][16:], rtol=1e-5)


def test_training_finds_a_correlated_gaussian():
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    x = np.random.default_rng(0).multivariate_normal([3.0, -1.0], covariance, 4096)
    data = {"x": jnp.asarray(x, jnp.float32), "index": jnp.arange(4096, dtype=jnp.int32)}
    model = bij.coupling_flow(event_shape=(2,), elementwise="affine", num_layers=1, hidden_size=8)
    family = build(model, optimizer=optax.adam(2e-2), ema_decay=0.9)
    state = jax.jit(family.init)(KEY, data)
    step = jax.jit(family.train_step)
    for i in range(150):
        state, metrics = step(state, data, jax.random.fold_in(KEY, i))
    nats = jax.jit(family.eval_step)(state, data, KEY)["nats"]
    exact = -stats.multivariate_normal([3.0, -1.0], covariance).logpdf(x)
    assert float(nats.mean()) == pytest.approx(exact.mean(), abs=0.01)
    assert float(metrics["round_trip_error"]) < 1e-4 and not family.diagnose(
        {k: float(v) for k, v in metrics.items()}
    )
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((20_000, 2))})["samples"]
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.08)


def test_the_first_batch_sets_the_scale_of_the_data():
    family = build()
    x = 100.0 + 7.0 * jax.random.normal(KEY, (256, 2))
    state = jax.jit(family.init)(KEY, {"x": x})
    np.testing.assert_allclose(state.params["flow"]["bijector"]["bijectors_0"]["mean"], x.mean(0))
    assert not np.shares_memory(
        *(np.asarray(jax.tree.leaves(t)[0]) for t in (state.params, state.ema))
    )


def test_samples_are_grey_levels_of_the_event():
    family = build(event_shape=(4, 1), num_levels=17)
    state = jax.jit(family.init)(KEY, levels())
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((6, 4, 1), jnp.uint8)})["samples"]
    assert drawn.shape == (6, 4, 1) and drawn.dtype == jnp.uint8 and int(drawn.max()) <= 16


def test_a_large_round_trip_error_is_named():
    assert "round trip" in build().diagnose({"round_trip_error": 0.5})[0]


@pytest.mark.parametrize("call, message", [
    (lambda: build(eval_num_draws=0), "eval_num_draws and round_trip_every must be"),
    (lambda: build(temperature=0.0), "temperature positive"),
    (lambda: bij.coupling_flow(event_shape=(4, 4, 1)), "for points"),
    (lambda: bij.coupling_flow(event_shape=(1,)), "at least two"),
    (lambda: bij.coupling_flow(event_shape=(2,), num_layers=0), "num_layers"),
    (lambda: bij.coupling_flow(event_shape=(2,), elementwise="cubic"), "elementwise"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(Exception, match=message):
        call()
