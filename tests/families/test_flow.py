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
    state = jax.jit(family.init)(KEY, data)
    state = state.replace(ema=jax.tree.map(jnp.zeros_like, state.ema))  # actnorm as the identity
    result = jax.jit(family.eval_step)(state, data, KEY)
    expected = math.log2(num_levels)
    np.testing.assert_allclose(result["bits_per_dim"], expected, atol=2e-4)
    np.testing.assert_allclose(result["bits_per_dim_importance"], expected, atol=2e-4)


@pytest.mark.parametrize("make", [bij.coupling_flow, bij.autoregressive_flow])
@pytest.mark.parametrize("elementwise", ["affine", "spline", "continuous"])
@pytest.mark.slow
def test_density_integrates_to_one_and_samples_follow_it(make, elementwise):
    if elementwise == "continuous":
        model = bij.continuous_flow(event_shape=(2,), hidden_size=8)
    else:
        model = make(event_shape=(2,), elementwise=elementwise, num_layers=2, hidden_size=8)
    x = jax.random.normal(KEY, (64, 2))
    variables = {"params": perturbed(jax.jit(model.init)(KEY, x)["params"], 0.1)}
    log_prob = jax.jit(lambda x: model.apply(variables, x, method="log_prob"))
    axis = jnp.linspace(-9.0, 9.0, 250)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(log_prob(grid)) * float(axis[1] - axis[0]) ** 2
    assert density.sum() == pytest.approx(1.0, abs=5e-3)
    sample = jax.jit(lambda key: model.apply(variables, key, 20_000, method="sample"))
    drawn = sample(KEY)
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


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
@pytest.mark.slow
def test_a_continuous_flow_scores_a_row_the_same_in_any_batch(trace):
    model = bij.continuous_flow(event_shape=(4,), hidden_size=8, trace=trace, tolerance=1e-3)
    family = build(model, event_shape=(4, 1), num_levels=17, eval_num_draws=2)
    data = levels(16)
    state = jax.jit(family.init)(KEY, data)
    state = state.replace(ema=perturbed(state.ema, 0.7))
    evaluate = jax.jit(family.eval_step)
    whole = evaluate(state, data, KEY)
    half = evaluate(state, jax.tree.map(lambda x: x[8:], data), KEY)
    np.testing.assert_allclose(half["nats"], whole["nats"][8:], rtol=1e-5)
    other = evaluate(state, data, jax.random.key(1))["nats"]
    assert float(jnp.abs(other - whole["nats"]).max()) > 0, "noise and signs follow the seed"
    assert ("bits_per_dim_importance" in whole) == (trace == "exact")
    assert family.eval_protocol["divergence"] == trace


@pytest.mark.slow
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
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((20_000, 2))}).rows
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.08)


def test_the_first_batch_sets_the_scale_of_the_data():
    family = build(optimizer=optax.sgd(0.1))
    x = 100.0 + 7.0 * jax.random.normal(KEY, (256, 2))
    state = jax.jit(family.init)(KEY, {"x": x})
    np.testing.assert_allclose(state.params["flow"]["bijector"]["bijectors_0"]["mean"], x.mean(0))
    assert not np.shares_memory(
        *(np.asarray(jax.tree.leaves(t)[0]) for t in (state.params, state.ema))
    )


def images(size=32):
    x = np.random.default_rng(0).integers(17, size=(size, 4, 4, 1)).astype(np.uint8)
    return {"x": jnp.asarray(x), "label": jnp.arange(size, dtype=jnp.int32) % 3,
            "index": jnp.arange(size, dtype=jnp.int32)}  # fmt: skip


def small_glow(**kwargs):
    return bij.glow(event_shape=(4, 4, 1), num_scales=1, num_steps=2, hidden_size=4, **kwargs)


