"""First stages of latent diffusion: what their losses are, and what the second stage sees."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import genjax
from genjax import families, nets
from genjax.config import ConfigError
from genjax.config.first_stage import FirstStageSettings
from genjax.families.adversarial import Adversarial
from genjax.families.base import Family, FirstStage
from genjax.families.gan.coders import GaussianCoder
from genjax.families.gan.reconstruction_game import Judges, ReconstructionGame, adaptive_weight
from genjax.families.gan.translation import Side
from genjax.families.gaussian_grid import GaussianGrid
from genjax.families.latent_variable import LatentVariableModel
from genjax.families.latents import measured_scale
from genjax.families.levels import Reals
from genjax.families.observations import Entries
from genjax.families.players import Player, Turn
from genjax.families.variational_objective import VariationalObjective

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.integers(0, 16, (6, 8, 8, 1)), jnp.uint8)
BATCH = {"x": X, "index": jnp.arange(6)}
SIZES = dict(channels=4, num_blocks=1, residual_channels=2)
NETS = dict(
    encoder=nets.GridEncoder(num_halvings=1, **SIZES),
    decoder=nets.GridDecoder(num_doublings=1, **SIZES),
)
DATA = dict(event_shape=(8, 8, 1), num_levels=16)
NO_AVERAGE = families.HalfLife(ema_half_life_kimg=0.0)


class Plain(nn.Module):
    """A linear critic of points."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return x @ self.param("weight", nn.initializers.ones, x.shape[-1:])


@dataclasses.dataclass(frozen=True)
class Linear:
    """Features that are given, and a last layer without a bias: points of the plane."""

    observation = families.Laplace()
    entries = Entries(2, None)
    units = Reals()

    def init(self, key, batch):
        raise NotImplementedError

    def code(self, params, state, batch, key):
        raise NotImplementedError

    def observe(self, params, features):
        own = params["decoder"]["outputs"]
        shared = jnp.broadcast_to(own["shared"], (len(features), 1))
        return jnp.concatenate([features @ own["kernel"], shared], axis=1)

    def regularizer(self, params, state, batch, made, key, step):
        return jnp.zeros(()), ({}, state)


@pytest.mark.parametrize("start", [0, 5])
def test_the_factor_of_a_linear_decoder_is_the_ratio_of_closed_forms(start):
    features, x = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
    kernel, weight, s = RNG.normal(size=(3, 2)), np.array([0.5, -2.0]), -0.7
    game = ReconstructionGame(
        coder=Linear(), judges=Judges(critic_weight=0.3, critic_start=start),
        side=Side((2,), None), critic=Plain(),
    )  # fmt: skip
    as_arrays = dict(kernel=jnp.float32(kernel), shared=jnp.float32([s]))
    params = {"decoder": {"outputs": as_arrays}, "critic": {"weight": jnp.float32(weight)}}
    fake, batch = {"features": jnp.float32(features)}, {"x": jnp.float32(x)}

    def loss(params, fake, step):
        turn = Turn(jnp.asarray(step), {})
        return game.autoencoder_loss(params, {"critic": {}}, batch, fake, KEY, turn)

    grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (metrics, _)), slopes = grads(params, fake, 5)
    off = features @ kernel - x
    of_error = features.T @ np.sign(off) * np.exp(-s) / 7
    of_critic = -np.outer(features.mean(0), weight)
    factor = np.linalg.norm(of_error) / (np.linalg.norm(of_critic) + 1e-4)
    assert float(metrics["adaptive_weight"]) == pytest.approx(factor, rel=1e-5)
    nats = np.abs(off).sum(1).mean() * np.exp(-s) + 2 * (s + np.log(2.0))
    adversarial = -(features @ kernel @ weight).mean()
    assert float(value) == pytest.approx(nats + 0.3 * factor * adversarial, rel=1e-5)
    own = slopes[0]["decoder"]["outputs"]
    np.testing.assert_allclose(own["kernel"], of_error + 0.3 * factor * of_critic, rtol=1e-4)
    assert float(own["shared"][0]) == pytest.approx(
        2.0 - np.abs(off).sum(1).mean() * np.exp(-s), rel=1e-5
    )
    back = (np.sign(off) * np.exp(-s) - 0.3 * factor * weight) / 7 @ kernel.T
    np.testing.assert_allclose(slopes[1]["features"], back, rtol=1e-4, atol=1e-6)
    assert not np.any(slopes[0]["critic"]["weight"])  # which is the other player's
    if start:
        (alone, (metrics, _)), slopes = grads(params, fake, 4)
        assert float(alone) == pytest.approx(nats, rel=1e-5) and not metrics["adaptive_weight"]
        np.testing.assert_allclose(
            slopes[0]["decoder"]["outputs"]["kernel"], of_error, rtol=1e-4, atol=1e-6
        )


