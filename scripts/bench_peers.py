"""Times training steps of other libraries beside this one's, in turn, in one run.

    pip install torch flowjax distrax
    python scripts/bench_peers.py --what=dcgan64,wgan_gp32,vdm28,real_nvp2,spline8

The networks are those of ``experiments/benchmarks.py``, written out here in PyTorch, and for flows
made of flowjax's and distrax's parts with as many layers of the same widths. Each library runs in a
process of its own, which makes steps only when asked to; where a process finds its memory is worth
up to a tenth in short steps, so each is started anew some times. Medians over rounds of all starts,
and the ratio to genjax's. genjax's steps include data, metrics and moving averages, but no logging;
the peers' are bare steps on one batch.
"""

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

REPO = pathlib.Path(__file__).resolve().parents[1]
PEERS = {
    "dcgan": ("torch",),
    "wgan_gp": ("torch",),
    "vdm": ("torch",),
    "real_nvp": ("flowjax", "distrax"),
    "spline": ("flowjax", "distrax"),
}


def main() -> None:
    """Measures what was asked for, or works for the process that does."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--what",
        default="dcgan64,dcgan32,wgan_gp64,wgan_gp32,vdm28,vdm32,real_nvp2,real_nvp8,spline2,"
        "spline8",
    )
    parser.add_argument("--starts", type=int, default=3, help="of each process")
    parser.add_argument("--rounds", type=int, default=5, help="after each start")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a block of a round")
    parser.add_argument("--library", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.library:
        _work(args.library, args.what, args.seconds)
        return
    print("| step | " + " | ".join(["library", "ms", "ratio to genjax", "parameters"]) + " |")
    print("|---|---|---|---|---|")
    for what in args.what.split(","):
        name = what.rstrip("0123456789")
        if name not in PEERS:
            sys.exit(f"error: expected one of {', '.join(PEERS)} with a size, got {what!r}")
        here = [peer for peer in PEERS[name] if importlib.util.find_spec(peer)]
        if not here:
            sys.exit(f"error: {what} is compared with {' or '.join(PEERS[name])}: pip install it")
        _compare(what, ["genjax", *here], args)


def _compare(what: str, libraries: list[str], args: argparse.Namespace) -> None:
    times: dict[str, list[float]] = {library: [] for library in libraries}
    sizes: dict[str, float] = {}
    for _ in range(args.starts):
        workers = {}
        for library in libraries:
            command = [sys.executable, __file__, f"--library={library}", f"--what={what}",
                       f"--seconds={args.seconds}"]  # fmt: skip
            workers[library] = subprocess.Popen(
                command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            sizes[library] = _answer(workers[library])  # nothing else runs while it is set up
        for _ in range(args.rounds):
            for library, worker in workers.items():
                assert worker.stdin is not None
                print("go", file=worker.stdin, flush=True)
                times[library].append(_answer(worker))
        for worker in workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
    first = statistics.median(times["genjax"])
    for library in libraries:
        median = statistics.median(times[library])
        spread = ""
        if len(times[library]) > 1:
            low, _, high = statistics.quantiles(times[library], n=4)
            spread = f" ± {5e2 * (high - low):.2f}"
        print(f"| {what} | {library} | {1e3 * median:.2f}{spread} | {median / first:.2f} "
              f"| {int(sizes[library]):,} |", flush=True)  # fmt: skip


def _answer(worker: subprocess.Popen[str]) -> float:
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("{"):
            return float(json.loads(line)["value"])
    sys.exit(f"a measuring process ended with exit code {worker.wait()}; its error is above")


def _work(library: str, what: str, seconds: float) -> None:
    """Prints the number of parameters; then, for each line of input, seconds of a step."""
    name, size = what.rstrip("0123456789"), int(what[len(what.rstrip("0123456789")) :])
    if library != "torch":  # which has an allocator of its own
        from genjax.training.allocator import keep_freed_memory

        keep_freed_memory()
    if library == "genjax":
        run, count = _genjax(what)
    elif library == "flowjax":
        run, count = _flowjax(name, size)
    elif library == "distrax":
        run, count = _distrax(name, size)
    elif name == "vdm":
        run, count = _torch_vdm(size)
    else:
        run, count = _torch_gan(size, penalty=name == "wgan_gp")
    run(2)
    start = time.perf_counter()
    run(2)
    number = max(2, int(2 * seconds / (time.perf_counter() - start)) + 1)
    print(json.dumps({"value": count}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        made = run(number)
        print(json.dumps({"value": (time.perf_counter() - start) / made}), flush=True)


Run = Callable[[int], int]
"""Makes at least so many steps, waits for the last and says how many it made."""


def _genjax(what: str) -> tuple[Run, int]:
    sys.path.insert(0, str(REPO / "scripts"))
    import bench  # type: ignore[import-not-found]
    import jax
    import numpy as np

    from genjax import Run
    from genjax import config as configs

    config = configs.load_config(f"experiments/benchmarks.py:{what}")
    folder = tempfile.TemporaryDirectory()
    bench._fill_in_data(config, pathlib.Path(folder.name))
    configs.divide_cpu(config)
    experiment = configs.build(config, mode="plan")
    going = Run(experiment, folder.name, quiet=True)
    most = experiment.train.steps_per_call
    steps = going.training_steps()
    state = going.init_state()
    steps.start(0, 10**9)

    def run(number: int) -> int:
        nonlocal state, folder
        calls = -(-number // most)
        for _ in range(calls):
            state, metrics = steps(state, steps.take(most))
        jax.block_until_ready((state, metrics))
        return calls * most

    shapes = jax.tree.leaves(experiment.state_shapes.params)
    return run, int(sum(np.prod(leaf.shape) for leaf in shapes))


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


def _torch_gan(size: int, *, penalty: bool) -> tuple[Run, int]:
    """A DCGAN, of which one forward pass of the generator serves both players, or a WGAN-GP."""
    import torch
    from torch import nn

    width, channels = 64, 3
    doublings = {32: 3, 64: 4}[size]
    up: list[Any] = [nn.Linear(100, 16 * (width << (doublings - 1))),
                     nn.Unflatten(1, (width << (doublings - 1), 4, 4))]  # fmt: skip
    down: list[Any] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i in range(doublings - 1):
        wide = width << (doublings - 1 - i)
        up += [nn.ConvTranspose2d(wide, wide // 2, 4, 2, 1), nn.BatchNorm2d(wide // 2), nn.ReLU()]
        narrow = width << i
        down += [nn.Conv2d(narrow, 2 * narrow, 4, 2, 1)]
        down += [] if penalty else [nn.BatchNorm2d(2 * narrow)]
        down += [nn.LeakyReLU(0.2)]
    up += [nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()]
    down += [nn.Flatten(), nn.Linear(16 * (width << (doublings - 1)), 1)]
    generator, critic = nn.Sequential(*up), nn.Sequential(*down)
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (critic, generator)]
    cross_entropy = nn.BCEWithLogitsLoss()
    real = torch.randn(64, channels, size, size)
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)

    def dcgan_step() -> None:
        fake = generator(torch.randn(64, 100))
        adams[0].zero_grad()
        cross_entropy(critic(real), ones).backward()
        cross_entropy(critic(fake.detach()), zeros).backward()
        adams[0].step()
        adams[1].zero_grad()
        cross_entropy(critic(fake), ones).backward()
        adams[1].step()

    def wgan_gp_step() -> None:
        with torch.no_grad():
            fake = generator(torch.randn(64, 100))
        weight = torch.rand(64, 1, 1, 1)
        between = (weight * real + (1 - weight) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        norm = slope.flatten(1).norm(dim=1)
        adams[0].zero_grad()
        loss = critic(fake).mean() - critic(real).mean() + 10 * ((norm - 1) ** 2).mean()
        loss.backward()
        adams[0].step()
        adams[1].zero_grad()
        (-critic(generator(torch.randn(64, 100))).mean()).backward()
        adams[1].step()

    def run(number: int) -> int:
        for _ in range(number):
            wgan_gp_step() if penalty else dcgan_step()
        return number

    return run, _count(generator) + _count(critic)


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _torch_vdm(size: int) -> tuple[Run, int]:
    """The network of ``vdm28`` and ``vdm32``, the error of the noise, AdamW and an average."""
    import torch
    from torch import nn
    from torch.nn import functional

    channels, image = 32, {28: 1, 32: 3}[size]

    class Block(nn.Module):
        def __init__(self, inputs: int):
            super().__init__()
            self.norms = nn.ModuleList([nn.GroupNorm(32, inputs), nn.GroupNorm(32, channels)])
            self.first = nn.Conv2d(inputs, channels, 3, padding=1)
            self.second = nn.Conv2d(channels, channels, 3, padding=1)
            self.condition = nn.Linear(4 * channels, channels, bias=False)
            self.shortcut = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)

        def forward(self, x: Any, condition: Any) -> Any:
            h = self.first(functional.silu(self.norms[0](x)))
            h = h + self.condition(condition)[:, :, None, None]
            h = functional.dropout(functional.silu(self.norms[1](h)), 0.1)
            return self.shortcut(x) + self.second(h)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            wide = 4 * channels
            self.embed = nn.Sequential(
                nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU()
            )
            self.first = nn.Conv2d(5 * image, channels, 3, padding=1)
            self.down = nn.ModuleList([Block(channels) for _ in range(4)])
            self.middle = nn.ModuleList([Block(channels) for _ in range(2)])
            self.norm = nn.GroupNorm(32, channels)
            self.query_key_value = nn.Linear(channels, 3 * channels)
            self.out = nn.Linear(channels, channels)
            self.up = nn.ModuleList([Block(2 * channels) for _ in range(5)])
            self.last = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(),
                                      nn.Conv2d(channels, image, 3, padding=1))  # fmt: skip

        def forward(self, z: Any, time: Any) -> Any:
            rates = torch.exp(torch.linspace(0, -9.2, channels // 2))
            angles = 1000 * time[:, None] * rates
            condition = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
            waves = [f(2**k * 3.14159265 * z) for k in (6, 7) for f in (torch.sin, torch.cos)]
            h = self.first(torch.cat([z, *waves], 1))
            skips = [h]
            for block in self.down:
                h = block(h, condition)
                skips.append(h)
            h = self.middle[0](h, condition)
            tokens = self.norm(h).flatten(2).transpose(1, 2)
            parts = self.query_key_value(tokens)[:, None].chunk(3, -1)
            mixed = self.out(functional.scaled_dot_product_attention(*parts)[:, 0])
            h = self.middle[1](h + mixed.transpose(1, 2).reshape(h.shape), condition)
            for block in self.up:
                h = block(torch.cat([h, skips.pop()], 1), condition)
            return z + self.last(h)

    net, average = Net(), Net()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-4)
    x = torch.randn(32, image, size, size)

    def run(number: int) -> int:
        for _ in range(number):
            time, noise = torch.rand(32), torch.randn_like(x)
            share = torch.sigmoid(18.3 * time - 13.3)[:, None, None, None]
            z = (1 - share).sqrt() * x + share.sqrt() * noise
            optimizer.zero_grad()
            ((net(z, time) - noise) ** 2).sum((1, 2, 3)).mean().backward()
            optimizer.step()
            with torch.no_grad():
                for mean, new in zip(average.parameters(), net.parameters(), strict=True):
                    mean.lerp_(new, 1e-4)
        return number

    return run, _count(net)


if __name__ == "__main__":
    main()
