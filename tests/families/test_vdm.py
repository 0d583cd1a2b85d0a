import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import diffusion
from genjax.families import Sampling, Trajectory, vdm
from genjax.nets import ScoreMLP

SCHEDULE = dict(gamma_0=-8.0, gamma_1=8.0)


class ExactGaussianDenoiser(nn.Module):
    """The optimal score network for data N(0, std^2 I); no parameters."""

    std: float
    event_rank = 1

    @nn.compact
    def __call__(self, z_t, gamma_t, label=None, *, deterministic=True):
        alpha, sigma = (f(gamma_t)[:, None] for f in (diffusion.alpha, diffusion.sigma))
        self.param("unused", nn.initializers.zeros, ())
        return sigma * z_t / (alpha**2 * self.std**2 + sigma**2)


def build(score_net=None, schedule=None, *, num_levels=17, event_shape=(2,), **kwargs):
    kwargs.setdefault("optimizer", optax.adam(1e-2))
    kwargs.setdefault("sampling", Sampling(num_steps=4))
    return vdm(
        score_net=score_net or ScoreMLP(hidden_size=16, num_layers=1),
        schedule=schedule or diffusion.LearnedMonotoneSchedule(num_features=8, **SCHEDULE),
        event_shape=event_shape,
        num_levels=num_levels,
        **kwargs,
    )


def batch(size=32, num_levels=17, seed=0):
    rng = np.random.default_rng(seed)
    return {"x": jnp.asarray(rng.integers(num_levels, size=(size, 2)), jnp.uint8)}


def with_index(b):
    return {**b, "index": jnp.arange(len(b["x"]), dtype=jnp.int32)}


def perturbed(state, seed=3):
    """Parameters at which every gradient is of ordinary size."""
    leaves, tree = jax.tree.flatten(state.params)
    rng = np.random.default_rng(seed)
    leaves = [p + jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype) for p in leaves]
    params = jax.tree.unflatten(tree, leaves)
    return state.replace(params=params, ema=params)


@pytest.mark.slow
@pytest.mark.parametrize("std", [0.3, 1.0])
def test_bound_of_the_exact_model_is_the_likelihood_of_each_example(std):
    # The reverse process of Gaussian data is known, so the gap of the bound is zero for every x but
    # for the ends of the schedule: gamma_0 = -14 and gamma_1 = 14 leave less than 1e-5.
    family = build(
        ExactGaussianDenoiser(std),
        diffusion.FixedLinearSchedule(gamma_0=-14.0, gamma_1=14.0),
        num_levels=None,
        eval_num_times=512,
    )
    x = std * jax.random.normal(jax.random.key(0), (20_000, 2))
    state = jax.jit(family.init)(jax.random.key(1), {"x": x})
    bits = jax.jit(family.eval_step)(state, with_index({"x": x}), jax.random.key(2))["bits_per_dim"]
    nats = 0.5 * jnp.sum(x**2, 1) / std**2 + math.log(2 * math.pi * std**2)
    gap = np.asarray(bits - nats / (2 * math.log(2)))
    stderr = gap.std() / math.sqrt(len(gap))
    assert stderr < 0.005
    assert abs(gap.mean()) < 4 * stderr


@pytest.mark.parametrize("size, gamma_0", [(1e6, -13.3), (1e2, -30.0), (1.0, -100.0)])
def test_reconstruction_of_large_numbers_is_that_of_the_noise(size, gamma_0):
    # In float32 the noise is lost beside the data: its square would be 0, and half a nat a
    # dimension of the bound not its own.
    schedule = diffusion.FixedLinearSchedule(gamma_0=gamma_0, gamma_1=14.0)
    family = build(schedule=schedule, num_levels=None, eval_num_times=4)
    x = jnp.full((4000, 2), size)
    state = jax.jit(family.init)(jax.random.key(1), {"x": x})
    found = jax.jit(family.eval_step)(state, with_index({"x": x}), jax.random.key(2))
    found = found["reconstruction"]
    expected = 0.5 * (1.0 + gamma_0 + math.log(2 * math.pi)) / math.log(2)
    assert float(found.std()) > 0.1
    assert float(found.mean()) == pytest.approx(expected, abs=0.05)