def test_the_factor_has_a_limit_and_no_slope():
    tiny = jnp.full((2, 2), 1e-12)
    assert float(adaptive_weight(jnp.ones((2, 2)), tiny)) == pytest.approx(1e4)
    slope = jax.grad(lambda g: adaptive_weight(g, g))(jnp.ones((2, 2)))
    assert not np.any(slope)


def judged(make=families.kl_autoencoder, **kwargs):
    if make is families.vq_gan:
        kwargs["quantizer"] = families.VectorQuantizer(num_codes=4, code_size=3)
    given = {"autoencoder_optimizer": optax.adam(1e-2), "batch_size": 6, **NETS, **DATA, **kwargs}
    return make(average=NO_AVERAGE, **given)


CRITIC = dict(
    critic=nets.PatchCritic(channels=2, num_layers=1, norm="batch"),
    critic_optimizer=optax.adamw(1e-2, weight_decay=0.1),
)


def test_the_scale_of_errors_is_moved_by_the_optimiser_to_the_mean_error():
    x = jnp.asarray(RNG.normal(size=(6, 8, 8, 1)), jnp.float32)
    family = judged(autoencoder_optimizer=optax.sgd(1e-3), num_levels=None, latent_channels=2)
    state = family.init(KEY, {"x": x})
    new, metrics = family.train_step(state, {"x": x}, KEY)
    assert float(state.params["decoder"]["shared"][0]) == 0.0
    # The slope in s of sum(|e| exp(-s) + s) at s = 0, of 64 entries.
    error = float(metrics["reconstruction"]) - 64 * np.log(2.0)
    moved = float(new.params["decoder"]["shared"][0])
    assert moved == pytest.approx(-1e-3 * (64 - error), rel=1e-4) and moved != 0.0


@pytest.mark.parametrize(
    "make",
    [families.kl_autoencoder, pytest.param(families.vq_gan, marks=pytest.mark.slow)],
)
def test_before_its_start_nothing_of_the_critic_matters(make):
    family = judged(make, judges=families.Judges(critic_start=2), **CRITIC)
    one = family.init(KEY, BATCH)
    other = one.replace(
        params={**one.params, "critic": jax.tree.map(lambda p: p + 5.0, one.params["critic"])}
    )
    step, starts = jax.jit(family.train_step), (one, other)
    for i in range(3):
        (one, metrics), (other, _) = (
            step(state, BATCH, jax.random.fold_in(KEY, i)) for state in (one, other)
        )
        same = jax.tree.map(np.array_equal, *(
            {n: s.params[n] for n in ("encoder", "decoder")} for s in (one, other)
        ))  # fmt: skip
        assert all(jax.tree.leaves(same)) == (i < 2)
        for start, state in zip(starts, (one, other), strict=True):
            still = jax.tree.map(np.array_equal, *(
                (s.params["critic"], s.model_state["critic"], s.opt_state["critic"])
                for s in (start, state)
            ))  # fmt: skip
            assert all(jax.tree.leaves(still)) == (i < 2)
        assert bool(metrics["adaptive_weight"] > 0.0) == (i == 2)


