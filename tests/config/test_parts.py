"""Parts of other packages, optimisers and files that do not fit are one line, at build time."""

import copy
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import genjax
from genjax import config as configs
from genjax import data
from genjax.config import features
from genjax.training import workdir

PARTS = """
import flax.linen as nn


def _score_net(columns, squeeze=False):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, z_t, time, label=None, *, deterministic=True):
            y = nn.Dense(columns)(z_t)
            return y[:, 0] if squeeze else y

    return Net


Narrow, Wide, Flat, Right = (
    _score_net(1), _score_net(5), _score_net(1, squeeze=True), _score_net(2)
)


class Untrained(nn.Module):
    @nn.compact
    def __call__(self, latent, label=None):
        return nn.Dense(2)(latent)


class ThreeColumns(nn.Module):
    @nn.compact
    def __call__(self, latent, label=None, *, train=False):
        return nn.Dense(3)(latent)


class WithoutKey:
    def augment(self, x):
        return x
"""
VDM = dict(
    data=dict(name="two_moons", batch_size=16),
    model=dict(name="score_mlp", hidden_size=8, num_layers=1),
    family=dict(name="vdm", schedule=dict(name="fixed_linear")),
    optimizer=dict(name="adam"),
    train=dict(num_steps=2, eval_every=0),
)
MLP = dict(name="mlp", hidden_size=8, num_layers=1)
GAN = dict(
    VDM,
    model=dict(generator=MLP, critic=MLP),
    family=dict(name="gan"),
    optimizer=dict(generator=dict(name="adam"), critic=dict(name="adam")),
)


