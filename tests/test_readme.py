"""What the README shows is run as it stands there."""

import pathlib
import re

import pytest

from genjax import builders

REPO = pathlib.Path(__file__).resolve().parents[1]
TEXT = (REPO / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def block(containing):
    (found,) = [b for b in BLOCKS if containing in b]
    return found


def test_reuse_example_runs(capsys):
    exec(compile(block("from genjax import losses"), "README.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0


def test_experiment_example_builds(tfds_dir):
    names: dict = {}
    exec(compile(block("def get_config"), "README.md", "exec"), names)
    config = names["get_config"]()
    config.data.update(data_dir=tfds_dir, train_split="test[:200]", test_split="test[:200]")
    experiment = builders.build(config)
    assert experiment.num_classes == 10 and experiment.eval.num_times == 8


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
