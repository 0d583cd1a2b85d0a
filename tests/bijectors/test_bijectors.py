import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import bijectors as bij
from genjax import ode
from genjax.nets.flow_conv import ConvNet
from genjax.nets.flow_mlp import ConcatSquashMLP
from genjax.nets.made import MADE

KEY = jax.random.key(0)
SPLINE = bij.rational_quadratic_spline(num_bins=5, bound=3.0)


class Net(nn.Module):
    """A conditioner: any trailing axis, context added, last layer not zero so that tests see it."""

    outputs: int

    @nn.compact
    def __call__(self, x, context=None):
        h = nn.Dense(16)(x)
        if context is not None:
            bias = nn.Dense(16)(context)
            h += bias.reshape(bias.shape[0], *(1,) * (x.ndim - 2), 16)
        return 0.5 * nn.Dense(self.outputs)(jnp.tanh(h))


def coupling(mask, elementwise):
    return bij.Coupling(bij.hashable(mask), elementwise, Net)


class Tokens(Net):
    """The same with the context added to tokens."""


TABLE = (6, 5)
IMAGE = (6, 2, 4, 2)
TOKENS = (6, 4, 3)
CASES = {
    "affine coupling": (coupling(bij.half_mask(5), bij.affine()), TABLE, True),
    "additive coupling": (coupling(bij.half_mask(5, first=False), bij.additive()), TABLE, True),
    "spline coupling": (coupling(bij.alternating_mask(5), SPLINE), TABLE, True),
    "checkerboard coupling": (coupling(bij.checkerboard_mask(2, 4), bij.affine()), IMAGE, True),
    "channel coupling": (coupling(bij.half_mask(2), SPLINE), IMAGE, True),
    "custom coupling": (
        coupling(np.array([True, False, False, True, True]), bij.affine()), TABLE, True,
    ),
    "masked autoregressive": (bij.MaskedAutoregressive(bij.affine(), 12), TABLE, True),
    "autoregressive spline": (bij.MaskedAutoregressive(SPLINE, 12), TABLE, True),
    "inverse autoregressive": (
        bij.Invert(bij.MaskedAutoregressive(bij.affine(), 12)), TABLE, True,
    ),
    "one entry": (bij.MaskedAutoregressive(bij.affine(), 12), (6, 1), True),
    "actnorm": (bij.ActNorm(), IMAGE, False),
    "lu": (bij.LULinear(), TABLE, False),
    "lu from a rotation": (bij.LULinear(identity=False), TABLE, False),
    "1x1 convolution": (bij.LULinear(identity=False, use_bias=False), IMAGE, False),
    "permutation": (bij.Permutation((3, 0, 4, 1, 2)), TABLE, False),
    "squeeze": (bij.Squeeze(), IMAGE, False),
    "sigmoid": (bij.Sigmoid(), TABLE, False),
    "tanh": (bij.Tanh(), TABLE, False),
    "logit": (bij.Logit(), TABLE, False),
    "direct 1x1 convolution": (bij.Convolution1x1(), IMAGE, False),
    "random permutation": (bij.Permutation(), TABLE, False),
    "fixed affine": (bij.Affine(-2.0, 0.5), IMAGE, False),
    "reshape": (bij.Reshape((2, 4, 2), (8, 2)), IMAGE, False),
    "marginal": (bij.Marginal(SPLINE, (True, False, True, True, False)), TABLE, False),
    "jet coupling": (coupling(bij.half_mask(5), bij.sigmoid_affine()), TABLE, True),
    "glow coupling": (
        coupling(bij.half_mask(2), bij.sigmoid_affine(offset=2.0, max_scale=1.0)), IMAGE, True,
    ),
    "token coupling": (
        bij.Coupling(bij.hashable(bij.alternating_mask(4)), bij.affine(), Tokens, axis=1),
        TOKENS, True,
    ),
    "transformer autoregressive": (
        bij.TransformerAutoregressive(bij.affine(), 4, 8, 2, 2), TOKENS, True,
    ),
    "continuous": (
        bij.ContinuousFlow(
            ConcatSquashMLP(8, 2), ode.Solver(rtol=1e-12, atol=1e-12, max_steps=10_000)
        ),
        TABLE, True,
    ),
    "repeat": (
        bij.Repeat(
            bij.Chain((bij.ActNorm(), bij.Permutation(), coupling(bij.half_mask(5), SPLINE))), 3
        ),
        TABLE, True,
    ),
    "repeat in a loop": (
        bij.Repeat(coupling(bij.half_mask(5), bij.affine()), 3, "full", unroll=False), TABLE, True,
    ),
    "multi-scale": (
        bij.MultiScale((coupling(bij.half_mask(2), bij.affine()), bij.ActNorm()), Net),
        IMAGE, True,
    ),
    "chain": (
        bij.Chain((bij.ActNorm(), coupling(bij.half_mask(5), SPLINE), bij.LULinear())),
        TABLE, True,
    ),
}  # fmt: skip


