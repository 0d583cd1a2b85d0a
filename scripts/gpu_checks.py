"""Numbers of scripts/gpu_report.py: genjax's layers and losses on this device against NumPy.

Each check computes its reference in float64 with NumPy from the definition, not with jax. Errors
are the largest difference over the largest entry of the reference, under products of the highest
precision (float32 throughout), of the default one (TF32 on recent GPUs), and with bfloat16 inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LIMITS = {"highest": 1e-5, "default": 1e-2, "bfloat16": 6e-2}
"""The largest error that passes, by precision."""

Arrays = Mapping[str, Any]
Check = tuple[str, Callable[..., Any], Callable[..., Any], tuple[np.ndarray, ...]]
"""A name, the function, its reference, and what both are given."""


def checks() -> Iterator[Check]:
    """All checks of functions with a reference."""
    yield from _convolutions()
    yield from _norms_and_attention()
    yield from _losses()


def errors(check: Check) -> dict[str, Any]:
    """Errors of one check by precision, and whether all are within their limits."""
    name, function, reference, args = check
    right = _flat(reference(*(a.astype(np.float64) for a in args)))
    found: dict[str, Any] = {"check": name}
    for kind in LIMITS:
        dtype = jnp.bfloat16 if kind == "bfloat16" else jnp.float32
        given = [jnp.asarray(a, dtype) for a in args]
        with jax.default_matmul_precision("highest" if kind == "highest" else None):
            # A function of its own: traces are kept without the precision of products.
            got = _flat(jax.jit(lambda *args: function(*args))(*given))  # noqa: B023
        found[kind] = max(_error(a, b) for a, b in zip(got, right, strict=True))
    found["passes"] = all(found[kind] <= limit for kind, limit in LIMITS.items())
    return found


def _flat(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def _error(got: np.ndarray, right: np.ndarray) -> float:
    if got.shape != right.shape or not np.all(np.isfinite(got)):
        return float("inf")
    return float(np.max(np.abs(got - right)) / max(np.max(np.abs(right)), 1e-30))


def _random(*shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    # Numbers that bfloat16 holds exactly: the reference starts from the same.
    draws = (rng.normal(size=shape).astype(jnp.bfloat16) for shape in shapes)
    return tuple(np.asarray(draw, np.float32) for draw in draws)


def _windows(x: np.ndarray, taps: tuple[int, int], stride: int) -> np.ndarray:
    """``[B, H, W, C]`` to ``[B, H2, W2, C, *taps]``."""
    view = np.lib.stride_tricks.sliding_window_view(x, taps, axis=(1, 2))
    return view[:, ::stride, ::stride]


def _conv(x: np.ndarray, w: np.ndarray, *, stride: int, pad: tuple[int, int]) -> np.ndarray:
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    return np.einsum("bhwcij,ijco->bhwo", _windows(x, w.shape[:2], stride), w)


def _conv_grads(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, *, stride: int, pad: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``sum(conv(x, w) * g)``, from the definition."""
    padded = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    dw = np.einsum("bhwcij,bhwo->ijco", _windows(padded, w.shape[:2], stride), g)
    dx = np.zeros_like(padded)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            rows = slice(i, i + stride * (g.shape[1] - 1) + 1, stride)
            columns = slice(j, j + stride * (g.shape[2] - 1) + 1, stride)
            dx[:, rows, columns] += np.einsum("bhwo,co->bhwc", g, w[i, j])
    stop = pad[0] + x.shape[1]
    return dx[:, pad[0] : stop, pad[0] : stop], dw