@pytest.mark.slow
def test_fixed_rotations_and_permutations_are_carried_and_stay():
    family = build(small_glow(), event_shape=(4, 4, 1), num_levels=17)
    data = images()
    state = jax.jit(family.init)(KEY, data)
    constants = state.model_state["flow"]["constants"]
    assert jax.tree.leaves(constants)[0].shape[0] == 2, "one for each layer"
    before = jax.tree.map(np.asarray, constants)
    after, _ = jax.jit(family.train_step)(state, data, KEY)
    jax.tree.map(np.testing.assert_array_equal, before, after.model_state["flow"]["constants"])
    # They matter: other ones make another density.
    evaluate = jax.jit(family.eval_step)
    other = state.replace(
        model_state={"flow": {**state.model_state["flow"], "constants": jax.tree.map(
            lambda c: jnp.flip(c, 0), constants)}})  # fmt: skip
    a, b = evaluate(state, data, KEY)["nats"], evaluate(other, data, KEY)["nats"]
    assert float(jnp.abs(a - b).max()) > 1e-3


def test_the_round_trip_is_measured_now_and_then_and_kept_in_between():
    family = build(optimizer=optax.sgd(0.05), round_trip_every=3)
    x = 100.0 * jax.random.normal(KEY, (64, 2))
    state, errors = jax.jit(family.init)(KEY, {"x": x}), []
    state = state.replace(params=perturbed(state.params))
    step = jax.jit(family.train_step)
    for _ in range(5):
        state, metrics = step(state, {"x": x}, KEY)
        errors.append(float(metrics["round_trip_error"]))
    assert errors[0] == errors[1] == errors[2] > 0
    assert errors[3] == errors[4] != errors[0]


@pytest.mark.slow
def test_labels_are_the_context_and_only_where_there_is_one():
    family = build(small_glow(context_size=3), event_shape=(4, 4, 1), num_levels=17)
    data = images()
    state = jax.jit(family.init)(KEY, data)
    state = state.replace(ema=perturbed(state.ema, 0.1))
    evaluate = jax.jit(family.eval_step)
    nats = evaluate(state, data, KEY)["nats"]
    other = evaluate(state, {**data, "label": (data["label"] + 1) % 3}, KEY)["nats"]
    assert float(jnp.abs(nats - other).min()) > 1e-4
    sample = jax.jit(family.sample)
    drawn = [sample(state, KEY, {**data, "label": jnp.full(32, i)}).rows for i in (0, 1)]
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.slow
def test_a_trained_dequantiser_lowers_the_bound_of_two_levels():
    # Black or white with equal odds, each pixel as its neighbour: 1 bit for each pair.
    first = np.random.default_rng(0).integers(2, size=(512, 2, 1, 1))
    data = {
        "x": jnp.asarray(np.repeat(first, 2, axis=2), jnp.uint8),
        "index": jnp.arange(512, dtype=jnp.int32),
    }

    def bound(dequantizer):
        model = bij.real_nvp(
            event_shape=(2, 2, 1), num_scales=1, num_final_couplings=4, hidden_size=8, num_blocks=1
        )
        family = build(
            model, event_shape=(2, 2, 1), num_levels=2, dequantizer=dequantizer, ema_decay=0.9,
            optimizer=optax.adam(1e-2), eval_num_draws=4, round_trip_every=1000,
        )  # fmt: skip
        state, step = jax.jit(family.init)(KEY, data), jax.jit(family.train_step)
        for i in range(150):
            state, _ = step(state, data, jax.random.fold_in(KEY, i))
        result = jax.jit(family.eval_step)(state, data, KEY)
        return {name: float(values.mean()) for name, values in result.items()}

    uniform = bound(None)
    variational = bound(bij.VariationalDequantizer(2, hidden_size=8, num_blocks=1))
    assert variational["bits_per_dim"] < uniform["bits_per_dim"] - 0.02
    for result in (uniform, variational):
        # A bound on the entropy, half a bit for a pixel, which the importance weights tighten.
        assert 0.49 < result["bits_per_dim_importance"] < result["bits_per_dim"] < 1.0


def test_the_log_det_budget_of_a_flow_is_watched():
    model = bij.jet(
        event_shape=(4, 4, 1), patch_size=2, num_couplings=2, hidden_size=4, num_blocks=1,
        num_heads=1,
    )  # fmt: skip
    family = build(model, event_shape=(4, 4, 1), num_levels=17)
    limit = 2.0 * math.log(2.0)
    assert not family.diagnose({"log_det_per_dim": 0.8 * limit})
    assert "add couplings" in family.diagnose({"log_det_per_dim": 0.95 * limit})[0].message