def moved(variables, dtype, scale):
    """Variables whose parameters are away from where they start."""
    leaves, tree = jax.tree.flatten(variables.get("params", {}))
    keys = jax.random.split(jax.random.key(2), max(len(leaves), 1))
    leaves = [
        leaf.astype(dtype) + scale * jax.random.normal(k, leaf.shape, dtype)
        for leaf, k in zip(leaves, keys, strict=False)
    ]
    return {**variables, "params": jax.tree.unflatten(tree, leaves)}


def start(name, dtype=jnp.float32, scale=0.4):
    """A bijector with parameters away from where they start, and rows for it."""
    bijector, shape, conditional = CASES[name]
    x = jax.random.normal(KEY, shape, dtype)
    if name == "logit":
        x = jax.nn.sigmoid(x)
    context = jax.random.normal(jax.random.key(1), (shape[0], 3), dtype) if conditional else None
    variables = moved(jax.jit(bijector.init)(KEY, x, context), dtype, scale)

    def forward(x, context=context):
        return bijector.apply(variables, x, context, method="forward_and_log_det")

    def inverse(y, context=context):
        return bijector.apply(variables, y, context, method="inverse_and_log_det")

    return forward, inverse, x, context


LONG = ("repeat", "transformer autoregressive", "continuous", "autoregressive spline")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in CASES
])  # fmt: skip
def test_inverse_undoes_forward_and_log_dets_are_those_of_the_jacobian(x64, name):
    forward, inverse, x, context = start(name, jnp.float64)
    y, log_det = forward(x)
    back, minus = inverse(y)
    # JAX's attention takes the softmax in float32, and not in one order for one token and for all.
    least = 1e-5 if name == "transformer autoregressive" else 1e-9
    np.testing.assert_allclose(back, x, atol=least)
    np.testing.assert_allclose(minus, -log_det, atol=10 * least)
    assert log_det.shape == (6,) and log_det.dtype == jnp.float64

    def one(row, c):
        return forward(row[None], None if c is None else c[None])[0]

    jacobian = jax.jit(jax.jacobian(one))(x[1], None if context is None else context[1])
    jacobian = np.concatenate([j.reshape(-1, x[1].size) for j in jax.tree.leaves(jacobian)])
    assert jacobian.shape[0] == jacobian.shape[1]
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], log_det[1], atol=10 * least)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_log_dets_are_float32_whatever_the_rows(name):
    for dtype in (jnp.float32, jnp.bfloat16):
        bijector, shape, _ = CASES[name]
        rows = jax.ShapeDtypeStruct(shape, dtype)
        (_, log_det), _ = jax.eval_shape(bijector.init_with_output, KEY, rows)
        assert log_det.dtype == jnp.float32 and log_det.shape == shape[:1]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_both_ways_under_vmap_and_grad_in_float32(name):
    bijector, shape, conditional = CASES[name]
    if name == "continuous":
        bijector = bij.ContinuousFlow(ConcatSquashMLP(8, 2))
    rows = jax.random.normal(KEY, (2, *shape))
    rows = jax.nn.sigmoid(rows) if name == "logit" else 2.0 * rows  # in and outside of splines
    context = jax.random.normal(KEY, (shape[0], 3)) if conditional else None
    variables = moved(jax.jit(bijector.init)(KEY, rows[0], context), jnp.float32, 0.1)
    images = jax.jit(bijector.apply)(variables, rows[0], context)[0]
    images = jax.tree.map(lambda y: jnp.stack([y, y]), images)
    for method, given in [("forward_and_log_det", rows), ("inverse_and_log_det", images)]:

        def call(x, method=method):
            return bijector.apply(variables, x, context, method=method)

        def total(x):
            y, log_det = call(x)
            return sum(jnp.sum(part**2) for part in jax.tree.leaves(y)) - jnp.sum(log_det)

        values, grads = jax.jit(jax.vmap(lambda x: (call(x), jax.grad(total)(x))))(given)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((values, grads)))
        one = jax.jit(call)(jax.tree.map(lambda x: x[1], given))
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "logit"])
def test_rows_in_bfloat16_do_not_make_log_dets_of_its_precision(name):
    rows = (0.1 + 0.8 * jax.random.uniform(KEY, (64, 50))).astype(jnp.bfloat16)
    log_dets = [CASES[name][0].apply({}, x)[1] for x in (rows, rows.astype(jnp.float32))]
    np.testing.assert_allclose(log_dets[0], log_dets[1], rtol=1e-6)


