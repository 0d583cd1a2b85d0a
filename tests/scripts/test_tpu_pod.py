"""The pod launcher: the commands it makes as text, and what they do where gcloud is a stand-in."""

import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
POD = ["--name=pod", "--zone=us-west4-a", "--project=mine"]
PLACE = "--zone=us-west4-a --project=mine"
TPU = "gcloud compute tpus tpu-vm"


def launch(*args, code=0, env=None):
    done = subprocess.run(
        [sys.executable, "scripts/tpu_pod.py", *args], cwd=REPO, env=env, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


EXPECTED = {
    "create --accelerator_type=v5litepod-256 --spot": [
        f"{TPU} create pod {PLACE} --accelerator-type=v5litepod-256 "
        "--version=v2-alpha-tpuv5-lite --spot",
    ],
    "install": [
        "git ls-files --cached --others --exclude-standard -z | "
        "tar --null --files-from=- --ignore-failed-read -czf genjax.tar.gz",
        f"{TPU} scp genjax.tar.gz pod: {PLACE} --worker=all",
        f"{TPU} ssh pod {PLACE} --worker=all '--command=rm -rf genjax.new && mkdir genjax.new && "
        "tar -xzf genjax.tar.gz -C genjax.new && mkdir -p genjax && cp -r genjax.new/. genjax && "
        "rm -rf genjax.new'",
        None,
    ],
    "run --config=experiments/vdm/mnist.py --workdir=gs://mine/run --env=A=b "
    "--config.train.num_steps=7": [
        f"{TPU} ssh pod {PLACE} --worker=all '--command=cd genjax && if [ -e run.pid ] && "
        "kill -0 $(cat run.pid) 2>/dev/null; then echo \"a run is going on: stop it first\" >&2; "
        "exit 1; fi; setsid nohup env A=b .venv/bin/python scripts/run.py "
        "--config=experiments/vdm/mnist.py --workdir=gs://mine/run --config.train.num_steps=7 "
        "> run.log 2>&1 < /dev/null & echo $! > run.pid'",
    ],
    "logs": [f"{TPU} ssh pod {PLACE} --worker=0 '--command=tail -n 100 -F genjax/run.log'"],
    "stop": [
        f"{TPU} ssh pod {PLACE} --worker=0 '--command=kill -TERM $(cat genjax/run.pid)'",
        f"{TPU} ssh pod {PLACE} --worker=all "
        "'--command=timeout 600 tail --pid=$(cat genjax/run.pid) -f /dev/null'",
    ],
    "delete": [f"{TPU} delete pod {PLACE} --quiet"],
}  # fmt: skip


@pytest.mark.parametrize("action", EXPECTED)
def test_a_dry_run_prints_the_commands(action):
    verb, *rest = shlex.split(action)
    lines = launch(verb, *POD, *rest, "--dry_run").stdout.splitlines()
    expected = EXPECTED[action]
    assert len(lines) == len(expected)
    for line, text in zip(lines, expected, strict=True):
        assert text is None or line == text
        for word in shlex.split(line):
            if word.startswith("--command="):  # what a worker's shell gets is sound
                command = word.partition("=")[2]
                subprocess.run(["bash", "-n", "-c", command], check=True)


def test_what_is_installed_is_what_the_project_says():
    *_, line = launch("install", *POD, "--dry_run").stdout.splitlines()
    assert "uv venv" in line and "-e '\"'\"'.[tpu,gcs]'\"'\"''" in line
    text = (REPO / "pyproject.toml").read_text()
    assert "\ntpu = [" in text and "\ngcs = [" in text


@pytest.mark.parametrize("args, message, code", [
    (["run", *POD, "--config=x.py", "--workdir=runs/a", "--dry_run"], "that all workers see", 1),
    (["run", *POD, "--config=x.py", "--workdir=/nfs/a", "--env=A", "--dry_run"], "NAME=VALUE", 1),
    (["logs", *POD, "--folow", "--dry_run"], "unexpected argument '--folow'", 2),
    (["logs", *POD], "there is no gcloud command", 1),
])  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(tmp_path, args, message, code):
    done = launch(*args, code=code, env={**os.environ, "PATH": str(tmp_path)})
    assert message in done.stderr.splitlines()[-1]


def test_a_failing_command_is_not_followed_by_the_next(tmp_path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text("#!/bin/sh\nexit 3\n")
    gcloud.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = launch("stop", *POD, code=1, env=env)
    assert "exit code 3" in done.stderr and len(done.stdout.splitlines()) == 1


# Runs what a worker would, in a home directory of its own, and copies as scp does.
GCLOUD = f"""#!{sys.executable}
import os, shutil, subprocess, sys
home = os.environ["HOME"]
if "scp" in sys.argv:
    shutil.copy(sys.argv[sys.argv.index("scp") + 1], home)
    sys.exit()
command = next(a.partition("=")[2] for a in sys.argv if a.startswith("--command="))
if "uv pip install" in command:  # there is an environment already
    os.makedirs("{{home}}/genjax/.venv/bin".format(home=home))
    python = "{{home}}/genjax/.venv/bin/python".format(home=home)
    open(python, "w").write('#!/bin/sh\\nexec {sys.executable} "$@"\\n')
    os.chmod(python, 0o755)
    sys.exit()
sys.exit(subprocess.run(["bash", "-c", command], cwd=home).returncode)
"""


@pytest.mark.slow
def test_a_run_is_installed_started_stopped_and_goes_on(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(home)}
    launch("install", *POD, env=env)
    assert (home / "genjax" / "scripts" / "run.py").exists()
    assert not (home / "genjax" / ".git").exists()

    workdir = tmp_path / "a run"
    start = ["run", *POD, "--config=experiments/vdm/toy2d.py", f"--workdir={workdir}",
             "--env=JAX_PLATFORMS=cpu", "--config.train.eval_every=0",
             "--config.train.sample_every=0", "--config.train.checkpoint_every=20"]  # fmt: skip
    launch(*start, "--config.train.num_steps=1000000", env=env)
    pid = int((home / "genjax" / "run.pid").read_text())
    try:
        end = time.monotonic() + 120
        while not list(workdir.glob("checkpoints/[0-9]*")):
            assert time.monotonic() < end, (home / "genjax" / "run.log").read_text()
            time.sleep(0.2)
        done = launch(*start, code=1, env=env)  # a second one is refused
        assert "a run is going on" in done.stderr
        launch("stop", *POD, env=env)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    log = (home / "genjax" / "run.log").read_text()
    assert "the same command resumes it" in log
    saved = max(int(p.name) for p in workdir.glob("checkpoints/[0-9]*"))
    launch(*start, f"--config.train.num_steps={saved + 1}", env=env)
    pid = int((home / "genjax" / "run.pid").read_text())
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=120, check=True)
    assert f"resuming at step {saved}" in (home / "genjax" / "run.log").read_text()
