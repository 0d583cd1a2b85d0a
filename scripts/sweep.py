"""Runs an experiment for several seeds and variants, and prints a table of means and spreads.

    python scripts/sweep.py --config=experiments/gan/ring2d.py --variants=wgan_gp,hinge --seeds=5 \
        --workdir=/tmp/genjax/ring --metrics=modes_covered,mode_kl,w1 --jobs=2

A variant is what an experiment file takes after a colon. Every run is one of ``scripts/run.py`` in
a folder of its own, so that a sweep that was stopped goes on where it was. Further arguments
(``--config.train.num_steps=500``) go to each run.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys
import time

REPO = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
    """Runs the sweep and prints its table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", required=True, help="experiment file")
    parser.add_argument("--variants", default="", help="comma-separated; none for the file itself")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--metrics", required=True, help="comma-separated names under eval/")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    args, overrides = parser.parse_known_args()

    variants = args.variants.split(",")
    runs = [(variant, seed) for variant in variants for seed in range(args.seeds)]

    def one(run: tuple[str, int]) -> float:
        variant, seed = run
        folder = _folder(args.workdir, variant, seed)
        folder.mkdir(parents=True, exist_ok=True)
        config = f"{args.config}:{variant}" if variant else args.config
        command = [sys.executable, str(REPO / "scripts" / "run.py"), f"--config={config}",
                   f"--workdir={folder}", f"--config.train.seed={seed}", *overrides]  # fmt: skip
        start = time.perf_counter()
        with (folder / "log.txt").open("a") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        seconds = time.perf_counter() - start
        print(f"{variant or 'run'} seed {seed}: exit {code}, {seconds:.0f} s", file=sys.stderr)
        return seconds

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        seconds = dict(zip(runs, pool.map(one, runs), strict=True))

    metrics = args.metrics.split(",")
    print(f"| variant | {' | '.join(metrics)} | seconds a run |")
    print("|---" * (len(metrics) + 2) + "|")
    for variant in variants:
        rows = [_last(_folder(args.workdir, variant, seed)) for seed in range(args.seeds)]
        kept = [row for row in rows if row is not None]
        cells = [_cell([row[f"eval/{name}"] for row in kept]) for name in metrics]
        cells.append(f"{statistics.mean(seconds[variant, s] for s in range(args.seeds)):.0f}")
        note = "" if len(kept) == len(rows) else f" ({len(rows) - len(kept)} failed)"
        print(f"| {variant}{note} | {' | '.join(cells)} |")


def _folder(workdir: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    return workdir / f"{variant or 'run'}_{seed}"


def _last(folder: pathlib.Path) -> dict[str, float] | None:
    """The last evaluation of a run, or None if there is none."""
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return None
    rows = [row for row in map(json.loads, lines) if any(k.startswith("eval/") for k in row)]
    return rows[-1] if rows else None


def _cell(values: list[float]) -> str:
    """Mean and standard deviation over runs."""
    if not values:
        return "-"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} ± {spread:.2g}"


if __name__ == "__main__":
    main()
