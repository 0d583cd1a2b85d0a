"""Measures how fast an experiment trains and samples, and where the time goes.

    python scripts/bench.py --config=experiments/benchmarks.py:dcgan64 --baseline=flax
    python scripts/bench.py --config=experiments/vdm/digits.py --json=a.json
    python scripts/bench.py --compare a.json b.json

Blocks of steps of the training loop (data, logging and all), of the bare compiled step on one batch
that stays on the device, and of the baseline are timed in turn in one process, so that a machine
whose speed drifts slows all alike; figures are medians over rounds with half the range between
the quartiles. Compilation is timed without a cache, outside of the rounds. ``--baseline=flax`` is
the same model with Flax's convolutions, norms and (in coupling flows of points) dense layers and
jax's attention in the plainest step: jitted on one device, nothing donated, a batch from the host
each time. Arguments like ``--config.data.batch_size=32`` change the experiment.

An experiment whose ``data`` is ``npy`` without ``data_dir`` gets random data.
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

REPO = pathlib.Path(__file__).resolve().parents[1]
Times = list[float]


def main() -> None:
    """Measures, or compares two measurements."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", help="experiment file, with its argument after a colon")
    parser.add_argument("--baseline", choices=["flax"], help="time the plainest version, too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of a block of a round, at least"
    )
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured to this file")
    parser.add_argument("--compare", nargs=2, type=pathlib.Path, metavar=("A", "B"))
    args, overrides = parser.parse_known_args()
    if args.compare:
        _compare(*(json.loads(path.read_text()) for path in args.compare))
        return
    if not args.config:
        parser.error("give --config, or --compare with two files")
    with tempfile.TemporaryDirectory() as folder:
        found = _measure(args, overrides, pathlib.Path(folder))
    _show(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def _measure(args: Any, overrides: list[str], folder: pathlib.Path) -> dict[str, Any]:
    start = time.perf_counter()
    import jax
    import numpy as np
    from absl import logging

    from genjax import Run
    from genjax import config as configs
    from genjax.training import loop
    from genjax.training.allocator import keep_freed_memory
    from genjax.training.checkpoints import Checkpoints
    from genjax.training.flops import matrix_flops
    from genjax.training.logs import MetricLog

    logging.set_verbosity(logging.ERROR)
    keep_freed_memory()
    jax.config.update("jax_enable_compilation_cache", False)
    config = configs.load_config(args.config, overrides)
    _fill_in_data(config, folder)
    configs.divide_cpu(config)
    experiment = configs.build(config, mode="plan")
    run = Run(experiment, folder / "run", quiet=True)
    family, mesh = run.family, run.mesh
    count = family.batches_per_step
    host_batch = run.first_batch()
    built = time.perf_counter() - start

    state = run.init_state()
    feed = _TimedFeed(run.feed())
    start = time.perf_counter()
    training = run.training_steps(feed)
    compiled = training.compiled()
    compile_seconds = time.perf_counter() - start
    flops = matrix_flops(family.train_step, state, host_batch, jax.random.key(0))
    memory = compiled.memory_analysis()
    feed.start(0, 10**9)
    fed = feed.take(feed.most)
    bare = _Runner(state, lambda s: compiled(s, fed, training.key), feed.most)
    runners = {"bare": bare}
    if args.baseline:
        plain = _plain_step(family)
        on_one = jax.device_put(run.init_state(), jax.devices()[0])
        runners["baseline"] = _Runner(on_one, lambda s: plain(s, host_batch, jax.random.key(0)), 1)
    for runner in runners.values():
        runner.run(2)
    number = max(2, int(args.seconds / (bare.seconds_a_step() * feed.most)) + 1)  # of calls

    times: dict[str, Times] = {"loop": [], "input": [], **{name: [] for name in runners}}
    began, first = 0.0, 0

    def on_step(step: int, latest: Any) -> None:
        """After each block of the loop: the others' turn."""
        nonlocal began, first
        if step - first < number * feed.most:
            return
        for array in jax.live_arrays():
            array.block_until_ready()
        if first:  # the first block warms up
            times["loop"].append((time.perf_counter() - began) / (step - first))
            times["input"].append(feed.waited / (step - first))
            for name, runner in runners.items():
                times[name].append(runner.seconds_a_step(number if name == "bare" else None))
        began, first, feed.waited = time.perf_counter(), step, 0.0

    # A multiple of the steps of a call: all calls of a block are whole.
    log_every = -(-experiment.train.log_every // feed.most) * feed.most
    with MetricLog(folder / "run") as log, Checkpoints(folder / "run") as checkpoints:
        never = 10**9
        loop.train(
            run.init_state(),
            training,
            num_steps=number * feed.most * (args.rounds + 1),
            log=log,
            checkpoints=checkpoints,
            periods=loop.Periods(log_every, 0, 0, never),
            evaluate=lambda step, state: {},
            sample=lambda step, state: None,
            on_step=on_step,
        )

    found: dict[str, Any] = {
        "what": {
            "command": " ".join(["python scripts/bench.py", *sys.argv[1:]]),
            "config": args.config,
            "device": f"{mesh.size} x {jax.devices()[0].device_kind}",
            "processor": _processor(),
            "jax": jax.__version__,
            "python": platform.python_version(),
            "commit": _commit(),
            "date": datetime.date.today().isoformat(),
            "parameters": int(
                sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(experiment.state_shapes.params))
            ),
            "rounds": args.rounds,
            "steps_a_round": number * feed.most,
            "steps_a_call": feed.most,
        },
        "build_s": {"median": built},
        "compile_s": {"median": compile_seconds},
        "step_ms": _spread([1e3 * t for t in times["bare"]]),
        "loop_step_ms": _spread([1e3 * t for t in times["loop"]]),
        "loop_overhead_percent": _spread(
            [100 * (a / b - 1) for a, b in zip(times["loop"], times["bare"], strict=True)]
        ),
        "input_wait_percent": _spread(
            [100 * a / b for a, b in zip(times["input"], times["loop"], strict=True)]
        ),
        "examples_per_s": _spread([experiment.data.batch_size * count / t for t in times["loop"]]),
        "tflop_per_step": {"median": flops / 1e12},
        "device_mib": {
            "median": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20
        },
        "host_mib": {"median": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024},
    }
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        found["device_peak_mib"] = {"median": stats["peak_bytes_in_use"] / 2**20}
    if args.baseline:
        found["baseline_step_ms"] = _spread([1e3 * t for t in times["baseline"]])
        found["speedup_over_baseline"] = _spread(
            [a / b for a, b in zip(times["baseline"], times["loop"], strict=True)]
        )
    peak = _matmul_peak("bfloat16" if _uses_bfloat16(config) else "float32")
    found["matmul_peak_tflops"] = {"median": peak / 1e12}
    # A product uses all cores of a CPU, into however many devices it is divided.
    shares = 1 if jax.default_backend() == "cpu" else mesh.size
    achieved = flops / shares / statistics.median(times["bare"])
    found["share_of_peak_percent"] = {"median": 100 * achieved / peak}
    if family.sample is not None:
        steps = experiment.sample.num_steps if config.family.name == "vdm" else None
        found |= _sampling(experiment, family, bare.state, mesh, steps)
    return found


class _TimedFeed:
    """A feed that knows how long it was waited for."""

    def __init__(self, feed: Any):
        self._feed = feed
        self.most = feed.most
        self.start, self.stop = feed.start, feed.stop
        self.shapes, self.batch, self.count = feed.shapes, feed.batch, feed.count
        self.waited = 0.0

    def take(self, count: int) -> Any:
        start = time.perf_counter()
        fed = self._feed.take(count)
        self.waited += time.perf_counter() - start
        return fed


class _Runner:
    """Calls of some training steps with a state of their own."""

    def __init__(self, state: Any, step: Callable[[Any], tuple[Any, Any]], steps_a_call: int):
        self.state = state
        self._step = step
        self._steps_a_call = steps_a_call

    def run(self, number: int) -> None:
        import jax

        for _ in range(number):
            self.state, metrics = self._step(self.state)
        jax.block_until_ready((self.state, metrics))

    def seconds_a_step(self, number: int | None = None) -> float:
        """Seconds of a step, over ``number`` of calls; over few if None."""
        number = number or 2
        start = time.perf_counter()
        self.run(number)
        return (time.perf_counter() - start) / (number * self._steps_a_call)


def _plain_step(family: Any) -> Callable[..., Any]:
    """The training step as one writes it first, traced with stock layers."""
    import jax

    # A function of its own: the other's trace, with the other layers, is kept under its name.
    jitted = jax.jit(lambda state, batch, key: family.train_step(state, batch, key))

    def step(state: Any, batch: Any, key: Any) -> Any:
        with _stock_layers():  # looked at when it is traced
            return jitted(state, batch, jax.random.fold_in(key, state.step))

    return step


@contextlib.contextmanager
def _stock_layers() -> Iterator[None]:
    """Puts the layers that Flax has in the place of genjax's.

    Convolutions, attention, norms, and in coupling flows of points dense layers on rows.
    """
    import flax.linen as nn
    import jax

    from genjax.bijectors.recipes import points
    from genjax.nets import attention, convolution, flow_mlp, normalization

    def dims(x: Any) -> tuple[str, str, str]:
        space = "DHW"[5 - x.ndim :]
        return f"N{space}C", f"{space}IO", f"N{space}C"

    def conv(x: Any, kernel: Any, strides: Any, padding: Any, **kwargs: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, rhs_dilation=kwargs.get("kernel_dilation"),
            dimension_numbers=dims(x), feature_group_count=kwargs.get("groups", 1),
            precision=kwargs.get("precision"),
        )  # fmt: skip

    def conv_transpose(x: Any, kernel: Any, strides: Any, padding: Any, **kwargs: Any) -> Any:
        return jax.lax.conv_transpose(
            x, kernel, strides, padding, rhs_dilation=kwargs.get("kernel_dilation"),
            dimension_numbers=dims(x), transpose_kernel=kwargs.get("transpose_kernel", False),
            precision=kwargs.get("precision"),
        )  # fmt: skip

    def on_any_platform(*operands: Any, default: Any, **_: Any) -> Any:
        return default(*operands)

    class ResidualMLP(flow_mlp.ResidualMLP):  # of this name, which is that of its parameters
        @nn.compact
        def __call__(self, x: Any, context: Any = None) -> Any:
            if context is not None:
                x = jax.numpy.concatenate([x, context], axis=-1)
            h = nn.Dense(self.hidden_size, name="dense_in")(x)
            for i in range(self.num_blocks):
                r = nn.relu(nn.Dense(self.hidden_size, name=f"dense_{i}_0")(nn.relu(h)))
                off = not self.has_rng("dropout")
                r = nn.Dropout(self.dropout_rate, name=f"dropout_{i}")(r, deterministic=off)
                h += nn.Dense(self.hidden_size, name=f"dense_{i}_1")(r)
            return nn.Dense(self.num_outputs, name="dense_out")(nn.relu(h))

    # Their traces are kept by shape, and would be those with genjax's formulations.
    traced_once: Any = (attention, normalization)
    kept = [module._as_fast_as_the_platform for module in traced_once]
    for module in traced_once:
        module._as_fast_as_the_platform = module._as_fast_as_the_platform.__wrapped__
    ours = convolution.conv, convolution.conv_transpose, jax.lax.platform_dependent
    convolution.conv, convolution.conv_transpose = conv, conv_transpose
    # Attention and group normalisation: what they are where they have no formulation of their own.
    jax.lax.platform_dependent = on_any_platform  # type: ignore[assignment]
    points.ResidualMLP = ResidualMLP  # type: ignore[misc]
    try:
        yield
    finally:
        points.ResidualMLP = flow_mlp.ResidualMLP  # type: ignore[misc]
        for module, compiled in zip(traced_once, kept, strict=True):
            module._as_fast_as_the_platform = compiled
        convolution.conv, convolution.conv_transpose, jax.lax.platform_dependent = ours


def _sampling(
    experiment: Any, family: Any, state: Any, mesh: Any, steps: int | None
) -> dict[str, Any]:
    import jax

    from genjax.training import mesh as meshes

    number = experiment.sample.num_samples
    where = meshes.replicated(mesh) if number % mesh.size else meshes.by_row(mesh)
    requests = meshes.put(experiment.sample_requests(number), where)
    # What families give besides, such as the picture of a density, is not computed.
    sample = jax.jit(lambda *args: family.sample(*args).rows)
    with jax.set_mesh(mesh):
        jax.block_until_ready(sample(state, jax.random.key(0), requests))
        times = []
        for seed in range(5):
            start = time.perf_counter()
            jax.block_until_ready(sample(state, jax.random.key(seed), requests))
            times.append(time.perf_counter() - start)
    found = {"samples_per_s": _spread([number / t for t in times])}
    if steps is not None:
        found["network_calls_per_sample"] = {"median": steps}
    return found


def _fill_in_data(config: Any, folder: pathlib.Path) -> None:
    """Random images of 8 bits, or random points, where an experiment leaves its data open."""
    import numpy as np

    if config.data.name != "npy" or config.data.get("data_dir"):
        return
    rng, shape = np.random.default_rng(0), tuple(config.data.event_shape)
    for split in ("train", "test"):
        if len(shape) == 3:
            rows = rng.integers(0, 256, (2048, *shape), dtype=np.uint8)
        else:
            rows = rng.normal(size=(50_000, *shape)).astype(np.float32)
        np.save(folder / f"{split}.npy", rows)
    config.data.data_dir = str(folder)


def _matmul_peak(dtype: str, sizes: tuple[int, ...] = ()) -> float:
    """Operations a second of the fastest of a few square matrix products on one device."""
    import jax
    import jax.numpy as jnp

    best = 0.0
    usual = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192)
    for size in sizes or usual:
        a = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
        product = jax.jit(lambda a, b: a @ b)
        jax.block_until_ready(product(a, a))
        for _ in range(7):
            start = time.perf_counter()
            jax.block_until_ready(product(a, a))
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _uses_bfloat16(config: Any) -> bool:
    return "bfloat16" in json.dumps(config.model.to_dict())


