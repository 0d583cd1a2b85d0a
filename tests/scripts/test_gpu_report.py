"""The report on a GPU: nothing that was found is lost, and all of it runs on a CPU, too."""

import json
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def report():
    return runpy.run_path(str(SCRIPTS / "gpu_report.py"))


def program(text):
    """A part that runs this text, which may write to ``place``."""
    return ("-c", f"import pathlib, sys, time; place = pathlib.Path(sys.argv[1]); {text}", "{json}")


def test_a_part_that_fails_or_is_stopped_keeps_what_it_found(report):
    part, run = report["Part"], report["run"]
    found = run(part("a", program("place.write_text('{\"ms\": 2}')"), 30), 30)
    assert found["state"] == "done" and found["found"] == {"ms": 2} and "reason" not in found
    text = "place.write_text('{\"ms\": 3}'); raise RuntimeError('out of memory')"
    found = run(part("b", program(text), 30), 30)
    assert found["state"] == "failed" and found["found"] == {"ms": 3}
    assert found["reason"] == "RuntimeError: out of memory"
    found = run(part("c", program("place.write_text('{\"ms\": 4}'); time.sleep(60)"), 1), 1)
    assert found["found"] == {"ms": 4} and found["reason"] == "stopped after 1 s"


def test_a_second_call_goes_on_and_tries_failed_parts_last(report):
    parts = [report["Part"](name, (), 1) for name in "abcd"]
    done = {"a": {"state": "failed"}, "b": {"state": "done"}, "c": {"state": "left"}}
    assert [part.name for part in report["to_do"](parts, done)] == ["c", "d", "a"]


def test_the_page_shows_figures_rows_and_reasons(report):
    parts = {
        "device": {"state": "done", "found": {"device": "H0", "versions": {"jax": "0.1"}}},
        "vdm": {"state": "failed", "reason": "too large", "found": {"ms": {"median": 2.5}}},
        "gan": {"state": "done", "found": [{"library": "torch", "ratio": 1.25}]},
    }
    page = report["markdown"]({"smoke": False, "parts": parts})
    assert "# H0: what genjax does there" in page and "* `vdm`: failed: too large" in page
    assert "| ms | 2.5 |" in page and "| torch | 1.25 |" in page


def test_a_check_finds_a_wrong_number(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu_checks

    args = (np.arange(6, dtype=np.float32),)
    right = gpu_checks.errors(("square", lambda x: x * x, lambda x: x * x, args))
    wrong = gpu_checks.errors(("square", lambda x: x * x + 1, lambda x: x * x, args))
    shape = gpu_checks.errors(("square", lambda x: x[:1], lambda x: x, args))
    assert right["passes"] and right["highest"] == 0
    assert not wrong["passes"] and wrong["highest"] == pytest.approx(1 / 25)
    assert not shape["passes"]


def test_every_part_has_a_name_of_its_own(report):
    parts = report["parts"](False)
    assert len({part.name for part in parts}) == len(parts)
    assert {part.name for part in report["parts"](True)} <= {part.name for part in parts}


@pytest.mark.slow
def test_all_parts_run_in_tiny_sizes(tmp_path):
    command = [sys.executable, "scripts/gpu_report.py", f"--out={tmp_path}", "--smoke"]
    done = subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True, timeout=500)
    assert not done.returncode, done.stdout + done.stderr
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert {name: one.get("reason", "") for name, one in parts.items()} == dict.fromkeys(parts, "")
    assert all(row["passes"] for row in parts["numbers.checks"]["found"]["checks"])
    assert parts["numbers.same_bits"]["found"]["arrays_that_differ"] == 0
    assert parts["profile.vdm"]["found"]["operations"]
    assert {row["library"] for row in parts["gan.dcgan_cifar10"]["found"]} == {"genjax", "flax"}
    assert "## vdm.scan" in (tmp_path / "report.md").read_text()
    again = subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True, timeout=60)
    assert not again.returncode and not again.stdout  # nothing is left to do
