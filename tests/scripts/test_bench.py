"""The benchmark measures what it says; how long things take is not looked at."""

import json
import pathlib
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.bijectors import coupling_flow
from genjax.nets import Conv, ConvTranspose
from genjax.nets.normalization import GroupNorm
from genjax.nets.score_resnet import AttentionBlock

REPO = pathlib.Path(__file__).resolve().parents[2]


def bench(*args, code=0):
    done = subprocess.run(
        [sys.executable, "scripts/bench.py", *map(str, args)], cwd=REPO, capture_output=True,
        text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_benchmark_is_measured_written_and_compared(tmp_path):
    small = [f"--config.model.{net}.channels=8" for net in ("generator", "critic")]
    args = ["--config=experiments/benchmarks.py:dcgan32", "--baseline=flax", "--rounds=3",
            "--seconds=0.01", "--config.data.batch_size=4", *small]  # fmt: skip
    shown = bench(*args, f"--json={tmp_path / 'a.json'}")
    found = json.loads((tmp_path / "a.json").read_text())
    for name in ("compile_s", "step_ms", "loop_step_ms", "baseline_step_ms", "samples_per_s",
                 "matmul_peak_tflops", "tflop_per_step", "device_mib"):  # fmt: skip
        assert found[name]["median"] > 0 and f"| {name} |" in shown
    assert found["what"]["parameters"] > 0 and found["what"]["rounds"] == 3
    rate = 4e3 / found["loop_step_ms"]["median"]  # of three: the same round's
    assert found["examples_per_s"]["median"] == pytest.approx(rate)

    b = dict(found, step_ms={"median": 2 * found["step_ms"]["median"]})
    (tmp_path / "b.json").write_text(json.dumps(b))
    table = bench("--compare", tmp_path / "a.json", tmp_path / "b.json")
    (row,) = [line for line in table.splitlines() if line.startswith("| step_ms")]
    assert row.endswith("| 2.000 |")


@pytest.mark.slow
def test_the_baselines_layers_are_the_same_layers():
    stock = runpy.run_path(str(REPO / "scripts" / "bench.py"))["_stock_layers"]
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    for layer, own, stocks in (
        (Conv(6, (4, 4), (2, 2)), "genjax_conv", "conv_general_dilated"),
        (Conv(6, (3, 3), feature_group_count=2), "genjax_conv", "conv_general_dilated"),
        (ConvTranspose(6, (4, 4), (2, 2)), "genjax_conv", "conv_general_dilated"),
        (GroupNorm(2), "platform_index", "rsqrt"),
        (AttentionBlock(2, jnp.float32), "platform_index", "dot_general"),
    ):
        params = layer.init(jax.random.key(1), x)
        mine = layer.apply(params, x)
        assert own in str(jax.make_jaxpr(layer.apply)(params, x))
        with stock():
            theirs = layer.apply(params, x)
            program = str(jax.make_jaxpr(layer.apply)(params, x))
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
        assert own not in program and stocks in program


@pytest.mark.slow
def test_the_baselines_flows_are_the_same_flows():
    stock = runpy.run_path(str(REPO / "scripts" / "bench.py"))["_stock_layers"]
    x = jax.random.normal(jax.random.key(0), (7, 3))
    context = jax.random.normal(jax.random.key(1), (7, 2))
    flow = coupling_flow(event_shape=(3,), num_layers=4, hidden_size=5, context_size=2)
    variables = jax.jit(flow.init)(jax.random.key(2), x, context)
    variables = jax.tree.map(lambda leaf: leaf + 0.1 if leaf.ndim > 1 else leaf, variables)
    # Functions of their own: a trace is kept under the name of what was traced.
    mine, program = (f(lambda: flow.apply(variables, x, context)) for f in (jax.jit, str_of))
    with stock():
        theirs, stocks = (f(lambda: flow.apply(variables, x, context)) for f in (jax.jit, str_of))
        theirs = theirs()
    np.testing.assert_allclose(mine(), theirs, rtol=1e-4, atol=1e-4)
    # The batch of 7 comes last in our products, and first in Flax's.
    assert "f32[5,7] = dot_general" in program and "f32[7,5] = dot_general" not in program
    assert "f32[7,5] = dot_general" in stocks and "f32[5,7] = dot_general" not in stocks


def str_of(function):
    return str(jax.make_jaxpr(function)())


def test_what_is_missing_is_said():
    done = subprocess.run(
        [sys.executable, "scripts/bench.py"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 2 and "give --config, or --compare" in done.stderr
