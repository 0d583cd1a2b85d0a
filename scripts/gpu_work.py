"""One measurement of scripts/gpu_report.py, in a process of its own.

    python scripts/gpu_work.py NAME FILE.json ARGUMENTS_IN_JSON

What has been found is written to the file after each figure, so that a process that is stopped
leaves what it had.
"""

import functools
import glob
import json
import os
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

SCRIPTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

import bench  # noqa: E402

Put = Callable[[dict[str, Any]], None]
"""Adds figures to what has been found."""


def main() -> None:
    """Does the work that is named."""
    name, place, args = sys.argv[1], pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
    found: dict[str, Any] = {}

    def put(figures: dict[str, Any]) -> None:
        found.update(figures)
        beside = place.with_suffix(".part")
        beside.write_text(json.dumps(found))
        os.replace(beside, place)

    WORK[name](put, **args)


def device(put: Put, *, size: int) -> None:
    """What the device is, and what its products and its memory do at best."""
    import importlib.metadata

    import jax
    import jax.numpy as jnp

    one = jax.devices()[0]
    versions = {}
    for package in ("jax", "jaxlib", "flax", "torch", "triton"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "absent"
    stats = one.memory_stats() or {}
    put(dict(device=one.device_kind, platform=one.platform, versions=versions,
             memory_gib=stats.get("bytes_limit", 0) / 2**30))  # fmt: skip
    for dtype, precision in (("bfloat16", None), ("float32", None), ("float32", "highest")):
        with jax.default_matmul_precision(precision):
            name = f"{dtype}_{precision or 'default'}_tflops"
            put({name: bench._matmul_peak(dtype, (size // 2, size)) / 1e12})
    x = jnp.zeros(size * size, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    put({"copy_gb_per_s": 8 * size * size / _seconds(lambda: copy(x)) / 1e9})
    small = jnp.zeros(8)
    put({"call_us": 1e6 * _seconds(lambda: copy(small))})


def _seconds(call: Callable[[], Any], number: int = 20) -> float:
    import jax

    jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(number):
        last = call()
    jax.block_until_ready(last)
    return (time.perf_counter() - start) / number


def checks(put: Put, *, every: int) -> None:
    """Layers and losses against NumPy, then policies; every so many of them."""
    import gpu_checks

    rows: list[dict[str, Any]] = []

    def row(name: str, measured: Callable[[], dict[str, Any]]) -> None:
        try:
            rows.append(measured())
        except Exception as error:
            reason = str(error).strip().splitlines() or [""]
            rows.append({"check": name, "passes": False, "error": reason[0][:300]})
        put({"checks": rows})

    for check in list(gpu_checks.checks())[::every]:
        row(check[0], functools.partial(gpu_checks.errors, check))
    for network in list(gpu_checks.policies())[::every]:
        row(network[0], functools.partial(gpu_checks.policy, *network))


class _Made:
    """An experiment on random images, its steps compiled."""

    def __init__(self, config: str, overrides: list[str]):
        from genjax import Run
        from genjax import config as configs

        self.folder = tempfile.TemporaryDirectory()
        self.config = configs.load_config(config, overrides)
        bench._fill_in_data(self.config, pathlib.Path(self.folder.name))
        configs.divide_cpu(self.config)
        self.experiment = configs.build(self.config, mode="plan")
        self.run = Run(self.experiment, self.folder.name, quiet=True)
        self.examples = self.experiment.data.batch_size * self.run.family.batches_per_step

    def compile(self) -> float:
        """Compiles and makes a state; returns the seconds of the compiler."""
        start = time.perf_counter()
        self.steps = self.run.training_steps()
        self.compiled = self.steps.compiled()
        seconds = time.perf_counter() - start
        self.state = self.run.init_state()
        self.steps.start(0, 10**9)
        return seconds

    def call(self) -> Any:
        """The next call of the steps."""
        self.state, metrics = self.steps(self.state, self.steps.take(self.steps.feed.most))
        return metrics

    def flops(self) -> float:
        """Of the products of a step."""
        import jax

        from genjax.training.flops import matrix_flops

        shapes, batch = self.experiment.state_shapes, self.run.first_batch()
        return matrix_flops(self.run.family.train_step, shapes, batch, jax.random.key(0))


def step(put: Put, *, config: str, overrides: list[str], size: int, number: int) -> None:
    """The bare compiled step against the fastest product of the same process.

    The share counts the operations of the model (``remat="none"``), so that what is computed again
    does not count as work done.
    """
    import jax

    put({"matmul_peak_tflops": (peak := bench._matmul_peak("bfloat16", (size // 2, size))) / 1e12})
    made = _Made(config, overrides)
    put({"compile_s": made.compile()})
    memory = made.compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    seconds = min(_seconds(made.call, number) for _ in range(3)) / made.steps.feed.most
    put(dict(step_ms=1e3 * seconds, examples_per_s=made.examples / seconds,
             planned_gib=held / 2**30))  # fmt: skip
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        put({"peak_gib": stats["peak_bytes_in_use"] / 2**30})
    again = [word for word in overrides if "model.remat" not in word]
    flops = _Made(config, again).flops()
    put(dict(tflop_per_step=flops / 1e12, share_of_peak_percent=100 * flops / seconds / peak))


def samples(put: Put, *, config: str, overrides: list[str]) -> None:
    """Samples a second."""
    made = _Made(config, overrides)
    steps = made.experiment.sample.num_steps if made.config.family.name == "vdm" else None
    put(bench._sampling(made.experiment, made.run.family, made.run.init_state(), made.run.mesh,
                        steps))  # fmt: skip


def same_bits(put: Put, *, config: str, overrides: list[str]) -> None:
    """Whether three steps from one state leave the same bits twice."""
    import jax
    import numpy as np

    made = _Made(config, overrides)
    made.compile()
    kept = jax.device_get(made.state)
    ends = []
    for _ in range(2):
        made.state = jax.device_put(kept, jax.tree.map(lambda leaf: leaf.sharding, made.state))
        made.steps.start(0, 10**9)
        for _ in range(3):
            made.call()
        ends.append(jax.tree.leaves(jax.device_get(made.state)))
    differ = sum(not np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    put(dict(arrays=len(ends[0]), arrays_that_differ=differ))


def profile(put: Put, *, config: str, overrides: list[str], number: int) -> None:
    """Where the time of a step goes, by operation and by kind of operation."""
    import jax

    made = _Made(config, overrides)
    put({"compile_s": made.compile()})
    jax.block_until_ready((made.call(), made.state))
    cost = made.compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    put(dict(compiler_tflop=cost.get("flops", 0) / 1e12,
             compiler_gib=cost.get("bytes accessed", 0) / 2**30))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with jax.profiler.trace(folder):
            for _ in range(number):
                made.call()
            jax.block_until_ready(made.state)
        put({"profiled_step_ms": 1e3 * (time.perf_counter() - start) / number})
        times = _times_of_operations(folder)
    total = sum(times.values())
    kinds: dict[str, float] = {}
    for name, seconds in times.items():
        kinds[_kind(name)] = kinds.get(_kind(name), 0.0) + seconds

    def table(rows: dict[str, float], most: int) -> list[dict[str, Any]]:
        first = sorted(rows.items(), key=lambda row: -row[1])[:most]
        return [{"name": name[:100], "ms_a_step": 1e3 * seconds / number,
                 "percent": 100 * seconds / total} for name, seconds in first]  # fmt: skip

    put(dict(kinds=table(kinds, 12), operations=table(times, 25),
             busy_ms_a_step=1e3 * total / number))  # fmt: skip


def _times_of_operations(folder: str) -> dict[str, float]:
    """Seconds of each operation or kernel in a trace: on GPUs kernels, else XLA's operations."""
    import jax

    (place,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
    on_device: dict[str, float] = {}
    on_host: dict[str, float] = {}
    for plane in jax.profiler.ProfileData.from_file(place).planes:
        gpu = plane.name.startswith("/device:GPU")
        for line in plane.lines:
            # Lines of a GPU that are no streams say the same again, by module or framework.
            if gpu and "stream" not in line.name.lower():
                continue
            for event in line.events:
                if gpu:
                    on_device[event.name] = on_device.get(event.name, 0) + event.duration_ns / 1e9
                elif "hlo_op" in dict(event.stats) and not _CONTAINS_OTHERS.match(event.name):
                    on_host[event.name] = on_host.get(event.name, 0) + event.duration_ns / 1e9
    times = on_device or on_host
    if not times:
        raise RuntimeError("the trace holds no operation: jax's profiler sees none on this device")
    return times


_CONTAINS_OTHERS = re.compile(r"(while|cond|call)\b")
"""Operations of a CPU whose time is that of the operations inside."""

_KINDS = (
    ("attention", "fmha|flash|attention|softmax"),
    ("convolutions", "conv(?!ert)|dgrad|wgrad|fprop|implicit"),
    ("products", "gemm|nvjet|cublas|cutlass|xmma|dot|matmul"),
    ("copies and layouts", "copy|transpose|memcpy|memset|nchw|nhwc"),
    ("reductions", "reduce|sum|norm"),
    ("random numbers", "threefry|rng|random"),
    ("other fused work", "fusion|fused"),
)


def _kind(name: str) -> str:
    low = name.lower()
    return next((kind for kind, pattern in _KINDS if re.search(pattern, low)), "other")


WORK: dict[str, Callable[..., None]] = dict(
    device=device, checks=checks, step=step, samples=samples, same_bits=same_bits, profile=profile
)

if __name__ == "__main__":
    main()
