import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.families.vdm_import import import_official_vdm
from genjax.nets import ScoreMLP, ScoreResNet
from genjax.nets.dropout import Dropout

SMALL = dict(channels=8, num_layers=2, num_groups=4)


def noisy(params):
    """Parameters with every zero-initialised layer switched on."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noise)


def inputs(batch=3):
    z_t = jax.random.normal(jax.random.key(0), (batch, 6, 5, 2))
    return z_t, jnp.linspace(-13.3, 5.0, batch)


@pytest.fixture(scope="module")
def params():
    return noisy(jax.jit(ScoreResNet(**SMALL).init)(jax.random.key(1), *inputs()))


def test_initial_network_predicts_its_input():
    z_t, gamma_t = inputs()
    net = ScoreResNet(**SMALL)
    out = jax.jit(net.apply)(jax.jit(net.init)(jax.random.key(1), z_t, gamma_t), z_t, gamma_t)
    np.testing.assert_array_equal(out, z_t)


def stacked(params):
    """The parameters of a scanned network from those of an unrolled one."""
    tree = dict(params["params"])
    for stage in ("down", "up"):
        names = sorted(n for n in tree if n.startswith(f"{stage}_"))
        tree[stage] = jax.tree.map(lambda *p: jnp.stack(p), *(tree.pop(n) for n in names))
    return {"params": tree}


def loss_and_grads(net, params):
    def loss(params):
        return jnp.sum(jnp.sin(net.apply(params, *inputs())))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope="module")
def plain(params):
    """The loss of the network without scan and remat, and its gradients."""
    return loss_and_grads(ScoreResNet(**SMALL), params)


@pytest.mark.parametrize(
    "scan, remat",
    [(False, "dots"), (False, "full"), (True, "none"), (True, "dots"), (True, "full")],
)
@pytest.mark.slow
def test_scan_and_remat_change_nothing(params, plain, scan, remat):
    net = ScoreResNet(**SMALL, scan_layers=scan, remat=remat)
    value, grads = loss_and_grads(net, stacked(params) if scan else params)
    expected_grads = stacked(plain[1]) if scan else plain[1]
    np.testing.assert_allclose(value, plain[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_scanned_network_initialises_each_layer_differently():
    net = ScoreResNet(**SMALL, scan_layers=True)
    variables = jax.jit(net.init)(jax.random.key(1), *inputs())
    kernel = variables["params"]["down"]["residual"]["conv_0"]["kernel"]
    assert kernel.shape == (2, 3, 3, 8, 8)
    assert float(jnp.abs(kernel[0] - kernel[1]).max()) > 0.01


def test_bfloat16_trunk_returns_float32_close_to_float32(params):
    z_t, gamma_t = inputs()
    exact = jax.jit(ScoreResNet(**SMALL).apply)(params, z_t, gamma_t)
    rough = jax.jit(ScoreResNet(**SMALL, dtype="bfloat16").apply)(params, z_t, gamma_t)
    assert rough.dtype == jnp.float32
    error = jnp.abs(rough - exact).max() / jnp.abs(exact - z_t).max()
    assert 0 < float(error) < 0.05


@pytest.mark.slow
def test_gamma_labels_context_and_dropout_all_matter():
    z_t, gamma_t = inputs()
    net = ScoreResNet(**SMALL, num_classes=3, context_size=1, attention="everywhere")
    label, context = jnp.arange(3), jnp.zeros((3, 1))
    params = noisy(jax.jit(net.init)(jax.random.key(1), z_t, gamma_t, label, context))
    base = net.apply(params, z_t, gamma_t, label, context)
    np.testing.assert_array_equal(net.apply(params, z_t, gamma_t, label), base)
    others = [
        net.apply(params, z_t, gamma_t + 1.0, label, context),
        net.apply(params, z_t, gamma_t, label[::-1], context),
        net.apply(params, z_t, gamma_t, label, context + 1.0),
        net.apply(
            params, z_t, gamma_t, label, deterministic=False, rngs={"dropout": jax.random.key(0)}
        ),
    ]
    for other in others:
        assert float(jnp.abs(other - base).max()) > 1e-3


@pytest.mark.slow
def test_rows_do_not_see_each_other(params):
    z_t, gamma_t = inputs()
    apply = jax.jit(ScoreResNet(**SMALL).apply)
    alone = apply(params, z_t[:1], gamma_t[:1])
    np.testing.assert_allclose(apply(params, z_t, gamma_t)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "fields, args, message",
    [
        (dict(num_groups=3), (), "divide"),
        (dict(num_classes=2), (), "label is missing"),
        ({}, (jnp.zeros(3, jnp.int32),), "label is given"),
    ],
)
def test_what_does_not_fit_raises(fields, args, message):
    net = ScoreResNet(**{**SMALL, **fields})
    with pytest.raises(ValueError, match=message):
        net.init(jax.random.key(0), *inputs(), *args)


def test_mlp_is_conditioned_on_gamma_and_label():
    z_t, gamma_t, label = jnp.ones((2, 2)), jnp.zeros(2), jnp.arange(2)
    net = ScoreMLP(hidden_size=8, num_layers=1, num_classes=2)
    params = noisy(jax.jit(net.init)(jax.random.key(0), z_t, gamma_t, label))
    base = net.apply(params, z_t, gamma_t, label)
    assert float(jnp.abs(base[0] - base[1]).max()) > 1e-3
    assert float(jnp.abs(net.apply(params, z_t, gamma_t + 1, label) - base).max()) > 1e-3


@pytest.mark.parametrize("shape", [(400, 500), (100, 20, 101), (200_001,)])
def test_dropout_keeps_the_mean_and_the_rate(shape):
    x = jnp.ones(shape)
    out = Dropout(0.1).apply({}, x, deterministic=False, rngs={"dropout": jax.random.key(0)})
    assert float((out == 0).mean()) == pytest.approx(0.1, abs=0.003)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.003)
    np.testing.assert_array_equal(Dropout(0.1).apply({}, x, deterministic=True), x)
    neighbours = (out == 0).reshape(-1)[: x.size // 2 * 2].reshape(-1, 2)  # of one random word
    assert float(neighbours.all(1).mean()) == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0, 4), (3, 0)])
def test_dropout_takes_arrays_of_few_or_no_entries(shape):
    out = Dropout(0.5).apply(
        {}, jnp.ones(shape), deterministic=False, rngs={"dropout": jax.random.key(0)}
    )
    assert out.shape == shape and jnp.isin(out, jnp.array([0.0, 2.0])).all()


# The official release.


def official_tree(golden):
    flat = {k: v for k, v in golden.items() if k.startswith("params/")}
    return flax.traverse_util.unflatten_dict({tuple(k.split("/")[1:]): v for k, v in flat.items()})


def relative_error(actual, expected):
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.slow
def test_official_case_is_matched_in_every_part(golden, scan):
    from genjax import diffusion, losses

    given = {k: jnp.asarray(v) for k, v in golden.items() if not k.startswith("params/")}
    params = import_official_vdm(official_tree(golden), context_size=1, scan_layers=scan)
    net = ScoreResNet(channels=32, num_layers=2, context_size=1, scan_layers=scan)
    context = given["in/conditioning"][:, None]

    def gamma(t):
        schedule = diffusion.LearnedLinearSchedule()
        return schedule.apply({"params": params["schedule"]}, t)

    @jax.jit
    def denoise(z, gamma_t):
        return net.apply({"params": params["score_net"]}, z, gamma_t, None, context)

    times = jnp.mod(given["in/u"] + jnp.arange(4) / 4, 1.0)
    np.testing.assert_allclose(times, given["in/t"], rtol=1e-6)
    gamma_t, slope_t = diffusion.gamma_and_slope(gamma, given["in/t"])
    gamma_0, gamma_1 = gamma(jnp.array([0.0, 1.0]))
    x = losses.grey_levels(given["in/images"], 256)
    z_t = diffusion.diffuse(x, given["in/eps"], *diffusion.of_gamma(gamma_t))
    noise_hat = denoise(z_t, gamma_t)
    z_0_rescaled = x + jnp.exp(0.5 * gamma_0) * given["in/eps_0"]
    step, steps = int(given["step/i"]), int(given["step/T"])
    ends = jnp.array([steps - step, steps - step - 1]) / steps
    table = diffusion.Ancestral().table(
        diffusion.GammaProcess(gamma),
        diffusion.Grid(ends[:1], *diffusion.of_gamma(gamma(ends)), clean=False),
    )
    z_t, at_t = given["step/z_t"], gamma(ends[0])
    estimate = diffusion.Noise().estimate(
        denoise(z_t, jnp.full(4, at_t)), z_t, *diffusion.of_gamma(at_t)
    )
    of_latent, _, of_data, *_, of_noise = table.steps[0]
    z_s = of_latent * z_t + of_data * estimate.data + of_noise * given["step/noise"]
    parts = {
        "out/gamma_0": gamma_0,
        "out/gamma_1": gamma_1,
        "out/gamma_t": gamma_t,
        "out/gamma_slope_t": slope_t,
        "out/eps_hat": noise_hat,
        "out/loss_diff": losses.diffusion_loss(given["in/eps"], noise_hat, slope_t),
        "out/loss_klz": losses.prior_loss(x, gamma_1),
        "out/loss_recon": losses.reconstruction_loss(given["in/images"], z_0_rescaled, gamma_0),
        "step/z_s": z_s,
    }
    errors = {name: relative_error(value, golden[name]) for name, value in parts.items()}
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.slow
def test_official_conditioning_weight_may_be_dropped_where_it_is_zero(golden):
    z_t = jnp.asarray(golden["step/z_t"])
    gamma_t = jnp.zeros(4)
    outputs = [
        ScoreResNet(channels=32, num_layers=2, context_size=size).apply(
            {"params": import_official_vdm(official_tree(golden), context_size=size)["score_net"]},
            z_t,
            gamma_t,
        )
        for size in (0, 1)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)


def test_official_network_schedule_is_a_monotone_schedule(x64):
    from genjax import diffusion

    rng = np.random.default_rng(0)
    size = 1024
    gamma = {
        "l1": {"kernel": rng.normal(18, 1, (1, 1)), "bias": np.array([-13.0])},
        "l2": {"kernel": 3 * rng.normal(size=(1, size)), "bias": rng.normal(size=size)},
        "l3": {"kernel": 2 * rng.normal(size=(size, 1))},
    }
    t = np.linspace(0, 1, 11)[:, None]
    # The official formula, written out: gamma = l1(t) + l3(2 (sigmoid(l2(2 t - 1)) - 1/2)) / 1024.
    hidden = (2 * t - 1) @ np.abs(gamma["l2"]["kernel"]) + gamma["l2"]["bias"]
    features = 2 * (1 / (1 + np.exp(-hidden)) - 0.5) / size
    expected = t @ np.abs(gamma["l1"]["kernel"]) + gamma["l1"]["bias"]
    expected = (expected + features @ np.abs(gamma["l3"]["kernel"]))[:, 0]

    tree = {"score_model": {"dense0": {"kernel": np.zeros((5, 4))}}, "gamma": gamma}
    params = import_official_vdm(tree)["schedule"]
    schedule = diffusion.LearnedMonotoneSchedule(num_features=size)
    actual = schedule.apply({"params": params}, jnp.asarray(t[:, 0], jnp.float32))
    np.testing.assert_allclose(actual, expected, atol=2e-5)
    assert np.ptp(expected - np.interp(t[:, 0], [0, 1], expected[[0, -1]])) > 0.05  # not a line


@pytest.mark.slow
def test_official_attention_everywhere_maps_onto_ours(golden):
    tree = official_tree(golden)
    attention = tree["score_model"]["mid.attn_1"]
    for i in range(2):
        tree["score_model"][f"down.attn_{i}"] = attention
    for i in range(3):
        tree["score_model"][f"up.attn_{i}"] = attention
    ours = import_official_vdm(tree)["score_net"]
    net = ScoreResNet(channels=32, num_layers=2, attention="everywhere")
    args = jax.random.key(0), jnp.zeros((1, 4, 4, 3)), jnp.zeros(1)
    shapes = jax.eval_shape(net.init, *args)["params"]
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, shapes)


@pytest.mark.parametrize(
    "path, message",
    [(("score_model", "decoder", "kernel"), "not part"), (("gamma", "q"), "schedule of w, b")],
)
def test_foreign_trees_are_refused(golden, path, message):
    flat = flax.traverse_util.flatten_dict(official_tree(golden))
    flat[path] = np.zeros(1)
    with pytest.raises(ValueError, match=message):
        import_official_vdm(flax.traverse_util.unflatten_dict(flat))
