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

    def one(run: tuple[str, int]) -> None:
        variant, seed = run
        folder = _folder(args.workdir, variant, seed)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = folder / "outcome.json"
        if outcome.exists() and json.loads(outcome.read_text())["code"] == 0:
            return
        config = f"{args.config}:{variant}" if variant else args.config
        command = [sys.executable, str(REPO / "scripts" / "run.py"), f"--config={config}",
                   f"--workdir={folder}", f"--config.train.seed={seed}", *overrides]  # fmt: skip
        start = time.perf_counter()
        with (folder / "log.txt").open("a") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        seconds = time.perf_counter() - start
        outcome.write_text(json.dumps({"code": code, "seconds": seconds}))
        print(f"{variant or 'run'} seed {seed}: exit {code}, {seconds:.0f} s", file=sys.stderr)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, runs))

    metrics = args.metrics.split(",")
    print(f"| variant | {' | '.join(metrics)} | seconds a run |")
    print("|---" * (len(metrics) + 2) + "|")
    for variant in variants:
        folders = [_folder(args.workdir, variant, seed) for seed in range(args.seeds)]
        outcomes = [json.loads((folder / "outcome.json").read_text()) for folder in folders]
        kept = [
            (_last(folder), outcome["seconds"])
            for folder, outcome in zip(folders, outcomes, strict=True)
            if outcome["code"] == 0
        ]
        for row, _ in kept:
            missing = [name for name in metrics if f"eval/{name}" not in row]
            if missing:
                known = ", ".join(k.removeprefix("eval/") for k in row if k.startswith("eval/"))
                sys.exit(f"error: no metric {missing[0]!r} in {variant or 'run'}; valid: {known}")
        cells = [_cell([row[f"eval/{name}"] for row, _ in kept]) for name in metrics]
        cells.append(f"{statistics.mean(seconds for _, seconds in kept):.0f}" if kept else "-")
        failed = len(folders) - len(kept)
        note = f" ({failed} failed: see log.txt)" if failed else ""
        print(f"| {variant or 'run'}{note} | {' | '.join(cells)} |")


def _folder(workdir: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    return workdir / f"{variant or 'run'}_{seed}"


def _last(folder: pathlib.Path) -> dict[str, float]:
    """The last evaluation of a finished run."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if any(k.startswith("eval/") for k in row)]
    if not rows:
        sys.exit(f"error: {folder} has no evaluation: set train.eval_every")
    return rows[-1]


def _cell(values: list[float]) -> str:
    """Mean and standard deviation over runs."""
    if not values:
        return "-"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3g} ± {spread:.2g}"


if __name__ == "__main__":
    main()
