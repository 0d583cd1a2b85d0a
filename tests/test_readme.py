"""What the README shows is run as it stands there."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from genjax import config as configs

REPO = pathlib.Path(__file__).resolve().parents[1]
TEXT = (REPO / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(containing):
    (found,) = [b for b in BLOCKS if containing in b]
    return found


def run(containing, names=None):
    names = {} if names is None else names
    exec(compile(block(containing), "README.md", "exec"), names)
    return names


def test_diffusion_loss_example_runs(capsys):
    run("losses.diffusion_loss")
    assert float(capsys.readouterr().out) > 0


@pytest.mark.slow
def test_wasserstein_gan_example_uses_only_the_losses_and_covers_the_modes(capsys):
    code = block("losses.gradient_penalty")
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {"jax", "genjax"}
    assert "from genjax import losses" in code and code.count("genjax") == 1
    run("losses.gradient_penalty")
    assert capsys.readouterr().out == "8 of 8 modes\n"


@pytest.mark.usefixtures("unchecked")  # its data are a NumPy array
def test_flow_example_fits_the_array(capsys):
    run("coupling_flow")
    nats = float(capsys.readouterr().out.split()[0])
    # The entropy of the banana is that of the normal it is a shear of: log(2 pi e) = 2.838 nats.
    assert 2.6 < nats < 2.9


@pytest.mark.parametrize("name", ["score_resnet", "wgan_gp"])
def test_experiment_examples_build(tfds_dir, name):
    config = run(f'name="{name}"')["get_config"]()
    config.data.update(data_dir=tfds_dir, train_split="test[:200]", test_split="test[:200]")
    if name == "wgan_gp":  # it wants a trained classifier where it evaluates
        with pytest.raises(configs.ConfigError, match="no trained classifier|not a classifier"):
            config.eval.features.workdir = "/nowhere"
            configs.build(config)
        config.train.eval_every = 0
    experiment = configs.build(config)
    assert experiment.family.reads == ("label",)


def test_set_up_commands_are_one_line_each_and_name_real_files():
    commands = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    train, test = [c.strip() for c in commands if "venv" in c]
    assert "\n" not in train + test
    assert "scripts/run.py --config=experiments/vdm/digits.py" in train and "pytest" in test


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:scripts|experiments)/[\w/.]+\.\w+", TEXT)))
)
def test_files_named_in_the_readme_exist(path):
    assert (REPO / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", TEXT))))
def test_tests_named_in_the_readme_exist(name):
    found = [p for p in (REPO / "tests").rglob("test_*.py") if f"def {name}(" in p.read_text()]
    assert len(found) == 1


def test_the_pods_commands_are_understood():
    (block,) = re.findall(r"```\n(export POD.*?)```", TEXT, re.DOTALL)
    script = "set -e\n" + "\n".join(
        f"{line} --dry_run" if line.startswith("python") else line for line in block.splitlines()
    )
    folder = pathlib.Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-c", script], cwd=REPO, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert not done.returncode, done.stderr
    for word in ("create", "scp", "run.py", "tail -n", "kill -TERM", "delete"):
        assert word in done.stdout