@pytest.mark.slow
def test_float32_rows_where_float64_is_enabled(x64):
    for model, shape in [
        (bij.glow(event_shape=(4, 4, 1), num_scales=1, num_steps=2, hidden_size=4), (4, 4, 1)),
        (bij.tarflow(event_shape=(4, 4, 1), num_layers=2, hidden_size=4, num_blocks=1,
                     num_heads=1), (4, 4, 1)),
        (bij.continuous_flow(event_shape=(2,), hidden_size=4), (2,)),
    ]:  # fmt: skip
        x = jax.random.uniform(KEY, (5, *shape), jnp.float32)
        variables = model.init(KEY, x)
        assert np.isfinite(model.apply(variables, x)).all()
        assert model.apply(variables, KEY, 3, method="sample").shape == (3, *shape)


@pytest.mark.parametrize("rows, still", [(50, 1), (50, 2), (50, 4), (1, 0), (1, 4)])
def test_an_entry_that_stands_still_in_the_first_batch_keeps_its_scale(rows, still):
    # 0.1 has no exact mean in floating point: still entries are not told by a deviation of 0.
    moving = 3.0 + 2.0 * jax.random.normal(KEY, (rows, 4 - still))
    x = jnp.concatenate([moving, jnp.full((rows, still), 0.1)], axis=1)
    _, variables = bij.ActNorm().init_with_output(KEY, x)
    scale = np.exp(variables["params"]["log_scale"])
    if rows == 1:
        np.testing.assert_array_equal(scale, 1.0)
    else:
        np.testing.assert_allclose(scale[: 4 - still], 1.0 / moving.std(0), rtol=1e-4)
        np.testing.assert_array_equal(scale[4 - still :], 1.0)
    y, _ = bij.ActNorm().apply(variables, x.at[:, -1].add(1.0))
    assert float(jnp.abs(y).max()) < 5


def test_glow_convolutions_start_from_channels_that_stand_still():
    net = ConvNet(2, hidden_size=4)
    _, variables = net.init_with_output(KEY, jnp.ones((2, 4, 4, 1)))
    still = net.init(KEY, jnp.zeros((2, 4, 4, 1)))["params"]["norm_in"]
    np.testing.assert_array_equal(still["scale"], 1.0)
    assert float(variables["params"]["norm_in"]["scale"].max()) <= 100.0


@pytest.mark.parametrize("batch_size", [1, 64])
def test_a_flow_of_rare_indicators_keeps_losses_of_ordinary_size(batch_size):
    # Two normal columns, and six that are 1 in one row of ten or of two hundred.
    rng = np.random.default_rng(0)
    x = np.zeros((2000, 8), np.float32)
    x[:, :2] = rng.normal(size=(2000, 2))
    x[:, 2:] = rng.uniform(size=(2000, 6)) < np.array([0.1] * 3 + [0.005] * 3)
    model = bij.Flow(
        bij.Chain((bij.ActNorm(), coupling(bij.half_mask(8), bij.affine()), bij.ActNorm())), (8,)
    )
    variables = model.init(KEY, jnp.asarray(x[:batch_size]))

    def loss(variables, rows):
        return -model.apply(variables, rows).mean()

    grad = jax.jit(jax.value_and_grad(loss))
    for step in range(5):
        value, grads = grad(variables, jnp.asarray(x[step * batch_size :][:batch_size]))
        assert 0.0 < abs(float(value)) < 100.0
        variables = jax.tree.map(lambda p, g: p - 1e-3 * g, variables, grads)
    assert abs(float(loss(variables, jnp.asarray(x)))) < 100.0


