"""Times the sharded training step on 1, 2, 4... forced host devices at a fixed total work.

    python scripts/bench_scaling.py --config=experiments/vdm/digits.py --devices=1,2,4,8

The devices share this machine's cores, so what the table shows beyond 1.0 is what the spreading
itself costs: collectives, smaller matrices, more dispatches. Batch and model are the same on each.
Rounds are interleaved; times are medians, ratios are to one device. Beside them stand the bytes of
the results of each collective, from the compiled program.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any


def main() -> None:
    """Measures every mesh in a process of its own, in rounds, and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", required=True, help="experiment file")
    parser.add_argument("--devices", default="1,2,4,8", help="comma-separated; 4x2 is fsdp 2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args()
    if args.worker:
        _work(args, overrides)
        return
    labels = args.devices.split(",")
    workers = [_start(label, args, overrides) for label in labels]
    described: list[dict[str, Any]] = [json.loads(_answer(worker)) for worker in workers]
    times: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(args.rounds):
        for label, worker in zip(labels, workers, strict=True):
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            times[label].append(json.loads(_answer(worker)))
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
        worker.wait()
    first = statistics.median(times[labels[0]])
    print(f"| devices | ms a step | ratio | {_KINDS} |")
    print("|---|---|---|---|")
    for label, about in zip(labels, described, strict=True):
        median = statistics.median(times[label])
        spread = (max(times[label]) - min(times[label])) / 2
        moved = ", ".join(
            f"{count} x {kind}, {size / 2**20:.2f} MiB"
            for kind, (count, size) in about["collectives"].items()
        )
        print(
            f"| {label} | {1e3 * median:.1f} ± {1e3 * spread:.1f} | {median / first:.2f} "
            f"| {moved or 'none'} |"
        )
    print(
        f"\n{args.config}, {described[0]['strategy']}: {described[0]['parameters']:,} parameters, "
        f"batch {described[0]['batch']}, {args.rounds} interleaved rounds of {args.steps} steps"
    )


_KINDS = "collectives a step: results on a device"


def _start(label: str, args: argparse.Namespace, overrides: list[str]) -> subprocess.Popen[str]:
    count, _, fsdp = label.partition("x")
    env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={int(count) * int(fsdp or 1)}",
    }
    command = [sys.executable, __file__, "--worker", f"--config={args.config}",
               f"--devices={label}", f"--steps={args.steps}",
               *overrides]  # fmt: skip
    return subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        sys.exit(f"a measuring process ended with exit code {worker.wait()}; its error is above")
    return line


def _work(args: argparse.Namespace, overrides: list[str]) -> None:
    """Compiles the step for this process; times some steps for each line of input."""
    import time

    import jax
    import numpy as np

    from genjax import Run
    from genjax import config as configs
    from genjax.training import mesh as meshes
    from genjax.training import step as steps
    from genjax.training.plan import collectives_of

    config = configs.load_config(args.config, overrides)
    config.parallel.fsdp = int(args.devices.partition("x")[2] or 1)
    experiment = configs.build(config, mode="plan")
    run = Run(experiment, tempfile.gettempdir(), quiet=True)
    family, mesh = run.family, run.mesh
    state = run.init_state()
    batch = meshes.global_batch(mesh, run.first_batch(), family.batches_per_step)
    key = meshes.put(jax.random.key(0), meshes.replicated(mesh))
    step = steps.lower_train_step(family, state, batch, key, mesh).compile()
    about = {
        "parameters": int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))),
        "batch": experiment.data.batch_size,
        "strategy": experiment.parallel.strategy,
        "collectives": collectives_of(step.as_text()),
    }
    state, metrics = step(state, batch, key)
    jax.block_until_ready(metrics)
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(args.steps):
            state, metrics = step(state, batch, key)
        jax.block_until_ready((state, metrics))
        print(json.dumps((time.perf_counter() - start) / args.steps), flush=True)


if __name__ == "__main__":
    main()
