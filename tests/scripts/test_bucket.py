"""A workdir in a storage bucket, against an emulator of Google Cloud Storage."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytest.importorskip("gcp_storage_emulator", reason="needs gcp-storage-emulator and gcsfs")
pytest.importorskip("gcsfs")

HERE = pathlib.Path(__file__).resolve()
REPO = HERE.parents[2]
SMALL = [
    "--config=experiments/vdm/toy2d.py",
    "--config.eval.num_times=1",
    "--config.train.log_every=2",
    "--config.train.eval_every=0",
    "--config.train.sample_every=0",
    "--config.train.checkpoint_every=10",
    "--config.sample.num_steps=4",
]


@pytest.fixture(scope="module")
def bucket():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, HERE.with_name("bucket_server.py"), str(port)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{url}/storage/v1/b/bucket")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def whole(bucket):
    """Forty uninterrupted steps."""
    run(bucket, "gs://bucket/whole", "--config.train.num_steps=40")


def start(url, workdir, *args):
    env = {
        **os.environ,
        "STORAGE_EMULATOR_HOST": url,  # gcsfs and google-cloud-storage
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        "GOOGLE_CLOUD_PROJECT": "none",
        "NO_GCE_CHECK": "true",  # google.auth asks no metadata server who it is
    }
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads fills up
    process = subprocess.Popen(
        [sys.executable, "scripts/run.py", *SMALL, f"--workdir={workdir}", *args],
        cwd=REPO, env=env, stdout=output, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return process, output


def finish(process, output, code):
    process.wait(timeout=180)
    output.seek(0)
    text = output.read()
    assert process.returncode == code, text[-3000:]
    return text


def run(url, workdir, *args, code=0):
    return finish(*start(url, workdir, *args), code)


def until(condition, process, output):
    end = time.monotonic() + 120
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            finish(process, output, 0)
        time.sleep(0.05)


def listed(url, prefix):
    query = urllib.parse.urlencode({"prefix": prefix})
    with urllib.request.urlopen(f"{url}/storage/v1/b/bucket/o?{query}") as answer:
        return [item["name"] for item in json.load(answer).get("items", ())]


def read(url, name):
    name = urllib.parse.quote(name, safe="")
    with urllib.request.urlopen(f"{url}/storage/v1/b/bucket/o/{name}?alt=media") as answer:
        return answer.read()


def delete(url, name):
    name = urllib.parse.quote(name, safe="")
    request = urllib.request.Request(f"{url}/storage/v1/b/bucket/o/{name}", method="DELETE")
    urllib.request.urlopen(request).close()


def saved(url, workdir):
    names = [name.split("/") for name in listed(url, f"{workdir}/checkpoints/")]
    done = {parts[2] for parts in names if parts[3:] == ["commit_success.txt"]}
    return sorted(int(step) for step in done if step.isdigit())


def records(url, workdir):
    rows = [json.loads(line) for line in read(url, f"{workdir}/metrics.jsonl").splitlines()]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_stopped_damaged_and_loses_nothing(bucket, whole):
    logged = [row["step"] for row in records(bucket, "whole") if "train/loss" in row]
    assert logged == list(range(2, 41, 2))

    # Killed: what it logged after its last checkpoint comes once.
    process, output = start(bucket, "gs://bucket/run", "--config.train.num_steps=1000000")
    until(lambda: saved(bucket, "run"), process, output)
    process.kill()
    process.wait()
    # Asked to stop.
    before = saved(bucket, "run")[-1]
    process, output = start(bucket, "gs://bucket/run", "--config.train.num_steps=1000000")
    until(lambda: saved(bucket, "run")[-1] > before, process, output)
    process.send_signal(signal.SIGTERM)
    finish(process, output, 143)
    # Its newest checkpoint is damaged: the one before is taken, and the damaged one kept aside.
    steps = saved(bucket, "run")
    end = steps[-1] + 10
    victim = next(n for n in listed(bucket, f"run/checkpoints/{steps[-1]}/state/") if "/d/" in n)
    delete(bucket, victim)
    said = run(bucket, "gs://bucket/run", f"--config.train.num_steps={end}")
    assert f"resuming at step {steps[-2]}" in said
    assert f"checkpoint {steps[-1]}" in said and "is skipped" in said
    assert listed(bucket, f"run/damaged_{steps[-1]}/")
    logged = [row["step"] for row in records(bucket, "run")]
    assert logged == list(range(2, end + 1, 2))
    shared = {row["step"]: row for row in records(bucket, "whole") if "train/loss" in row}
    for row in records(bucket, "run"):
        if row["step"] in shared:
            assert row == shared[row["step"]]


@pytest.mark.slow
def test_the_other_modes_read_and_write_a_bucket(bucket, whole):
    run(bucket, "gs://bucket/whole", "--config.train.num_steps=40", "--mode=eval")
    run(bucket, "gs://bucket/whole", "--config.train.num_steps=40", "--mode=sample")
    names = {name.removeprefix("whole/") for name in listed(bucket, "whole/")}
    assert {"config.json", "metrics.jsonl", "samples/step_00000040_sample.png"} <= names
    assert "samples/step_00000040_sample.npz" in names
    assert "eval/bits_per_dim" in records(bucket, "whole")[-1]
    assert any(name.startswith("tensorboard/events") for name in names)
    said = run(bucket, "gs://bucket/none", "--mode=eval", code=2)
    assert "there is no checkpoint" in said