MIXTURE = dict(
    data=dict(name="two_moons", batch_size=16),
    family=dict(name="mixture", component=dict(name="gaussian")),
    train=dict(num_steps=2, eval_every=0),
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    (place / "moonkit").mkdir()
    (place / "moonkit" / "__init__.py").write_text("")
    (place / "moonkit" / "nets.py").write_text(PARTS)
    sys.path.insert(0, str(place))
    yield "moonkit.nets"
    sys.path.remove(str(place))


@pytest.mark.parametrize("family", ["vdm", "flow_matching"])
@pytest.mark.parametrize("net", ["Narrow", "Wide", "Flat"])
def test_a_score_network_of_another_shape_is_found_at_build_time(parts, family, net):
    config = dict(VDM, model=dict(name=f"{parts}:{net}"))
    if family == "flow_matching":
        config["family"] = dict(name=family)
    message = f"model: a training step with moonkit.nets:{net} cannot be traced: "
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(config)
    config["model"] = dict(name=f"{parts}:Right")
    genjax.build(config)


@pytest.mark.parametrize("config, changes, message", [
    (VDM, {"model": dict(name="moonkit.nets.Right")}, r"has a colon: moonkit\.nets:Right$"),
    (VDM, {"data.transforms": (dict(name="moonkit.nets:WithoutKey"),)},
     r"data\.transforms: TypeError: WithoutKey\.augment\(\) takes 2 positional arguments but 3"),
    (GAN, {"model.generator": dict(name="moonkit.nets:Untrained")}, "Untrained.*train"),
    (GAN, {"model.generator": dict(name="moonkit.nets:ThreeColumns")},
     r"family: the generator must give rows of the data's shape \(2,\), but it gives \(3,\)"),
    (VDM, {"data.name": " cifar10"}, "data: unknown data set ' cifar10', did you mean 'cifar10'"),
    (VDM, {"data.name": "Digits"}, "data: unknown data set 'Digits', did you mean 'digits'"),
    (VDM, {"data.name": "../x"}, "data: unknown data set '../x': expected digits"),
    (VDM, {"optimizer": dict(name="optax:chain")}, "optimizer.name 'optax:chain' is no optimiser"),
    (VDM, {"optimizer": dict(name="optax:scale_by_adam")}, "is no optimiser by itself"),
    (VDM, {"optimizer": dict(name="os:getcwd")}, "optimizer.name 'os:getcwd' is no optimiser"),
    (VDM, {"optimizer": dict(name="os:path")}, "'os:path': expected a function or a class, got"),
    (VDM, {"optimizer": dict(name="math:hypot")}, "does not say which arguments it has"),
    (VDM, {"optimizer": dict(name="optax", optimizer="chain")}, "no optimiser 'chain' with a lear"),
    (VDM, {"optimizer": dict(name="optax", optimizer="loin")}, "did you mean 'lion'"),
    (VDM, {"optimizer.name": "a:b:c"}, "'a:b:c' is no import path: expected package"),
    (VDM, {"data.streams": {"a/b": dict(name="digits")}}, "a stream must be of letters"),
    (MIXTURE, {"model": dict(name="unet")}, "model must be left out: the family has no network; g"),
    (MIXTURE, {"optimizer": dict(name="adam")}, "optimizer must be left out: the family has no op"),
    (MIXTURE, {"family.labels": True}, "family: labels is True, but the data has no labels"),
    (MIXTURE, {"family.component": dict(name="bernoulli")}, "binary data .* data has real numbers"),
    (MIXTURE, {"family.component": dict(name="gaussian", shrinkage=2.0)}, r"shrinkage must be in"),
    (MIXTURE, {"family.component": dict(name="gausian")}, "did you mean 'gaussian'"),
    (MIXTURE, {"family.num_components": 0}, "family.num_components must be at least 1, got 0"),
    (MIXTURE, {"family.num_classes": 3}, "unknown config key 'family.num_classes'"),
    (MIXTURE, {"sample": dict(sampler=dict(name="heun"))}, "does not go from noise to data"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line_that_says_what_to_do(parts, config, changes, message):
    with pytest.raises(configs.ConfigError, match=message) as caught:
        config = copy.deepcopy(config)
        for path, value in changes.items():
            *place, last = path.split(".")
            node = config
            for key in place:
                node = node[key]
            node[last] = value
        genjax.build(config)
    assert "\n" not in str(caught.value)


def test_what_needs_no_rows_is_refused_before_they_are_read(monkeypatch):
    def read(*args, **kwargs):
        raise AssertionError("rows were read")

    monkeypatch.setattr(data, "load", read)
    for changes in (
        {"model.num_layers": -1},
        {"optimizer.learning_rate": -1.0},
        {"family.ema_deca": 0.5},
        {"family.schedule": dict(name="cosine")},
        {"data.train_split": "[[["},
        {"data.options": dict(rows=3)},
        {"data.transforms": (dict(name="random_crop", padding=0),)},
        {"data.batch_size": 0},
        {"train.seed": -1},
    ):
        with pytest.raises(configs.ConfigError, match=next(iter(changes)).partition(".")[0]):
            genjax.build(VDM, changes)


def test_batches_larger_than_the_set_are_said_in_a_line(caplog):
    few = {"data.train_split": "train[:30]", "data.test_split": "test[:30]"}
    genjax.build(VDM, {**few, "data.batch_size": 40})
    assert "data.batch_size is 40, but two_moons has 30 rows to train on" in caplog.text
    points = {"train.eval_every": 1, "train.best_metric": "eval/bits_per_dim"}
    genjax.build(VDM, {**few, **points})
    assert "eval.batch_size" not in caplog.text, "nobody asked for it"
    genjax.build(VDM, {**few, **points, "eval.batch_size": 300})
    assert "eval.batch_size is 300, but two_moons has 30 rows to test on" in caplog.text


def test_damaged_weights_and_classifiers_are_named(tmp_path):
    images = data.from_arrays("images", x=np.zeros((8, 8, 8, 3), np.uint8))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "folder.npz").mkdir()
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(configs.ConfigError, match=rf"eval\.features\.weights: .*{file.name}"):
            features.inception_features(dataset=images, weights=str(file))
    digits = data.load("digits", "train")
    for text in ("[]", "{}", "x", '{"family": {"name": "classifier"}}', '{"family": 3}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(configs.ConfigError, match=r"eval\.features"):
            features.classifier_features(dataset=digits, workdir=str(tmp_path))


def test_workdirs_that_cannot_be_reached_are_one_line():
    for place in ("bar://x/y", "s3://nowhere/x"):
        with pytest.raises(workdir.WorkdirError, match="a workdir cannot be in .*://: Orbax"):
            workdir.resolved(place)


def test_experiment_files_that_are_none_are_named(tmp_path):
    binary, left, own = tmp_path / "b.py", tmp_path / "left.py", tmp_path / "own.json"
    binary.write_bytes(b"\x00\xff\x7fELF")
    left.write_text("import sys\nsys.exit(3)\n")
    own.write_bytes(b"\xff{")
    for file, message in [
        (tmp_path, "is a directory: expected an experiment file, such as .*b.py"),
        (binary, "cannot be read: .*expected an experiment file"),
        (left, r"cannot be read: SystemExit: 3 \(line 2\)"),
        (own, "cannot be read"),
        ("", "there is no experiment file ''"),
    ]:
        with pytest.raises(configs.ConfigError, match=message):
            configs.load_config(str(file))
    (tmp_path / "none.py").write_text("def get_config():\n    pass\n")
    with pytest.raises(configs.ConfigError, match="got NoneType; does get_config"):
        configs.load_config(tmp_path / "none.py")
    (tmp_path / "plain.py").write_text(f"def get_config():\n    return {VDM!r}\n")
    assert configs.load_config(tmp_path / "plain.py").family.name == "vdm"


def test_values_of_the_command_line_that_cannot_be_read_name_key_and_type():
    for word, message in [
        ("data.streams=abc", r"data\.streams=abc cannot be read: expected Mapping"),
        ("train.num_steps=1e400", r"train\.num_steps=1e400 cannot be read: expected int"),
    ]:
        with pytest.raises(configs.ConfigError, match=message):
            configs.load_config(VDM, [f"--config.{word}"])


PROGRAM = """
import sys
from genjax.command import run
sys.argv = {argv!r}
run()
"""


@pytest.mark.parametrize("argv, env, message", [
    (["--config=experiments/gan/ring2d.py", "--workdir=s3://nowhere/x"], {}, "cannot be in s3://"),
    (["--config=experiments/gan/ring2d.py", "--workdir={tmp}"], {"JAX_PLATFORMS": "cuda"},
     "jax finds no devices (JAX_PLATFORMS is 'cuda'"),
])  # fmt: skip
def test_a_machine_that_lacks_something_is_bad_input(tmp_path, argv, env, message):
    argv = ["x", *[word.replace("{tmp}", str(tmp_path)) for word in argv]]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(argv=argv))],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line and "Traceback" not in done.stderr


def test_devices_to_plan_for_are_checked_before_any_is_made_up():
    done = subprocess.run(
        [sys.executable, "-m", "genjax", "--config=experiments/gan/ring2d.py", "--mode=plan",
         "--config.parallel.plan_devices=1000000000000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr[-2000:]
    assert "error: parallel.plan_devices must be at most 65536" in done.stderr


def test_help_is_one_screen_that_says_how_to_go_on():
    done = subprocess.run(
        [sys.executable, "-m", "genjax", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) < 50 and max(map(len, lines)) <= 100
    for word in ("--config ", "--workdir ", "--mode ", "--allow_config_change", "plan ", "export ",
                 "--config.train.num_steps=500", "docs/configs.md", "Exit codes"):  # fmt: skip
        assert word in done.stdout, word


def test_numbers_of_numpy_and_paths_are_written_as_json(tmp_path):
    config = copy.deepcopy(VDM)
    config["model"]["hidden_size"] = np.int64(8)
    config["optimizer"]["learning_rate"] = np.float32(0.5)
    config["data"]["data_dir"] = tmp_path
    made = json.loads(json.dumps(genjax.build(config).config))
    assert made["model"]["hidden_size"] == 8 and made["optimizer"]["learning_rate"] == 0.5
    assert made["data"]["data_dir"] == str(tmp_path)
