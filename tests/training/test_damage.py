"""Damage to any file of a workdir: the run goes on right, or is refused in one line.

``python tests/training/test_damage.py`` damages every file in every way and counts what comes of
it; the test does so with a sample.
"""

import collections
import hashlib
import json
import pathlib
import random
import shutil
import signal
import sys
import tempfile

import jax
import numpy as np
import pytest

import genjax
from genjax.config import ConfigError
from genjax.training.checkpoints import CheckpointError, SaveError
from genjax.training.workdir import WorkdirError

REFUSALS = (CheckpointError, ConfigError, SaveError, WorkdirError)
PERIODS = dict(
    num_steps=8, log_every=3, eval_every=4, sample_every=0, checkpoint_every=2, keep_checkpoints=2
)
POINTS = dict(name="ring", batch_size=16)
CONFIGS = {
    "vdm": dict(
        data=POINTS,
        model=dict(name="score_mlp", hidden_size=8, num_layers=1),
        family=dict(name="vdm", schedule=dict(name="fixed_linear")),
        optimizer=dict(name="adamw"),
        train=dict(**PERIODS),
        eval=dict(batch_size=5000),
        sample=dict(num_samples=4, num_steps=2),
    ),
    "gan": dict(
        data=POINTS,
        model=dict(
            generator=dict(name="mlp", hidden_size=8), critic=dict(name="mlp", hidden_size=8)
        ),
        family=dict(name="gan"),
        optimizer=dict(generator=dict(name="adam"), critic=dict(name="adam")),
        train=dict(**PERIODS, best_metric="eval/w1"),
        eval=dict(metrics=("w1",), num_samples=20, num_reference=20, batch_size=20),
        sample=dict(num_samples=4),
    ),
    "flow": dict(
        data=POINTS,
        model=dict(name="coupling_flow", hidden_size=8, num_layers=1),
        family=dict(name="flow"),
        optimizer=dict(name="adam"),
        train=dict(**PERIODS),
        eval=dict(batch_size=5000),
        sample=dict(num_samples=4),
    ),
}


def flip(data, rng, other):
    if not data:
        return b"\xff"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


WAYS = {
    "flip": flip,
    "cut": lambda data, rng, other: data[: rng.randrange(len(data))] if data else b"",
    "empty": lambda data, rng, other: b"",
    "swap": lambda data, rng, other: other,
    "folder": None,
    "delete": None,
}


class Hang(Exception):
    pass


def state_of(run):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)]


def rows_of(workdir):
    lines = (workdir / "metrics.jsonl").read_bytes().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "per_second" not in k} for line in lines]


def content_of(workdir):
    return {
        str(path.relative_to(workdir)): hashlib.sha1(path.read_bytes()).hexdigest()
        for path in sorted(workdir.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def damage(workdir, name, way, rng):
    path = workdir / name
    files = sorted(p for p in workdir.rglob("*") if p.is_file() and p != path)
    # The same file of another checkpoint is the likeliest to be taken for this one.
    others = [p for p in files if p.name == path.name] or files
    data, other = path.read_bytes(), rng.choice(others).read_bytes()
    if WAYS[way] is not None:
        path.write_bytes(WAYS[way](data, rng, other))
        return
    path.unlink()
    if way == "folder":
        path.mkdir()


class Resuming:
    """Runs of one experiment, compiled once."""

    def __init__(self, name, num_steps=8):
        self._experiment = genjax.build(CONFIGS[name], {"train.num_steps": num_steps})
        self._shared = None

    def run(self, workdir):
        run = genjax.Run(self._experiment, workdir, quiet=True)
        if self._shared is None:
            self._shared = run.training_steps(), run._evaluator
        steps, run._evaluator = self._shared
        run.training_steps = lambda: steps
        run.train()
        return run


def outcome(resuming, workdir, name, reference, seconds=60):
    """What comes of going on in a damaged workdir, and why."""

    def ring(number, frame):
        raise Hang

    before = content_of(workdir)
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        run = resuming.run(workdir)
    except Hang:
        return "hang", ""
    except REFUSALS as error:
        one_line = len(str(error).splitlines()) == 1
        whole = content_of(workdir) == before
        kind = "refused" if one_line and whole else "refused, not in one line or not untouched"
        return kind, str(error)
    except BaseException as error:  # noqa: BLE001 - all that a user would see as a traceback
        return "traceback", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    state, rows = reference
    if any(not np.array_equal(x, y) for x, y in zip(state_of(run), state, strict=True)):
        return "silently different", "state"
    try:
        same = rows_of(workdir) == rows
    except ValueError as error:
        return "silently different", f"log cannot be read: {error}"
    if not same and name == "metrics.jsonl":
        # It has no checksums: lines that are gone cannot be made again, and a number is a number.
        return "resumed with a damaged log", ""
    if not same:
        return "silently different", "log"
    return "resumed", ""


def trained(name, folder):
    """A workdir of 4 steps, what goes on with it, and what comes of it where nothing is damaged."""
    Resuming(name, 4).run(folder / "parts")
    shutil.copytree(folder / "parts", folder / "whole")
    resuming = Resuming(name)
    whole = resuming.run(folder / "whole")
    return folder / "parts", resuming, (state_of(whole), rows_of(folder / "whole"))


def cases(workdir):
    return [(name, way) for name in content_of(workdir) for way in WAYS]


def count(name, folder, chosen, seed=0):
    """Counts outcomes of the chosen cases; gives those that are none of the good ones, too."""
    workdir, resuming, reference = trained(name, folder)
    counts, bad = collections.Counter(), []
    for file, way in chosen(cases(workdir)):
        hurt = folder / "hurt"
        shutil.rmtree(hurt, ignore_errors=True)
        shutil.copytree(workdir, hurt)
        damage(hurt, file, way, random.Random(f"{seed} {file.split('/')[-1]} {way}"))
        kind, why = outcome(resuming, hurt, file, reference)
        counts[kind] += 1
        if not kind.startswith(("resumed", "refused")) or "not" in kind:
            bad.append(f"{way} {file}: {kind}: {why[:300]}")
    return counts, bad


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_damage_to_any_file_is_survived_or_refused_in_one_line(tmp_path, name):
    rng = random.Random(name)
    counts, bad = count(name, tmp_path, lambda every: rng.sample(every, 25))
    assert not bad, "\n".join(bad)
    assert counts["resumed"] > 12


if __name__ == "__main__":
    for seed in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
        for name in sys.argv[1].split(",") if len(sys.argv) > 1 else CONFIGS:
            with tempfile.TemporaryDirectory() as folder:
                found, bad = count(name, pathlib.Path(folder), lambda every: every, seed)
            print(name, dict(found), *bad, sep="\n  ", flush=True)
