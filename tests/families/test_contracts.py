"""The step shapes carry what families need: toy families, on one device and on four."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.devices import average_changes
from genjax.families import HalfLife
from genjax.families.adversarial import Adversarial
from genjax.families.base import Acts, make_optimizer
from genjax.families.players import Player

# A codebook with running counts, a game of two networks against two, a regularised generator, and
# two models that are fitted from sums over rows of several steps.
TOYS = '''
import types
import flax.linen as nn
import jax, jax.numpy as jnp, numpy as np, optax
from genjax.data import Feature
from genjax.families import Rows, gan, semi_supervised_gan
from genjax.nets import MLPCritic, NoisyMLPClassifier
from genjax.families.adversarial import Adversarial
from genjax.families.averages import HalfLife
from genjax.families.players import Player
from genjax.families.base import Family
from genjax.families.minimizing import minimizing
from genjax import families, nets
from genjax.data import Feature
from genjax.families import (
    GaussianComponent, cdan, cycle_gan, hidden_markov, mixture, pix2pix, srgan,
)


def components():
    """Two components, whose parameters stand still every other step."""
    return mixture(
        component=GaussianComponent(floor=0.1), event_shape=(2,), num_levels=None,
        num_components=2, accumulate_steps=2,
    )


def states():
    """Two states of a chain of two places."""
    return hidden_markov(
        component=GaussianComponent(covariance="diagonal", floor=0.1), event_shape=(2,),
        num_levels=None, num_states=2, accumulate_steps=2,
    )


def adapting():
    """A conditional game about the domain, whose weights are means over all rows of each."""
    plane = Feature((2,), np.dtype("f4"))
    label = Feature((), np.dtype("i4"), num_classes=2)
    return cdan(
        net=nets.LinearClassifier(num_classes=2), domain_net=nets.DomainMLP(hidden_size=4),
        optimizer=optax.adam(0.01), event_shape=(2,), num_levels=None, ramp_steps=4,
        spec={"x": plane, "label": label, "target/x": plane},
    )


class Words(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Embed(3, 3)(tokens).mean(axis=1)


def towers():
    """Rows that are compared with those of all devices, some of which have the same caption."""
    return families.clip(
        image=nn.Dense(3), text=Words(), optimizer=optax.adam(0.01), event_shape=(2,),
        num_levels=None, spec={"tokens": Feature((2,), np.dtype("i4"))},
    )


def codebook():
    """Codes follow the rows nearest to them; the encoder's scale minimises the distance."""

    def init(key, batch):
        codes = jnp.linspace(-2.0, 2.0, 4)[:, None] * jnp.ones(2)
        state = {"codes": codes, "counts": jnp.ones(4) / 4, "steps": jnp.zeros((), jnp.int32)}
        frozen = jnp.ones((64, 64))
        return {"encoder": {"scale": jnp.ones(2)}}, {"codebook": state, "frozen": frozen}

    def loss(params, state, batch, key, step):
        kept = state["codebook"]
        rows = params["encoder"]["scale"] * batch["x"]
        distances = jnp.sum((rows[:, None] - kept["codes"]) ** 2, -1)
        chosen = jax.nn.one_hot(jnp.argmin(distances, 1), 4)
        # Means over rows, so that means over devices are those of all rows.
        counts = 0.9 * kept["counts"] + 0.1 * chosen.mean(0)
        moved = (chosen.T @ rows) / len(rows) - chosen.mean(0)[:, None] * kept["codes"]
        codes = kept["codes"] + 0.5 * moved
        new = {"codes": jax.lax.stop_gradient(codes), "counts": counts, "steps": kept["steps"] + 1}
        value = jnp.mean(jnp.min(distances, 1)) * jnp.minimum(1.0, (step + 1) / 4)  # a warm-up
        return value, ({"used": jnp.sum(counts > 0.05)}, {**state, "codebook": new})

    init, train_step = minimizing(
        init_model=init, loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optax.adam(0.01), ema_decay=0.9,
    )
    return Family(init=init, train_step=train_step, eval_protocol={})


def line(p, x):
    return p["a"] * x + p["b"]


