import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import bijectors as bij

KEY = jax.random.key(0)
SHAPE = (4, 4, 2)
SMALL = dict(hidden_size=4, num_blocks=1)
HEADS = dict(hidden_size=8, num_blocks=1, num_heads=2)
RECIPES = {
    "real_nvp": functools.partial(bij.real_nvp, num_couplings=2, num_final_couplings=2, **SMALL),
    "real_nvp, one scale, gated": functools.partial(
        bij.real_nvp, num_scales=1, num_final_couplings=2, net="gated", **SMALL
    ),
    "glow": functools.partial(bij.glow, num_scales=2, num_steps=2, hidden_size=4),
    "glow, additive, direct, one scale": functools.partial(
        bij.glow, num_scales=1, num_steps=1, elementwise="additive", linear="direct", hidden_size=4
    ),
    "spline": functools.partial(
        bij.glow, num_scales=2, num_steps=1, elementwise="spline", net="residual", split=False,
        dropout_rate=0.5, **SMALL,
    ),
    "jet": functools.partial(
        bij.jet, patch_size=2, num_couplings=5, kinds=("channels", "rows_inverse"), **HEADS
    ),
    "tarflow": functools.partial(bij.tarflow, patch_size=2, num_layers=2, **HEADS),
}  # fmt: skip


def moved(variables, scale=0.1):
    """Variables whose parameters are away from where they start."""
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(3), len(leaves))
    leaves = [
        p + scale * jax.random.normal(k, p.shape, p.dtype)
        for p, k in zip(leaves, keys, strict=True)
    ]
    return {**variables, "params": jax.tree.unflatten(tree, leaves)}


@functools.cache
def built(name, dtype=None, context_size=None):
    kwargs = {} if dtype is None else {"dtype": dtype}
    model = RECIPES[name](event_shape=SHAPE, context_size=context_size, **kwargs)
    x = jax.random.uniform(KEY, (6, *SHAPE))
    context = None if context_size is None else jax.random.normal(KEY, (6, context_size))
    return model, moved(dict(jax.jit(model.init)(KEY, x, context))), x, context


QUICK = ("tarflow",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in RECIPES]
)
@pytest.mark.slow
def test_all_latents_come_back_and_the_log_det_is_that_of_the_jacobian(name):
    model, variables, x, _ = built(name)
    encode = jax.jit(lambda x: model.apply(variables, x, method="encode"))
    z, log_det = encode(x)
    parts = jax.tree.leaves(z)
    assert sum(part[0].size for part in parts) == x[0].size
    assert len(parts) == (2 if name in ("real_nvp", "glow") else 1)
    back = jax.jit(lambda z: model.apply(variables, z, method="decode"))(z)
    np.testing.assert_allclose(back, x, atol=1e-4)
    assert log_det.dtype == jnp.float32

    jacobian = jax.jit(jax.jacobian(lambda row: encode(row[None])[0]))(x[0])
    rows = np.concatenate([j.reshape(-1, x[0].size) for j in jax.tree.leaves(jacobian)])
    assert np.linalg.slogdet(rows)[1] == pytest.approx(float(log_det[0]), abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real_nvp", "glow", "jet", "tarflow"])
def test_networks_in_bfloat16_leave_a_float32_map_that_inverts(name):
    model, variables, x, _ = built(name, "bfloat16")
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables["params"]))
    z, log_det = jax.jit(lambda x: model.apply(variables, x, method="encode"))(x)
    assert log_det.dtype == jnp.float32
    assert all(part.dtype == jnp.float32 for part in jax.tree.leaves(z))
    back = jax.jit(lambda z: model.apply(variables, z, method="decode"))(z)
    np.testing.assert_allclose(back, x, atol=3e-2)
    exact, variables, *_ = built(name)
    assert float(jnp.abs(exact.apply(variables, x, method="encode")[1] - log_det).max()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real_nvp", "glow", "spline", "jet", "tarflow"])
def test_a_context_changes_the_density_and_is_checked(name):
    model, variables, x, context = built(name, None, 3)
    log_prob = jax.jit(functools.partial(model.apply, variables, x, method="log_prob"))
    assert float(jnp.abs(log_prob(context) - log_prob(context + 1.0)).max()) > 1e-3
    drawn = jax.jit(lambda c: model.apply(variables, KEY, 6, c, method="sample"))(context)
    assert drawn.shape == x.shape and np.isfinite(drawn).all()
    for given, message in [
        (None, r"needs a context \[B, 3\]"),
        (context[:, :2], r"length 3: expected shape \(6, 3\), got \(6, 2\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            log_prob(given)
    model, variables, x, _ = built(name)
    with pytest.raises(ValueError, match="built without context_size"):
        model.apply(variables, x, context, method="log_prob")


@pytest.mark.slow
def test_samples_come_with_their_log_density():
    model, variables, *_ = built("real_nvp")
    x, log_prob = model.apply(variables, KEY, 5, method="sample_and_log_prob")
    np.testing.assert_allclose(model.apply(variables, x), log_prob, rtol=5e-3)


@pytest.mark.slow
def test_temperature_zero_decodes_the_middle_and_latents_are_normal():
    model, variables, x, _ = built("glow")
    z = model.apply(variables, KEY, 500, method="draw_latents")
    values = np.concatenate([np.asarray(part).ravel() for part in z])
    assert abs(values.mean()) < 0.05 and values.std() == pytest.approx(1.0, abs=0.03)
    zeros = jax.tree.map(lambda part: jnp.zeros_like(part[:1]), z)
    middle = model.apply(variables, zeros, method="decode")
    cold = model.apply(variables, KEY, 2, temperature=0.0, method="sample")
    np.testing.assert_allclose(cold, jnp.broadcast_to(middle, cold.shape), atol=1e-6)


def test_what_is_put_aside_has_the_density_of_its_prior():
    from scipy import stats

    flow = bij.Flow(bij.MultiScale((bij.Affine(), bij.Affine()), prior_of_rest), (2, 2, 4))
    x = jax.random.normal(KEY, (3, 2, 2, 4))
    variables = moved(dict(jax.jit(flow.init)(KEY, x)), 0.3)
    aside, rest = np.split(np.asarray(x), 2, axis=-1)
    dense = variables["params"]["bijector"]["priors_0"]["Net_0"]["out"]
    raw = (rest @ dense["kernel"] + dense["bias"]).reshape(3, 2, 2, 2, 2)
    # z = e^s aside + t, so aside ~ N(-t e^-s, e^-2s).
    scale = np.exp(-3.0 * np.tanh(raw[..., 0] / 3.0))
    expected = stats.norm.logpdf(aside, -raw[..., 1] * scale, scale).sum((1, 2, 3))
    expected = expected + stats.norm.logpdf(rest).sum((1, 2, 3))
    np.testing.assert_allclose(flow.apply(variables, x), expected, rtol=1e-4)


def prior_of_rest(outputs):
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, context=None):
            return nn.Dense(outputs, name="out")(x)

    return Net()


@pytest.mark.slow
def test_what_is_computed_again_is_not_kept_and_changes_no_gradient():
    layer = bij.Coupling((True, False), bij.rational_quadratic_spline(num_bins=3), bij_mlp)
    x = jax.random.normal(KEY, (16, 2))
    kept: list[int] = []
    gradients = []
    for remat in ("none", "dots", "full"):
        bijector = bij.Repeat(layer, 2, remat=remat, unroll=False)
        variables = moved(dict(jax.jit(bijector.init)(KEY, x)))
        (y, log_det), backwards = jax.vjp(bijector.apply, variables, x)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(backwards)))
        gradients.append(backwards((jnp.cos(y), jnp.ones_like(log_det))))
    assert kept[0] > 2 * kept[1] > 4 * kept[2]
    for again in gradients[1:]:
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            again, gradients[0],
        )  # fmt: skip


