"""Pipelines through the command, as a user meets them: whole processes, killed anywhere."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import flags
from absl.testing import flagsaver

from genjax import command as command_line

REPO = pathlib.Path(__file__).resolve().parents[2]
PIPELINE = """
def stage(model, steps):
    periods = dict(log_every=10, eval_every=0, sample_every=0, checkpoint_every=10)
    return dict(
        data=dict(name="digits", batch_size=16),
        model=model,
        family=dict(name="classifier", ema_decay=0.9),
        optimizer=dict(name="adamw"),
        train=dict(num_steps=steps, **periods),
    )


def get_config():
    start = dict(workdir="stage:first", what="params")
    return dict(stages=dict(first=stage(dict(name="linear"), 100),
                            second=stage(dict(start=start), 100)))
"""


def command(folder, name, *args):
    return [sys.executable, "scripts/run.py", f"--config={folder / 'both.py'}",
            f"--workdir={folder / name}", *args]  # fmt: skip


def run(folder, name, *args, code=0):
    done = subprocess.run(
        command(folder, name, *args), cwd=REPO, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def stop_when(folder, name, condition, number=signal.SIGKILL):
    """Starts the pipeline and sends it a signal once a condition holds; gives its exit code."""
    with open(folder / f"{name}.log", "a") as log:
        process = subprocess.Popen(command(folder, name), cwd=REPO, stdout=log, stderr=log)
        deadline = time.time() + 300
        while process.poll() is None and not condition():
            assert time.time() < deadline, "the pipeline did not get there"
            time.sleep(0.002)
        process.send_signal(number)
        return process.wait()


def steps(place):
    folder = place / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [int(name) for name in names if name.isdigit()]


def latest(place):
    return max(steps(place), default=0)


def finished(place):
    record = place / "pipeline.json"
    return json.loads(record.read_text())["finished"] if record.exists() else []


def arrays(place):
    folder = place / "checkpoints" / str(latest(place)) / "state"
    checkpointer = ocp.StandardCheckpointer()
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        checkpointer.metadata(folder).item_metadata.tree,
    )
    tree = checkpointer.restore(folder, target)
    return {jax.tree_util.keystr(p): np.asarray(v) for p, v in jax.tree.leaves_with_path(tree)}


def records(place):
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


@pytest.mark.slow
def test_kills_in_each_stage_and_between_them_change_nothing(tmp_path):
    (tmp_path / "both.py").write_text(PIPELINE)
    place = tmp_path / "killed"
    first, second = place / "first", place / "second"

    assert stop_when(tmp_path, "killed", lambda: latest(first) >= 20) == -signal.SIGKILL
    assert 20 <= latest(first) < 100 and not second.exists()
    assert stop_when(tmp_path, "killed", lambda: finished(place) == ["first"]) == -signal.SIGKILL
    assert latest(first) == 100 and not latest(second), "killed between the stages"
    assert stop_when(tmp_path, "killed", lambda: latest(second) >= 20) == -signal.SIGKILL
    assert 20 <= (before := latest(second)) < 100
    beyond = stop_when(tmp_path, "killed", lambda: latest(second) > before, signal.SIGTERM)
    assert beyond == 143 and before < latest(second) < 100
    assert "the same command resumes it" in (tmp_path / "killed.log").read_text()

    run(tmp_path, "killed")
    run(tmp_path, "whole")
    for name in ("first", "second"):
        own, other = (arrays(tmp_path / folder / name) for folder in ("killed", "whole"))
        assert own.keys() == other.keys() and len(own) >= 8
        jax.tree.map(np.testing.assert_array_equal, own, other)
        whole = records(tmp_path / "whole" / name)
        assert records(place / name) == whole and whole[-1]["step"] == 100
    assert run(tmp_path, "killed").stdout.count("nothing to do") == 2

    # The first stage is trained on: the second refuses, before anything is trained.
    done = run(tmp_path, "killed", "--config.stages.first.train.num_steps=110", code=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: stage 'second' has copied stage 'first' at step 100, which is to"
    )
    assert f"delete {second} to train 'second' anew, or allow_config_change" in line
    assert latest(first) == 100


@pytest.mark.slow
def test_two_processes_train_the_stages_that_one_does(tmp_path):
    (tmp_path / "both.py").write_text(PIPELINE)
    run(tmp_path, "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = [f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"]
    both = [
        subprocess.Popen(
            [*command(tmp_path, "two"), *where, f"--process_id={i}"],
            cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(said)
    assert "stage second, 2 of 2" in said[0] and "stage second" not in said[1]
    for name in ("first", "second"):
        own, other = (arrays(tmp_path / folder / name) for folder in ("two", "one"))
        assert own.keys() == other.keys()
        for key, value in own.items():
            np.testing.assert_allclose(value, other[key], rtol=1e-3, atol=1e-5, err_msg=key)
    assert finished(tmp_path / "two") == ["first", "second"]


def test_an_unknown_key_of_a_stage_gets_one_line(tmp_path):
    (tmp_path / "both.py").write_text(PIPELINE)
    (line,) = run(
        tmp_path, "new", "--config.stages.second.train.num_stpes=3", code=2
    ).stderr.splitlines()
    assert line.startswith("error: stages.second: unknown config key 'train.num_stpes'; did you me")
    assert not (tmp_path / "new").exists()


def asked(**values):
    """What the command makes of its flags."""
    with flagsaver.flagsaver(**{"mode": "sample", **values}):
        return command_line._sampling_options()


@pytest.fixture
def parsed():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@pytest.mark.usefixtures("parsed")
def test_flags_say_what_is_sampled_and_how(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red seven\n\n  a two, and a one \n")
    found = asked(prompt=["a five"], prompts=str(file), guidance=3.0, seed=7, sampler="ddim",
                  negative_prompt="blue")  # fmt: skip
    texts = ["a five", "a red seven", "a two, and a one"]
    assert found == {"prompts": texts, "guidance": 3.0, "seed": 7, "sampler": "ddim",
                     "negative_prompt": "blue"}  # fmt: skip
    assert asked() == asked(mode="train") == {}


@pytest.mark.usefixtures("parsed")
@pytest.mark.parametrize("values, message", [
    (dict(mode="train", prompt=["a red seven"]), "--prompt is for --mode=sample"),
    (dict(mode="eval", num_steps=3), "--num_steps is for --mode=sample"),
    (dict(prompts="/nowhere"), "--prompts: /nowhere cannot be read"),
    (dict(prompts="/dev/null"), "/dev/null has no line with a text"),
    (dict(seed=-1), r"--seed must be in \[0, 2\*\*32\), got -1"),
])  # fmt: skip
def test_flags_that_make_no_sense_are_refused(values, message):
    with pytest.raises(command_line.InputError, match=message):
        asked(**values)


@pytest.mark.slow
def test_each_stage_is_planned_without_a_workdir(tmp_path):
    (tmp_path / "both.py").write_text(PIPELINE)
    args = command(tmp_path, "new", "--mode=plan")
    done = subprocess.run(
        [word for word in args if "workdir" not in word], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    planned = [line for line in done.stdout.splitlines() if line.startswith("stage ")]
    assert planned == ["stage first", "stage second"] and done.stdout.count("650 parameters") == 2
