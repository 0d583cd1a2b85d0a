"""The command line, as a user meets it: whole processes."""

import contextlib
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]

# A VDM small enough to train in seconds.
TINY = [
    "--config=experiments/vdm/digits.py",
    "--config.model.channels=8",
    "--config.model.num_layers=1",
    "--config.model.num_groups=4",
    "--config.data.batch_size=16",
    "--config.eval.num_times=1",
    "--config.sample.num_samples=4",
    "--config.sample.num_steps=4",
    "--config.train.log_every=2",
    "--config.train.eval_every=0",
    "--config.train.sample_every=0",
    "--config.train.checkpoint_every=3",
]
TOY = ["--config=experiments/vdm/toy2d.py"]
# The same of points, for what does not depend on the network: it starts in half the time.
POINTS = [*TOY, *TINY[-4:]]
# A GAN with all that a state can hold: two optimisers, batch statistics, spectral vectors...
GAN = [
    "--config=experiments/gan/digits.py",
    *[f"--config.model.{net}.channels=8" for net in ("generator", "critic")],
    *[f"--config.model.{net}.min_channels=8" for net in ("generator", "critic")],
    "--config.data.batch_size=16",
    "--config.eval.metrics=()",
    "--config.sample.num_samples=20",
    *TINY[-4:],
]
# A flow with rotations that no step changes, and noise of its own.
FLOW = [
    "--config=experiments/flow/mnist.py:glow",
    "--config.data.name=digits",
    "--config.model.num_steps=1",
    "--config.model.hidden_size=8",
    "--config.data.batch_size=16",
    "--config.eval.batch_size=35",
    "--config.sample.num_samples=20",
    *TINY[-4:],
]


def forced_devices(count):
    flags = os.environ.get("XLA_FLAGS", "")
    return f"{flags} --xla_force_host_platform_device_count={count}"


def command(workdir, *args, base=TINY):
    return [sys.executable, "scripts/run.py", *base, f"--workdir={workdir}", *args]


def run(workdir, *args, base=TINY, code=0):
    done = subprocess.run(
        command(workdir, *args, base=base), cwd=REPO, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def steps(workdir):
    folder = workdir / "checkpoints"
    if not folder.exists():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def arrays(workdir, step):
    import orbax.checkpoint as ocp

    folder = workdir / "checkpoints" / str(step) / "state"
    checkpointer = ocp.StandardCheckpointer()
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # wherever it was written
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        checkpointer.metadata(folder).item_metadata.tree,
    )
    tree = checkpointer.restore(folder, target)
    return {jax.tree_util.keystr(p): np.asarray(v) for p, v in jax.tree.leaves_with_path(tree)}