@pytest.mark.slow
def test_layers_in_a_loop_and_written_out_are_one_map():
    layer = bij.Chain((
        bij.ActNorm(), bij.LULinear(identity=False),
        bij.Coupling((True, False), bij.affine(), bij_mlp),
    ))  # fmt: skip
    x = 2.0 + jax.random.normal(KEY, (64, 2))
    loop, written = (bij.Repeat(layer, 3, unroll=u) for u in (False, True))
    variables = jax.jit(loop.init)(KEY, x)
    again = jax.jit(written.init)(KEY, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), variables, again)
    # Each layer is set by what the ones before made of the data, and has parameters of its own.
    means = variables["params"]["bijector"]["bijectors_0"]["mean"]
    np.testing.assert_allclose(means[0], x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(means[1:], np.zeros((2, 2)), atol=1e-5)
    variables = moved(dict(variables))
    for method in ("forward_and_log_det", "inverse_and_log_det"):
        for a, b in zip(
            loop.apply(variables, x, method=method),
            written.apply(variables, x, method=method),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)
    jaxpr = str(jax.make_jaxpr(lambda x: loop.apply(variables, x))(x))
    assert "length=3" in jaxpr and "unroll=1" in jaxpr


def bij_mlp(outputs):
    from genjax.nets.flow_mlp import ResidualMLP

    return ResidualMLP(outputs, hidden_size=4)


@pytest.mark.slow
def test_causal_transformer_outputs_see_only_earlier_tokens():
    from genjax.nets.flow_transformer import CausalTransformer

    net = CausalTransformer(3, 8, 2, 2, num_tokens=5)
    x = jax.random.normal(KEY, (1, 5, 2))
    variables = moved(dict(jax.jit(net.init)(KEY, x)), 0.3)
    jacobian = jax.jit(jax.jacobian(lambda r: net.apply(variables, r[None])[0]))(x[0])
    depends = np.abs(jacobian).max((1, 3)) > 1e-9
    np.testing.assert_array_equal(depends, np.tril(np.ones((5, 5), bool), -1))


@pytest.mark.slow
def test_the_bound_on_jets_log_det_holds():
    model, variables, x, _ = built("jet")
    # All scales as large as they get: the bound is reached.
    far = jax.tree_util.tree_map_with_path(
        lambda path, p: (
            jnp.full_like(p, 20.0 * ("bias" in str(path))) if "dense_out" in str(path) else p
        ),
        variables,
    )
    _, log_det = model.apply(far, x, method="encode")
    np.testing.assert_allclose(log_det / x[0].size, model.max_log_det_per_dim, rtol=1e-5)
    assert float(model.apply(variables, x, method="encode")[1].max()) < float(log_det.min())


@pytest.mark.slow
def test_dropout_acts_only_where_it_has_a_key():
    model, variables, x, _ = built("spline")
    plain = model.apply(variables, x)
    np.testing.assert_array_equal(plain, model.apply(variables, x))
    dropped = [model.apply(variables, x, rngs={"dropout": jax.random.key(i)}) for i in range(2)]
    assert float(jnp.abs(dropped[0] - plain).max()) > 1e-5
    assert float(jnp.abs(dropped[0] - dropped[1]).max()) > 1e-5


@pytest.mark.parametrize("call, message", [
    (lambda: bij.real_nvp(event_shape=(2,)), r"for images \[H, W, C\]"),
    (lambda: bij.real_nvp(event_shape=(6, 6, 1), num_scales=3), "4 divides, got 6 x 6"),
    (lambda: bij.glow(event_shape=(28, 28, 1), num_scales=3), "8 divides, got 28 x 28"),
    (lambda: bij.glow(event_shape=SHAPE, num_scales=1, dropout_rate=0.1), "has no dropout"),
    (lambda: bij.glow(event_shape=SHAPE, num_scales=1, linear="qr"), "direct or lu"),
    (lambda: bij.glow(event_shape=SHAPE, num_scales=1, elementwise="cubic"), "elementwise must be"),
    (lambda: bij.real_nvp(event_shape=SHAPE, net="mlp"), "conv, gated or residual"),
    (lambda: bij.jet(event_shape=(28, 28, 1), patch_size=3), "3 divides"),
    (lambda: bij.jet(event_shape=SHAPE, patch_size=2, num_couplings=1, kinds=("diagonal",)),
     "kinds must be among"),
    (lambda: bij.jet(event_shape=(12, 12, 1), patch_size=4, num_couplings=1,
                     kinds=("checkerboard",), **HEADS).init(KEY, jnp.ones((1, 12, 12, 1))),
     "must keep half, got a mask that keeps 5"),
    (lambda: bij.tarflow(event_shape=SHAPE, patch_size=2, num_layers=1, hidden_size=9, num_heads=2)
     .init(KEY, jnp.ones((1, *SHAPE))), "num_heads 2 does not divide"),
    (lambda: bij.MultiScale((bij.Affine(), bij.Affine())).init(KEY, jnp.ones((1, 2, 2, 3))),
     "even number of channels"),
    (lambda: bij.MultiScale((bij.Affine(), bij.Affine())).apply(
        {}, (jnp.ones((1, 2, 2, 1)),), method="inverse_and_log_det"), "latents of 2 scales"),
    (lambda: bij.Repeat(bij.Squeeze(), 2).init(KEY, jnp.ones((1, 4, 4, 1))), "keep the shape"),
    (lambda: bij.Repeat(bij.ActNorm(), 0).init(KEY, jnp.ones((1, 2))), "count must be"),
    (lambda: bij.real_nvp(event_shape=SHAPE, num_scales=1, **SMALL).init(
        KEY, 2.0 * jnp.ones((1, *SHAPE))), r"data in \[0, 1\], got values from 2 to 2"),
    (lambda: built("glow")[0].apply(built("glow")[1], jnp.ones((1, 3)), method="decode"),
     "latents of 32 entries"),
    (lambda: built("glow")[0].apply(built("glow")[1], jnp.ones((1, 4, 4, 1))), "expected data"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


DEVICES = """
import json
import jax, numpy as np, optax
from genjax import bijectors, families
from genjax.training import mesh, step as stepping

model = bijectors.glow(event_shape=(4, 4, 1), num_scales=1, num_steps=2, hidden_size=4)
family = families.flow(
    model=model, optimizer=optax.adam(1e-2), event_shape=(4, 4, 1), num_levels=17,
    round_trip_every=1,
)
x = np.random.default_rng(0).integers(17, size=(16, 4, 4, 1)).astype(np.uint8)
x[8:] //= 3  # devices see different data
batch, key = {"x": x}, jax.random.key(0)
devices = mesh.make_mesh()
state = stepping.init_state(family, key, batch, devices)
scale = state.params["flow"]["bijector"]["bijectors_0"]
mean = scale["bijectors_2"]["bijector"]["bijectors_0"]["mean"]
mean = np.asarray(mean)  # the state is donated
step = stepping.compile_train_step(family, state, batch, key, devices)
losses = []
placed = mesh.global_batch(devices, batch)
for _ in range(2):
    state, metrics = step(state, placed, key)
    losses.append(float(metrics["loss"]))
print(json.dumps([*mean.ravel().tolist(), *losses]))
"""


@pytest.mark.slow
def test_actnorm_starts_from_the_global_batch_whatever_the_devices(in_a_process):
    found = [in_a_process(DEVICES, devices=n) for n in (1, 4)]
    assert len(found[0]) == 2 * 4 + 2
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