def test_without_a_critic_codes_are_those_of_a_vq_vae():
    kwargs = {**NETS, **DATA, "quantizer": families.VectorQuantizer(num_codes=4, code_size=3)}
    plain = families.vq_vae(observation=families.Laplace(), optimizer=optax.adam(1e-2), **kwargs)
    family = judged(families.vq_gan)
    states = [f.init(KEY, BATCH) for f in (plain, family)]
    found = [
        jax.jit(f.train_step)(s, BATCH, KEY)[0]
        for f, s in zip((plain, family), states, strict=True)
    ]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_without_a_critic_the_loss_is_that_of_a_vae_of_small_weight():
    groups = GaussianGrid(channels=4, event_shape=(8, 8, 1), num_outputs=1, num_shared=1, **NETS)
    model = LatentVariableModel(
        groups=groups, observation=families.Laplace(), objective=VariationalObjective(beta=0.5),
        **DATA,
    )  # fmt: skip
    game = ReconstructionGame(
        coder=GaussianCoder(model=model, groups=groups), judges=Judges(), side=Side((8, 8, 1), 16)
    )
    params, state = game.init_networks(KEY, BATCH)
    made, _ = game.generate(params, state, BATCH, 1, KEY)
    value, _ = game.autoencoder_loss(params, state, BATCH, made, KEY, Turn(jnp.zeros(()), {}))
    expected, (metrics, _) = model.loss(params, {}, BATCH, KEY, jnp.zeros(()))
    assert float(value) == pytest.approx(float(expected), rel=1e-6) and metrics["kl"] > 0.0


def test_latents_are_a_grid_that_is_drawn_and_rows_come_back():
    family = judged(latent_channels=3)
    state = family.init(KEY, BATCH)
    first, variables = family.first_stage, {"ema": state.ema, "model_state": {}}
    assert first.event_shape == (4, 4, 3) and first.num_levels is None
    a, b = (first.encode(variables, BATCH, jax.random.key(i)) for i in (1, 2))
    assert a.shape == (6, 4, 4, 3) and 0.5 < float(jnp.std(a - b)) < 3.0
    bound = first.nats(variables, BATCH, a) - stats.norm.logpdf(a).sum((1, 2, 3))
    assert np.isfinite(bound).all() and first.decode(variables, a, {}).dtype == jnp.uint8
    means = family.encode(state, BATCH, KEY)
    back = family.reconstruct(state, BATCH, KEY)
    np.testing.assert_array_equal(back, family.decode(state, means, BATCH))
    assert family.sample(state, KEY, BATCH).rows.shape == X.shape


def test_vectors_before_they_are_quantised_come_back_as_their_codes_do():
    family = judged(families.vq_gan)
    state = family.init(KEY, BATCH)
    codes, vectors = family.first_stage, family.first_stage.vectors
    variables = codes.variables(state.ema, {**state.model_state, "critic": {}})
    assert set(variables["model_state"]) == {"codebook"}
    found = vectors.encode(variables, BATCH, KEY)
    assert found.shape[1:] == vectors.event_shape == (4, 4, 3) and vectors.nats is None
    np.testing.assert_array_equal(
        vectors.decode(variables, found, {}),
        codes.decode(variables, codes.encode(variables, BATCH, KEY), {}),
    )


def standard_normal(std):
    """A family whose density is that of independent normals."""

    def log_prob(state, batch, key):
        x = batch["x"].reshape(batch["x"].shape[0], -1)
        return jnp.sum(jax.scipy.stats.norm.logpdf(x, scale=std), axis=1)

    def eval_step(state, batch, key):
        return {"nats": -log_prob(state, batch, key)}

    state = families.TrainState(
        step=jnp.zeros((), jnp.int32), params={}, opt_state={}, model_state={}, ema={}
    )
    return Family(
        init=lambda key, batch: state, train_step=lambda state, batch, key: (state, {}),
        eval_protocol={}, eval_step=eval_step, log_prob=log_prob, density_metrics={"nats": 1.0},
        sample=lambda state, key, batch: families.Samples(rows=jnp.ones_like(batch["x"])),
    )  # fmt: skip