def gradients(family, state, data, key):
    """The parameter gradients of one step, through an optimiser that hands them over."""
    new, _ = family.train_step(state, data, key)
    return jax.tree.map(lambda a, b: a - b, state.params, new.params)


def test_shape_follows_the_variance_and_the_rest_follows_the_bound():
    family = build(optimizer=optax.sgd(1.0))
    data, key = batch(), jax.random.key(5)
    state = perturbed(jax.jit(family.init)(jax.random.key(1), data))
    actual = jax.jit(lambda *args: gradients(family, *args))(state, data, key)

    # The same loss written out without the split, differentiated as a whole.
    from genjax import losses

    net = ScoreMLP(hidden_size=16, num_layers=1)
    schedule = diffusion.LearnedMonotoneSchedule(num_features=8, **SCHEDULE)
    key_time, key_noise_0, key_noise, _ = jax.random.split(key, 4)
    times = diffusion.stratified_times(key_time, 32)
    noise_0, noise = (jax.random.normal(k, (32, 2)) for k in (key_noise_0, key_noise))
    x = losses.grey_levels(data["x"], 17)

    def parts(params):
        def gamma(t):
            return schedule.apply({"params": params["schedule"]}, t)

        gamma_t, slope = diffusion.gamma_and_slope(gamma, times)
        gamma_0, gamma_1 = gamma(jnp.array([0.0, 1.0]))
        z_t = diffusion.diffuse(x, noise, *diffusion.of_gamma(gamma_t))
        noise_hat = net.apply({"params": params["score_net"]}, z_t, gamma_t)
        z_0 = x + jnp.exp(0.5 * gamma_0) * noise_0
        other = losses.prior_loss(x, gamma_1) + losses.reconstruction_loss(
            data["x"], z_0, gamma_0, num_levels=17
        )
        return [
            losses.nats_to_bits_per_dim(nats, 2)
            for nats in (losses.diffusion_loss(noise, noise_hat, slope), other)
        ]

    bound = jax.jit(jax.grad(lambda p: sum(part.mean() for part in parts(p))))(state.params)
    mean_loss = jax.jit(parts)(state.params)[0].mean()
    square = jax.jit(jax.grad(lambda p: jnp.mean(parts(p)[0] ** 2) / (2 * mean_loss)))(state.params)
    expected = {
        "score_net": bound["score_net"],
        "schedule": {**bound["schedule"], "shape": square["schedule"]["shape"]},
    }
    for (path, a), b in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4, err_msg=jax.tree_util.keystr(path))
    shape = jax.tree.leaves(expected["schedule"]["shape"])
    assert max(float(jnp.abs(leaf).max()) for leaf in shape) > 1e-3


def test_learning_the_shape_lowers_the_variance_and_keeps_the_bound():
    # With the exact denoiser the continuous bound does not depend on the shape at all.
    kwargs = dict(num_levels=None, eval_num_times=64, optimizer=optax.adam(2e-2))
    family = build(ExactGaussianDenoiser(0.1), **kwargs)
    x = 0.1 * jax.random.normal(jax.random.key(0), (256, 2))
    state = jax.jit(family.init)(jax.random.key(1), {"x": x})
    endpoints = ("gamma_0", "gamma_1")
    fixed = {name: state.params["schedule"][name] for name in endpoints}
    step = jax.jit(family.train_step)
    key, variances = jax.random.key(2), []
    for i in range(300):
        state, metrics = step(state, {"x": x}, jax.random.fold_in(key, i))
        variances.append(float(metrics["diffusion_variance"]))
        state = state.replace(
            params={**state.params, "schedule": {**state.params["schedule"], **fixed}}
        )
    assert np.mean(variances[-30:]) < 0.7 * np.mean(variances[:30])
    evaluate = jax.jit(family.eval_step)
    first = jax.jit(family.init)(jax.random.key(1), {"x": x})
    bits = [
        float(evaluate(s, with_index({"x": x}), key)["bits_per_dim"].mean())
        for s in (first, state.replace(ema=state.params))
    ]
    assert bits[0] == pytest.approx(bits[1], abs=0.05)


