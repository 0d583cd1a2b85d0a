"""Times training steps of other libraries beside this one's, in turn, in one run.

    pip install torch flowjax distrax
    python scripts/bench_peers.py --what=dcgan64,wgan_gp32,vdm28,real_nvp2,spline8
    python scripts/bench_peers.py --what=sngan_cifar10 --json=sngan.json

The networks are those of ``experiments/benchmarks.py`` and of ``experiments/gan/*_cifar10.py``,
written out in PyTorch (``scripts/torch_peers.py``), and for flows made of flowjax's and distrax's
parts with as many layers of the same widths. Networks of images are timed under several settings:
genjax in float32 and bfloat16, PyTorch also channels-last and, on GPUs, compiled. Each library is
as fast as its fastest setting, which has the ratio to genjax's fastest in its row.

Each setting runs in a process of its own, which makes steps only when asked to; where a process
finds its memory is worth up to a tenth in short steps, so each is started anew some times. Medians
over rounds of all starts. genjax's steps include data, metrics and moving averages, but no logging;
the peers' are bare steps on one batch. What fails is said in its row and left out of the rest.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

REPO = pathlib.Path(__file__).resolve().parents[1]
SCRIPTS = str(REPO / "scripts")
PEERS = {
    "dcgan": ("torch", "flax"),
    "wgan_gp": ("torch", "flax"),
    "vdm": ("torch", "flax"),
    "unet": ("torch", "flax"),
    "dcgan_cifar": ("torch", "flax"),
    "wgan_gp_cifar": ("torch", "flax"),
    "sngan_cifar": ("torch", "flax"),
    "real_nvp": ("flowjax", "distrax"),
    "spline": ("flowjax", "distrax"),
}


def main() -> None:
    """Measures what was asked for, or works for the process that does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--what",
        default="dcgan64,dcgan32,wgan_gp64,wgan_gp32,vdm28,vdm32,unet28,unet32,real_nvp2,"
        "real_nvp8,spline2,spline8",
    )
    parser.add_argument(
        "--peers",
        default="torch,flowjax,distrax",
        help="whom to look for; also flax: the plainest step with stock layers, as in bench.py",
    )
    parser.add_argument("--starts", type=int, default=3, help="of each process")
    parser.add_argument("--rounds", type=int, default=5, help="after each start")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block of a round")
    parser.add_argument("--json", type=pathlib.Path, help="write what was measured to this file")
    parser.add_argument("--library", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    args, overrides = parser.parse_known_args()
    for word in overrides:
        if not word.startswith("--config."):
            parser.error(f"expected --config.section.key=value for genjax, got {word!r}")
    if args.library:
        _work(args.library, args.setting, args.what, args.seconds, overrides)
        return
    print("| step | library | setting | ms | examples/s | ratio to genjax | parameters |")
    print("|---|---|---|---|---|---|---|")
    found = []
    for what in args.what.split(","):
        name, _ = _name_and_size(what)
        asked = [peer for peer in PEERS[name] if peer in args.peers.split(",")]
        here = [peer for peer in asked if importlib.util.find_spec(peer)]
        if not here:
            sys.exit(f"error: {what} is compared with {' or '.join(PEERS[name])}: "
                     f"install and name one of them, --peers is {args.peers}")  # fmt: skip
        found += _compare(what, ["genjax", *here], args, overrides)
        if args.json:
            args.json.write_text(json.dumps(found, indent=2) + "\n")


def _name_and_size(what: str) -> tuple[str, int]:
    parts = re.fullmatch(r"(\w*?)(\d+)", what)
    if not parts or parts[1] not in PEERS:
        sys.exit(f"error: expected one of {', '.join(PEERS)} with a size, got {what!r}")
    return parts[1], int(parts[2])


def _settings(library: str, what: str) -> tuple[str, ...]:
    """What a library is timed under; the first is its plainest."""
    if "torch" not in PEERS[_name_and_size(what)[0]]:
        return ("float32",)
    if library in ("genjax", "flax"):
        return ("float32", "bfloat16")
    # Asked of a process of its own: this one starts and waits.
    program = "import json, torch_peers; print(json.dumps(torch_peers.SETTINGS))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: PyTorch cannot be used: {_last_line(done.stderr)}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


@dataclasses.dataclass
class _Row:
    """One library under one setting, and the process that works for it now."""

    library: str
    setting: str
    times: list[float] = dataclasses.field(default_factory=list)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    failed: str = ""
    process: Any = None
    errors: Any = None

    def start(self, what: str, seconds: float, overrides: list[str]) -> None:
        command = [sys.executable, __file__, f"--library={self.library}", f"--what={what}",
                   f"--setting={self.setting}", f"--seconds={seconds}", *overrides]  # fmt: skip
        # Several processes share a GPU: none takes what it does not use yet.
        env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, cwd=REPO, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True,
        )  # fmt: skip
        self.about = self._answer() or self.about

    def measure(self) -> None:
        if self.failed:
            return
        print("go", file=self.process.stdin, flush=True)
        answer = self._answer()
        if answer:
            self.times.append(answer["seconds"])

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()

    def _answer(self) -> dict[str, Any] | None:
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        code = self.process.wait()
        self.errors.seek(0)
        self.failed = _last_line(self.errors.read()) or f"ended with exit code {code}"
        return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _compare(
    what: str, libraries: list[str], args: argparse.Namespace, overrides: list[str]
) -> list[dict[str, Any]]:
    rows = [_Row(name, setting) for name in libraries for setting in _settings(name, what)]
    for _ in range(args.starts):
        started = [row for row in rows if not row.failed]
        for row in started:  # nothing else runs while one is set up
            row.start(what, args.seconds, overrides)
        for _ in range(args.rounds):
            for row in started:
                row.measure()
        for row in started:
            row.end()
    fastest = _fastest(rows)
    found = []
    for row in rows:
        about: dict[str, Any] = {"step": what, "library": row.library, "setting": row.setting}
        if row.failed:
            about["failed"] = row.failed
            shown = f"| failed: {row.failed} | | | |"
        else:
            about |= _figures(row, fastest)
            ratio = f"{about['ratio']:.2f}" if "ratio" in about else ""
            shown = (f"| {about['ms']:.2f} ± {about['half_range']:.2f} "
                     f"| {about['examples_per_s']:,.0f} | {ratio} "
                     f"| {about['parameters']:,} |")  # fmt: skip
        print(f"| {what} | {row.library} | {row.setting} {shown}", flush=True)
        found.append(about)
    return found