@pytest.mark.parametrize("scale", ["one", "channel"])
def test_likelihoods_of_data_are_the_same_in_any_unit_of_latents(scale):
    first = judged(latent_channels=2).first_stage
    state = judged(latent_channels=2).init(KEY, BATCH)
    variables = {"ema": state.ema, "model_state": {}}
    unit = jnp.float32(7.0) if scale == "one" else jnp.float32([0.2, 30.0])
    scaled = families.of_latents(standard_normal(1.0), first, variables, (8, 8, 1), scale=scale)
    plain = families.of_latents(standard_normal(unit.mean()), first, variables, (8, 8, 1))
    if scale == "channel":
        plain = families.of_latents(
            standard_normal(jnp.tile(unit, 16)), first, variables, (8, 8, 1)
        )
    a = scaled.init(KEY, BATCH)
    assert np.all(a.model_state["first_stage"]["scale"] == 1.0)
    a = a.replace(model_state={"first_stage": {**variables, "scale": unit}})
    b = a.replace(model_state={"first_stage": variables})
    np.testing.assert_allclose(
        scaled.log_prob(a, BATCH, KEY), plain.log_prob(b, BATCH, KEY), rtol=1e-5
    )
    np.testing.assert_allclose(
        scaled.eval_step(a, BATCH, KEY)["nats"], plain.eval_step(b, BATCH, KEY)["nats"], rtol=1e-5
    )
    assert abs(float(jnp.sum(jnp.log(unit) * jnp.ones(2)))) * 16 > 20.0  # where it matters
    # Samples are ones, in these units.
    ones = jnp.ones((6, 4, 4, 2)) * unit
    np.testing.assert_array_equal(
        scaled.sample(a, KEY, BATCH).rows, first.decode(variables, ones, {})
    )
    _, metrics = scaled.train_step(a, BATCH, KEY)
    assert float(metrics["latent_scale"]) == pytest.approx(float(unit.mean()))
    # What comes back needs no second stage.
    assert scaled.reconstruct(a, BATCH, KEY).shape == X.shape


def test_the_scale_of_latents_is_their_deviation_in_all_rows():
    rows = RNG.normal(3.0, 1.0, size=(4, 50, 2, 2, 3)) * [0.1, 1.0, 20.0]
    first = FirstStage(
        event_shape=(2, 2, 3), num_levels=None, decode=None, nats=None,
        encode=lambda variables, batch, key: batch["x"] * variables["factor"],
    )  # fmt: skip
    batches = [{"x": jnp.float32(part)} for part in rows]
    variables = {"factor": jnp.float32(2.0)}
    one = measured_scale(first, variables, batches, "one")
    assert one.shape == () and float(one) == pytest.approx(2.0 * rows.std(), rel=1e-4)
    each = measured_scale(first, variables, batches, "channel")
    np.testing.assert_allclose(each, 2.0 * rows.std((0, 1, 2, 3)), rtol=1e-4)
    with pytest.raises(ValueError, match="has it collapsed"):
        measured_scale(first, {"factor": jnp.float32(0.0)}, batches, "one")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a critic needs an optimiser"):
        judged(critic=CRITIC["critic"])
    with pytest.raises(ValueError, match="images that have a slope"):
        judged(observation=families.Categorical(), **CRITIC)
    with pytest.raises(ValueError, match="leave model.critic or model.features out"):
        families.Judges(critic_weight=0.0)
    with pytest.raises(ValueError, match="latent_channels must be at least 1"):
        judged(latent_channels=0)
    late = {
        name: Player(networks=(name,), loss_fn=print, optimizer=optax.sgd(0.1), starts_at=starts)
        for name, starts in (("critic", 0), ("generator", 1))
    }
    with pytest.raises(ValueError, match="starts_at is of the critic, in the order"):
        Adversarial(init_networks=print, generate=print, batch_size=1, **late)
    codes = judged(families.vq_gan).first_stage
    with pytest.raises(ValueError, match="codes have no standard deviation"):
        families.of_latents(standard_normal(1.0), codes, {}, (8, 8, 1), scale="one")


