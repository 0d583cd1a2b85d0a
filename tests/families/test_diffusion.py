"""Denoising models of any process, prediction and weighting."""

import dataclasses
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import diffusion, families, nets
from genjax.diffusion import weightings
from genjax.families.denoiser import DenoisingNetwork
from genjax.families.objective import Objective

PROCESSES = {
    "vp": diffusion.VariancePreserving(),
    "sub_vp": diffusion.SubVariancePreserving(),
    "ve": diffusion.VarianceExploding(),
    "straight": diffusion.Straight(),
    "cosine": diffusion.Cosine(),
    "chain": diffusion.Chain(),
    "cosine chain": diffusion.Chain(betas="cosine"),
}
PREDICTIONS = ("noise", "data", "v", "velocity", "score", "edm")
WEIGHTS = ("simple", "bound", "data", "v", "velocity", "min_snr", "sigmoid", "edm")
FAMILIES = {
    "diffusion": lambda **kwargs: families.diffusion(process=diffusion.Cosine(), **kwargs),
    "edm": families.edm,
    "score_sde": families.score_sde,
    "rectified_flow": families.rectified_flow,
}
KEY = jax.random.key(0)


class Linear(nn.Module):
    """An output that gradients reach through parameters of its own."""

    @nn.compact
    def __call__(self, z, t, label=None, *, deterministic=True):
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * z + self.param("offset", nn.initializers.zeros, ())


class Exact(nn.Module):
    """The best output for data N(0, std^2), whatever is to be estimated; no parameters.

    Attributes:
        sigma_data: The deviation of data by which inputs are scaled.
    """

    process: Any
    std: float
    prediction: str = "noise"
    sigma_data: float = 0.5

    @nn.compact
    def __call__(self, z, t, label=None, *, deterministic=True):
        self.param("unused", nn.initializers.zeros, ())
        alpha, sigma = (scale[:, None] for scale in self.process.scales(t))
        if self.prediction == "edm" or self.process.prior_std != 1.0:
            z = z / diffusion.input_scale(self.sigma_data, alpha, sigma)
        variance = (alpha * self.std) ** 2 + sigma**2
        data, noise = alpha * self.std**2 * z / variance, sigma * z / variance
        # Targets are linear in both, so that the best output is the target of the means.
        kind = Objective(prediction=self.prediction).kind(self.sigma_data)
        return kind.target(data, noise, alpha, sigma)


STEP = jnp.zeros((), jnp.int32)


def model(process, net=None, objective=Objective, **kwargs):
    return DenoisingNetwork(
        net=net or Linear(), process=process, objective=objective(**kwargs), event_shape=(2,),
        num_levels=None, sigma_data=0.5,
    )  # fmt: skip


def build(name="diffusion", net=None, **kwargs):
    kwargs.setdefault("optimizer", optax.adam(1e-2))
    kwargs.setdefault("sampling", families.Sampling(num_steps=4))
    net = net or nets.ScoreMLP(hidden_size=8, num_layers=1, gamma_min=0.0, gamma_max=1.0)
    return FAMILIES[name](net=net, event_shape=(2,), num_levels=None, data_std=0.5, **kwargs)


