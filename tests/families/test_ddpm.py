import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import config as configs
from genjax.diffusion import (
    DDIM,
    Ancestral,
    Chain,
    ChainSampler,
    ClassifierFree,
    ClassifierGuidance,
    Denoiser,
    Noise,
    VariancePreserving,
    chain_steps,
    diffuse,
    kept_steps,
)
from genjax.families import Average, ChainObjective, Likelihood, Sampling, ddpm
from genjax.families.gaussian_chain import GaussianChain

pytestmark = pytest.mark.usefixtures("strict")
STD = 0.5
SHORT = Chain(num_timesteps=20, beta_max=0.01)
KINDS = ("noise", "mean", "data", "v")


class Exact(nn.Module):
    """The optimal network for data N(0, std^2) under a chain; its parameter changes nothing."""

    chain: Chain = Chain()
    prediction: str = "noise"
    num_classes = None

    @nn.compact
    def __call__(self, z_t, t, label=None, *, deterministic=True):
        self.param("unused", nn.initializers.zeros, ())
        scales = self.chain.scales(t)
        alpha, sigma = (s.reshape(-1, *(1,) * (z_t.ndim - 1)) for s in scales)
        noise = sigma * z_t / (alpha**2 * STD**2 + sigma**2)
        x = alpha * STD**2 * z_t / (alpha**2 * STD**2 + sigma**2)
        if self.prediction == "mean":
            step = chain_steps(self.chain).between(t)
            rows = (c.reshape(alpha.shape) for c in (step.of_latent, step.of_data))
            return next(rows) * z_t + next(rows) * x
        return {"noise": noise, "data": x, "v": alpha * noise - sigma * x}[self.prediction]


class Small(nn.Module):
    """Depends on all that it is told; starts away from zero."""

    out_channels: int | None = None
    num_classes: int | None = None

    @nn.compact
    def __call__(self, z_t, t, label=None, *, deterministic=True):
        h = jnp.concatenate([z_t, jnp.broadcast_to(t[:, None], (len(t), 1))], -1)
        h = jnp.tanh(nn.Dense(16)(h))
        if label is not None:
            h = h + jnp.where(label[:, None] >= 0, nn.Embed(self.num_classes, 16)(label), 0.0)
        return nn.Dense(self.out_channels or z_t.shape[-1])(h)


def build(net=None, num_levels=17, process=SHORT, **kwargs):
    own = {k: kwargs.pop(k) for k in list(kwargs) if k in ChainObjective.__dataclass_fields__}
    event_shape = kwargs.pop("event_shape", (2,))
    kwargs.setdefault("sampling", Sampling(num_steps=4))
    if net is None:
        net = Small(out_channels=2 * event_shape[0] if own.get("variance") == "learned" else None)
    return ddpm(
        net=net,
        process=process,
        objective=ChainObjective(**own),
        optimizer=optax.sgd(0.1),
        event_shape=event_shape,
        num_levels=num_levels,
        average=Average(ema_decay=0.9),
        **kwargs,
    )


def levels(size=16, seed=0):
    x = jnp.asarray(np.random.default_rng(seed).integers(17, size=(size, 2)), jnp.uint8)
    return {"x": x, "index": jnp.arange(size, dtype=jnp.int32)}


def gaussian(size, std=STD):
    x = std * jax.random.normal(jax.random.key(9), (size, 1))
    return {"x": x, "index": jnp.arange(size, dtype=jnp.int32)}


def nats_of(x):
    """The exact negative log-density of N(0, std^2)."""
    return np.asarray(0.5 * jnp.sum(x**2, -1) / STD**2 + 0.5 * jnp.log(2 * jnp.pi * STD**2))


# Whole bounds of N(0, 1/4) with 1000 linear steps: closed forms, see tests/losses/test_ddpm.py.
BOUNDS = {
    ("fixed_large", "beta"): 0.72688,
    ("fixed_large", "published"): 0.84046,
    ("fixed_small", "published"): 1.29572,
}