def two_against_two(order="together", accumulate=1):
    """Two maps between domains, a critic of each, cycles: the game of CycleGAN."""

    def init(key, batch):
        params = {
            n: {"a": jnp.full(2, 0.5 + 0.1 * i), "b": jnp.zeros(2)} for i, n in enumerate("gfcd")
        }
        return params, {"c": {"seen": jnp.zeros(())}, "g": {"pool": jnp.zeros(2)}}

    def generate(params, state, batch, factor, key):
        y, x = line(params["g"], batch["x"]), line(params["f"], batch["y"])
        fake = {"y": y, "x": x, "cycle": {"x": line(params["f"], y), "y": line(params["g"], x)}}
        return fake, {**state, "g": {"pool": 0.5 * state["g"]["pool"] + 0.5 * y.mean(0)}}

    def critic_loss(params, state, batch, fake, key, turn):
        score = lambda n, x: jnp.sum(line(params[n], x), -1)
        value = sum(
            jnp.mean((score(n, batch[d]) - 1) ** 2) + jnp.mean(score(n, fake[d]) ** 2)
            for n, d in (("c", "y"), ("d", "x"))
        )
        return value, ({}, {**state, "c": {"seen": state["c"]["seen"] + jnp.mean(batch["x"])}})

    def generator_loss(params, state, batch, fake, key, turn):
        score = lambda n, x: jnp.sum(line(params[n], x), -1)
        value = sum(jnp.mean((score(n, fake[d]) - 1) ** 2) for n, d in (("c", "y"), ("d", "x")))
        cycles = sum(jnp.mean(jnp.abs(fake["cycle"][d] - batch[d])) for d in ("x", "y"))
        # Its own networks may stand in the loss directly, too.
        return value + 10.0 * cycles + 0.01 * jnp.sum(params["g"]["a"] ** 2), ({}, state)

    game = Adversarial(
        init_networks=init, generate=generate, order=order, averaged=("g", "d"),
        batch_size=8 // accumulate, accumulate_batches=accumulate,
        critic=Player(networks=("c", "d"), loss_fn=critic_loss, optimizer=optax.adam(0.01)),
        generator=Player(networks=("g", "f"), loss_fn=generator_loss, optimizer=optax.adam(0.01)),
        average=HalfLife(ema_half_life_kimg=0.05),
    )
    return Family(init=game.init, train_step=game.train_step, eval_protocol={},
                  batches_per_step=game.batches_per_step)