def _spread(values: Times) -> dict[str, float]:
    if len(values) < 2:
        return {"median": statistics.median(values)}
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "half_range": (high - low) / 2}


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPO, capture_output=True, text=True
    )
    return done.stdout.strip()


def _number(value: dict[str, float]) -> str:
    text = f"{value['median']:.4g}"
    return f"{text} ± {value['half_range']:.2g}" if "half_range" in value else text


def _show(found: dict[str, Any]) -> None:
    what = found["what"]
    print(f"{what['config']}: {what['parameters']:,} parameters, {what['device']}, "
          f"{what['processor']}, jax {what['jax']}, {what['date']}, commit {what['commit']}, "
          f"{what['rounds']} rounds of {what['steps_a_round']} steps\n")  # fmt: skip
    print("| figure | median |\n|---|---|")
    for name, value in found.items():
        if name != "what":
            print(f"| {name} | {_number(value)} |")


def _compare(first: dict[str, Any], second: dict[str, Any]) -> None:
    print(f"| figure | {first['what']['config']} | {second['what']['config']} | ratio |")
    print("|---|---|---|---|")
    for name in first:
        if name != "what" and name in second:
            a, b = first[name], second[name]
            ratio = f"{b['median'] / a['median']:.3f}" if a["median"] else ""
            print(f"| {name} | {_number(a)} | {_number(b)} | {ratio} |")


if __name__ == "__main__":
    main()
