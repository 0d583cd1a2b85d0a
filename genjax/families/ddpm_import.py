"""Reads parameters of diffusers' ``UNet2DModel`` as released for DDPM into genjax's U-Net."""

import math
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from genjax.families.minimizing import Params

_TOP = {
    "conv_in": "conv_in",
    "time_embedding.linear_1": "condition.dense_0",
    "time_embedding.linear_2": "condition.dense_1",
    "mid_block.resnets.0": "mid_0.residual",
    "mid_block.attentions.0": "mid_0.attention",
    "mid_block.resnets.1": "mid_1.residual",
    "conv_norm_out": "norm_out",
    "conv_out": "conv_out",
}
_RESIDUAL = {
    "norm1": "norm_0",
    "conv1": "conv_0",
    "time_emb_proj": "add",
    "norm2": "norm_1",
    "conv2": "conv_1",
    "conv_shortcut": "shortcut",
}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out.0": "out",
    # As files written by early versions have them.
    "query": "query",
    "key": "key",
    "value": "value",
    "proj_attn": "out",
}
_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(?:(resnets|attentions)\.(\d+)\.(.+)|(down|up)samplers\.0\.conv)"
)


def import_diffusers_ddpm(tensors: Mapping[str, Any]) -> Params:
    """Maps the weights of a ``UNet2DModel`` onto :class:`~genjax.nets.UNet`.

    The network is that of ``google/ddpm-cifar10-32`` and its like, of any size: residual blocks to
    which the time is added (``conditioning="add"``), attention with one head, resolutions that
    strided convolutions halve. Its times are the whole numbers 0 to 999. The families here tell a
    network the time ``k / 1000`` of step ``k`` from 1 to 1,000, so that the first layer after the
    embedding of the time is turned by one step, which is exact.

    Args:
        tensors: The state dictionary, names to arrays, as of its ``.safetensors`` file.

    Returns:
        ``{"net": ...}``, the parameters of :func:`~genjax.families.ddpm` with a chain of 1,000
        steps.

    Raises:
        ValueError: If there are tensors that such a network has not. Whether it has all that a
            given network needs shows when the two are compared.

    References:
        Names and order of the layers: diffusers 0.42, ``UNet2DModel``; the time embedding with
        ``freq_shift=1`` and ``flip_sin_to_cos=False``.
    """
    levels = 1 + max(
        (int(found[2]) for found in map(_BLOCK.match, tensors) if found), default=-1
    )  # fmt: skip
    if not levels:
        raise ValueError("there is no tensor down_blocks.0.resnets.0.conv1.weight")
    flat: dict[tuple[str, ...], np.ndarray] = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        path = _renamed(module, levels)
        if path is None or leaf not in ("weight", "bias"):
            raise ValueError(f"{name} is not part of the U-Net of a DDPM")
        flat[(*path.split("."), leaf)] = np.asarray(value, np.float32)
    tree: dict[str, Any] = flax.traverse_util.unflatten_dict(
        {(*path[:-1], _leaf(path)): _layout(path, value) for path, value in flat.items()}
    )
    for block in tree.values():
        if "attention" in block:
            block["attention"] = _joined(block["attention"])
    try:
        first = tree["condition"]["dense_0"]
    except KeyError:
        raise ValueError("there is no tensor time_embedding.linear_1.weight") from None
    first["kernel"] = _one_step_later(first["kernel"])
    return {"net": _to_jax(tree)}


def _renamed(module: str, levels: int) -> str | None:
    """The path here of a module there; None if there is none."""
    for theirs, ours in _TOP.items():
        if module == theirs:
            return ours
        if module.startswith(f"{theirs}.") and theirs.startswith("mid_block"):
            return _inside(ours, module.removeprefix(f"{theirs}."))
    found = _BLOCK.fullmatch(module)
    if not found:
        return None
    way, number, kind, index, inner, sampler = found.groups()
    # Theirs are counted in order of execution, ours by resolution from the full one.
    level = int(number) if way == "down" else levels - 1 - int(number)
    if sampler:
        return f"{way}sample_{level}" if sampler == way else None
    part = "residual" if kind == "resnets" else "attention"
    return _inside(f"{way}_{level}_{index}.{part}", inner)


def _inside(path: str, inner: str) -> str | None:
    names = _ATTENTION if path.endswith("attention") else _RESIDUAL
    return f"{path}.{names[inner]}" if inner in names else None


def _leaf(path: tuple[str, ...]) -> str:
    if path[-1] == "bias":
        return "bias"
    return "scale" if "norm" in path[-2] else "kernel"


def _layout(path: tuple[str, ...], value: np.ndarray) -> np.ndarray:
    """Channels last, outputs last; attention's 1x1 convolutions are matrices."""
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        return value[0, 0] if "attention" in path else value
    return value.T if value.ndim == 2 else value


def _joined(attention: dict[str, Any]) -> dict[str, Any]:
    """Query, key and value are one matrix product here."""
    parts = [attention.pop(name) for name in ("query", "key", "value") if name in attention]
    if len(parts) != 3:
        raise ValueError("an attention lacks its query, key or value")
    joined = {leaf: np.concatenate([p[leaf] for p in parts], axis=-1) for leaf in parts[0]}
    return {**attention, "query_key_value": joined}


def _one_step_later(kernel: np.ndarray) -> np.ndarray:
    """The weights that make of the features of position ``k`` what these make of ``k - 1``."""
    half = len(kernel) // 2
    # Sines and cosines of k - 1 are those of k, turned by each frequency.
    frequencies = np.exp(np.arange(half) * (-math.log(10_000.0) / (half - 1)))[:, None]
    cos, sin = np.cos(frequencies), np.sin(frequencies)
    of_sines, of_cosines = kernel[:half].astype(np.float64), kernel[half:].astype(np.float64)
    turned = [of_sines * cos + of_cosines * sin, of_cosines * cos - of_sines * sin]
    return np.concatenate(turned).astype(np.float32)


def _to_jax(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _to_jax(value) for name, value in tree.items()}
    return jnp.asarray(tree)
