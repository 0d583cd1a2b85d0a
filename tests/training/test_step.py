"""Batches as they reach the devices, on four forced ones, and when compilation ends."""

import os
import subprocess
import sys

import pytest

FOUR = """
import json
import jax, numpy as np, optax
from genjax import bijectors, families
from genjax.data import ArraySource, TrainBatches
from genjax.training import feeds, mesh as meshes, step as stepping
from genjax.training.plan import collectives_of

key = jax.random.key(0)
rng = np.random.default_rng(0)
source = ArraySource(x=rng.normal(size=(50, 2)).astype(np.float32),
                     label=rng.integers(0, 3, 50).astype(np.int32))
family = families.flow(
    model=bijectors.coupling_flow(event_shape=(2,), num_layers=1, hidden_size=8),
    optimizer=optax.adam(1e-3), event_shape=(2,), num_levels=None,
)
found = {"rows": [], "losses": {}, "collectives": {}}

# Rows of each step, as the compiled call sees them, against those of the batches.
for per_step in (1, 2):
    for fsdp in (1, 2):
        mesh = meshes.make_mesh(fsdp=fsdp)
        batches = TrainBatches(source, 8, seed=1, batches_per_step=per_step)
        for limit in (0, 1):
            for most in (1, 3):
                feed = feeds.make_feed({"": batches}, mesh, most=most, device_limit_mib=limit)
                look = jax.jit(lambda fed, step, i, feed=feed: feed.batch(fed, step, i))
                feed.start(70, 10**6)
                step = 70
                for count in (most, 1, most):
                    fed = feed.take(count)
                    kinds = jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), fed)
                    told = jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), feed.shapes())
                    for i in range(count):
                        seen = look(fed, np.int32(step), np.int32(i))
                        same = all(np.array_equal(seen[k], v) for k, v in batches[step].items())
                        found["rows"].append(bool(same and kinds == told))
                        step += 1
                assert type(feed).__name__ == ("ResidentFeed" if limit else "StreamedFeed")

# The same losses, one step a call or several, resident or not, mapped or not.
for strategy in ("jit", "pmap"):
    mesh = meshes.make_mesh()
    mapped = meshes.per_device(family, mesh) if strategy == "pmap" else family
    batches = TrainBatches(source, 8, seed=1)
    for limit in (0, 1):
        for most in (1, 4):
            feed = feeds.make_feed({"": batches}, mesh, most=most, device_limit_mib=limit)
            state = stepping.init_state(mapped, key, batches[0], mesh)
            shapes = jax.eval_shape(lambda: state)
            steps = stepping.TrainingSteps(
                mapped, stepping.state_template(shapes, mesh), feed, key=key, mesh=mesh)
            steps.start(0, 8)
            losses = []
            for count in [1] * 8 if most == 1 else [4, 1, 3]:
                state, metrics = steps(state, steps.take(count))
                losses += metrics["loss"][:count].tolist()
            name = f"{strategy} {limit} {most}"
            found["losses"][name] = losses
            found["collectives"][name] = collectives_of(steps.compiled().as_text())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(in_a_process):
    return in_a_process(FOUR, devices=4)


@pytest.mark.slow
def test_each_step_gets_its_rows_as_announced(found):
    assert len(found["rows"]) == 2 * 2 * 2 * (3 + 7) and all(found["rows"])


@pytest.mark.slow
def test_losses_do_not_depend_on_how_batches_come(found):
    for strategy in ("jit", "pmap"):
        first = found["losses"][f"{strategy} 0 1"]
        assert len(first) == 8
        for name, losses in found["losses"].items():
            if name.startswith(strategy):
                assert losses == pytest.approx(first, rel=1e-5), name


@pytest.mark.slow
def test_picking_rows_of_a_resident_set_moves_nothing(found):
    for most in (1, 4):
        moved = [found["collectives"][f"jit {limit} {most}"] for limit in (0, 1)]
        assert moved[0] == moved[1]


# A step that takes seconds to compile, in a process that ends as soon as XLA has it.
ENDS = """
import dataclasses, sys, threading, time
import jax, jax.numpy as jnp, numpy as np, optax
from genjax import bijectors, families
from genjax.data import ArraySource, TrainBatches
from genjax.training import feeds, mesh as meshes, step as stepping

family = families.flow(
    model=bijectors.coupling_flow(event_shape=(2,), num_layers=1, hidden_size=8),
    optimizer=optax.adam(1e-3), event_shape=(2,), num_levels=None,
)

def train_step(state, batch, key):
    x = batch["x"]
    for i in range(300):
        x = jnp.sort(jnp.tanh(x) @ jax.random.normal(key, (2, 2 + i % 2))[:, :2], axis=0)
    return dataclasses.replace(state, step=state.step + 1), {"loss": x.sum()}

mesh = meshes.make_mesh()
batches = TrainBatches(ArraySource(x=np.zeros((64, 2), np.float32)), 8, seed=1)
key = jax.random.key(0)
shapes = jax.eval_shape(family.init, key, batches[0])
template = stepping.state_template(shapes, mesh)
lowered = threading.Event()
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, fun_name="", **__: "to_mlir_module" in name and "steps" in fun_name
    and lowered.set())
steps = stepping.TrainingSteps(
    dataclasses.replace(family, train_step=train_step), template,
    feeds.make_feed({"": batches}, mesh, device_limit_mib=0), key=key, mesh=mesh)
assert lowered.wait(120) and not steps._compiled.done()
time.sleep(0.2)
print("in the compiler:", not steps._compiled.done())
sys.exit(3)
"""


@pytest.mark.slow
def test_an_error_while_the_step_compiles_ends_the_process_with_its_code():
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", ENDS], text=True, env=env, capture_output=True, timeout=300
    )
    assert done.stdout == "in the compiler: True\n", done.stderr[-3000:]
    assert (done.returncode, done.stderr) == (3, "")
