"""Density models of one data set side by side: trains each and prints bits per dimension.

    python scripts/density_table.py --workdir=/tmp/genjax/densities
    python scripts/density_table.py --workdir=/tmp/genjax/two \
        --experiments experiments/flow/digits.py experiments/vdm/digits.py

Without ``--experiments`` it is every kind of density of the embedded 8x8 digits. Each is a run of
``scripts/run.py`` in a folder of its own, so that a table that was stopped goes on where it was.
``{workdir}`` in the name of an experiment stands for ``--workdir``: a second stage names the folder
of its first so. Numbers are those at the end of training, not the best on the way; of bounds with
several draws, the tighter one. What kind of number it is stands beside it. Further arguments
(``--config.train.num_steps=100``) go to each run.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from typing import Any

REPO = pathlib.Path(__file__).resolve().parents[1]
DIGITS = (
    "experiments/flow/digits.py",
    "experiments/vae/digits.py",
    "experiments/vae/digits.py:iwae",
    "experiments/vae/digits.py:hierarchical",
    "experiments/vae/vq_digits.py",
    "experiments/autoregressive/digit_codes.py:{workdir}/vae_vq_digits",
    "experiments/autoregressive/digits.py:made",
    "experiments/autoregressive/digits.py:transformer",
    "experiments/autoregressive/digits.py:pixelcnn_plus",
    "experiments/diffusion/digits_ddpm.py",
    "experiments/diffusion/digits.py:vp",
    "experiments/diffusion/digits.py:sub_vp",
    "experiments/vdm/digits.py",
)
_BITS = ("eval/bits_per_dim_importance", "eval/bits_per_dim")
_SAID = ("density", "bound", "divergence", "solver")


def main() -> None:
    """Trains what is not trained yet, and prints the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, help="local folder, in which each run has one")
    parser.add_argument("--experiments", nargs="+", default=list(DIGITS), metavar="FILE[:VARIANT]")
    args, overrides = parser.parse_known_args()
    if "://" in args.workdir:
        sys.exit(f"error: --workdir must be a local folder, got {args.workdir}")
    strange = [word for word in overrides if not word.startswith("--config.")]
    if strange:
        sys.exit(f"error: unknown argument {strange[0]}; keys of configs are --config.KEY=VALUE")
    workdir = pathlib.Path(args.workdir).resolve()
    experiments = [name.replace("{workdir}", str(workdir)) for name in args.experiments]
    # All are asked for before the first is trained, but for second stages, whose first is not yet.
    for name in experiments:
        if (
            not (REPO / name.partition(":")[0]).exists()
            and not pathlib.Path(name.partition(":")[0]).exists()
        ):
            sys.exit(f"error: there is no experiment {name.partition(':')[0]}")
    lines = []
    for name in experiments:
        lines.append(_line(name, workdir, overrides))
        print(f"{name}: {lines[-1][1]} bits/dim", file=sys.stderr)
    print("| experiment | bits/dim | what the number is | parameters | seconds |")
    print("|---|---|---|---|---|")
    for line in sorted(lines, key=lambda line: float(line[1].split()[0])):
        print(f"| {' | '.join(line)} |")


def folder_of(experiment: str, workdir: pathlib.Path) -> pathlib.Path:
    """Where the run of an experiment is: its folder, file and variant, but no path of a stage."""
    file, _, variant = experiment.partition(":")
    place = pathlib.Path(file)
    words = [place.parent.name, place.stem]
    if variant:
        # Of a path its hash: two second stages of different first ones are two runs.
        words.append(f"{zlib.crc32(variant.encode()):08x}" if "/" in variant else variant)
    return workdir / re.sub(r"\W+", "_", "_".join(words))


def _line(experiment: str, workdir: pathlib.Path, overrides: Sequence[str]) -> list[str]:
    """A line of the table: trained if it is not, and read."""
    folder = folder_of(experiment, workdir)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "seconds.json"
    if not done.exists():
        command = [sys.executable, str(REPO / "scripts" / "run.py"), f"--config={experiment}",
                   f"--workdir={folder}", *overrides]  # fmt: skip
        start = time.perf_counter()
        with (folder / "log.txt").open("a") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=REPO)
        if code.returncode:
            last = (folder / "log.txt").read_text().strip().splitlines()[-1:]
            sys.exit(f"error: {experiment} ended with {code.returncode}: {' '.join(last)}")
        done.write_text(json.dumps(time.perf_counter() - start))
    row = _last(folder)
    name = next((name for name in _BITS if name in row), None)
    if name is None:
        sys.exit(f"error: {experiment} has no bits per dimension: it is no density, or of reals")
    said = [str(row[f"eval/{word}"]) for word in _SAID if f"eval/{word}" in row]
    seconds = json.loads(done.read_text())
    bits = f"{row[name]:.3f} ± {row[f'{name}_stderr']:.3f}"
    return [f"`{_short(experiment)}`", bits, "; ".join(said), _parameters(folder), f"{seconds:.0f}"]


def _short(experiment: str) -> str:
    file, _, variant = experiment.partition(":")
    return f"{file}:{variant}" if variant and "/" not in variant else file


def _last(folder: pathlib.Path) -> dict[str, Any]:
    from genjax.training.logs import read_metrics

    rows = [row for row in read_metrics(folder) if "eval/num_examples" in row]
    if not rows:
        sys.exit(f"error: {folder} has no evaluation: set train.eval_every")
    return dict(rows[-1])


def _parameters(folder: pathlib.Path) -> str:
    """Number of parameters, as the run's log says."""
    found = re.findall(r"total[^\d\n]*([\d,]+)", (folder / "log.txt").read_text())
    return found[-1] if found else "-"


if __name__ == "__main__":
    main()