def test_stratified_times_lower_the_variance_of_the_loss():
    spread = {}
    data = batch(64)
    for name in ("stratified", "independent"):
        family = build(time_sampling=name)
        state = perturbed(jax.jit(family.init)(jax.random.key(1), data))
        loss = jax.jit(jax.vmap(lambda k, f=family, s=state: f.train_step(s, data, k)[1]["loss"]))
        spread[name] = np.asarray(loss(jax.random.split(jax.random.key(0), 2000)))
    means = [values.mean() for values in spread.values()]
    assert abs(means[0] - means[1]) < 4 * spread["independent"].std() / math.sqrt(2000)
    # Were the two the same, the ratio of 2,000 draws each would be 1 to within 5 %.
    assert spread["stratified"].var() < 0.8 * spread["independent"].var()


@pytest.mark.slow
def test_finite_step_bound_tends_to_the_continuous_one_from_above():
    data = with_index(batch(256))
    key, bits = jax.random.key(4), {}
    for steps in (0, 8, 1000):
        family = build(num_timesteps=steps, eval_num_times=64)
        state = perturbed(jax.jit(family.init)(jax.random.key(1), data))
        bits[steps] = float(jax.jit(family.eval_step)(state, data, key)["bits_per_dim"].mean())
    assert bits[8] > bits[0] + 0.05
    assert bits[1000] == pytest.approx(bits[0], rel=0.02)


def test_evaluation_does_not_depend_on_the_batch_size_and_repeats():
    family = build(eval_num_times=3)
    data = with_index(batch(8))
    state = perturbed(jax.jit(family.init)(jax.random.key(1), data))
    whole = family.eval_step(state, data, jax.random.key(0))
    again = family.eval_step(state, data, jax.random.key(0))
    halves = [
        family.eval_step(state, jax.tree.map(lambda a, i=i: a[i : i + 4], data), jax.random.key(0))
        for i in (0, 4)
    ]
    for name, value in whole.items():
        assert value.shape == (8,)
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_allclose(
            value, jnp.concatenate([h[name] for h in halves]), rtol=1e-4, atol=1e-5
        )
    parts = sum(whole[name] for name in ("diffusion", "prior", "reconstruction"))
    np.testing.assert_allclose(whole["bits_per_dim"], parts, rtol=1e-6)


def test_training_lowers_the_bound_and_the_average_trails():
    family = build(ema_decay=0.9)
    data = batch(64, num_levels=3)
    state = jax.jit(family.init)(jax.random.key(1), data)
    step = jax.jit(family.train_step, donate_argnums=0)
    losses = []
    for i in range(200):
        state, metrics = step(state, data, jax.random.key(i))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    assert int(state.step) == 200
    gap = optax.global_norm(jax.tree.map(lambda a, b: a - b, state.params, state.ema))
    assert 0 < float(gap) < 1.0


