"""The table that compares runs."""

import csv
import importlib.util
import io
import json
import pathlib
import sys

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def compare(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("compare", REPO / "scripts" / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, args)])
        module.main()
        return capsys.readouterr().out

    return run


def workdir(place, rows, seconds=None, **train):
    place.mkdir(parents=True)
    train = {"seed": 0, "num_steps": 20, "best_metric": "eval/bits_per_dim", **train}
    config = {"train": train, "model": {"sizes": [1, 2], "rate": 0.5}}
    (place / "config.json").write_text(json.dumps(config))
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"st')
    if seconds:
        (place / "outcome.json").write_text(json.dumps({"code": 0, "seconds": seconds}))


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which the second has been evaluated twice, and a folder that holds none."""
    bits, recall = "eval/bits_per_dim", "eval/recall_digits"
    workdir(tmp_path / "a", [
        {"step": 10, "train/loss": 2.0, "train/steps_per_second": 5.0},
        {"step": 10, bits: 3.0, f"{bits}_stderr": 0.25, recall: 0.5, "eval/split": "test"},
    ], seconds=61.4)  # fmt: skip
    workdir(tmp_path / "b", [
        {"step": 10, "train/loss": 1.0, "train/steps_per_second": 2.0},
        {"step": 10, bits: 1.5, f"{bits}_stderr": 0.125, recall: 0.75},
        {"step": 20, "train/loss": 0.5, "train/steps_per_second": 4.0},
        {"step": 20, bits: float("nan"), recall: 0.25},
        {"step": 20, bits: 2.5, f"{bits}_stderr": 0.5, recall: 0.25},
    ], seed=1, extra="x")  # fmt: skip
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_the_table_has_what_differs_last_and_best_values_steps_and_time(compare, runs):
    a, b = runs / "a", runs / "b"
    head, rule, *lines = compare(f"{runs}/*").splitlines()
    assert head == (
        "| run | train.extra | train.seed | eval/bits_per_dim, last | "
        "eval/bits_per_dim, best (step) | steps | s in steps | s in all |"
    )
    assert rule == "|" + " --- |" * 8
    assert lines == [
        f"| {a} | - | 0 | 3 ± 0.25 | 3 ± 0.25 (10) | 10 of 20 | 2 | 61 |",
        f"| {b} | x | 1 | 2.5 ± 0.5 | 1.5 ± 0.12 (10) | 20 of 20 | 8 | - |",
    ]


def test_metrics_are_chosen_and_better_the_higher_where_they_are(compare, runs):
    lines = compare(runs / "a", runs / "b", "--metrics=recall_digits,train/loss").splitlines()
    assert (
        "eval/recall_digits, last | eval/recall_digits, best (step) | train/loss, last" in lines[0]
    )
    assert "| 0.25 | 0.75 (10) | 0.5 | 0.5 (20) |" in lines[3]


def test_csv_has_one_number_a_cell(compare, runs):
    first, second = csv.DictReader(io.StringIO(compare(f"{runs}/*", "--format=csv")))
    assert (first["train.extra"], second["train.extra"]) == ("", "x")
    assert second["eval/bits_per_dim"] == "2.5" and second["eval/bits_per_dim_stderr"] == "0.5"
    best = [second[f"eval/bits_per_dim_best{end}"] for end in ("", "_stderr", "_step")]
    assert best == ["1.5", "0.125", "10"]
    assert (second["step"], second["num_steps"], second["seconds_training"]) == ("20", "20", "7.5")
    assert (first["seconds"], second["seconds"]) == ("61.4", "")


def test_one_run_differs_in_nothing_and_one_without_evaluation_shows_its_loss(compare, tmp_path):
    workdir(tmp_path / "a", [{"step": 4, "train/loss": 2.0}])
    lines = compare(tmp_path / "a").splitlines()
    assert lines[0] == "| run | train/loss, last | train/loss, best (step) | steps | s in steps |"
    assert lines[2].endswith("| 2 | 2 (4) | 4 of 20 | - |")


@pytest.mark.parametrize(
    "args, message",
    [
        (["{}/nothing*"], "nothing.* holds no run"),
        (["{}/notes"], "notes holds no run: the config.json of"),
        (["{}/a", "--metrics=fid"], "no run has logged eval/fid; valid: eval/bits_per_dim, eval/r"),
        (["s3://bucket/run"], "error: a workdir cannot be in s3://"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(compare, runs, args, message):
    with pytest.raises(SystemExit, match=message) as ended:
        compare(*[arg.format(runs) for arg in args])
    assert "\n" not in ended.value.code and ended.value.code.startswith("error: ")
