"""Times genjax's convolution layers against stock Flax ones, side by side in one process.

    python scripts/bench_conv.py [--repeats=9]

Each row is one layer at one size; each figure is the median time of the layer's forward and
gradients in both input and weights. Rounds are interleaved, so that a machine whose speed drifts
slows both alike; quote the ratios.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags

from genjax.nets.convolution import Conv, ConvTranspose

REPEATS = flags.DEFINE_integer("repeats", 9, "Timed rounds a row.")


def step(layer: Any, in_scan: bool) -> Callable[..., Any]:
    """Value and gradients of a scalar of the layer's output, jitted."""

    def loss(params: Any, x: jax.Array) -> jax.Array:
        if not in_scan:
            return jnp.sum(jnp.square(layer.apply(params, x)))
        repeated = jax.tree.map(lambda p: jnp.stack([p] * 2), params)
        out, _ = jax.lax.scan(lambda h, p: (jnp.tanh(layer.apply(p, h)), None), x, repeated)
        return jnp.sum(jnp.square(out))

    return jax.jit(jax.value_and_grad(loss, (0, 1)))


def main(_: list[str]) -> None:
    """Prints one row for each case."""
    down: dict[str, Any] = dict(kernel_size=(4, 4), strides=(2, 2), padding=((1, 1), (1, 1)))
    up: dict[str, Any] = dict(kernel_size=(4, 4), strides=(2, 2), padding=((2, 2), (2, 2)))
    same: dict[str, Any] = dict(kernel_size=(3, 3))
    cases: list[tuple[str, Any, Any, dict[str, Any], tuple[int, ...], int, bool]] = [
        ("conv 3x3, 32x28x28x32", Conv, nn.Conv, same, (32, 28, 28, 32), 32, False),
        ("conv 3x3 in a scan of 2, 32x28x28x32", Conv, nn.Conv, same, (32, 28, 28, 32), 32, True),
        ("conv 4x4 /2, 64x32x32x64 -> 128", Conv, nn.Conv, down, (64, 32, 32, 64), 128, False),
        ("transposed 4x4 x2, 64x4x4x512 -> 256", ConvTranspose, nn.ConvTranspose, up,
         (64, 4, 4, 512), 256, False),
        ("transposed 4x4 x2, 64x16x16x128 -> 64", ConvTranspose, nn.ConvTranspose, up,
         (64, 16, 16, 128), 64, False),
        ("transposed 4x4 x2, 64x32x32x64 -> 3", ConvTranspose, nn.ConvTranspose, up,
         (64, 32, 32, 64), 3, False),
    ]  # fmt: skip
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, medians of {REPEATS.value}")
    print(
        f"{'layer, forward + both gradients':40s} {'genjax ms':>10s} {'flax ms':>10s} {'ratio':>7s}"
    )
    for name, ours, stock, kwargs, shape, features, in_scan in cases:
        x = jax.random.normal(jax.random.key(0), shape)
        layers = [ours(features, in_loop=in_scan, **kwargs), stock(features, **kwargs)]
        params = layers[0].init(jax.random.key(1), x)
        steps = [step(layer, in_scan) for layer in layers]
        times: list[list[float]] = [[], []]
        for round_index in range(REPEATS.value + 1):
            for function, series in zip(steps, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(function(params, x))
                if round_index:  # the first call compiles
                    series.append(1e3 * (time.perf_counter() - start))
        mine, theirs = map(statistics.median, times)
        print(f"{name:40s} {mine:10.2f} {theirs:10.2f} {theirs / mine:7.2f}", flush=True)


if __name__ == "__main__":
    app.run(main)