@pytest.mark.slow
def test_accumulation_acts_once_on_the_mean_of_its_gradients():
    data, keys = batch(), jax.random.split(jax.random.key(0), 2)
    single = build(optimizer=optax.sgd(0.1), ema_decay=0.5)
    double = build(optimizer=optax.sgd(0.1), ema_decay=0.5, accumulate_steps=2)
    start = perturbed(jax.jit(single.init)(jax.random.key(1), data))
    grads = [gradients(single, start, data, k) for k in keys]
    state = perturbed(jax.jit(double.init)(jax.random.key(1), data))
    state, _ = double.train_step(state, data, keys[0])
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(start.params), strict=True):
        np.testing.assert_array_equal(a, b)
    state, _ = double.train_step(state, data, keys[1])
    expected = jax.tree.map(lambda p, a, b: p - 0.5 * (a + b), start.params, *grads)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    ema = jax.tree.map(lambda p, q: 0.5 * (p + q), start.params, expected)
    for a, b in zip(jax.tree.leaves(state.ema), jax.tree.leaves(ema), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_samples_are_grey_levels_and_follow_labels():
    net = ScoreMLP(hidden_size=16, num_layers=1, num_classes=2)
    family = build(
        net,
        sampling=Sampling(num_steps=8),
        trajectory=Trajectory(num_frames=4, num_trajectories=3),
    )
    data = {**batch(6), "label": jnp.array([0, 0, 0, 1, 1, 1])}
    state = perturbed(jax.jit(family.init)(jax.random.key(1), data))
    drawn = family.sample(state, jax.random.key(0), data)
    assert drawn.rows.dtype == jnp.uint8 and drawn.rows.shape == (6, 2)
    assert int(drawn.rows.max()) <= 16
    assert drawn.trajectory.shape == (4, 3, 2)
    # The last frame is z_0, which has all but 1/3000 of the signal: the same up to rounding.
    np.testing.assert_allclose(drawn.trajectory[-1], drawn.rows[:3], atol=1)
    other = family.sample(state, jax.random.key(0), {**data, "label": 1 - data["label"]})
    assert bool((other.rows != drawn.rows).any())


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(num_timesteps=-1),
        dict(eval_num_times=0),
        dict(time_sampling="antithetic"),
        dict(ema_decay=1.0),
        dict(accumulate_steps=0),
    ],
)
def test_arguments_out_of_range_raise(kwargs):
    with pytest.raises(Exception, match=next(iter(kwargs))):
        build(**kwargs)


DEVICES = """
import json
import jax, numpy as np, optax
from genjax import diffusion
from genjax.families import Sampling, vdm
from genjax.nets import ScoreResNet
from genjax.training import mesh as meshes, step as stepping
mesh = meshes.make_mesh()
found = [mesh.size]
family = vdm(
    score_net=ScoreResNet(channels=8, num_layers=1, num_groups=4),
    schedule=diffusion.LearnedMonotoneSchedule(num_features=8),
    optimizer=optax.adam(1e-3), event_shape=(4, 4, 1), num_levels=256,
    sampling=Sampling(num_steps=3))
rng = np.random.default_rng(0)
batch = {"x": rng.integers(256, size=(16, 4, 4, 1)).astype(np.uint8)}
key = jax.random.key(0)
state = stepping.init_state(family, key, batch, mesh)
key = jax.device_put(key, meshes.replicated(mesh))
step = stepping.compile_train_step(family, state, batch, key, mesh)
for _ in range(3):
    state, metrics = step(state, meshes.global_batch(mesh, batch), key)
    found.append(float(metrics["loss"]))
with jax.set_mesh(mesh):
    requests = jax.device_put(batch, meshes.by_row(mesh))
    sample = jax.jit(family.sample).lower(state, key, requests).compile()
found.append(float(sample(state, key, requests).rows.astype(float).mean()))
results = [line.split(" = ")[1] for line in sample.as_text().splitlines() if " = " in line]
found.append(sum(result.startswith("f32[16,4,4,8]") for result in results))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_losses_and_samples_do_not_depend_on_the_number_of_devices(in_a_process):
    (one, *first), (four, *second) = (in_a_process(DEVICES, devices=n) for n in (1, 4))
    assert (one, four) == (1, 4)
    assert len(first) == 5
    np.testing.assert_allclose(first[:4], second[:4], rtol=1e-4)
    assert first[4] > 0 and second[4] == 0, "no device computes all rows"
