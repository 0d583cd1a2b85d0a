"""What a training step needs of each device, found by compiling it without allocating anything."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.loop import lower_train_step, state_template

_COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "f16": 16}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Needs of one training step; bytes are those of one device.

    Attributes:
        mesh: Sizes of the axes of the mesh.
        num_params: Parameters of the model, over all networks.
        state_bytes: What a device holds of the state: parameters, optimiser, averages.
        batch_bytes: Its rows of the batch.
        temporary_bytes: What the compiled step allocates besides.
        peak_bytes: The sum of the three: what has to fit.
        flops: Floating point operations of one device in a step, as the compiler counts them (what
            is inside a loop once).
        collectives: For each kind of collective its number in the program and the bytes of its
            results.
    """

    mesh: Mapping[str, int]
    num_params: int
    state_bytes: int
    batch_bytes: int
    temporary_bytes: int
    peak_bytes: int
    flops: float
    collectives: Mapping[str, tuple[int, int]]


def plan(family: Family, shapes: TrainState, rows: Mapping[str, np.ndarray], mesh: Mesh) -> Plan:
    """Compiles the step of a family for a mesh and reads off what it needs.

    Args:
        family: The family.
        shapes: Shapes of its state.
        rows: A batch, of which only shapes and dtypes are looked at; without the axis of batches.
        mesh: Mesh over devices of the kind the plan is for, or over forced host devices, whose
            compiler fuses less: temporaries are then an upper estimate.

    Returns:
        The needs.
    """
    count = family.batches_per_step
    by_row = meshes.by_row(mesh, count)
    stacked = (count,) if count > 1 else ()
    batch = {
        name: jax.ShapeDtypeStruct((*stacked, *array.shape), array.dtype, sharding=by_row)
        for name, array in rows.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=meshes.replicated(mesh))
    template = state_template(shapes, mesh)
    compiled = lower_train_step(family, template, batch, key, mesh).compile()
    memory = compiled.memory_analysis()
    held = _bytes_on_a_device(template)
    rows_held = _bytes_on_a_device(batch)
    # The new state takes the place of the old one, which is donated.
    temporary = memory.temp_size_in_bytes + max(
        0, memory.output_size_in_bytes - memory.alias_size_in_bytes
    )
    costs = compiled.cost_analysis() or {}
    costs = costs[0] if isinstance(costs, list) else costs
    return Plan(
        mesh=dict(mesh.shape),
        num_params=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        state_bytes=held,
        batch_bytes=rows_held,
        temporary_bytes=temporary,
        peak_bytes=held + rows_held + temporary,
        flops=float(costs.get("flops", math.nan)),
        collectives=collectives_of(compiled.as_text()),
    )


def _bytes_on_a_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def collectives_of(hlo: str) -> dict[str, tuple[int, int]]:
    """Counts the collectives of a compiled program.

    Args:
        hlo: The program as text.

    Returns:
        For each kind its number and the bytes of its results on one device. What is inside a loop
        counts once.

    Example:
        >>> collectives_of("  %x = f32[4,2]{1,0} all-reduce(f32[4,2]{1,0} %y), to_apply=%add")
        {'all-reduce': (1, 32)}
    """
    found: dict[str, tuple[int, int]] = {}
    kinds = "|".join(_COLLECTIVES)
    for result, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", hlo):
        size = 0
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 8)
            size += bits * math.prod(int(n) for n in shape.split(",") if n) // 8
        count, total = found.get(kind, (0, 0))
        found[kind] = (count + 1, total + size)
    return dict(sorted(found.items()))
