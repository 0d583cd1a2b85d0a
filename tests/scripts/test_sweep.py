"""Sweeps, with a stand-in for the runs they start."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import types

import pytest

REPO = pathlib.Path(__file__).resolve().parents[2]
GRID = ["--grid", "optimizer.learning_rate=1e-4,2e-4", "--grid", "model.hidden_size=8,16"]


@pytest.fixture
def sweep(monkeypatch, capsys, tmp_path):
    """Calls the command on the toy experiment; ``.started`` are the runs it has started."""
    spec = importlib.util.spec_from_file_location("sweep", REPO / "scripts" / "sweep.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    started, codes = [], {}

    def start(command, **kwargs):
        words = dict(word.lstrip("-").partition("=")[::2] for word in command[2:])
        folder = pathlib.Path(words["workdir"])
        started.append(words)
        (folder / "checkpoints").mkdir(exist_ok=True)
        rate = float(words.get("config.optimizer.learning_rate", 1.0))
        value = 1e4 * rate + float(words["config.train.seed"])
        value *= float(words.get("config.model.hidden_size", 1.0))
        line = {"step": 1, "eval/nats": value, "eval/bad": float("nan")}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        code = codes.get(len(started), 0)
        if code == "interrupt":
            raise KeyboardInterrupt
        return types.SimpleNamespace(returncode=code)

    monkeypatch.setattr(module.subprocess, "run", start)
    monkeypatch.chdir(REPO)

    def run(*args, config="experiments/vdm/toy2d.py", metrics="nats"):
        argv = ["sweep.py", f"--config={config}", "--seeds=2", f"--workdir={tmp_path}",
                f"--metrics={metrics}", *args]  # fmt: skip
        monkeypatch.setattr(sys, "argv", argv)
        module.main()
        return capsys.readouterr().out.splitlines()

    run.started, run.codes = started, codes
    return run


def test_a_grid_is_every_combination_and_the_table_names_the_keys(sweep, tmp_path):
    assert sweep(*GRID) == [
        "| optimizer.learning_rate | model.hidden_size | nats | seconds a run |",
        "|---|---|---|---|",
        "| 1e-4 | 8 | 12 ± 5.7 | 0 |",
        "| 1e-4 | 16 | 24 ± 11 | 0 |",
        "| 2e-4 | 8 | 20 ± 5.7 | 0 |",
        "| 2e-4 | 16 | 40 ± 11 | 0 |",
    ]
    assert len(sweep.started) == 8 and len({words["workdir"] for words in sweep.started}) == 8
    assert (tmp_path / "run_optimizer.learning_rate=1e-4_model.hidden_size=8_0").is_dir()


def test_a_stopped_sweep_goes_on_where_it_was(sweep, capsys):
    sweep.codes[3] = "interrupt"
    with pytest.raises(SystemExit) as stopped:
        sweep(*GRID)
    assert stopped.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    before = len(sweep.started)  # one more may have begun meanwhile
    assert before in (3, 4), "what is queued is not started"
    sweep.codes[before + 2] = 1
    assert sum("(1 failed: see log.txt)" in row for row in sweep(*GRID)) == 1
    assert len(sweep.started) == 8 + 1, "the one that was stopped is gone on with"
    assert not [row for row in sweep(*GRID) if "failed" in row]
    assert len(sweep.started) == 8 + 2, "the one that failed"
    sweep(*GRID, "--config.train.num_steps=7")  # other runs, which go on
    assert len(sweep.started) == 8 + 2 + 8


def test_variants_and_failures_stand_in_the_table_as_without_a_grid(sweep):
    sweep.codes[1] = 2
    table = sweep("--variants=hinge,wgan_gp", config="experiments/gan/ring2d.py")
    assert table[0] == "| variant | nats | seconds a run |"
    assert table[2:] == [
        "| hinge (1 failed: see log.txt) | 1e+04 ± 0 | 0 |",
        "| wgan_gp | 1e+04 ± 0.71 | 0 |",
    ]
    both = sweep("--variants=hinge", "--grid", "family.critic_steps=1,2",
                 config="experiments/gan/ring2d.py", metrics="bad")  # fmt: skip
    assert both[0] == "| variant | family.critic_steps | bad | seconds a run |"
    assert both[2] == "| hinge | 1 | nan ± nan | 0 |"


def test_tuples_are_values(sweep):
    table = sweep("--grid", "model.fourier_exponents=(1,2),(1,)")
    assert [row.split(" | ")[0] for row in table[2:]] == ["| (1,2)", "| (1,)"]
    assert sweep.started[0]["config.model.fourier_exponents"] == "(1,2)"


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.hiden_size=1"], "error: --grid: unknown config key 'model.hiden_size'; did you"),
        (["model.hidden_size=a,b"], "error: --grid: .*hidden_size"),
        (["hidden_size"], "error: --grid must be section.key=value,value,..., got 'hidden_size'"),
        (["model.hidden_size=1", "model.hidden_size=2"], "has model.hidden_size twice"),
        (["model.hidden_size=1,1"], "values of model.hidden_size must differ"),
        (["train.seed=1,2"], "seeds are --seeds"),
    ],
)
def test_grids_that_cannot_be_end_before_any_run(sweep, words, message):
    with pytest.raises(SystemExit, match=message):
        sweep(*[part for word in words for part in ("--grid", word)])
    assert not sweep.started


@pytest.mark.slow
def test_a_grid_of_real_runs(tmp_path):
    script = [sys.executable, "scripts/sweep.py", "--config=experiments/vdm/toy2d.py",
              "--seeds=1", f"--workdir={tmp_path}", "--metrics=bits_per_dim", *GRID[2:],
              "--config.train.num_steps=2", "--config.eval.num_times=1",
              "--config.train.sample_every=0"]  # fmt: skip
    done = subprocess.run(script, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [row.split(" | ") for row in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 8", "| 16"] and all(float(r[1].split()[0]) for r in rows)
    for size in (8, 16):
        config = json.loads((tmp_path / f"run_model.hidden_size={size}_0/config.json").read_text())
        assert config["model"]["hidden_size"] == size