def test_the_logit_takes_what_has_one_in_and_outside_of_jit():
    logit = bij.Logit(0.05)
    edges = jnp.array([[-0.05, 1.05]])  # as samples of a flow may be
    assert np.isfinite(logit.apply({}, edges)[0]).all()
    closed_over = jax.jit(lambda scale: scale * logit.apply({}, edges)[0].sum())
    assert np.isfinite(closed_over(1.0))
    with pytest.raises(ValueError, match=r"got values from -0.2 to 0.5"):
        logit.apply({}, jnp.array([[-0.2, 0.5]]))
    assert np.isnan(jax.jit(lambda x: logit.apply({}, x)[0])(jnp.array([[-0.2]]))).all()


def test_what_is_fixed_cannot_be_trained_by_mistake():
    layer = bij.LULinear(identity=False)
    variables = layer.init(KEY, jnp.ones((2, 3)))
    assert all(jnp.issubdtype(v.dtype, jnp.integer)
               for v in jax.tree.leaves(variables["constants"]))  # fmt: skip
    with pytest.raises(TypeError, match="int32"):
        jax.grad(lambda v: layer.apply(v, jnp.ones((2, 3)))[0].sum())(variables)


HARD = ["affine coupling", "spline coupling", "autoregressive spline", "lu", "logit", "tanh"]


@pytest.mark.parametrize("name", HARD)
@pytest.mark.slow
def test_float32_round_trip_and_finite_gradients(name):
    forward, inverse, x, context = start(name, scale=0.1)
    y, log_det = forward(x)
    assert log_det.dtype == jnp.float32
    np.testing.assert_allclose(inverse(y)[0], x, atol=2e-4)

    def loss(x):
        y, log_det = forward(x)
        return jnp.sum(y**2) - jnp.sum(log_det)

    scale = 1.0 if name == "logit" else 5.0  # splines: inside and outside of the interval
    assert np.isfinite(jax.grad(loss)(scale * x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2]])