def _fastest(rows: list[_Row]) -> dict[str, _Row]:
    """Of each library the setting that took least time."""
    timed = [row for row in rows if row.times and not row.failed]
    return {row.library: row for row in sorted(timed, key=_median, reverse=True)}


def _median(row: _Row) -> float:
    return statistics.median(row.times)


def _figures(row: _Row, fastest: dict[str, _Row]) -> dict[str, Any]:
    median, spread = _median(row), 0.0
    if len(row.times) > 1:
        low, _, high = statistics.quantiles(row.times, n=4)
        spread = (high - low) / 2
    about = {"ms": 1e3 * median, "half_range": 1e3 * spread, "parameters": row.about["parameters"]}
    genjax = fastest.get("genjax")
    # Peers take batches of the same sizes.
    examples = (genjax or row).about.get("examples", 0)
    about["examples_per_s"] = examples / median
    if genjax and fastest[row.library] is row:
        about["ratio"] = median / _median(genjax)
    return about


def _work(library: str, setting: str, what: str, seconds: float, overrides: list[str]) -> None:
    """Says what it made; then, for each line of input, seconds of a step."""
    name, size = _name_and_size(what)
    about: dict[str, Any] = {}
    if library != "torch":  # which has an allocator of its own
        from genjax.training.allocator import keep_freed_memory

        keep_freed_memory()
    if library in ("genjax", "flax"):
        stock = library == "flax"
        run, about["parameters"], about["examples"] = _genjax(what, setting, overrides, stock)
    elif library == "flowjax":
        run, about["parameters"] = _flowjax(name, size)
    elif library == "distrax":
        run, about["parameters"] = _distrax(name, size)
    else:
        sys.path.insert(0, SCRIPTS)
        import torch_peers  # type: ignore[import-not-found]

        run, about["parameters"] = torch_peers.peer(what, setting)
    run(2)
    start = time.perf_counter()
    made = run(2)
    number = max(2, int(made * seconds / (time.perf_counter() - start)) + 1)
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        made = run(number)
        print(json.dumps({"seconds": (time.perf_counter() - start) / made}), flush=True)


Run = Callable[[int], int]
"""Makes at least so many steps, waits for the last and says how many it made."""