def _convolutions() -> Iterator[Check]:
    from genjax.nets.convolution import conv, conv_transpose

    for taps, stride, size, in_loop in ((3, 1, 9, False), (4, 2, 8, False), (3, 1, 8, True)):
        out = (size + 2 - taps) // stride + 1
        args = _random((2, size, size, 5), (taps, taps, 5, 6), (2, out, out, 6))

        def ours(
            x: Any, w: Any, g: Any, stride: int = stride, in_loop: bool = in_loop
        ) -> tuple[Any, ...]:
            def layer(x: Any, w: Any) -> Any:
                return conv(x, w, (stride, stride), [(1, 1), (1, 1)], in_loop=in_loop)

            y, back = jax.vjp(layer, x, w)
            return (y, *back(g))

        def right(x: Any, w: Any, g: Any, stride: int = stride) -> tuple[Any, ...]:
            y = _conv(x, w, stride=stride, pad=(1, 1))
            return (y, *_conv_grads(x, w, g, stride=stride, pad=(1, 1)))

        where = " in a loop" if in_loop else ""
        yield f"conv {taps}x{taps} stride {stride}{where}, both gradients", ours, right, args

        def twice(x: Any, w: Any, g: Any, stride: int = stride) -> Any:
            # A gradient of a gradient, as a penalty on slopes takes it: of ||dx||^2 / 2 in w.
            def slope(w: Any) -> Any:
                y, back = jax.vjp(lambda x: conv(x, w, (stride, stride), [(1, 1), (1, 1)]), x)
                return jnp.sum(jnp.square(back(g)[0]).astype(jnp.float32)) / 2

            return jax.grad(slope)(w)

        def right_twice(x: Any, w: Any, g: Any, stride: int = stride) -> Any:
            dx, _ = _conv_grads(x, w, g, stride=stride, pad=(1, 1))
            return _conv_grads(dx, w, g, stride=stride, pad=(1, 1))[1]

        if not in_loop:
            yield (
                f"conv {taps}x{taps} stride {stride}, gradient of a slope",
                twice,
                right_twice,
                args,
            )

    # The input gradient of a convolution with the mirrored kernel and 3 - 2 = 1 of padding.
    args = _random((2, 4, 4, 6), (4, 4, 6, 5), (2, 8, 8, 5))

    def up(x: Any, w: Any, g: Any) -> tuple[Any, ...]:
        y, back = jax.vjp(lambda x, w: conv_transpose(x, w, (2, 2), "SAME"), x, w)
        return (y, *back(g))

    def right_up(x: Any, w: Any, g: Any) -> tuple[Any, ...]:
        flipped = w[::-1, ::-1].swapaxes(-1, -2)  # [4, 4, O, I] of the convolution y -> x
        y, _ = _conv_grads(np.zeros_like(g), flipped, x, stride=2, pad=(1, 1))
        dx = _conv(g, flipped, stride=2, pad=(1, 1))
        _, dw = _conv_grads(g, flipped, x, stride=2, pad=(1, 1))
        return y, dx, dw.swapaxes(-1, -2)[::-1, ::-1]

    yield "transposed conv 4x4 stride 2, both gradients", up, right_up, args


