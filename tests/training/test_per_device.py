"""The training step mapped over devices against the one over global arrays, on four forced ones."""

import pytest

FOUR = """
import json
import jax, jax.numpy as jnp, numpy as np, optax
from genjax import bijectors, families, nets
from genjax.diffusion import schedules, stratified_times
from genjax.nets.conditioning import BatchNorm
from genjax.training import mesh as meshes, step as stepping

mesh = meshes.make_mesh()
key = jax.random.key(0)
rng = np.random.default_rng(0)
found = {}

def train(family, batch, steps=3):
    family_batch = batch
    if family.batches_per_step > 1:
        family_batch = {k: np.stack([v] * family.batches_per_step) for k, v in batch.items()}
    state = stepping.init_state(family, key, family_batch, mesh)
    step = stepping.compile_train_step(family, state, family_batch, key, mesh)
    rows = meshes.global_batch(mesh, family_batch, family.batches_per_step)
    on_mesh = jax.device_put(key, meshes.replicated(mesh))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, rows, on_mesh)
        losses.append({k: float(v) for k, v in metrics.items()})
    # Whether all devices hold the same state.
    same = all(
        np.array_equal(shard.data, leaf.addressable_shards[0].data)
        for leaf in jax.tree.leaves((state.params, state.opt_state, state.model_state, state.ema))
        for shard in leaf.addressable_shards
    )
    sums = [float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(state.ema)]
    return dict(losses=losses, same=same, params=sums)

def both(name, family, batch):
    found[name] = {
        "jit": train(family, batch), "pmap": train(meshes.per_device(family, mesh), batch)
    }

points = {"x": rng.normal(size=(16, 2)).astype(np.float32)}
plane = dict(event_shape=(2,), num_levels=None)
images = {"x": rng.integers(0, 16, (16, 8, 8, 1)).astype(np.uint8),
          "label": rng.integers(0, 10, 16).astype(np.int32)}
digits = dict(event_shape=(8, 8, 1), num_levels=16)

# Steps without noise.
flow = families.flow(
    model=bijectors.coupling_flow(event_shape=(2,), num_layers=2, hidden_size=16),
    optimizer=optax.adam(1e-3), accumulate_steps=2, round_trip_every=2, **plane,
)
both("flow", flow, points)
classifier = families.classifier(
    net=nets.ConvClassifier(num_classes=10), optimizer=optax.adam(1e-3), **digits
)
both("classifier", classifier, images)

# With noise: the same row of it everywhere, so that only times and means are left to differ.
normal, uniform = jax.random.normal, jax.random.uniform
same_row = lambda draw: lambda key, shape=(), *a, **k: (
    draw(key, shape, *a, **k) if len(shape) < 2
    else jnp.broadcast_to(draw(jax.random.key(7), shape[1:], *a, **k), shape)
)
vdm = families.vdm(
    score_net=nets.ScoreMLP(hidden_size=32, num_layers=1),
    schedule=schedules.LearnedMonotoneSchedule(), optimizer=optax.sgd(0.1), **plane,
)
gan = lambda **kwargs: families.gan(
    generator=nets.DCGANGenerator(event_shape=(8, 8, 1), channels=8, num_classes=10,
                                  conditioning="class_batch_norm"),
    critic=nets.DCGANCritic(channels=8, num_classes=10, conditioning="projection", **kwargs),
    generator_optimizer=optax.sgd(0.01), critic_optimizer=optax.sgd(0.01), batch_size=16, **digits,
)
both("vdm, noise drawn", vdm, points)
both("gan, noise drawn", gan(spectral_norm=True), images)
jax.random.normal, jax.random.uniform = same_row(normal), same_row(uniform)
both("vdm", vdm, points)
# The latents are the same, the labels are not: batch statistics are those of all rows.
both("gan", gan(), images)
both("gan, batch norm in both", gan(norm="batch"), images)
jax.random.normal, jax.random.uniform = normal, uniform

# Parts.
times = jax.pmap(lambda _: stratified_times(key, 4, axis_name="i"), axis_name="i")(jnp.arange(4))
found["times"] = times.reshape(-1).tolist()
found["times of the whole"] = stratified_times(key, 16).tolist()

# A loop of one's own with jax.pmap: states with a leading axis of devices.
state = jax.tree.map(lambda a: jnp.stack([a] * 4), flow.init(key, points))
step = jax.pmap(flow.train_step, axis_name="mine", in_axes=(0, 0, None))
parts = {"x": points["x"].reshape(4, 4, 2)}
found["own pmap"] = []
for _ in range(3):
    state, metrics = step(state, parts, key)
    found["own pmap"].append(metrics["loss"].tolist())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(in_a_process):
    return in_a_process(FOUR, devices=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flow", "classifier", "vdm", "gan", "gan, batch norm in both"])
def test_the_mapped_step_computes_what_the_global_one_does(found, name):
    whole, mapped = found[name]["jit"], found[name]["pmap"]
    # The distance between neighbours does not see pairs across devices.
    for a, b in zip(whole["losses"], mapped["losses"], strict=True):
        assert a.keys() == b.keys()
        for metric in a.keys() - {"diversity"}:
            assert b[metric] == pytest.approx(a[metric], rel=2e-4, abs=1e-5), metric
    assert mapped["params"] == pytest.approx(whole["params"], rel=1e-4, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vdm, noise drawn", "gan, noise drawn", "gan", "flow"])
def test_all_devices_end_with_the_same_state(found, name):
    assert found[name]["pmap"]["same"]


@pytest.mark.slow
def test_devices_draw_noise_of_their_own(found):
    for name in ("vdm", "gan"):
        drawn, fixed = found[f"{name}, noise drawn"], found[name]
        assert drawn["pmap"]["losses"] != fixed["pmap"]["losses"]
        assert drawn["pmap"]["losses"] != drawn["jit"]["losses"]


@pytest.mark.slow
def test_times_are_stratified_over_all_devices(found):
    assert sorted(int(16 * t) for t in found["times"]) == list(range(16))
    assert found["times"] == pytest.approx(found["times of the whole"], abs=1e-6)


@pytest.mark.slow
def test_a_family_trains_in_a_pmap_of_ones_own(found):
    whole = [row["loss"] for row in found["flow"]["jit"]["losses"]]
    for mine, loss in zip(found["own pmap"], whole, strict=True):
        assert mine == pytest.approx([loss] * 4, rel=1e-5)