def test_a_second_stage_chooses_latents_and_their_unit():
    codes, grid = judged(families.vq_gan).first_stage, judged().first_stage
    asked = FirstStageSettings(workdir="first", latents="vectors")
    assert asked.asked_of(codes) is codes.vectors and asked.scale_of(codes.vectors) == "one"
    assert FirstStageSettings(workdir="first").scale_of(codes) is None
    with pytest.raises(ConfigError, match="has no codes that vectors"):
        asked.asked_of(grid)
    with pytest.raises(ConfigError, match="scale must be one of 'one', 'channel', None, got 'all'"):
        FirstStageSettings(workdir="first", scale="all")
    # The density of vectors bounds nothing.
    of_vectors = families.of_latents(standard_normal(1.0), codes.vectors, {}, (8, 8, 1))
    assert of_vectors.eval_step is None and of_vectors.log_prob is None


def config(**model):
    optimizer = dict(autoencoder=dict(name="adam", learning_rate=1e-3))
    if "critic" in model:
        optimizer["critic"] = dict(name="adam", learning_rate=1e-3)
    return dict(
        data=dict(name="digits", batch_size=32),
        model=dict(
            encoder=dict(name="grid", num_halvings=1, **SIZES),
            decoder=dict(name="grid", num_doublings=1, **SIZES),
            **model,
        ),
        family=dict(name="kl_autoencoder", critic_start=1),
        optimizer=optimizer,
        train=dict(num_steps=2, log_every=1, eval_every=0, sample_every=0),
    )


def of_latents(workdir):
    return dict(
        data=dict(name="digits", batch_size=32, first_stage=dict(workdir=str(workdir))),
        model=dict(name="unet", channels=4, multipliers=(1,), num_blocks=1, num_groups=2,
                   attention_sizes=()),
        family=dict(name="edm", likelihood="none"),
        optimizer=dict(name="adam", learning_rate=1e-3),
        train=dict(num_steps=2, log_every=1, eval_every=0, sample_every=0),
        eval=dict(batch_size=180, metrics=("psnr",), num_times=2),
        sample=dict(num_steps=2),
    )  # fmt: skip


@pytest.mark.slow
def test_latent_diffusion_through_configs_has_latents_of_unit_deviation(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    critic = dict(name="patch", channels=2, num_layers=1)
    first = genjax.Run(genjax.build(config(critic=critic)), one)
    first.train()
    experiment = genjax.build(of_latents(one))
    run = genjax.Run(experiment, two)
    run.train()
    kept = run.state.model_state["first_stage"]
    assert set(kept) == {"ema", "model_state", "scale"} and not kept["model_state"]
    rows = experiment.train_data.source.rows(np.arange(1000))["x"]
    latents = first.family.first_stage.encode(kept, {"x": jnp.asarray(rows)}, KEY)
    assert np.std(latents / kept["scale"]) == pytest.approx(1.0, abs=0.05)
    assert abs(float(kept["scale"]) - 1.0) > 0.02  # not the one that a template has
    found = run.evaluate()
    x = experiment.test_data.source.rows(np.arange(360))["x"]
    assert found["eval/psnr"] > 0.0 and found["eval/num_reconstructions"] == len(x)
    one.rename(tmp_path / "gone")
    again = genjax.load(two)
    np.testing.assert_array_equal(again.sample(3, seed=0), run.sample(3, seed=0))
    assert float(again.state.model_state["first_stage"]["scale"]) == float(kept["scale"])


def test_a_config_may_leave_out_critic_and_features():
    experiment = genjax.build(config())
    assert set(experiment.state_shapes.params) == {"encoder", "decoder"}
    assert set(experiment.networks) >= {"encoder", "decoder"}
    wrong = config(critics=dict(name="patch"))
    with pytest.raises(ConfigError, match="and may have critic, features"):
        genjax.build(wrong)