def _norms_and_attention() -> Iterator[Check]:
    from genjax.nets.attention import attention
    from genjax.nets.normalization import group_norm

    def norm(x: Any, scale: Any, bias: Any) -> Any:
        return group_norm(x, scale.astype(jnp.float32), bias.astype(jnp.float32), num_groups=4)

    def right_norm(x: Any, scale: Any, bias: Any) -> Any:
        parts = x.reshape(*x.shape[:-1], 4, -1)
        mean = parts.mean((1, 2, 4), keepdims=True)
        variance = parts.var((1, 2, 4), keepdims=True)
        return ((parts - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * scale + bias

    yield "group norm", norm, right_norm, _random((3, 5, 5, 16), (16,), (16,))

    for causal in (False, True):

        def attend(q: Any, k: Any, v: Any, causal: bool = causal) -> Any:
            return attention(q, k, v, causal=causal)

        def right(q: Any, k: Any, v: Any, causal: bool = causal) -> Any:
            scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
            if causal:
                scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            return np.einsum("bhts,bshd->bthd", weights, v)

        name = "attention, causal" if causal else "attention"
        yield name, attend, right, _random(*[(2, 16, 2, 8)] * 3)


def _losses() -> Iterator[Check]:
    from genjax import losses

    def softplus(x: Any) -> Any:
        return np.logaddexp(0, x)

    pair = _random((64,), (64,))
    yield (
        "logistic and hinge losses of critics",
        lambda a, b: (losses.logistic_critic_loss(a, b), losses.hinge_critic_loss(a, b)),
        lambda a, b: (softplus(-a) + softplus(b), np.maximum(0, 1 - a) + np.maximum(0, 1 + b)),
        pair,
    )
    yield (
        "saturating and other losses of generators",
        lambda a, b: (losses.nonsaturating_generator_loss(a), losses.minimax_generator_loss(b)),
        lambda a, b: (softplus(-a), -softplus(b)),
        pair,
    )

    def penalty(real: Any, fake: Any, w: Any) -> Any:
        def critic(x: Any) -> Any:
            return jnp.tanh(x @ w[0]) @ w[1][:, 0]

        return losses.gradient_penalty(critic, real, fake, jnp.full(len(real), 0.25, real.dtype))

    def right_penalty(real: Any, fake: Any, w: Any) -> Any:
        x = 0.25 * real + 0.75 * fake
        slope = ((1 - np.tanh(x @ w[0]) ** 2) * w[1][:, 0]) @ w[0].T
        return (np.sqrt((slope**2).sum(-1)) - 1) ** 2

    yield "gradient penalty", penalty, right_penalty, _random((8, 6), (8, 6), (2, 6, 6))
    yield (
        "prior loss of diffusion",
        lambda x, gamma: losses.prior_loss(x, jnp.abs(gamma) + 3),
        lambda x, gamma: _prior(x, np.abs(gamma) + 3),
        _random((4, 6), (4,)),
    )


def _prior(x: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """KL of N(sqrt(1 - v) x, v) from N(0, 1), v = sigmoid(gamma)."""
    variance = 1 / (1 + np.exp(-gamma))
    mean2 = (1 - variance)[:, None] * x**2
    return 0.5 * (mean2 + (variance - 1 - np.log(variance))[:, None]).sum(-1)


def policies() -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Names of networks, functions that make one of a precision, and inputs."""
    from genjax.nets.dcgan import DCGANCritic, DCGANGenerator
    from genjax.nets.gan_resnet import ResNetCritic, ResNetGenerator
    from genjax.nets.score_resnet import ScoreResNet

    image, latent = _random((4, 16, 16, 3), (4, 8))
    shape = (16, 16, 3)
    nets: list[tuple[str, Any, tuple[Any, ...]]] = [
        (f"score_resnet, scan_layers={scan}, remat={remat}",
         lambda dtype, scan=scan, remat=remat: ScoreResNet(
             channels=16, num_layers=2, num_groups=4, scan_layers=scan, remat=remat, dtype=dtype),
         (image, np.linspace(-10, 4, 4, dtype=np.float32)))
        for scan, remat in ((False, "none"), (True, "none"), (True, "dots"), (True, "full"))
    ]  # fmt: skip
    nets += [
        ("dcgan generator", lambda dtype: DCGANGenerator(shape, 32, dtype=dtype), (latent,)),
        ("dcgan critic", lambda dtype: DCGANCritic(32, dtype=dtype), (image,)),
        ("resnet generator", lambda dtype: ResNetGenerator(shape, 16, dtype=dtype), (latent,)),
        ("resnet critic", lambda dtype: ResNetCritic(16, dtype=dtype), (image,)),
    ]
    yield from nets


def policy(name: str, make: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    """In bfloat16 parameters and outputs stay float32, and values are near those in float32."""
    variables = jax.jit(make("float32").init)(jax.random.key(0), *args)
    # Last layers start at zero: away from there all of the network counts.
    variables = jax.tree.map(
        lambda leaf: leaf + 0.02 * jax.random.normal(jax.random.key(1), leaf.shape), variables
    )

    def value_and_slopes(dtype: str) -> tuple[Any, Any]:
        def loss(params: Any) -> Any:
            out = make(dtype).apply({**variables, "params": params}, *args)
            # Linear in the output, so that slopes are not those of its rounding errors.
            return jnp.sum(out * jax.random.normal(jax.random.key(2), out.shape)), out

        (_, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        return out, grads

    (wide, wide_grads), (out, grads) = (value_and_slopes(d) for d in ("float32", "bfloat16"))
    ours, theirs = (
        np.concatenate([leaf.ravel() for leaf in _flat(tree)]) for tree in (grads, wide_grads)
    )
    kept = {str(leaf.dtype) for leaf in jax.tree.leaves((out, grads))} == {"float32"}
    error = _error(*_flat((out, wide)))
    cosine = float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
    passes = kept and error < LIMITS["bfloat16"] and cosine > 0.98
    return {"check": name, "bfloat16": error, "cosine of gradients": cosine, "passes": passes}