def test_context_changes_the_map(name):
    forward, _, x, context = start(name)
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), forward(x)[0], forward(x, context + 1.0)[0]
    )
    assert max(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.parametrize("elementwise", [bij.affine(), bij.additive(), SPLINE])
def test_raw_zeros_are_the_identity(elementwise):
    x = jnp.linspace(-5.0, 5.0, 41)
    raw = jnp.zeros((41, elementwise.num_params))
    for apply in (elementwise.forward, elementwise.inverse):
        y, log_slope = apply(x, raw)
        np.testing.assert_allclose(y, x, atol=1e-5)
        np.testing.assert_allclose(log_slope, 0.0, atol=1e-5)


@pytest.mark.slow
def test_the_spline_is_smooth_at_its_ends_and_knots(x64):
    raw = 1.0 * jax.random.normal(KEY, (SPLINE.num_params,), jnp.float64)
    x = jnp.linspace(-3.3, 3.3, 6001)
    y, log_slope = SPLINE.forward(x, jnp.broadcast_to(raw, (6001, raw.size)))
    assert (np.diff(y) > 0).all()
    # The slope is continuous, across the ends of the interval too, and is that of the values.
    fine = jnp.linspace(-3.3, 3.3, 60_001)
    _, finer = SPLINE.forward(fine, jnp.broadcast_to(raw, (60_001, raw.size)))
    jumps = [np.abs(np.diff(np.exp(slopes))).max() for slopes in (log_slope, finer)]
    assert jumps[1] < 0.12 * jumps[0], "ten times closer, a tenth of the difference"
    middle = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
    np.testing.assert_allclose(middle, np.exp(log_slope[1:-1]), rtol=0.05, atol=0.02)


def test_the_spline_by_the_papers_formula(x64):
    # Two bins with knots at -1, 0.2, 1 and values -1, -0.4, 1, slopes 1, 0.5, 1.
    spline = bij.rational_quadratic_spline(num_bins=2, bound=1.0)
    share = lambda s: np.log((np.array([s, 1 - s]) - 1e-3) / (1 - 2e-3))  # noqa: E731
    slope = np.log(np.expm1(0.5 - 1e-3)) - np.log(np.expm1(1 - 1e-3))
    raw = jnp.concatenate([share(0.6), share(0.3), jnp.array([slope])])
    x, (xk, xn), (yk, yn), (dk, dn) = 0.5, (0.2, 1.0), (-0.4, 1.0), (0.5, 1.0)
    s, xi = (yn - yk) / (xn - xk), (x - xk) / (xn - xk)
    expected = yk + (yn - yk) * (s * xi**2 + dk * xi * (1 - xi)) / (
        s + (dn + dk - 2 * s) * xi * (1 - xi)
    )
    y, _ = spline.forward(jnp.array(x), raw)
    assert float(y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "elementwise", [bij.affine(), bij.sigmoid_affine(), bij.additive(), SPLINE]
)
@pytest.mark.parametrize("shape", [(7,), (3, 2), (2, 3, 1, 4), (0, 2)])
@pytest.mark.slow
def test_maps_of_arrays_are_the_maps_of_their_entries(x64, elementwise, shape):
    x = 2.0 * jax.random.normal(KEY, shape, jnp.float64)
    outputs = jax.random.normal(
        jax.random.key(1), (*shape[:-1], shape[-1] * elementwise.num_params)
    )
    outputs = outputs.astype(jnp.float64)
    raw = outputs.reshape(*shape, elementwise.num_params)
    if len(shape) > 1:
        np.testing.assert_array_equal(elementwise.by_entry(outputs), raw)
    same = jax.random.normal(jax.random.key(2), (elementwise.num_params,), jnp.float64)
    for apply in (elementwise.forward, elementwise.inverse):
        y, log_slope = apply(x, raw)
        assert y.shape == log_slope.shape == shape
        for index in np.ndindex(shape):
            alone = apply(x[index], raw[index])
            np.testing.assert_allclose((y[index], log_slope[index]), alone, rtol=1e-12, atol=1e-12)
        # One set of parameters for all.
        for found, expected in zip(
            apply(x, same), apply(x, jnp.broadcast_to(same, raw.shape)), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_made_outputs_see_all_that_comes_before_and_nothing_else():
    for size, hidden_size in ((1, 7), (2, 7), (5, 7), (10, 4)):
        net = MADE(3, hidden_size=hidden_size, num_layers=3)
        x = jax.random.normal(KEY, (1, size))
        variables = net.init(KEY, x)
        variables = jax.tree.map(lambda p: p + 0.3, variables)
        jacobian = jax.jacobian(lambda r, v=variables, n=net: n.apply(v, r[None])[0])(x[0])
        depends = np.abs(jacobian).max(1) > 1e-9
        before = np.tril(np.ones((size, size), bool), -1)
        if hidden_size >= size - 1:
            np.testing.assert_array_equal(depends, before)
        else:  # fewer units than entries: some are out of sight, the last is not
            assert not (depends & ~before).any() and depends[-1, size - 2]


def test_actnorm_starts_with_the_data_at_mean_0_and_deviation_1():
    x = 3.0 + 2.0 * jax.random.normal(KEY, (64, 4, 4, 3)) * jnp.array([1.0, 2.0, 0.1])
    y, _ = bij.ActNorm().init_with_output(KEY, x)[0]
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0.0, atol=1e-4)
    np.testing.assert_allclose(y.std((0, 1, 2)), 1.0, rtol=1e-4)


def test_squeeze_puts_the_upper_left_pixel_first():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    y, _ = bij.Squeeze().apply({}, x)
    assert y[0, 0, 0].tolist() == [0.0, 1.0, 4.0, 5.0] and y.shape == (1, 2, 2, 4)


@pytest.mark.parametrize("call, message", [
    (lambda: bij.Squeeze().apply({}, jnp.ones((1, 3, 4, 1))), "height and width it divides"),
    (lambda: bij.Permutation((0, 0)).apply({}, jnp.ones((1, 2))), "permutation of 2"),
    (lambda: bij.half_mask(1), "at least two"),
    (lambda: coupling(np.array([True, False]), bij.affine()).init(KEY, jnp.ones((1, 3))),
     "the mask is for 2"),
    (lambda: coupling(np.array([True, True]), bij.affine()).init(KEY, jnp.ones((1, 2))),
     "keep some"),
    (lambda: bij.rational_quadratic_spline(num_bins=8, min_bin=0.2), "min_bin"),
    (lambda: bij.affine(max_log_scale=0.0), "positive"),
    (lambda: bij.Logit(0.6).apply({}, jnp.ones((1, 2))), "alpha must be in"),
    (lambda: bij.Repeat(bij.ActNorm(), 2, True).init(KEY, jnp.ones((1, 2))), "none, dots or full"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