def assert_same_state(a, b, step):
    first, second = arrays(a, step), arrays(b, step)
    assert first.keys() == second.keys() and len(first) > 50
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def records(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Six uninterrupted steps."""
    workdir = tmp_path_factory.mktemp("trained")
    run(
        workdir,
        "--config.train.num_steps=6",
        "--config.train.eval_every=6",
        "--config.train.sample_every=6",
    )
    return workdir


def test_a_run_leaves_what_the_readme_says(trained):
    assert json.loads((trained / "config.json").read_text())["train"]["num_steps"] == 6
    rows = records(trained)
    assert [row["step"] for row in rows if "train/loss" in row] == [2, 4, 6]
    assert {"train/bits_per_dim", "train/diffusion_variance"} <= rows[0].keys()
    (scores,) = [row for row in rows if "eval/bits_per_dim" in row]
    parts = sum(scores[f"eval/{name}"] for name in ("diffusion", "prior", "reconstruction"))
    assert scores["eval/bits_per_dim"] == pytest.approx(parts, rel=1e-6)
    assert scores["eval/bits_per_dim_stderr"] > 0 and scores["eval/num_examples"] == 360
    assert scores["eval/bound"] == "continuous time"
    names = {p.name for p in (trained / "samples").iterdir()}
    stem = "step_00000006"
    pictures = {f"{stem}.png", f"{stem}_trajectory.png", f"{stem}_curves.png"}
    assert names == {f"{stem}.npz", *pictures}
    with np.load(trained / "samples" / f"{stem}.npz") as file:
        assert file["samples"].dtype == np.uint8 and file["samples"].shape == (4, 8, 8, 1)
        assert file["num_levels"] == 17 and file["samples"].max() <= 16
    assert any((trained / "tensorboard").iterdir())


def test_running_again_does_nothing_and_says_so(trained):
    before = (trained / "metrics.jsonl").read_text()
    same = ["--config.train.num_steps=6", "--config.train.eval_every=6"]
    done = run(trained, *same, "--config.train.sample_every=6")
    assert "nothing to do" in done.stdout
    assert (trained / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_eval_and_sample_read_the_newest_checkpoint(trained):
    same = ["--config.train.eval_every=6", "--config.train.sample_every=6"]
    run(trained, *same, "--mode=eval", "--config.eval.batch_size=90")
    first, second = [row for row in records(trained) if "eval/bits_per_dim" in row][-2:]
    # The same noise for each example, whatever the batch size.
    assert first["eval/bits_per_dim"] == pytest.approx(second["eval/bits_per_dim"], rel=1e-5)
    picture = trained / "samples" / "step_00000006.png"
    before = picture.read_bytes()
    run(trained, *same, "--mode=sample")
    drawn = trained / "samples" / "step_00000006_sample.png"
    assert drawn.read_bytes() == before
    run(trained, *same, "--mode=sample", "--config.sample.num_samples=12")
    with np.load(drawn.with_suffix(".npz")) as file:
        assert file["samples"].shape == (12, 8, 8, 1)
    assert picture.read_bytes() == before and drawn.read_bytes() != before


@pytest.mark.parametrize("mode", ["eval", "sample"])
def test_there_is_nothing_to_evaluate_before_training(tmp_path, mode):
    done = run(tmp_path / "new", f"--mode={mode}", base=POINTS, code=2)
    assert "no checkpoint" in done.stderr and "train first" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def kill_when(workdir, condition, *args, base=TINY):
    """Starts a run, kills it without notice once ``condition`` holds; says whether it was alive."""
    log = open(workdir.parent / f"{workdir.name}.log", "w")  # noqa: SIM115
    process = subprocess.Popen(command(workdir, *args, base=base), cwd=REPO, stdout=log, stderr=log)
    deadline = time.time() + 300
    while process.poll() is None and not condition():
        assert time.time() < deadline, "the run did not get there"
        time.sleep(0.005)
    process.kill()
    return process.wait() == -signal.SIGKILL


def evaluating(workdir):
    """Whether the run has logged a step that it evaluates, and not yet what came of it."""
    rows = records(workdir) if (workdir / "metrics.jsonl").exists() else [{"step": 1}]
    return rows and rows[-1]["step"] % 10 == 0 and "train/loss" in rows[-1]


@pytest.mark.slow
def test_kills_in_a_step_a_save_and_an_evaluation_change_nothing(tmp_path):
    periods = [
        "--config.train.log_every=5",
        "--config.train.checkpoint_every=5",
        "--config.train.eval_every=10",
        "--config.eval.num_times=64",  # long enough to be met
    ]
    workdir = tmp_path / "killed"
    rng = random.Random(0)
    folder = workdir / "checkpoints"

    def saving():
        return {p.name for p in folder.glob("*orbax-checkpoint-tmp*")}

    def killed(kind):
        """Whether the run was killed in what was aimed at, which may have ended before."""
        before, extra = max(steps(workdir), default=0), rng.uniform(0.0, 1.5)
        left = saving()  # by a run that was killed before

        def due():
            if kind == "save":
                return bool(saving() - left)
            if kind == "evaluation":
                return evaluating(workdir) and records(workdir)[-1]["step"] > before
            if max(steps(workdir), default=0) > before:
                time.sleep(extra)
                return True
            return False

        assert kill_when(workdir, due, f"--config.train.num_steps={before + 1000}", *periods)
        if kind == "save":
            return bool(saving() - left)
        return kind == "step" or evaluating(workdir)

    for kind in ("step", "save", "evaluation"):  # the first leaves a checkpoint
        assert any(killed(kind) for _ in range(3)), kind
    target = max(steps(workdir)) + 20
    run(workdir, f"--config.train.num_steps={target}", *periods)
    run(tmp_path / "whole", f"--config.train.num_steps={target}", *periods)
    assert_same_state(workdir, tmp_path / "whole", target)
    assert records(workdir) == records(tmp_path / "whole")  # none twice, none missing


FULL = """
mount -t tmpfs -o size={size} tmpfs {disk} || exit 99
{command}; echo exit $? > {out}/first
ls {disk}/run/checkpoints > {out}/saved
mount -o remount,size=64m {disk} || exit 99
{command}; echo exit $? > {out}/second
cp -r {disk}/run {out}/run
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_during_a_save_costs_nothing_but_time(tmp_path):
    whole = tmp_path / "whole"
    args = ["--config.train.num_steps=12", "--config.train.checkpoint_every=3"]
    run(whole, *args)
    size = sum(p.stat().st_size for p in (whole / "checkpoints" / "12").rglob("*"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    disk = tmp_path / "disk"
    script = FULL.format(
        size=f"{int(2.5 * size) // 1024}k", disk=disk, out=tmp_path / "out",
        command=shlex.join(command(disk / "run", *args)),
    )  # fmt: skip
    own = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]  # a disk of its own
    if not shutil.which("unshare") or subprocess.run([*own, "true"]).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    done = subprocess.run([*own, script], cwd=REPO, capture_output=True, text=True, timeout=600)
    if done.returncode == 99:
        pytest.skip("this machine lets nobody mount a file system")
    assert (tmp_path / "out" / "first").read_text() == "exit 1\n", done.stderr
    # One line, and no traceback of the writes that went on.
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr, done.stderr
    assert said.startswith("error: ") and "no space left on device" in said
    (last,) = re.findall(r"are intact \(steps \[([\d, ]+)\]\)", said)
    saved = (tmp_path / "out" / "saved").read_text().split()
    assert {s for s in saved if s.isdigit()} == set(last.split(", "))
    assert (tmp_path / "out" / "second").read_text() == "exit 0\n", done.stderr
    assert_same_state(tmp_path / "out" / "run", whole, 12)
    assert records(tmp_path / "out" / "run") == records(whole)


READ_ONLY = """
mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} || exit 99
timeout -s KILL 100 {command}
"""


@pytest.mark.slow
def test_checkpoints_that_became_read_only_end_the_run_at_once_in_one_line(tmp_path, trained):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    same = ["--config.train.eval_every=6", "--config.train.sample_every=6"]
    script = READ_ONLY.format(
        folder=workdir / "checkpoints",
        command=shlex.join(command(workdir, "--config.train.num_steps=20", *same)),
    )
    own = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"]).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    # Threads of the failed save would wait for five minutes.
    done = subprocess.run([*own, script], cwd=REPO, capture_output=True, text=True, timeout=300)
    if done.returncode == 99:
        pytest.skip("this machine lets nobody mount a file system")
    (said,) = done.stderr.splitlines()
    assert done.returncode == 1 and "Read-only file system" in said and "steps [3, 6]" in said
    assert steps(workdir) == [3, 6]


def streaming(folder, file, **keys):
    """An experiment file like another, with further keys in its data section."""
    path = folder / "config.py"
    path.write_text(
        f"import runpy\nbase = runpy.run_path({str(REPO / 'experiments' / file)!r})\n"
        "def get_config():\n"
        "    config = base['get_config']()\n"
        f"    config.data.update(memory_limit_mib=0, **{keys!r})\n"
        "    return config\n"
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_data_file_is_named_while_it_streams(tmp_path, tfds_dir, workers):
    shutil.copytree(pathlib.Path(tfds_dir) / "mnist", tmp_path / "data" / "mnist")
    (*_, file) = sorted((tmp_path / "data").rglob("mnist-train.array_record*"))
    file.chmod(0o644)
    os.truncate(file, file.stat().st_size // 2)
    config = streaming(tmp_path, "vdm/mnist.py", data_dir=str(tmp_path / "data"),
                       num_workers=workers)  # fmt: skip
    base = [f"--config={config}", *TINY[1:], "--config.train.num_steps=3"]
    done = run(tmp_path / "run", base=base, code=1)
    assert f"the data file {file} is damaged or incomplete" in done.stderr
    if not workers:
        assert len(done.stderr.strip().splitlines()) == 1


def of_group(group):
    """Processes of a group that run."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, number = stat.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("sign", "number"),
    [("compiling", signal.SIGTERM), ("steps/s", signal.SIGTERM), ("steps/s", signal.SIGINT),
     ("steps/s", signal.SIGKILL)],
    ids=["SIGTERM while they start", "SIGTERM", "Ctrl-C", "kill -9"],
)  # fmt: skip
def test_workers_outlive_signals_to_all_processes_but_not_the_run(tmp_path, tfds_dir, sign, number):
    config = streaming(tmp_path, "vdm/mnist.py", data_dir=str(tfds_dir), num_workers=2)
    base = [f"--config={config}", *TINY[1:], "--config.train.num_steps=100000",
            "--config.train.checkpoint_every=100000"]  # fmt: skip
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command(workdir, base=base), cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert any(sign in line for line in process.stdout)
    until(lambda: len(of_group(process.pid)) > 3, [process])  # with what looks after their memory
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=120)
    until(lambda: not of_group(process.pid), [])
    if number != signal.SIGKILL:
        assert process.returncode == 143 and "Traceback" not in stderr, stderr
        assert f"after step {steps(workdir)[-1]} of" in stderr


@pytest.mark.slow
def test_nan_in_the_data_stops_the_run_and_names_step_and_metric(tmp_path):
    (tmp_path / "data").mkdir()
    rows = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    np.save(tmp_path / "data" / "test.npy", rows)
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, 0)))).permutation(4000)
    rows[order[512 * 5 + 3]] = np.nan  # a row of the sixth batch
    np.save(tmp_path / "data" / "train.npy", rows)
    config = streaming(tmp_path, "vdm/toy2d.py", name="npy", data_dir=str(tmp_path / "data"))
    done = run(tmp_path / "moments", base=[f"--config={config}"], code=2)
    assert "data holds NaN or infinity" in done.stderr
    done = run(
        tmp_path / "run", "--config.data.standardize=False",
        "--config.train.num_steps=20", "--config.train.log_every=2",
        "--config.train.checkpoint_every=2", "--config.train.eval_every=0",
        "--config.train.sample_every=0", base=[f"--config={config}"], code=1,
    )  # fmt: skip
    (line,) = done.stderr.strip().splitlines()
    assert "train/loss is nan at step 6" in line and "the batch of step 5" in line
    assert steps(tmp_path / "run") == [2, 4]
    assert [row["step"] for row in records(tmp_path / "run")] == [2, 4]


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
    workdir = tmp_path / "run"
    args = ["--config.train.num_steps=100000", "--config.train.checkpoint_every=100000"]
    process = subprocess.Popen(
        command(workdir, *args, base=POINTS), cwd=REPO, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.time() + 300
    while not (workdir / "metrics.jsonl").exists():
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 143, stderr
    (step,) = steps(workdir)
    assert f"after step {step} of 100000" in stderr and "resumes" in stderr
    last = records(workdir)[-1]["step"]
    assert last <= step
    done = run(workdir, f"--config.train.num_steps={step + 2}", *args[1:], base=POINTS)
    assert f"resuming at step {step}" in done.stdout
    assert steps(workdir) == [step, step + 2]


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_a_save(tmp_path):
    env = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    process = subprocess.Popen(
        command(tmp_path, "--config.train.num_steps=100000"), cwd=REPO, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    assert any("compiling" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    line = process.stderr.readline()  # before the second: two signals may come as one
    assert line.startswith("saving the state after this step") and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == -signal.SIGINT
    assert process.stderr.read() == ""
    assert steps(tmp_path) == []


@pytest.mark.slow
def test_ctrl_c_ends_an_evaluation_in_one_line(trained):
    before = records(trained)
    process = subprocess.Popen(
        command(trained, "--mode=eval", "--config.train.eval_every=6", "--allow_config_change",
                "--config.eval.num_times=100000"),
        cwd=REPO, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(8)  # it takes hours
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    (line,) = stderr.strip().splitlines()
    assert "stopped by Ctrl-C" in line and records(trained) == before


@pytest.mark.slow
def test_another_config_is_refused_naming_the_keys(trained):
    same = ["--config.train.eval_every=6", "--config.train.sample_every=6"]
    args = ["--config.optimizer.learning_rate=0.5", "--config.train.num_steps=8", *same]
    parallel = ["--config.parallel.strategy=pmap", "--config.parallel.plan_devices=2"]
    done = run(trained, *args, *parallel, code=2)
    assert "optimizer.learning_rate" in done.stderr and "num_steps" not in done.stderr
    assert "parallel.strategy" in done.stderr and "plan_devices" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    before = steps(trained)
    assert before[-1] == 6


@pytest.mark.slow
def test_a_run_mapped_over_devices_goes_on_on_another_number_of_them(tmp_path):
    args = ["--config.parallel.strategy=pmap", "--config.train.eval_every=6",
            "--config.train.sample_every=6"]  # fmt: skip
    for devices, last in [(4, 3), (2, 6)]:
        done = subprocess.run(
            command(tmp_path, *args, f"--config.train.num_steps={last}"), cwd=REPO,
            env={**os.environ, "XLA_FLAGS": forced_devices(devices)},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert not done.returncode, done.stderr
    assert "resuming at step 3" in done.stdout
    assert [row["step"] for row in records(tmp_path) if "train/loss" in row] == [2, 4, 6]
    assert "eval/bits_per_dim" in records(tmp_path)[-1]


@pytest.mark.slow
def test_another_config_is_taken_when_told_so(tmp_path):
    run(tmp_path / "run", "--config.train.num_steps=2", base=POINTS)
    changed = ["--config.train.num_steps=4", "--config.optimizer.learning_rate=0.5"]
    run(tmp_path / "run", *changed, "--allow_config_change", base=POINTS)
    assert steps(tmp_path / "run") == [2, 3, 4]
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["optimizer"]["learning_rate"] == 0.5


BAD = {
    "unknown key": (["--config.train.num_stpes=3"], r"train\.num_stpes.*did you mean 'num_steps'"),
    "unknown section": (["--config.trian.num_steps=3"], r"trian.*did you mean 'train'"),
    "wrong type": (["--config.train.num_steps=many"], r"num_steps.*many"),
    "wrong mode": (["--mode=trian"], r"mode.*train\|eval\|sample"),
    "batch size": (["--config.data.batch_size=0"], r"data\.batch_size must be a positive multiple"),
    "missing data": (
        ["--config.data.name=mnist", "--config.data.data_dir=/nowhere"],
        r"prepare_data\.py --name=mnist --data_dir=/nowhere",
    ),
    "unknown data": (["--config.data.name=mnits"], r"unknown data set 'mnits'"),
    "images for points": (["--config.data.name=swirl"], r"takes images .* has shape \(2,\)"),
    "classes": (["--config.model.num_classes=7"], r"num_classes is 7.*10 classes"),
    "seed": (["--config.eval.seed=-1"], r"eval\.seed must be in \[0, 2\*\*32\), got -1"),
    "endpoints": (["--config.family.schedule.gamma_0=9.0"], r"gamma_0 must be below gamma_1"),
    "CPU devices": (["--config.parallel.cpu_devices=0"], r"cpu_devices must be a positive number"),
    "steps": (["--config.sample.num_steps=0"], r"sample\.num_steps must be at least 1"),
    "rate": (["--config.optimizer.learning_rate=-1.0"], r"learning_rate must be positive"),
    "groups": (["--config.model.num_groups=3"], r"num_groups \(3\) must divide channels \(8\)"),
    "unknown option": (
        ["--config.family.time_sampling=odd"],
        r"family\.time_sampling .*stratified.*'odd'",
    ),
    "unknown model": (["--config.model.name=score_rsnet"], r"did you mean 'score_resnet'"),
    "no config": (["--config=experiments/vdm/nothing.py"], r"nothing\.py"),
    "unknown flag": (["--wrokdir=/tmp"], r"wrokdir"),
    "address": (
        ["--coordinator_address=nonsense", "--num_processes=1", "--process_id=0"],
        r"coordinator_address must be host:port .* got 'nonsense'",
    ),
}


# What finds each kind of mistake; the others are of a kind with these.
QUICK = (
    "unknown key",
    "wrong mode",
    "missing data",
    "classes",
    "endpoints",
    "no config",
    "address",
)


@pytest.mark.parametrize("case", [
    pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in BAD
])  # fmt: skip
def test_bad_input_gets_one_line_before_any_compilation(tmp_path, case):
    args, message = BAD[case]
    start = time.time()
    done = run(tmp_path / "run", *args, code=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "run").exists()
    assert time.time() - start < 60


@pytest.mark.parametrize("own", [None, "/elsewhere"])
def test_compiled_programs_are_kept_where_the_environment_says(own):
    program = (
        "import jax; from genjax import command; command._keep_compiled_programs();"
        "print(jax.config.jax_compilation_cache_dir)"
    )
    env = {name: v for name, v in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"XDG_CACHE_HOME": "/cache"} | ({"JAX_COMPILATION_CACHE_DIR": own} if own else {})
    place = subprocess.check_output([sys.executable, "-c", program], cwd=REPO, env=env, text=True)
    assert place.startswith(own or "/cache/genjax/")


@pytest.mark.slow
def test_a_divided_cpu_with_other_work_on_it_does_not_wait_for_itself(tmp_path):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        run(tmp_path, base=[
            "--config=experiments/vdm/digits.py", "--config.train.num_steps=40",
            "--config.train.eval_every=0", "--config.train.sample_every=0",
        ])  # fmt: skip
    finally:
        for process in busy:
            process.kill()


def test_a_batch_the_devices_do_not_divide_is_refused(tmp_path):
    env = {**os.environ, "XLA_FLAGS": forced_devices(3)}
    done = subprocess.run(
        command(tmp_path), cwd=REPO, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert "multiple of the 3 devices, got 16" in done.stderr


@pytest.mark.slow
def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    first = subprocess.Popen(
        command(tmp_path, "--config.train.num_steps=1000000", base=POINTS),
        cwd=REPO,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not (tmp_path / "metrics.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.05)
        done = run(tmp_path, "--config.train.num_steps=1000000", base=POINTS, code=2)
        assert "another run is going on" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    finally:
        first.kill()
        first.wait()


@pytest.mark.slow
def test_a_relative_workdir_is_taken(tmp_path):
    workdir = os.path.relpath(tmp_path / "run", REPO)
    run(workdir, "--config.train.num_steps=1", base=POINTS)
    assert steps(tmp_path / "run") == [1]


def test_an_unwritable_workdir_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "run", code=2)
    assert "cannot be written" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_points_train_through_the_same_command(tmp_path):
    small = ["--config.train.num_steps=20", "--config.train.log_every=10"]
    small += ["--config.eval.num_times=1", "--config.sample.num_samples=50"]
    small += ["--config.train.steps_per_call=8", "--config.parallel.cpu_devices=2"]
    done = run(tmp_path, *small, "--config.sample.num_steps=5", base=TOY)
    assert "2 x cpu" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [10, 20]
    with np.load(tmp_path / "samples" / "step_00000020.npz") as file:
        assert file["samples"].shape == (50, 2) and file["samples"].dtype == np.float32


@pytest.mark.slow
def test_an_official_checkpoint_is_imported_and_evaluated(tmp_path, golden):
    import flax.serialization
    import flax.traverse_util

    flat = {tuple(k.split("/")[1:]): v for k, v in golden.items() if k.startswith("params/")}
    # The digits have one channel: cut the reference parameters to it.
    flat["score_model", "conv_in", "kernel"] = flat["score_model", "conv_in", "kernel"][:, :, :5]
    for leaf in ("kernel", "bias"):
        path = ("score_model", "conv_out", leaf)
        flat[path] = flat[path][..., :1]
    params = flax.traverse_util.unflatten_dict(flat)
    official = {"step": 1234, "params": params, "ema_params": params, "opt_state": {}}
    file = tmp_path / "checkpoints-0.flax"
    file.write_bytes(flax.serialization.msgpack_serialize(official))
    model = [
        "--config=experiments/vdm/digits.py",
        "--config.model.channels=32",
        "--config.model.num_layers=2",
        "--config.model.fourier_exponents=(6,7)",
        "--config.family.schedule.name=learned_linear",
        "--config.eval.num_times=1",
    ]
    script = [
        sys.executable,
        "scripts/import_checkpoint.py",
        f"--checkpoint={tmp_path}/checkpoints-0",
    ]
    done = subprocess.run(
        [*script, *model, f"--workdir={tmp_path}/imported"],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert steps(tmp_path / "imported") == [1234]
    run(tmp_path / "imported", "--mode=eval", base=model)
    (row,) = records(tmp_path / "imported")
    assert row["step"] == 1234 and np.isfinite(row["eval/bits_per_dim"])


@pytest.mark.slow
def test_a_ddpm_of_diffusers_is_imported_and_sampled(tmp_path):
    from safetensors.numpy import save_file

    with np.load(REPO / "tests" / "families" / "diffusers_ddpm.npz") as file:
        weights = {k[2:]: v.astype(np.float32) for k, v in file.items() if k.startswith("w/")}
    save_file(weights, tmp_path / "model.safetensors")
    model = [
        "--config=experiments/diffusion/digits_ddpm.py",
        "--config.family.process.num_timesteps=1000",
        *(f"--config.model.{key}={value}" for key, value in {
            "channels": 8, "multipliers": "(1,2)", "num_blocks": 1, "attention_sizes": "(4,)",
            "num_groups": 4, "conditioning": "add", "out_channels": None,
        }.items()),
        "--config.family.loss=simple", "--config.family.variance=fixed_large",
        "--config.sample.num_steps=3", "--config.sample.num_samples=4",
    ]  # fmt: skip

    def imported(file, *overrides):
        script = [sys.executable, "scripts/import_checkpoint.py", f"--checkpoint={tmp_path / file}"]
        return subprocess.run(
            [*script, *model, *overrides, f"--workdir={tmp_path}/imported"],
            cwd=REPO,
            capture_output=True,
            text=True,
        )

    (tmp_path / "model.bin").write_bytes(b"PK")
    for file, overrides, message in [
        ("model.bin", (), "no safetensors file"),
        ("model.safetensors", ("--config.model.channels=16",), "describes another model"),
        ("model.safetensors", ("--config.family.process.num_timesteps=10",), "1,000 steps"),
    ]:
        refused = imported(file, *overrides)
        assert refused.returncode == 1 and message in refused.stderr, refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    done = imported("model.safetensors")
    assert done.returncode == 0, done.stderr
    run(tmp_path / "imported", "--mode=sample", base=model)
    with np.load(tmp_path / "imported" / "samples" / "step_00000000_sample.npz") as file:
        assert file["samples"].shape == (4, 8, 8, 1)


@pytest.fixture(scope="module")
def trained_gan(tmp_path_factory):
    """Six uninterrupted steps of an adversarial run, and samples."""
    workdir = tmp_path_factory.mktemp("gan")
    run(workdir, "--config.train.num_steps=6", "--config.train.sample_every=6", base=GAN)
    return workdir


@pytest.mark.slow
def test_an_adversarial_run_resumes_bit_for_bit(tmp_path, trained_gan):
    workdir = tmp_path / "killed"
    kill_when(workdir, lambda: 3 in steps(workdir), "--config.train.num_steps=100000", base=GAN)
    target = steps(workdir)[-1] + 3
    run(workdir, f"--config.train.num_steps={target}", base=GAN)
    whole = trained_gan
    if target != 6:
        whole = tmp_path / "whole"
        run(whole, f"--config.train.num_steps={target}", base=GAN)
    assert_same_state(workdir, whole, target)
    names = " ".join(arrays(workdir, target))
    for part in (
        "opt_state']['generator", "opt_state']['critic", "batch_stats", "spectral_stats",
        "ema']['generator", "params']['critic",
    ):  # fmt: skip
        assert part in names, part
    logged = [row for row in records(whole) if "train/critic_loss" in row]
    assert [row for row in records(workdir) if "train/critic_loss" in row] == logged


@pytest.mark.slow
def test_an_adversarial_run_logs_both_players(trained_gan):
    rows = [row for row in records(trained_gan) if "train/critic_loss" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert {
        "train/generator_loss", "train/critic_accuracy", "train/real_output", "train/fake_output",
        "train/critic_grad_norm", "train/generator_grad_norm", "train/diversity",
    } <= rows[0].keys()  # fmt: skip
    with np.load(trained_gan / "samples" / "step_00000006.npz") as file:
        assert file["samples"].shape == (20, 8, 8, 1) and file["samples"].max() <= 16
        assert file["label"].tolist() == list(range(10)) * 2


@pytest.mark.slow
def test_samples_are_measured_with_a_classifier_of_the_same_data(tmp_path, trained_gan):
    classifier = tmp_path / "classifier"
    small = ["--config.train.num_steps=60", "--config.model.channels=8"]
    small += ["--config.family.ema_decay=0.5"]
    run(classifier, *small, base=["--config=experiments/classifier/digits.py"])
    (row,) = [row for row in records(classifier) if "eval/error" in row]
    assert row["eval/num_examples"] == 360 and 0 < row["eval/error"] < 0.9
    done = run(classifier, *small, "--mode=sample", code=2,
               base=["--config=experiments/classifier/digits.py"])  # fmt: skip
    assert "generates nothing" in done.stderr

    measure = [
        "--mode=eval", "--config.eval.metrics=('fd','kid','precision_recall','density_coverage',"
        "'inception_score','label_accuracy')", f"--config.eval.features.workdir={classifier}",
        "--config.train.sample_every=6", "--config.eval.num_samples=250",
    ]  # fmt: skip
    base = [arg for arg in GAN if "eval.metrics" not in arg]
    done = run(trained_gan, *measure, base=base)
    run(trained_gan, *measure, "--config.eval.batch_size=64", base=base)
    first, second = [row for row in records(trained_gan) if "eval/fd_digits" in row]
    assert first["eval/fd_digits"] > 0 and 0 <= first["eval/label_accuracy_digits"] <= 1
    assert first["eval/num_samples"] == 250
    assert first["eval/reference"] == "1437 rows of digits train"
    assert "60 steps" in first["eval/features"]
    assert not any("fid" in name for name in first), "only Inception's features give an FID"
    assert 1 <= first["eval/classifier_score_digits"] <= 10
    assert second["eval/num_samples"] == 250 and np.isfinite(second["eval/kd_digits"])
    assert "fd_digits" in done.stdout and "against 1437 rows" in done.stdout

    # Statistics of the same rows in a file give the same distance.
    overrides = [arg for arg in (*base, *measure[1:]) if "--config.eval.metrics" not in arg]
    script = [sys.executable, "scripts/fid_statistics.py", *overrides]
    done = subprocess.run(
        [*script, f"--out={tmp_path}/train.npz"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0 and "of 1437 rows of digits train" in done.stdout, done.stderr
    run(trained_gan, *measure, f"--config.eval.statistics={tmp_path}/train.npz", base=base)
    last = records(trained_gan)[-1]
    assert last["eval/fd_digits"] == pytest.approx(first["eval/fd_digits"], rel=1e-6)
    assert last["eval/fd_digits_statistics"].startswith("train.npz of 1437 rows of digits train, ")
    done = subprocess.run(
        [*script, f"--out={tmp_path}/train.txt"], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: --out must end in .npz")

    # Sampling needs no classifier at all.
    run(trained_gan, "--mode=sample", "--config.train.sample_every=6", base=base)
    wrong = ["--config.eval.features.workdir=" + str(trained_gan), *measure[:2], *measure[3:]]
    done = run(trained_gan, *wrong, base=base, code=2)
    assert "holds a sngan of digits, not a classifier" in done.stderr


BAD_GAN = {
    "game": (["--config=experiments/gan/ring2d.py:wagn"], r"the game must be one of .*got 'wagn'"),
    "key of a game": (
        ["--config=experiments/gan/ring2d.py:wgan", "--config.family.clip_limt=1.0"],
        r"clip_limt.*did you mean 'clip_limit'",
    ),
    "pack": (
        ["--config=experiments/gan/ring2d.py:pacgan", "--config.data.batch_size=255"],
        r"pack_size \(2\) must divide the batch size \(255\)",
    ),
    "clipping": (["--config=experiments/gan/digits.py", "--config.family.name=wgan",
                  "--config.eval.metrics=()", "--config.train.eval_every=0"],
                 r"clip_limit does not fit a spectrally normalised critic"),
    "no classifier": (["--config.eval.features.workdir=/nowhere"], r"train one first \(python scr"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_GAN)
def test_bad_adversarial_input_gets_one_line(tmp_path, case):
    args, message = BAD_GAN[case]
    base = [] if args[0].startswith("--config=") else ["--config=experiments/gan/digits.py"]
    done = run(tmp_path / "run", *args, base=base, code=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in lines[0] and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_points_are_measured_and_a_collapse_is_said_once(tmp_path):
    # A deep generator that does not learn maps all latents to about one point.
    args = ["--config.model.generator.num_layers=8",
            "--config.optimizer.generator.learning_rate=1e-12",
            "--config.train.num_steps=40", "--config.train.log_every=10",
            "--config.eval.num_samples=300", "--config.eval.num_reference=200"]  # fmt: skip
    done = run(tmp_path, *args, base=["--config=experiments/gan/ring2d.py:wgan_gp"])
    assert re.search(r"warning: step \d+: mode collapse: generated rows differ by", done.stdout)
    assert done.stdout.count("mode collapse") == 1, "said once, not at every line of the log"
    (row,) = [row for row in records(tmp_path) if "eval/w1" in row]
    assert row["eval/w1"] > 0 and 0 <= row["eval/modes_covered"] <= 8
    assert row["eval/reference"] == "200 rows of ring test" and row["eval/num_samples"] == 300


@pytest.mark.slow
def test_a_sweep_makes_a_table_and_counts_failures(tmp_path):
    script = [sys.executable, "scripts/sweep.py", "--config=experiments/gan/ring2d.py",
              "--variants=hinge,wagn", "--seeds=2", f"--workdir={tmp_path}", "--metrics=w1",
              "--config.train.num_steps=10", "--config.eval.num_samples=50",
              "--config.eval.num_reference=50", "--config.sample.num_samples=50"]  # fmt: skip
    done = subprocess.run(script, cwd=REPO, capture_output=True, text=True, check=True)
    header, _, hinge, wrong = done.stdout.strip().splitlines()
    assert header == "| variant | w1 | seconds a run |"
    assert re.match(r"\| hinge \| [\d.]+ ± [\d.]+ \| \d+ \|", hinge), hinge
    assert wrong == "| wagn (2 failed: see log.txt) | - | - |"
    again = subprocess.run(script, cwd=REPO, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout and "hinge" not in again.stderr  # what is done is kept


@pytest.mark.slow
def test_a_flow_resumes_bit_for_bit_with_what_no_step_changes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, "--config.train.num_steps=6", base=FLOW)
    for num_steps in (3, 6):
        run(parts, f"--config.train.num_steps={num_steps}", base=FLOW)
    assert_same_state(whole, parts, 6)
    assert any("constants" in name for name in arrays(whole, 6))
    assert records(whole) == records(parts)
    rows = records(whole)
    assert {"train/round_trip_error", "train/log_det_per_dim"} <= rows[0].keys()
    done = run(whole, "--mode=eval", base=[*FLOW, "--config.train.num_steps=6"])
    assert "uniform dequantisation" in done.stdout.replace("\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("fsdp, code", [(2, 0), (3, 2)])
def test_a_plan_says_what_devices_need_that_are_not_there(tmp_path, fsdp, code):
    args = ["--mode=plan", "--config.parallel.plan_devices=4", f"--config.parallel.fsdp={fsdp}"]
    base = [*TINY, "--config.model.channels=64"]
    done = run(tmp_path, *args, base=base, code=code)
    if code:
        assert "parallel.fsdp must divide the 4 devices, got 3" in done.stderr
        return
    assert "mesh data 2 x fsdp 2" in done.stdout and "all-reduce" in done.stdout
    (held,) = re.findall(r"state +│ +([\d.]+)", done.stdout)
    (count,) = re.findall(r"([\d,]+) parameters", done.stdout)
    # Parameters, their average and two moments; large arrays are halved.
    whole = 4 * 4 * int(count.replace(",", "")) / 2**20
    assert 0.5 * whole < float(held) < 0.7 * whole
    assert not list(tmp_path.iterdir()), "a plan writes nothing"


def test_out_of_device_memory_names_what_helps():
    code = """
import sys
import jax
from absl import flags
from genjax import command
def full():
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
command._run = full
flags.FLAGS(["run.py"])
command.main([])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    for word in ("allocating 9 bytes", "batch_size", "accumulate_steps", "remat", "fsdp", "plan"):
        assert word in line


# Two processes of two forced devices each, over loopback.

TWICE = [*FLOW, "--config.train.eval_every=6", "--config.train.sample_every=6"]


# A flow of points, whose steps are looped over.
LOOPED = [
    "--config=experiments/flow/digits.py",
    "--config.model.hidden_size=8",
    "--config.data.batch_size=16",
    "--config.train.steps_per_call=7",
    "--config.train.log_every=7",
    "--config.train.checkpoint_every=7",
]


def start_two(workdir, *args, base=TWICE, second=()):
    """Starts both processes of a run; ``second`` are arguments of the second alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "XLA_FLAGS": forced_devices(2)}
    return [
        subprocess.Popen(
            [
                sys.executable, "scripts/run.py", *base, f"--workdir={workdir}", *args,
                f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2",
                f"--process_id={i}", *(second if i else ()),
            ],
            cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip


def finish(processes, *codes, timeout=300):
    outputs = [p.communicate(timeout=timeout)[0] for p in processes]
    assert [p.returncode for p in processes] == list(codes), "\n----\n".join(outputs)
    return outputs


def until(condition, processes, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and all(p.poll() is None for p in processes)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Six steps of one process with one device."""
    workdir = tmp_path_factory.mktemp("alone")
    run(workdir, "--config.train.num_steps=6", base=TWICE)
    return workdir


def assert_close(a, b, step=6):
    first, second = arrays(a, step), arrays(b, step)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=2e-2, atol=2e-4, err_msg=name)
    # A run that ends at step 3 is evaluated there.
    ours, theirs = ([row for row in records(run) if row["step"] != 3] for run in (a, b))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for row, other in zip(ours, theirs, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if isinstance(value, float) and "round_trip" not in name:
                assert value == pytest.approx(other[name], rel=2e-3, abs=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2])
def test_two_processes_compute_what_one_does_and_one_goes_on(tmp_path, alone, fsdp):
    workdir = tmp_path / "two"
    args = (f"--config.parallel.fsdp={fsdp}",)
    outputs = finish(start_two(workdir, "--config.train.num_steps=3", *args), 0, 0)
    assert "done:" in outputs[0] and "step" not in outputs[1], "one process talks"
    if fsdp == 1:  # from two processes to one
        run(workdir, "--config.train.num_steps=6", base=TWICE)
    else:
        finish(start_two(workdir, "--config.train.num_steps=6", *args), 0, 0)
    assert_close(workdir, alone)
    with np.load(workdir / "samples" / "step_00000006.npz") as file:
        assert file["samples"].shape == (20, 8, 8, 1)


@pytest.mark.slow
def test_one_process_begins_and_two_go_on(tmp_path, alone):
    workdir = tmp_path / "two"
    run(workdir, "--config.train.num_steps=3", base=TWICE)
    finish(start_two(workdir, "--config.train.num_steps=6"), 0, 0)
    assert_close(workdir, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "number"), [(TWICE, signal.SIGTERM), (LOOPED, signal.SIGTERM), (TWICE, signal.SIGINT)],
    ids=["steps", "calls of several steps", "Ctrl-C"],
)  # fmt: skip
def test_sigterm_to_one_stops_both_after_the_same_step(tmp_path, base, number):
    workdir = tmp_path / "two"
    processes = start_two(workdir, "--config.train.num_steps=1000000",
                          "--config.train.eval_every=0", "--config.train.sample_every=0",
                          base=base)  # fmt: skip
    until(lambda: steps(workdir), processes)
    processes[1].send_signal(number)
    finish(processes, 143, 143)
    saved = steps(workdir)[-1]
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] <= saved
    assert len({row["step"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_when_one_is_refused_it_ends_at_once_and_the_other_in_bounded_time(tmp_path, alone):
    workdir = tmp_path / "two"
    shutil.copytree(alone, workdir)
    began = time.monotonic()
    first, second = start_two(workdir, "--config.train.num_steps=9",
                              second=["--config.optimizer.learning_rate=0.5"])  # fmt: skip
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 2 and "optimizer.learning_rate" in output
    output, _ = first.communicate(timeout=100)
    assert first.returncode not in (0, 143) and time.monotonic() - began < 120
    assert arrays(workdir, 6)


@pytest.mark.slow
def test_when_one_is_killed_the_other_ends_in_bounded_time(tmp_path):
    workdir = tmp_path / "two"
    processes = start_two(workdir, "--config.train.num_steps=100000", "--config.train.eval_every=0",
                      "--config.train.sample_every=0")  # fmt: skip
    until(lambda: steps(workdir), processes)
    processes[1].kill()
    began = time.monotonic()
    processes[0].communicate(timeout=150)
    assert processes[0].returncode not in (0, 143)
    assert time.monotonic() - began < 120


def test_half_of_the_arguments_are_refused(tmp_path):
    done = run(tmp_path, "--num_processes=2", base=TWICE, code=2)
    assert "belong together" in done.stderr