def _genjax(
    what: str, setting: str, overrides: list[str], stock: bool = False
) -> tuple[Run, int, int]:
    """Steps, the number of parameters, and examples a step; ``stock``: as one writes it first."""
    sys.path.insert(0, SCRIPTS)
    import bench  # type: ignore[import-not-found]
    import jax
    import numpy as np

    from genjax import Run
    from genjax import config as configs

    if what.endswith("_cifar10"):
        random_images = ["--config.data.name=npy", "--config.data.event_shape=(32,32,3)"]
        config = configs.load_config(
            f"experiments/gan/{what}.py", [*random_images, *overrides]
        )  # fmt: skip
    else:
        config = configs.load_config(f"experiments/benchmarks.py:{what}", overrides)
    for net in (config.model, *(config.model.get(n) for n in ("generator", "critic"))):
        if net is not None and "dtype" in net:
            net.dtype = setting
    folder = tempfile.TemporaryDirectory()
    bench._fill_in_data(config, pathlib.Path(folder.name))
    configs.divide_cpu(config)
    experiment = configs.build(config, mode="plan")
    going = Run(experiment, folder.name, quiet=True)
    state = going.init_state()
    shapes = jax.tree.leaves(experiment.state_shapes.params)
    parameters = int(sum(np.prod(leaf.shape) for leaf in shapes))
    examples = experiment.data.batch_size * going.family.batches_per_step
    if stock:
        plain, batch = bench._plain_step(going.family), going.first_batch()

        def run_plain(number: int) -> int:
            nonlocal state
            for _ in range(number):
                state, metrics = plain(state, batch, jax.random.key(0))
            jax.block_until_ready((state, metrics))
            return number

        return run_plain, parameters, examples
    steps = going.training_steps()
    most = steps.feed.most
    steps.start(0, 10**9)

    def run(number: int) -> int:
        nonlocal state, folder
        calls = -(-number // most)
        for _ in range(calls):
            state, metrics = steps(state, steps.take(most))
        jax.block_until_ready((state, metrics))
        return calls * most

    return run, parameters, examples


def _flowjax(name: str, size: int) -> tuple[Run, int]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from flowjax.bijections import Affine, RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow

    key = jax.random.key(0)
    maps = Affine() if name == "real_nvp" else RationalQuadraticSpline(knots=8, interval=3)
    # Networks of six matrices of width 64, as ours.
    flow = coupling_flow(
        key, base_dist=Normal(jnp.zeros(size)), transformer=maps, flow_layers=8, nn_width=64,
        nn_depth=5,
    )  # fmt: skip
    params, static = eqx.partition(flow, eqx.is_inexact_array)
    return _fifty_adam_steps(
        lambda params, x: eqx.combine(params, static).log_prob(x), params, size
    )


def _distrax(name: str, size: int) -> tuple[Run, int]:
    import distrax
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    numbers = 2 if name == "real_nvp" else 3 * 8 + 1

    class Conditioner(nn.Module):  # six matrices of width 64, as ours
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(5):
                x = nn.relu(nn.Dense(64)(x))
            x = nn.Dense(size * numbers, kernel_init=nn.initializers.zeros)(x)
            return x.reshape(*x.shape[:-1], size, numbers)

    def elementwise(raw: Any) -> Any:
        if name == "real_nvp":
            return distrax.ScalarAffine(shift=raw[..., 0], log_scale=raw[..., 1])
        return distrax.RationalQuadraticSpline(raw, range_min=-3.0, range_max=3.0)

    net, base = Conditioner(), distrax.Normal(jnp.zeros(size), jnp.ones(size))

    def log_prob(params: Any, x: Any) -> Any:
        log_det = 0.0
        for i, one in enumerate(params):
            mask = jnp.arange(size) % 2 == i % 2
            layer = distrax.MaskedCoupling(
                mask, conditioner=lambda x, one=one: net.apply(one, x), bijector=elementwise
            )
            x, change = layer.forward_and_log_det(x)
            log_det += change
        return base.log_prob(x).sum(-1) + log_det

    keys = jax.random.split(jax.random.key(0), 8)
    params = [net.init(key, jnp.zeros((1, size))) for key in keys]
    return _fifty_adam_steps(log_prob, params, size)


def _fifty_adam_steps(log_prob: Callable[..., Any], params: Any, size: int) -> tuple[Run, int]:
    """Bare steps of maximum likelihood on one batch, fifty in a scan."""
    import jax
    import optax

    optimizer = optax.adam(1e-3)
    x = jax.random.normal(jax.random.key(0), (256, size))

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(lambda params: -log_prob(params, x).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    many = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=50), donate_argnums=0)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    carry = params, optimizer.init(params)

    def run(number: int) -> int:
        nonlocal carry
        calls = -(-number // 50)
        for _ in range(calls):
            carry, losses = many(carry)
        jax.block_until_ready((carry, losses))
        return calls * 50

    return run, count


if __name__ == "__main__":
    main()
