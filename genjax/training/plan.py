"""What a training step needs of each device, found by compiling it without allocating anything."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.experiment import Experiment
from genjax.training.feeds import resident_bytes
from genjax.training.flops import matrix_bytes, matrix_flops
from genjax.training.step import lower_train_step, state_template

_COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
_COLLECTIVE = rf"= (.*?) ({'|'.join(_COLLECTIVES)})(?:-start)?\("
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
        flops: Floating point operations of one device's share of the matrix products and
            convolutions of a step.
        matrix_bytes: Bytes they read and write: about what a step moves through memory at least.
        collectives: For each kind of collective how often one is executed in a step and the bytes
            of the results on one device.
    """

    mesh: Mapping[str, int]
    num_params: int
    state_bytes: int
    batch_bytes: int
    temporary_bytes: int
    peak_bytes: int
    flops: float
    matrix_bytes: float
    collectives: Mapping[str, tuple[int, int]]


def plan(family: Family, shapes: TrainState, rows: Mapping[str, Any], mesh: Mesh) -> Plan:
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
    return Plan(
        mesh=dict(mesh.shape),
        num_params=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params)),
        state_bytes=held,
        batch_bytes=rows_held,
        temporary_bytes=temporary,
        peak_bytes=held + rows_held + temporary,
        flops=matrix_flops(family.train_step, template, batch, key) / mesh.size,
        matrix_bytes=matrix_bytes(family.train_step, template, batch, key) / mesh.size,
        collectives=collectives_of(compiled.as_text()),
    )


def plan_experiment(experiment: Experiment) -> Plan:
    """Plans a step of an experiment on the devices there are.

    Args:
        experiment: The experiment.

    Returns:
        The needs.
    """
    family, mesh = experiment.on_devices()
    return plan(family, experiment.state_shapes, experiment.batch_shapes(), mesh)


def print_plan(experiment: Experiment, needs: Plan) -> None:
    """Prints the needs of an experiment's step.

    Args:
        experiment: The experiment.
        needs: What :func:`plan_experiment` found.
    """
    mib = 2.0**20
    table = Table("of one device", "MiB", title=f"a step of {experiment.data.batch_size} examples")
    limit = experiment.data.device_limit_mib
    held = sum(resident_bytes(s.train.source, limit) for s in experiment.streams.values())
    for name in ("state", "batch", "temporary"):
        table.add_row(name, f"{getattr(needs, f'{name}_bytes') / mib:,.1f}")
    table.add_row("data set", f"{held / mib:,.1f}")
    table.add_row("peak", f"{(needs.peak_bytes + held) / mib:,.1f}")
    for name, (number, size) in needs.collectives.items():
        table.add_row(f"{number} x {name}, results", f"{size / mib:,.1f}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    axes = " x ".join(f"{name} {size}" for name, size in needs.mesh.items())
    console.print(
        f"{needs.num_params:,} parameters; mesh {axes} of {jax.devices()[0].device_kind}; "
        f"{needs.flops:.3g} FLOP of products a device and step, which read and write "
        f"{needs.matrix_bytes / 2**30:.3g} GiB; nothing was allocated"
    )


def _bytes_on_a_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def collectives_of(hlo: str) -> dict[str, tuple[int, int]]:
    """Counts the collectives that a compiled program executes.

    Args:
        hlo: The program as text.

    Returns:
        For each kind how often one is executed and the bytes of all their results on one device.
        Loops count as often as the compiler knows them to turn, else once; of a conditional the
        branch that moves least, so that what a step does now and then is left out.

    Example:
        >>> collectives_of("  %x = f32[4,2]{1,0} all-reduce(f32[4,2]{1,0} %y), to_apply=%add")
        {'all-reduce': (1, 32)}
    """
    own: dict[str, dict[str, tuple[int, int]]] = {}  # of each computation
    callees: dict[str, list[tuple[list[str], int]]] = {}  # alternatives, and how often
    name = entry = ""
    for line in hlo.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if header:
            name = header[2]
            entry = name if header[1] else entry
        found = own.setdefault(name, {})
        for result, kind in re.findall(_COLLECTIVE, line):
            count, total = found.get(kind, (0, 0))
            found[kind] = (count + 1, total + _bytes_of(result))
        turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        for key, names in re.findall(r"(\w+)=\{?(%[\w.-]+(?:, ?%[\w.-]+)*)", line):
            times = int(turns[1]) if turns and key == "body" else 1
            every = [callee.strip() for callee in names.replace("%", "").split(",")]
            branches = [every] if key == "branch_computations" else [[one] for one in every]
            callees.setdefault(name, []).extend((one, times) for one in branches)

    @functools.cache
    def executed(name: str) -> dict[str, tuple[int, int]]:
        total = dict(own.get(name, {}))
        for alternatives, times in callees.get(name, ()):
            least = min((executed(one) for one in alternatives), key=_bytes_in_all)
            for kind, (count, size) in least.items():
                before = total.get(kind, (0, 0))
                total[kind] = (before[0] + times * count, before[1] + times * size)
        return total

    return dict(sorted(executed(entry).items()))


def _bytes_in_all(collectives: Mapping[str, tuple[int, int]]) -> int:
    return sum(size for _, size in collectives.values())


def _bytes_of(shapes: str) -> int:
    size = 0
    for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
        bits = _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 8)
        size += bits * math.prod(int(n) for n in shape.split(",") if n) // 8
    return size
