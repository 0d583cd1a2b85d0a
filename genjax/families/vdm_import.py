"""Reads parameters of the official VDM release (google-research/vdm) into genjax's modules."""

from collections.abc import Mapping
from typing import Any, Literal

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from genjax.families.minimizing import Params

_RESIDUAL = {
    "GroupNorm_0": "norm_0",
    "conv1": "conv_0",
    "cond_proj": "condition",
    "GroupNorm_1": "norm_1",
    "conv2": "conv_1",
    "nin_shortcut": "shortcut",
}
_ATTENTION = {
    "GroupNorm_0": "norm",
    "q": "query",
    "k": "key",
    "v": "value",
    "proj_out": "out",
}
_TOP = {
    "dense0": ("condition_0",),
    "dense1": ("condition_1",),
    "conv_in": ("conv_in",),
    "GroupNorm_0": ("norm_out",),
    "conv_out": ("conv_out",),
    # Its middle counts from one, and its attention follows the first of the two blocks.
    "mid.block_1": ("mid_0", "residual"),
    "mid.attn_1": ("mid_0", "attention"),
    "mid.block_2": ("mid_1", "residual"),
}


def import_official_vdm(
    params: Mapping[str, Any],
    *,
    context_size: int = 0,
    scan_layers: bool = False,
) -> Params:
    """Maps a parameter tree of google-research/vdm onto :class:`~genjax.nets.ScoreResNet`.

    The kind of schedule is read off the tree: no ``gamma`` entry is ``fixed``, ``w`` and ``b`` are
    ``learnable_scalar``, ``l1`` to ``l3`` are ``learnable_nnet``. The last, which the official code
    does not normalise to its endpoints, is exactly a
    :class:`~genjax.diffusion.LearnedMonotoneSchedule` whose endpoints are its values at 0 and 1.

    Args:
        params: The official tree, as nested mappings (``params`` or ``ema_params`` of its
            checkpoints): ``score_model`` and, unless the schedule is fixed, ``gamma``.
        context_size: As in the ``ScoreResNet`` to fill: 1 keeps the weight of the official
            ``conditioning`` input, 0 drops it, which is exact where that input is 0, as it is in
            the official evaluation.
        scan_layers: As in the ``ScoreResNet`` to fill.

    Returns:
        ``{"score_net": ..., "schedule": ...}``. A ``FixedLinearSchedule`` has no parameters.

    Raises:
        ValueError: If the tree has entries that are not the official model's, or no score network.
            Whether it has all that a given network needs shows when the two are compared.

    References:
        google-research/vdm at commit dc27b98, model_vdm.py.
    """
    if context_size not in (0, 1):
        raise ValueError(f"context_size must be 0 or 1, got {context_size}")
    if "score_model" not in params:
        raise ValueError(f"expected an entry score_model, got {sorted(params)}")
    flat = flax.traverse_util.flatten_dict(_plain(params["score_model"]))
    renamed = {_rename(path): jnp.asarray(leaf) for path, leaf in flat.items()}
    kernel = ("condition_0", "kernel")
    if kernel not in renamed:
        raise ValueError("the tree has no score_model/dense0/kernel")
    if not context_size:
        renamed[kernel] = renamed[kernel][:-1]
    score_net = flax.traverse_util.unflatten_dict(renamed)
    if scan_layers:
        score_net = _stack(_stack(score_net, "down"), "up")
    return {"score_net": score_net, "schedule": _schedule(_plain(params.get("gamma", {})))}


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    return tree


def _rename(path: tuple[str, ...]) -> tuple[str, ...]:
    module, *inner, leaf = path
    if module in _TOP:
        prefix = _TOP[module]
    else:
        stage, _, rest = module.partition(".")
        kind, _, index = rest.rpartition("_")
        names = {"block": "residual", "attn": "attention"}
        if stage not in ("down", "up") or kind not in names or not index.isdigit():
            raise ValueError(f"score_model/{'/'.join(path)} is not part of the official model")
        prefix = (f"{stage}_{index}", names[kind])
    inside = _ATTENTION if prefix[-1] == "attention" else _RESIDUAL
    unknown = [name for name in inner if name not in inside]
    if unknown:
        raise ValueError(f"score_model/{'/'.join(path)} is not part of the official model")
    return (*prefix, *(inside[name] for name in inner), leaf)


def _stack(tree: dict[str, Any], stage: Literal["down", "up"]) -> dict[str, Any]:
    names = sorted(
        (name for name in tree if name.startswith(f"{stage}_")),
        key=lambda name: int(name.rpartition("_")[2]),
    )
    rest = {name: value for name, value in tree.items() if name not in names}
    return {**rest, stage: jax.tree.map(lambda *xs: jnp.stack(xs), *(tree[n] for n in names))}


def _schedule(gamma: Mapping[str, Any]) -> Mapping[str, Any]:
    if not gamma:
        return {}
    if set(gamma) == {"w", "b"}:
        start, rise = (jnp.asarray(gamma[k], jnp.float32).reshape(()) for k in ("b", "w"))
        return {"gamma_0": start, "gamma_1": start + jnp.abs(rise)}
    if set(gamma) == {"l1", "l2", "l3"}:

        def flat(layer: str, leaf: str) -> np.ndarray:
            return np.asarray(gamma[layer][leaf], np.float64).reshape(-1)

        linear, bias = np.abs(flat("l1", "kernel"))[0], flat("l1", "bias")[0]
        steepness, offset = np.abs(flat("l2", "kernel")), flat("l2", "bias")
        # Its features are 2 (sigmoid - 1/2), averaged with the weights of its last layer.
        height = 2.0 * np.abs(flat("l3", "kernel"))

        def value(t: float) -> float:
            features = 1.0 / (1.0 + np.exp(-(steepness * (2.0 * t - 1.0) + offset)))
            return float(bias + linear * t + np.mean(height * (features - 0.5)))

        float32 = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
        return {
            "gamma_0": float32(value(0.0)),
            "gamma_1": float32(value(1.0)),
            "shape": {
                "linear": float32(linear),
                "steepness": float32(steepness),
                "offset": float32(offset),
                "height": float32(height),
            },
        }
    raise ValueError(f"expected a schedule of w, b or of l1, l2, l3, got {sorted(gamma)}")