def test_a_density_of_the_plane_is_drawn_around_the_samples():
    family = build()
    x = jax.random.normal(KEY, (64, 2))
    state = jax.jit(family.init)(KEY, {"x": x})
    drawn = jax.jit(family.sample)(state, KEY, {"x": x})
    size, reach = drawn.density.values.shape[0], float(drawn.density.extent[1])
    assert 2.0 < reach < 5.0
    mass = float(drawn.density.values.sum()) * (2 * reach / (size - 1)) ** 2
    assert 0.9 < mass < 1.01


@pytest.mark.slow
@pytest.mark.parametrize("kind, expected", [("identity", 8.99), ("gaussian", 6.12)])
def test_known_answers_on_mnist(tfds_dir, kind, expected):
    """A standard normal on [-1, 1), and one normal for each pixel."""
    from genjax import data

    sets = [
        data.load("mnist", split, data_dir=tfds_dir).source.arrays["x"]
        for split in ("train", "test")
    ]
    maps = [bij.Affine(2.0, -1.0), bij.ActNorm()]
    model = bij.Flow(bij.Chain(tuple(maps[: 1 + (kind == "gaussian")])), (784,))
    family = build(model, event_shape=(28, 28, 1), num_levels=256)
    train, test = (
        {"x": jnp.asarray(x), "index": jnp.arange(len(x), dtype=jnp.int32)} for x in sets
    )
    state = jax.jit(family.init)(KEY, train)
    bits = jax.jit(family.eval_step)(state, test, KEY)["bits_per_dim"]
    assert float(bits.mean()) == pytest.approx(expected, abs=0.005)


def test_samples_are_grey_levels_of_the_event():
    family = build(event_shape=(4, 1), num_levels=17)
    state = jax.jit(family.init)(KEY, levels())
    drawn = jax.jit(family.sample)(state, KEY, {"x": jnp.zeros((6, 4, 1), jnp.uint8)}).rows
    assert drawn.shape == (6, 4, 1) and drawn.dtype == jnp.uint8 and int(drawn.max()) <= 16


@pytest.mark.parametrize("make", [bij.coupling_flow, bij.autoregressive_flow, bij.continuous_flow])
@pytest.mark.slow
def test_images_are_rows_of_a_table_to_flows_of_vectors(make):
    small = dict(num_layers=1, hidden_size=8)
    of_images, of_rows = (make(event_shape=shape, **small) for shape in ((2, 2, 1), (4,)))
    assert of_images.event_shape == (4,)
    rows = jax.random.normal(KEY, (3, 4))
    log_probs = [jax.jit(m.init_with_output)(KEY, rows)[0] for m in (of_images, of_rows)]
    np.testing.assert_array_equal(*log_probs)

    family = build(of_images, event_shape=(2, 2, 1), num_levels=17)
    data = {**levels(), "x": levels()["x"].reshape(-1, 2, 2, 1)}
    state = jax.jit(family.init)(KEY, data)
    bits = jax.jit(family.eval_step)(state, data, KEY)["bits_per_dim"]
    assert bits.shape == (32,) and np.isfinite(bits).all()
    assert jax.jit(family.sample)(state, KEY, data).rows.shape == data["x"].shape


def test_a_large_round_trip_error_is_named():
    assert "round trip" in build().diagnose({"round_trip_error": 0.5})[0].message


@pytest.mark.parametrize("call, message", [
    (lambda: build(eval_num_draws=0), "eval_num_draws and round_trip_every must be"),
    (lambda: build(temperature=0.0), "temperature positive"),
    (lambda: build(dequantizer=bij.UniformDequantizer()), "needs no dequantizer"),
    (lambda: build(event_shape=(3, 1), model=bij.coupling_flow(event_shape=(2,))), "does not fit"),
    (lambda: jax.eval_shape(build(
        event_shape=(4, 1), num_levels=17, dequantizer=bij.VariationalDequantizer()
    ).init, KEY, levels()), "variational dequantisation is for images"),
    (lambda: bij.coupling_flow(event_shape=(1,)), "at least two"),
    (lambda: bij.coupling_flow(event_shape=(2,), num_layers=0), "num_layers"),
    (lambda: bij.coupling_flow(event_shape=(2,), elementwise="cubic"), "elementwise"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(Exception, match=message):
        call()