@pytest.mark.slow
@pytest.mark.parametrize("variance, first_variance", BOUNDS)
def test_bound_of_the_exact_denoiser_is_the_known_one(variance, first_variance):
    family = build(
        Exact(), None, Chain(), event_shape=(1,), eval_num_times=1000,
        variance=variance, first_variance=first_variance,
    )  # fmt: skip
    batch = gaussian(10_000)
    state = family.init(jax.random.key(0), batch)
    nats = -np.asarray(jax.jit(family.log_prob)(state, batch, jax.random.key(1)))
    # The density itself is taken off: what is left is the gap, with little variance.
    gap = nats - nats_of(batch["x"])
    entropy = 0.72579135
    stderr = gap.std() / np.sqrt(len(gap))
    expected = BOUNDS[variance, first_variance] - entropy
    assert stderr < 0.02
    assert abs(gap.mean() - expected) < 4 * stderr + 1e-4
    assert family.eval_protocol["bound"].startswith("1000 steps, each once")


def test_parts_of_the_bound_add_up_and_all_steps_are_asked_exactly_once():
    seen = []

    class Counting(Exact):
        @nn.compact
        def __call__(self, z_t, t, label=None, *, deterministic=True):
            jax.debug.callback(lambda t: seen.append(np.asarray(t)), t)
            return Exact.__call__(self, z_t, t)

    batch = gaussian(3)
    family = build(Counting(SHORT), None, event_shape=(1,), eval_num_times=20)
    state = family.init(jax.random.key(0), batch)
    jax.effects_barrier()
    seen.clear()
    bits = family.eval_step(state, batch, jax.random.key(1))
    jax.effects_barrier()
    times = np.sort(np.stack(seen), axis=0)
    np.testing.assert_allclose(times, np.repeat(np.arange(1, 21)[:, None] / 20, 3, 1), rtol=1e-6)
    assert set(bits) == {"prior", "diffusion", "reconstruction", "bits_per_dim"}
    total = bits["prior"] + bits["diffusion"] + bits["reconstruction"]
    np.testing.assert_allclose(bits["bits_per_dim"], total, rtol=1e-6)


def test_fewer_times_stand_for_all_of_them_without_bias():
    batch = gaussian(4000)
    whole, some = (build(Exact(SHORT), None, event_shape=(1,), eval_num_times=n) for n in (20, 3))
    state = whole.init(jax.random.key(0), batch)
    exact = jax.jit(whole.eval_step)(state, batch, jax.random.key(1))
    found = jax.jit(some.eval_step)(state, batch, jax.random.key(1))
    np.testing.assert_array_equal(found["reconstruction"], exact["reconstruction"])
    gap = np.asarray(found["diffusion"] - exact["diffusion"])
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))
    assert gap.std() > 0
    assert some.eval_protocol["bound"].startswith("20 steps, for which 3 and that to data")


def test_the_loss_of_the_bound_is_the_bound_that_evaluation_gives():
    batch = gaussian(16_000)
    family = build(Exact(SHORT), None, event_shape=(1,), eval_num_times=20, loss="bound")
    state = family.init(jax.random.key(0), batch)
    bits = np.asarray(jax.jit(family.eval_step)(state, batch, jax.random.key(1))["bits_per_dim"])
    _, metrics = jax.jit(family.train_step)(state, batch, jax.random.key(2))
    # One step an example: its spread is that of T times a term.
    assert float(metrics["loss"]) == pytest.approx(bits.mean(), abs=0.1)
    assert float(metrics["loss"]) == float(metrics["bits_per_dim"])