class Line(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return self.param("a", nn.initializers.constant(0.5), x.shape[-1:]) * x


class Score(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return jnp.sum(self.param("w", nn.initializers.ones, x.shape[-1:]) * x**2, -1)


def translation(make, **kwargs):
    feature = types.SimpleNamespace(shape=(2,), num_levels=None)
    return make(
        generator=Line(), critic=Score(), generator_optimizer=optax.adam(0.01),
        critic_optimizer=optax.adam(0.01), batch_size=8, average=HalfLife(ema_half_life_kimg=0.05),
        spec=dict.fromkeys(("x", "source", "source/x"), feature), **kwargs,
    )


def paired():
    """A translator and a critic of pairs."""
    return translation(pix2pix)


class Held(nn.Module):
    """Features of a network whose variables are state."""

    @nn.compact
    def __call__(self, x):
        return self.variable("frozen", "scale", lambda: jnp.full((2,), 0.7)).value * x**2


def contents():
    """A translator held to features of a network that stands still."""
    return translation(srgan, features=Held(), gan_weight=0.3, l1_weight=0.1)


def cycles():
    """Two translators, two critics, and pools that are soon full."""
    return translation(cycle_gan, pool_size=12, identity_weight=1.0)


def same_rows():
    """A generator that makes one row again and again: no draw tells devices apart."""

    class Same(nn.Module):
        @nn.compact
        def __call__(self, latent, label=None, *, train=False):
            return jnp.broadcast_to(self.param("x", nn.initializers.ones, (2,)), (len(latent), 2))

    return Same()


class Places(nn.Module):
    """Features of the places of an example, which are its entries."""

    @nn.compact
    def __call__(self, x, label=None):
        return nn.Dense(3, kernel_init=nn.initializers.constant(0.3))(x[:, None, :])


class Whole(nn.Module):
    """Features of an example from those of its only place."""

    @nn.compact
    def __call__(self, vectors, label=None):
        return nn.Dense(3, kernel_init=nn.initializers.constant(0.2))(vectors[:, 0])


def judged_codes():
    """An autoencoder of codes, a critic that starts late, and a factor of two gradients' norms."""
    return families.vq_gan(
        encoder=Places(), decoder=Whole(), critic=Score(), features=Held(),
        quantizer=families.VectorQuantizer(num_codes=4, code_size=2, restart_below=0.0),
        autoencoder_optimizer=optax.adam(0.01), critic_optimizer=optax.adam(0.01),
        event_shape=(2,), num_levels=None, batch_size=8, judges=families.Judges(critic_start=2),
        average=HalfLife(ema_half_life_kimg=0.05),
    )


def ahead():
    """A critic that compares rows with each other, and a generator that looks ahead."""
    return gan(
        generator=same_rows(), critic=MLPCritic(4, 1, num_minibatch_kernels=2),
        generator_optimizer=optax.adam(0.01),
        critic_optimizer=optax.adam(0.01, eps_root=1e-16),
        event_shape=(2,), num_levels=None, batch_size=8, rows=Rows(unroll_steps=2),
    )


def few_labels():
    """Labelled and unlabelled rows, and means of features that are matched."""
    of_rows = Feature((2,), np.dtype("f4"))
    return semi_supervised_gan(
        generator=same_rows(),
        critic=NoisyMLPClassifier(3, (4, 4), input_noise=0.0, hidden_noise=0.0),
        generator_optimizer=optax.adam(0.01), critic_optimizer=optax.adam(0.01),
        event_shape=(2,), num_levels=None, num_classes=3, batch_size=8,
        spec={"unlabelled/x": of_rows},
    )


def pairs():
    """An encoder and a generator against a critic of pairs, with batch statistics and noise."""
    return families.ali(
        encoder=nets.JointMLPEncoder(hidden_size=4),
        generator=nets.MLPGenerator((2,), hidden_size=4, num_layers=1, norm="batch"),
        critic=nets.JointMLPCritic(hidden_size=4), event_shape=(2,), num_levels=None, batch_size=8,
        # Not Adam: of biases that batch statistics take out it makes steps of rounding errors.
        generator_optimizer=optax.sgd(0.1), critic_optimizer=optax.sgd(0.1),
        latents=families.Latent(latent_size=2), average=HalfLife(ema_half_life_kimg=0.05),
    )


def regularized():
    """A generator held to a running mean of its slope every second step, as StyleGAN2's is."""

    def init(key, batch):
        params = {"generator": {"a": jnp.full(2, 2.0), "b": jnp.zeros(2)},
                  "critic": {"a": jnp.ones(2), "b": jnp.zeros(2)}}
        return params, {"generator": {"slope": jnp.zeros(())}, "critic": {}}

    def generate(params, state, batch, factor, key):
        return line(params["generator"], batch["z"]), state

    def critic_loss(params, state, batch, fake, key, turn):
        score = lambda x: jnp.sum(line(params["critic"], x), -1)
        return jnp.mean(score(fake) - score(batch["x"])) + jnp.mean(score(fake) ** 2), ({}, state)

    def generator_loss(params, state, batch, fake, key, turn):
        moved = turn.opt_state["critic"][0].mu["critic"]  # as an unrolled loss would look at it
        weight = jnp.minimum(1.0, turn.step / 3) + 0.0 * jnp.sum(moved["a"])
        return -weight * jnp.mean(jnp.sum(line(params["critic"], fake), -1)), ({}, state)

    def slope_loss(params, state, batch, fake, key, turn):
        slopes = jnp.sum((params["generator"]["a"] * batch["z"]) ** 2, -1)
        value = 0.1 * jnp.mean((slopes - state["generator"]["slope"]) ** 2)
        mean = 0.9 * state["generator"]["slope"] + 0.1 * jnp.mean(slopes)
        new = {**state, "generator": {"slope": jax.lax.stop_gradient(mean)}}
        return value, ({"slope_penalty": value}, new)

    game = Adversarial(
        init_networks=init, generate=generate, batch_size=8, critic_steps=2,
        critic=Player(networks=("critic",), loss_fn=critic_loss, optimizer=optax.adam(0.01)),
        generator=Player(networks=("generator",), loss_fn=generator_loss,
                         optimizer=lambda acts: optax.adam(0.01 / acts.regularize_every),
                         regularizer_fn=slope_loss, regularize_every=2),
    )
    return Family(init=game.init, train_step=game.train_step, eval_protocol={},
                  batches_per_step=game.batches_per_step)
'''

# Latents of its own, which devices draw for themselves: what it computes depends on how many.
DRAWING = '''

def even_paths():
    """Path lengths, whose running mean is part of the state."""
    return families.gan(
        generator=nets.MLPGenerator((2,), hidden_size=4, num_layers=1),
        critic=nets.MLPCritic(hidden_size=4, num_layers=1),
        generator_optimizer=optax.adam(0.01), critic_optimizer=optax.adam(0.01),
        event_shape=(2,), num_levels=None, batch_size=8, latents=families.Latent(latent_size=4),
        path_length=families.PathLength(path_weight=2.0, path_every=2),
    )
'''

PROGRAM = (
    TOYS
    + DRAWING
    + """
import json, tempfile
from genjax.training import mesh as meshes, step as stepping
from genjax.training.checkpoints import Checkpoints

mesh, key = meshes.make_mesh(), jax.random.key(0)
rng = np.random.default_rng(0)
names = ("x", "y", "z", "source", "source/x")
rows = {name: rng.normal(size=(8, 2)).astype(np.float32) for name in names}
rows |= {"label": np.arange(8, dtype=np.int32) % 2, "unlabelled/x": rows["y"]}
rows |= {"target/x": rows["y"] + 1.0}
rows |= {"tokens": np.array([[0, 1], [0, 0], [2, 1], [0, 1], [2, 2], [0, 1], [1, 1], [2, 1]])}
found = {}
for make in (
    codebook, two_against_two, paired, contents, cycles, regularized, ahead, few_labels,
    components, states, pairs, even_paths, adapting, towers, judged_codes,
):
    for strategy in ("jit", "pmap"):
        family = make()
        count = family.batches_per_step
        batch = {n: np.stack([a] * count) if count > 1 else a for n, a in rows.items()}
        if strategy == "pmap":
            family = meshes.per_device(family, mesh)
        start = stepping.init_state(family, key, batch, mesh)
        shapes = jax.eval_shape(lambda: start)
        compiled = stepping.compile_train_step(family, start, batch, key, mesh)
        on_mesh = meshes.global_batch(mesh, batch, count)
        whole = jax.device_put(key, meshes.replicated(mesh))

        def train(state, steps):
            for _ in range(steps):
                state, metrics = compiled(state, on_mesh, whole)
            return state, {k: float(v) for k, v in metrics.items()}

        straight, metrics = train(jax.tree.map(jnp.copy, start), 6)
        with tempfile.TemporaryDirectory() as place:
            half, _ = train(start, 3)
            with Checkpoints(place) as checkpoints:
                checkpoints.save(3, half, [])
                checkpoints.wait()
                template = stepping.state_template(shapes, mesh)
                resumed = checkpoints.restore(template).state
        resumed, _ = train(resumed, 3)
        leaves = lambda tree: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        same = all(np.array_equal(a, b) for a, b in zip(leaves(straight), leaves(resumed)))
        alike = all(
            np.array_equal(shard.data, leaf.addressable_shards[0].data)
            for leaf in jax.tree.leaves(straight) for shard in leaf.addressable_shards
        )
        lines = compiled.as_text().splitlines()
        sent = [line for line in lines if "all-reduce" in line and "f32[64,64]" in line]
        held = straight.params, straight.model_state, straight.ema
        kept = [float(np.sum(leaf)) for leaf in leaves(held)]
        found[f"{make.__name__} {strategy}"] = dict(
            metrics=metrics, same=same, alike=alike, kept=kept, sent=len(sent),
            averaged=sorted(straight.ema),
        )
print(json.dumps(found))
"""
)
NAMES = (
    "codebook", "two_against_two", "paired", "contents", "cycles", "regularized", "ahead",
    "few_labels", "components", "states", "adapting", "towers", "judged_codes",
)  # fmt: skip
DRAWING = ("pairs", "even_paths")
"""Families whose noise depends on the number of devices where each draws its own."""


@pytest.fixture(scope="module")
def found(in_a_process):
    return {devices: in_a_process(PROGRAM, devices=devices) for devices in (1, 4)}


@pytest.mark.parametrize("name", [*NAMES, *DRAWING])
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_three_steps_and_three_are_six_and_all_devices_hold_the_same(
    found, name, devices, strategy
):
    one = found[devices][f"{name} {strategy}"]
    assert one["same"] and one["alike"]
    assert not one["sent"], "what no step touches is not sent around"


@pytest.mark.parametrize("name", NAMES)
def test_network_state_and_losses_are_the_same_on_any_devices_under_both_strategies(found, name):
    (first, *others) = [
        found[n][f"{name} {strategy}"] for n in (1, 4) for strategy in ("jit", "pmap")
    ]
    for other in others:
        assert other["metrics"] == pytest.approx(first["metrics"], rel=1e-4)
        assert other["kept"] == pytest.approx(first["kept"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", DRAWING)
def test_what_draws_is_the_same_on_any_devices_of_one_program(found, name):
    first, other = (found[n][f"{name} jit"] for n in (1, 4))
    assert other["metrics"] == pytest.approx(first["metrics"], rel=1e-3, abs=1e-5)
    assert other["kept"] == pytest.approx(first["kept"], rel=1e-3, abs=1e-4)


def test_any_networks_may_be_averaged(found):
    assert found[1]["two_against_two jit"]["averaged"] == ["d", "g"]


def toys():
    names = {}
    exec(compile(TOYS, "toys", "exec"), names)
    return names


def test_counts_of_the_codebook_follow_the_rows():
    family = toys()["codebook"]()
    x = jnp.asarray(np.random.default_rng(1).normal(size=(64, 2)), jnp.float32)
    state = family.init(jax.random.key(0), {"x": x})
    nearest = jnp.argmin(jnp.sum((x[:, None] - state.model_state["codebook"]["codes"]) ** 2, -1), 1)
    shares = jnp.bincount(nearest, length=4) / 64
    state, _ = jax.jit(family.train_step)(state, {"x": x}, jax.random.key(0))
    kept = state.model_state["codebook"]
    np.testing.assert_allclose(kept["counts"], 0.9 * 0.25 + 0.1 * shares, rtol=1e-5)
    assert int(kept["steps"]) == 1 and kept["steps"].dtype == jnp.int32


def test_together_both_players_move_from_the_old_parameters():
    names = toys()
    data = {n: jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32) for n in "xy"}
    family = names["two_against_two"]()
    state = family.init(jax.random.key(0), data)
    new, _ = jax.jit(family.train_step)(state, data, jax.random.key(0))
    line, p = names["line"], state.params

    def score(q, n, x):
        return jnp.sum(line(q[n], x), -1)

    def critics(q):
        y, x = line(p["g"], data["x"]), line(p["f"], data["y"])
        pairs = (("c", data["y"], y), ("d", data["x"], x))
        return sum(
            jnp.mean((score(q, n, r) - 1) ** 2) + jnp.mean(score(q, n, f) ** 2) for n, r, f in pairs
        )

    def generators(q):
        y, x = line(q["g"], data["x"]), line(q["f"], data["y"])
        value = jnp.mean((score(p, "c", y) - 1) ** 2) + jnp.mean((score(p, "d", x) - 1) ** 2)
        cycles = jnp.mean(jnp.abs(line(q["f"], y) - data["x"])) + jnp.mean(
            jnp.abs(line(q["g"], x) - data["y"])
        )
        return value + 10.0 * cycles + 0.01 * jnp.sum(q["g"]["a"] ** 2)

    for players, loss in (("cd", critics), ("gf", generators)):
        own = {n: p[n] for n in players}
        grads = jax.grad(lambda own, loss=loss: loss({**p, **own}))(own)
        adam = optax.adam(0.01)
        updates, _ = adam.update(grads, adam.init(own))
        expected = optax.apply_updates(own, updates)
        for n in players:
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                new.params[n],
                expected[n],
            )
    # The critic's state is that of its loss, the generator's that of the one pass.
    assert float(new.model_state["c"]["seen"]) == pytest.approx(float(data["x"].mean()), abs=1e-5)
    pool = 0.5 * line(p["g"], data["x"]).mean(0)
    np.testing.assert_allclose(new.model_state["g"]["pool"], pool, rtol=1e-4)


@pytest.mark.parametrize("order", ["together", "critic first"])
def test_gradients_of_several_batches_are_those_of_one_that_holds_them_all(order):
    make = toys()["two_against_two"]
    rows = {n: jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32) for n in "xy"}
    parts = {n: x.reshape(2, 4, 2) for n, x in rows.items()}
    whole, split = make(order), make(order, accumulate=2)
    assert (whole.batches_per_step, split.batches_per_step) == (1, 2)
    one = two = whole.init(jax.random.key(0), rows)
    for _ in range(3):
        one, of_one = jax.jit(whole.train_step)(one, rows, jax.random.key(1))
        two, of_two = jax.jit(split.train_step)(two, parts, jax.random.key(1))
    for a, b in [(one.params, two.params), (one.ema, two.ema), (of_one, of_two)]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), a, b)


def test_the_generators_regularizer_acts_on_its_steps_and_keeps_its_mean():
    family = toys()["regularized"]()
    data = {n: jnp.ones((2, 8, 2)) for n in "xz"}
    state = family.init(jax.random.key(0), data)
    step = jax.jit(family.train_step)
    slopes, penalties = [], []
    for _ in range(4):
        state, metrics = step(state, data, jax.random.key(0))
        slopes.append(float(state.model_state["generator"]["slope"]))
        penalties.append(float(metrics["slope_penalty"]))
    assert slopes[0] > 0 and slopes[1] == slopes[0] and slopes[2] > slopes[1] == slopes[0]
    assert penalties[0] > 0 == penalties[1] and penalties[2] > 0 == penalties[3]


def player(name, **kwargs):
    def loss(params, state, batch, fake, key, turn):
        return jnp.zeros(()), ({}, state)

    return Player(networks=(name,), loss_fn=loss, optimizer=optax.sgd(0.1), **kwargs)


def game(**kwargs):
    players = dict(critic=player("c"), generator=player("g"))
    return Adversarial(
        init_networks=lambda key, batch: ({}, {}),
        generate=lambda *args: ((), {}),
        batch_size=4,
        **{**players, **kwargs},
    )


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(critic_steps=0), "critic_steps must be at least 1"),
        (dict(accumulate_batches=0), "accumulate_batches must be at least 1"),
        (dict(accumulate_batches=2, share_fakes=True), "use one of the two"),
        (dict(critic=player("g")), "both players own g"),
        (dict(averaged=("h",)), "no player owns h"),
        (dict(order="together", critic_steps=2), "share one pass and one batch"),
        (dict(order="together", share_fakes=True), "share one pass and one batch"),
        (dict(generator=player("g", regularize_every=0)), "regularize_every must be at least 1"),
    ],
)
def test_games_that_contradict_themselves_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        game(**kwargs)


def test_an_order_that_is_none_is_refused(unchecked):
    with pytest.raises(ValueError, match="order must be 'critic first' or 'together', got 'last'"):
        game(order="last")


def test_averages_by_half_life_are_refused_below_zero_and_start_at_the_current_parameters():
    with pytest.raises(ValueError, match="ema_rampup must not be negative"):
        HalfLife(ema_rampup=-1.0)
    assert float(HalfLife(ema_half_life_kimg=0.0).decay(jnp.asarray(3), 8)) == 0.0
    one = HalfLife(ema_half_life_kimg=0.008, ema_rampup=0.0)
    assert float(one.decay(jnp.asarray(3), 8)) == pytest.approx(0.5)


def test_network_state_of_another_shape_is_refused_by_name():
    old = {"codebook": {"counts": jnp.ones(4)}}
    assert average_changes(old, old) is not None
    with pytest.raises(ValueError, match=r"\['codebook'\]\['counts'\] was float32\[4\] and became"):
        average_changes(old, {"codebook": {"counts": jnp.ones(5)}})
    with pytest.raises(ValueError, match="became absent"):
        average_changes(old, {})


def test_schedules_count_training_steps_however_often_an_optimiser_acts():
    seen = []
    optimizer = make_optimizer(lambda acts: seen.append(acts) or optax.sgd(0.1), Acts(5.0, 4))
    assert isinstance(optimizer, optax.GradientTransformation) and seen == [Acts(5.0, 4)]
    assert make_optimizer(optimizer, Acts()) is optimizer
    assert Acts(updates_per_step=5.0).updates(100) == 500
    assert Acts(updates_per_step=5.0, regularize_every=4).updates(100) == 625
    assert Acts(updates_per_step=1 / 49).updates(98) == 2
    assert Acts(updates_per_step=0.25).updates(1) == 1, "a warm-up of nothing would never train"