def rows(count=8, std=0.5):
    x = std * jax.random.normal(jax.random.key(7), (count, 2))
    return {"x": x, "index": jnp.arange(count, dtype=jnp.int32)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtTheEnds(Objective):
    """An objective that is asked at both ends of a process alone."""

    def draw_times(self, key, count, process):
        return jnp.resize(jnp.array([process.earliest, 1.0]), (count,))


def assert_finite(process, prediction, weighting):
    made = model(process, objective=AtTheEnds, prediction=prediction, weighting=weighting)
    params, _ = made.init(KEY, rows(4))
    (loss, _), grads = jax.value_and_grad(made.loss, has_aux=True)(params, {}, rows(4), KEY, STEP)
    for value in (loss, *jax.tree.leaves(grads)):
        assert bool(jnp.isfinite(value)), (prediction, weighting)
        assert value.dtype == jnp.float32


@pytest.mark.parametrize("name", PROCESSES)
def test_losses_and_gradients_are_finite_at_both_ends(name):
    # Each prediction and each weighting once; the one after the other in the long tests.
    for i, prediction in enumerate(PREDICTIONS):
        for weighting in (WEIGHTS[(i + 1) % 8], WEIGHTS[(i + 5) % 8]):
            assert_finite(PROCESSES[name], prediction, weighting)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_losses_and_gradients_are_finite_at_both_ends_in_any_combination(name):
    for prediction, weighting in itertools.product(PREDICTIONS, WEIGHTS):
        assert_finite(PROCESSES[name], prediction, weighting)


@pytest.mark.parametrize("weighting", ["simple", "bound"])
@pytest.mark.parametrize("name", ["vp", "ve", "straight"])
def test_the_loss_does_not_depend_on_what_is_estimated(name, weighting):
    # The same estimates of data N(0, 0.3^2) where it is N(0, 0.5^2), said in six ways.
    process, found = PROCESSES[name], {}
    for prediction in PREDICTIONS:
        net = Exact(process, 0.3, prediction)
        made = model(process, net, prediction=prediction, weighting=weighting)
        params, _ = made.init(KEY, rows())
        found[prediction] = float(made.loss(params, {}, rows(256), KEY, STEP)[0])
    for prediction, loss in found.items():
        assert loss == pytest.approx(found["noise"], rel=2e-3), prediction


def test_the_loss_is_the_weighted_error_of_the_noise(strict):
    process, weighting = PROCESSES["vp"], weightings.Sigmoid()
    made = model(process, prediction="v", weighting="sigmoid")
    params, _ = made.init(KEY, rows())
    loss, (metrics, _) = made.loss(params, {}, rows(), KEY, STEP)
    assert set(metrics) == {"error"}
    # The same with the noise's estimate, written out.
    times = made.objective.draw_times(jax.random.split(KEY, 4)[0], 8, process)
    noise = jax.random.normal(jax.random.split(KEY, 4)[1], (8, 2))
    scales = process.scales(times)
    z = diffusion.diffuse(rows()["x"], noise, *scales)
    alpha, sigma = (scale[:, None] for scale in scales)
    noise_hat = diffusion.V().estimate(z, z, alpha, sigma).noise  # the linear output is z
    weight = jnp.exp(weighting.log_weight(*diffusion.gamma_and_slope_of(process, times)))
    expected = jnp.mean(weight * jnp.mean((noise - noise_hat) ** 2, axis=1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", [
    name if name in ("ve", "straight") else pytest.param(name, marks=pytest.mark.slow)
    for name in PROCESSES
])  # fmt: skip
def test_the_bound_of_the_exact_model_is_the_likelihood_of_each_example(name):
    process, std = PROCESSES[name], 0.5
    made = model(process, Exact(process, std))
    data = rows(4000)
    params, _ = made.init(KEY, data)
    parts = jax.jit(lambda: made.bound(params, data, jax.random.key(2), 128))()
    nats = 0.5 * jnp.sum(data["x"] ** 2, 1) / std**2 + math.log(2 * math.pi * std**2)
    gap = np.asarray(sum(parts.values()) - nats)
    stderr = gap.std() / math.sqrt(len(gap))
    assert stderr < 0.06  # sub-VP, which leaves least noise, has the most
    # Noise that is left at the earliest time and signal at the latest leave less than this.
    assert abs(gap.mean()) < 4 * stderr + 2e-3


def test_times_follow_their_densities():
    process = diffusion.VarianceExploding()
    times = Objective(times="log_normal", times_mean=-1.2, times_std=1.2).draw_times(
        KEY, 4000, process
    )
    # Karras et al., arXiv:2206.00364, table 1: log sigma ~ N(-1.2, 1.2^2).
    log_sigma = np.log(process.scales(times).sigma)
    assert log_sigma.mean() == pytest.approx(-1.2, abs=0.01)
    assert log_sigma.std() == pytest.approx(1.2, rel=0.01)
    # Esser et al., arXiv:2403.03206, section 3.1: logit t ~ N(m, s^2).
    process = diffusion.Straight(earliest=1e-6)
    times = Objective(times="logit_normal", times_mean=0.5, times_std=0.7).draw_times(
        KEY, 4000, process
    )
    logit = np.log(times) - np.log1p(-times)
    assert logit.mean() == pytest.approx(0.5, abs=0.01)
    assert logit.std() == pytest.approx(0.7, rel=0.01)
    for name in ("log_normal", "logit_normal", "log_snr", "uniform"):
        for process in PROCESSES.values():
            times = Objective(times=name, times_std=9.0).draw_times(KEY, 64, process)
            assert float(times.min()) >= np.float32(process.earliest) and float(times.max()) <= 1.0


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in ("edm", "diffusion") else [pytest.mark.slow])
    for name in FAMILIES
])  # fmt: skip
def test_families_hold_the_contract(name):
    family = build(name, eval_num_times=2)
    data = rows()
    state = jax.jit(family.init)(KEY, data)
    step = jax.jit(family.train_step)

    def train(state, steps):
        for i in steps:
            state, metrics = step(state, data, jax.random.fold_in(KEY, i))
        return state, metrics

    six, metrics = train(state, range(6))
    three, _ = train(state, range(3))
    again, _ = train(three, range(3, 6))
    for a, b in zip(jax.tree.leaves(six), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {"loss", "error"} <= set(metrics) and int(six.step) == 6
    evaluate = jax.jit(family.eval_step)
    whole = evaluate(six, data, KEY)
    half = evaluate(six, jax.tree.map(lambda a: a[4:], data), KEY)
    assert set(whole) == {"bits_per_dim", "prior", "reconstruction", "diffusion"}
    for part, value in whole.items():
        np.testing.assert_allclose(half[part], value[4:], rtol=1e-4, atol=1e-5)
    log_prob = jax.jit(family.log_prob)(six, data, KEY)
    np.testing.assert_allclose(-log_prob / (2 * math.log(2)), whole["bits_per_dim"], rtol=1e-4)
    drawn = jax.jit(family.sample)(six, KEY, data)
    assert drawn.rows.shape == (8, 2) and drawn.trajectory.shape == (4, 8, 2)
    assert bool(jnp.isfinite(drawn.rows).all())
    assert family.eval_protocol["bound"].startswith("continuous time from")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_training_finds_two_points(name):
    data = {"x": jnp.tile(jnp.array([[0.5, -0.5], [-0.5, 0.5]]), (64, 1))}
    net = nets.ScoreMLP(hidden_size=64, num_layers=2, gamma_min=0.0, gamma_max=1.0)
    family = build(
        name, net, optimizer=optax.adam(3e-3),
        sampling=families.Sampling(num_steps=50, sampler=diffusion.Heun()),
    )  # fmt: skip
    state = jax.jit(family.init)(KEY, data)

    @jax.jit
    def train(state):
        def step(i, state):
            return family.train_step(state, data, jax.random.fold_in(KEY, i))[0]

        return jax.lax.fori_loop(0, 2000, step, state)

    state = train(state)
    found = jax.jit(family.sample)(state.replace(ema=state.params), KEY, {"x": jnp.zeros((256, 2))})
    distance = jnp.linalg.norm(found.rows[:, None] - data["x"][:2], axis=-1)
    assert float(jnp.mean(distance.min(1) < 0.15)) > 0.95
    assert 0.3 < float(jnp.mean(distance.argmin(1))) < 0.7


@pytest.mark.slow
def test_a_trunk_in_bfloat16_has_losses_and_gradients_in_float32():
    net = nets.UNet(
        channels=8, multipliers=(1,), num_blocks=1, num_groups=4, attention_sizes=(),
        gamma_min=0.0, gamma_max=1.0, dtype="bfloat16",
    )  # fmt: skip
    batch = {"x": jnp.zeros((4, 4, 4, 1), jnp.uint8), "index": jnp.arange(4, dtype=jnp.int32)}
    for name in ("edm", "rectified_flow"):
        family = FAMILIES[name](
            net=net, optimizer=optax.sgd(1.0), event_shape=(4, 4, 1), num_levels=16,
            sampling=families.Sampling(num_steps=2),
        )  # fmt: skip
        state = jax.eval_shape(family.init, KEY, batch)
        new, metrics = jax.eval_shape(family.train_step, state, batch, KEY)
        found = jax.eval_shape(family.eval_step, state, batch, KEY)
        for value in jax.tree.leaves((new.params, new.ema, metrics, found)):
            assert value.dtype == jnp.float32, name


@pytest.mark.parametrize("kwargs, message", [
    (dict(prediction="epsilon"), "prediction must be one of noise, data"),
    (dict(weighting="snr"), "weighting must be one of simple, bound"),
    (dict(times="normal"), "times must be one of uniform"),
    (dict(time_sampling="antithetic"), "time_sampling must be one of stratified"),
    (dict(times_std=0.0), "times_std must be positive"),
    (dict(label_dropout=1.0), r"label_dropout must be in \[0, 1\)"),
    (dict(weighting="min_snr", snr_max=0.0), "snr_max must be positive"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_objectives_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Objective(**kwargs)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="the network takes no labels: set model.num_classes"):
        build(objective=Objective(label_dropout=0.1))
    with pytest.raises(ValueError, match="eval_num_times must be at least 1"):
        build(eval_num_times=0)
    with pytest.raises(ValueError, match="likelihood must be bound, ode, both or none"):
        families.Likelihood(likelihood="elbo")
    sampler = diffusion.DDIM(threshold="static")
    with pytest.raises(ValueError, match="real-valued data has no interval"):
        build(sampling=families.Sampling(sampler=sampler))


DEVICES = """
import json
import jax, jax.numpy as jnp, numpy as np, optax
from genjax import diffusion, families, nets
from genjax.training import mesh as meshes, step as stepping
mesh = meshes.make_mesh()
rng = np.random.default_rng(0)
batch = {"x": rng.normal(size=(16, 2)).astype(np.float32)}
found = [mesh.size]
for make in (families.edm, families.rectified_flow):
    family = make(
        net=nets.ScoreMLP(hidden_size=8, num_layers=1, gamma_min=0.0, gamma_max=1.0),
        optimizer=optax.adam(1e-3), event_shape=(2,), num_levels=None,
        sampling=families.Sampling(num_steps=3, sampler=diffusion.PredictorCorrector()))
    key = jax.random.key(0)
    state = stepping.init_state(family, key, batch, mesh)
    key = jax.device_put(key, meshes.replicated(mesh))
    step = stepping.compile_train_step(family, state, batch, key, mesh)
    for _ in range(3):
        state, metrics = step(state, meshes.global_batch(mesh, batch), key)
        found.append(float(metrics["loss"]))
    with jax.set_mesh(mesh):
        requests = jax.device_put(batch, meshes.by_row(mesh))
        found.append(float(jnp.mean(jnp.abs(jax.jit(family.sample)(state, key, requests).rows))))
print(json.dumps(found))
"""


@pytest.mark.slow
def test_losses_and_samples_do_not_depend_on_the_number_of_devices(in_a_process):
    (one, *first), (four, *second) = (in_a_process(DEVICES, devices=n) for n in (1, 4))
    assert (one, four) == (1, 4) and len(first) == 8
    np.testing.assert_allclose(first, second, rtol=1e-4)