@pytest.mark.parametrize("prediction", KINDS)
def test_every_prediction_of_the_exact_denoiser_has_the_same_bound_and_no_error_to_learn(
    prediction,
):
    batch = gaussian(32)
    family = build(
        Exact(SHORT, prediction), None, event_shape=(1,), eval_num_times=20, prediction=prediction
    )
    state = family.init(jax.random.key(0), batch)
    nats = family.log_prob(state, batch, jax.random.key(1))
    noise = build(Exact(SHORT), None, event_shape=(1,), eval_num_times=20)
    np.testing.assert_allclose(
        nats, noise.log_prob(state, batch, jax.random.key(1)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("prediction", KINDS)
def test_the_target_is_what_gives_the_data_back(prediction):
    x, noise = (jax.random.normal(jax.random.key(i), (20, 3)) for i in (0, 1))
    steps = chain_steps(SHORT).at(jnp.arange(20))
    kind = ChainObjective(prediction=prediction).kind(steps, x)
    alpha, sigma = steps.alpha[:, None], steps.sigma[:, None]
    z = diffuse(x, noise, steps.alpha, steps.sigma)
    target = kind.target(x, noise, alpha, sigma)
    data, noise_hat = kind.estimate(target, z, alpha, sigma)
    np.testing.assert_allclose(data, x, atol=1e-9)
    np.testing.assert_allclose(noise_hat, noise, atol=1e-9)
    # How much the noise's error is of the output's, by an output that is off.
    _, off = kind.estimate(target + 0.1, z, alpha, sigma)
    ratio = (off - noise) ** 2 / 0.01
    expected = jnp.broadcast_to(jnp.exp(kind.log_noise_error(alpha, sigma)), ratio.shape)
    np.testing.assert_allclose(ratio, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_learned_variance_trains_and_the_bound_moves_it_alone_in_the_hybrid_loss():
    batch = levels()
    family = build(variance="learned", loss="hybrid", eval_num_times=20)
    state = family.init(jax.random.key(0), batch)
    model = GaussianChain(
        net=Small(out_channels=4), process=SHORT, event_shape=(2,), num_levels=17,
        objective=ChainObjective(variance="learned", loss="hybrid"),
    )  # fmt: skip

    def terms(params):
        loss, (metrics, _) = model.loss(params, {}, batch, jax.random.key(3), state.step)
        return loss, metrics["error"]

    whole = jax.grad(lambda p: terms(p)[0])(state.params)["net"]["Dense_1"]["bias"]
    error = jax.grad(lambda p: terms(p)[1])(state.params)["net"]["Dense_1"]["bias"]
    np.testing.assert_allclose(whole[:2], error[:2], rtol=1e-6)
    assert np.abs(whole[2:]).min() > 0 and np.abs(error[2:]).max() == 0
    step = jax.jit(family.train_step)
    first = None
    for i in range(60):
        state, metrics = step(state, batch, jax.random.fold_in(jax.random.key(4), i))
        first = metrics if first is None else first
        assert all(np.isfinite(float(v)) for v in metrics.values())
    assert float(metrics["error"]) < float(first["error"])
    assert float(metrics["loss"]) == pytest.approx(
        float(metrics["error"]) + 0.001 * float(metrics["bits_per_dim"]), rel=1e-5
    )
    rows = jax.jit(family.sample)(state, jax.random.key(5), batch).rows
    assert rows.dtype == jnp.uint8 and rows.shape == (16, 2) and int(rows.max()) <= 16


@pytest.mark.slow
def test_the_learned_variance_of_published_ends_is_the_fixed_one():
    # A network that says -1 everywhere has the small variance, one that says 1 the large one.
    batch = gaussian(8)

    class Says(Exact):
        value: float = 0.0

        @nn.compact
        def __call__(self, z_t, t, label=None, *, deterministic=True):
            out = Exact.__call__(self, z_t, t)
            return jnp.concatenate([out, jnp.full_like(out, self.value)], -1)

    key = jax.random.key(1)

    def score(net, **kwargs):
        family = build(net, None, event_shape=(1,), eval_num_times=20, **kwargs)
        state = family.init(jax.random.key(0), batch)
        parts = family.eval_step(state, batch, key)
        return parts, family.sample(state, key, batch).rows

    small, of_small = score(Exact(SHORT), variance="fixed_small")
    large, of_large = score(Exact(SHORT), variance="fixed_large", first_variance="beta")
    for value, parts, rows in [(-1.0, small, of_small), (1.0, large, of_large)]:
        found, drawn = score(Says(SHORT, value=value), variance="learned", loss="hybrid")
        for name in parts:
            np.testing.assert_allclose(found[name], parts[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(drawn, rows, rtol=1e-4, atol=1e-5)


def test_kept_steps_hold_both_ends_and_all_of_them_are_the_chain():
    for total, count in [(1000, 50), (4000, 7), (10, 10), (10, 9), (3, 2)]:
        kept = kept_steps(total, count)
        assert len(kept) == count and (kept[0], kept[-1]) == (1, total)
        assert (np.diff(kept) >= 1).all()
    assert kept_steps(10, 1).tolist() == [10]
    for part, whole in zip(chain_steps(SHORT, 20), chain_steps(SHORT), strict=True):
        np.testing.assert_array_equal(part, whole)


@pytest.mark.usefixtures("x64")
def test_a_respaced_chain_has_the_posterior_between_its_own_steps():
    steps, kept = chain_steps(Chain(), 5), kept_steps(1000, 5)
    log_bar = np.cumsum(np.log1p(-Chain().variances()))[kept - 1]
    beta = 1 - np.exp(np.diff(log_bar, prepend=0.0))
    np.testing.assert_allclose(np.exp(steps.log_large), beta, rtol=1e-10)
    bar = np.exp(log_bar)
    expected = beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])
    np.testing.assert_allclose(np.exp(steps.log_small[1:]), expected, rtol=1e-10)
    np.testing.assert_allclose(steps.log_small[0], steps.log_small[1])
    np.testing.assert_allclose(steps.times, kept / 1000)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_all_steps_of_the_chain_are_the_ancestral_sampler(variance):
    # Two ways to the same coefficients, with the same noise.
    process = Chain(num_timesteps=30, beta_max=0.01)
    net = Exact(process)
    params = net.init(jax.random.key(0), jnp.zeros((1, 2)), jnp.ones(1))

    def estimate(z, t):
        out = net.apply(params, z, jnp.full(z.shape[:1], t))
        return Noise().estimate(out, z, *process.scales(t))

    denoiser, z = Denoiser(process, estimate), jax.random.normal(jax.random.key(1), (8, 2))
    own = ChainSampler(chain=process, variance=f"fixed_{variance}")
    other = Ancestral(variance=variance)
    key = jax.random.key(2)
    x, frames = own.sample(denoiser, key, z, num_steps=30, num_frames=5)
    y, others = other.sample(denoiser, key, z, num_steps=30, num_frames=5)
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(frames, others, rtol=1e-3, atol=1e-4)
    assert own.num_calls(30) == 30


@pytest.mark.parametrize("num_steps", [1000, 50])
def test_samples_of_the_exact_model_have_the_data_s_variance(num_steps):
    family = build(
        Exact(), None, Chain(), event_shape=(1,), variance="fixed_small",
        sampling=Sampling(num_steps=num_steps),
    )  # fmt: skip
    batch = gaussian(8000)
    state = family.init(jax.random.key(0), batch)
    rows = jax.jit(family.sample)(state, jax.random.key(1), batch).rows
    # A chain of Gaussians: the variance is that of the linear recursion, in float64.
    steps = chain_steps(Chain(), num_steps)
    variance = 1.0
    for i in reversed(range(num_steps)):
        alpha, sigma = float(steps.alpha[i]), float(steps.sigma[i])
        of_z = float(steps.of_latent[i]) + float(steps.of_data[i]) * alpha * STD**2 / (
            alpha**2 * STD**2 + sigma**2
        )
        variance = of_z**2 * variance + (float(np.exp(steps.log_small[i])) if i else 0.0)
    assert float(rows.var()) == pytest.approx(variance, rel=4 * np.sqrt(2 / 8000))
    if num_steps == 1000:
        assert variance == pytest.approx(STD**2, rel=0.02)


@pytest.mark.slow
def test_other_samplers_and_the_flow_take_the_chain_as_a_process():
    scored = Likelihood(likelihood="both")
    family = build(
        Exact(), None, Chain(), event_shape=(1,), eval_num_times=1, scored=scored,
        sampling=Sampling(num_steps=40, sampler=DDIM(times="log_snr")),
    )  # fmt: skip
    batch = gaussian(2000)
    state = family.init(jax.random.key(0), batch)
    rows = jax.jit(family.sample)(state, jax.random.key(1), batch).rows
    assert float(rows.std()) == pytest.approx(STD, rel=0.08)
    few = {name: rows[:20] for name, rows in batch.items()}
    bits = jax.jit(family.eval_step)(state, few, jax.random.key(1))
    nats = np.asarray(bits["bits_per_dim_ode"]) * np.log(2)
    # The noise that is left at the first step, of variance 1e-4, is taken as data.
    np.testing.assert_allclose(nats, nats_of(few["x"]), atol=5e-3)


@pytest.mark.slow
def test_clipping_is_for_grey_levels_and_changes_evaluation_and_samples():
    class Wild(Exact):
        @nn.compact
        def __call__(self, z_t, t, label=None, *, deterministic=True):
            self.param("unused", nn.initializers.zeros, ())
            return jnp.full_like(z_t, 5.0)

    batch = levels()
    kwargs = dict(prediction="data", eval_num_times=20)
    clipped, wild = (build(Wild(SHORT), clip_data=c, **kwargs) for c in (None, False))
    state = clipped.init(jax.random.key(0), batch)
    found, other = (f.eval_step(state, batch, jax.random.key(1)) for f in (clipped, wild))
    assert (np.asarray(found["bits_per_dim"]) < np.asarray(other["bits_per_dim"])).all()
    assert "clipped" in clipped.eval_protocol["bound"]
    assert "clipped" not in wild.eval_protocol["bound"]
    frames = [f.sample(state, jax.random.key(1), batch) for f in (clipped, wild)]
    assert (np.asarray(frames[0].rows) == 16).all()
    _, one = clipped.train_step(state, batch, jax.random.key(2))
    _, two = wild.train_step(state, batch, jax.random.key(2))
    assert float(one["loss"]) == float(two["loss"]), "training does not clip"


@pytest.mark.slow
def test_labels_are_left_out_and_guide():
    batch = {**levels(), "label": jnp.arange(16, dtype=jnp.int32) % 3}
    guided = Sampling(num_steps=4, guidance=ClassifierFree(scale=3.0))
    kwargs = dict(variance="learned", loss="hybrid", label_dropout=0.2)
    net = Small(out_channels=4, num_classes=3)
    plain, other = (build(net, sampling=s, clip_data=False, num_levels=None, **kwargs)
                    for s in (Sampling(num_steps=4), guided))  # fmt: skip
    batch["x"] = batch["x"].astype(jnp.float32) / 8 - 1
    state = plain.init(jax.random.key(0), batch)
    state, metrics = jax.jit(plain.train_step)(state, batch, jax.random.key(1))
    assert np.isfinite(float(metrics["loss"])) and plain.reads == ("label",)
    rows = [jax.jit(f.sample)(state, jax.random.key(2), batch).rows for f in (plain, other)]
    assert np.isfinite(rows).all() and np.abs(rows[0] - rows[1]).max() > 1e-3
    # Guidance of scale 1 is the model, through two network calls a step.
    one = build(net, sampling=Sampling(num_steps=4, guidance=ClassifierFree()), clip_data=False,
                num_levels=None, **kwargs)  # fmt: skip
    np.testing.assert_allclose(
        jax.jit(one.sample)(state, jax.random.key(2), batch).rows, rows[0], rtol=1e-4, atol=1e-5
    )


def test_a_classifier_guides_a_chain_that_takes_no_labels_and_learns_its_variance():
    def to_the_right(z, t, label):
        return jnp.sum(z, axis=-1) * jnp.where(label == 1, 1.0, -1.0)

    guidance = ClassifierGuidance(log_prob_fn=to_the_right, scale=3.0)
    family = build(
        num_levels=None, variance="learned", loss="hybrid",
        sampling=Sampling(num_steps=4, guidance=guidance),
    )  # fmt: skip
    batch = gaussian(64)
    batch = {"x": jnp.repeat(batch["x"], 2, 1), "label": jnp.arange(64, dtype=jnp.int32) % 2}
    state = family.init(jax.random.key(0), batch)
    rows = jax.jit(family.sample)(state, jax.random.key(1), batch).rows
    assert float(rows[1::2].mean()) > float(rows[::2].mean()) + 0.5
    # Its own variance takes a network call beside that of each guided step.
    assert family.sample_protocol["sampler"].startswith("ChainSampler, 8 network calls")


@pytest.mark.slow
def test_evaluation_does_not_depend_on_the_batch():
    family, batch = build(eval_num_times=5), levels()
    state = family.init(jax.random.key(0), batch)
    whole = family.eval_step(state, batch, jax.random.key(1))
    part = family.eval_step(state, {k: v[5:9] for k, v in batch.items()}, jax.random.key(1))
    for name, values in part.items():
        np.testing.assert_allclose(values, whole[name][5:9], rtol=1e-5, atol=1e-6)


def test_three_steps_and_three_are_six():
    family, batch = build(variance="learned", loss="hybrid"), levels()
    step = jax.jit(family.train_step)

    def train(state, first, last):
        for i in range(first, last):
            state, _ = step(state, batch, jax.random.fold_in(jax.random.key(1), i))
        return state

    start = family.init(jax.random.key(0), batch)
    straight = train(start, 0, 6)
    half = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), train(start, 0, 3))
    jax.tree.map(np.testing.assert_array_equal, train(half, 3, 6), straight)


@pytest.mark.parametrize("betas", [
    "linear",
    *(pytest.param(b, marks=pytest.mark.slow)
      for b in ("scaled_linear", "cosine", "sigmoid", "constant")),
])  # fmt: skip
def test_any_chain_trains_and_scores(betas):
    beta_min, beta_max = (0.01, 0.02) if betas == "constant" else (1e-4, 0.02)
    process = Chain(num_timesteps=25, betas=betas, beta_min=beta_min / 2, beta_max=beta_max / 2)
    family, batch = build(process=process, loss="bound", eval_num_times=25), levels()
    state = family.init(jax.random.key(0), batch)
    state, metrics = jax.jit(family.train_step)(state, batch, jax.random.key(1))
    bits = jax.jit(family.eval_step)(state, batch, jax.random.key(1))["bits_per_dim"]
    assert np.isfinite(float(metrics["loss"])) and np.isfinite(bits).all()


def test_a_chain_of_one_step_has_no_diffusion():
    process = Chain(num_timesteps=1, beta_min=1e-4, beta_max=9e-4)
    family = build(process=process, sampling=Sampling(num_steps=1))
    batch = levels()
    state = family.init(jax.random.key(0), batch)
    bits = family.eval_step(state, batch, jax.random.key(1))
    assert (np.asarray(bits["diffusion"]) == 0).all() and np.isfinite(bits["bits_per_dim"]).all()
    assert family.sample(state, jax.random.key(1), batch).rows.shape == (16, 2)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(prediction="score"), "prediction must be one of noise, data, v, mean"),
        (dict(loss="vlb"), "loss must be one of simple, bound, hybrid"),
        (dict(variance="small"), "variance must be one of fixed_small"),
        (dict(first_variance="own"), "first_variance must be one of published, beta"),
        (dict(variance="learned"), "is not in loss 'simple'"),
        (dict(loss="hybrid"), "'fixed_large' has nothing to train"),
        (dict(variance="learned", loss="bound", first_variance="beta"), "is for the fixed"),
        (dict(loss="hybrid", variance="learned", bound_weight=0.0), "bound_weight must be pos"),
        (dict(clip_data=True, num_levels=None), "real-valued data has no interval"),
        (dict(label_dropout=0.1), "takes no labels: set model.num_classes"),
        (dict(eval_num_times=0), "eval_num_times must be at least 1"),
        (dict(process=VariancePreserving()), "must be a chain of steps, got VariancePreserving"),
        (dict(sampling=Sampling(num_steps=21)), "num_steps is 21, but the chain has 20 steps"),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_networks_of_another_width_are_refused_with_the_width_they_need():
    batch = levels()
    learned = build(Small(), variance="learned", loss="hybrid")
    with pytest.raises(ValueError, match=r"got \(2,\): .* needs model.out_channels=4, half for"):
        learned.init(jax.random.key(0), batch)
    with pytest.raises(ValueError, match="leave model.out_channels out"):
        build(Small(out_channels=4)).init(jax.random.key(0), batch)


def test_a_config_builds_it_and_says_what_is_wrong():
    config = dict(
        data=dict(name="digits", batch_size=8),
        model=dict(name="unet", channels=8, multipliers=(1, 2), num_blocks=1, num_groups=4,
                   out_channels=2),
        family=dict(name="ddpm", process=dict(name="chain", num_timesteps=10, beta_max=0.005),
                    variance="learned", loss="hybrid"),
        optimizer=dict(name="adam"),
        train=dict(num_steps=1),
        sample=dict(num_steps=5),
    )  # fmt: skip
    experiment = configs.build(config)
    assert "10 steps" in experiment.family.eval_protocol["bound"]
    config["model"].pop("out_channels")
    with pytest.raises(configs.ConfigError, match="needs model.out_channels=2"):
        configs.build(config)
    config["family"] = dict(name="ddpm", process=dict(name="vp"))
    with pytest.raises(configs.ConfigError, match=r"family.process.name 'vp'"):
        configs.build(config)
