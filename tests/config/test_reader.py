"""How experiment files are read, completed and overridden."""

import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from genjax import config as configs
from genjax.config.arguments import Argument, fill_in, settable

RING = "experiments/gan/ring2d.py"


def test_overrides_come_from_the_list_and_not_from_the_program_that_asks(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--config.train.num_steps=9"])
    assert configs.load_config(RING).train.num_steps == 8000
    config = configs.load_config(RING, ["--config.train.num_steps=7", "--config.train.seed", "3"])
    assert (config.train.num_steps, config.train.seed) == (7, 3)
    assert configs.load_config(f"{RING}:wgan").family.clip_limit == 0.1


def test_what_is_left_out_can_be_overridden_whatever_its_default():
    config = configs.load_config(
        RING,
        [
            "--config.data.data_dir=/data",
            "--config.family.clip_limit=0.5",
            "--config.eval.num_reference=9",
            "--config.family.penalties={'r1': 3.0}",
            "--config.optimizer.critic.decay_steps=100",
            "--config.parallel.strategy=pmap",
        ],
    )
    assert config.data.data_dir == "/data" and config.family.clip_limit == 0.5
    assert config.eval.num_reference == 9 and config.family.penalties.to_dict() == {"r1": 3.0}
    assert config.optimizer.critic.decay_steps == 100 and config.parallel.strategy == "pmap"


def test_none_can_be_said_on_the_command_line():
    overrides = ["--config.data.data_dir=None", "--config.optimizer.critic.clip_norm=None"]
    config = configs.load_config(RING, [*overrides, "--config.train.num_steps=7"])
    assert config.data.data_dir is None and config.optimizer.critic.clip_norm is None
    assert config.train.num_steps == 7


def test_another_name_brings_its_own_keys():
    config = configs.load_config(
        "experiments/flow/toy2d.py:affine",
        ["--config.optimizer.name=adam", "--config.optimizer.b1=0.4", "--config.data.name=swirl"],
    )
    assert config.optimizer.b1 == 0.4 and config.optimizer.learning_rate == 1e-3
    assert "weight_decay" not in config.optimizer, "adam has none"
    configs.build(config)


def test_another_name_forgets_no_typo():
    config = configs.as_dict(configs.load_config(RING))
    config["optimizer"]["critic"]["learning_rat"] = 1.0
    words = ["--config.optimizer.critic.name=rmsprop"]
    with pytest.raises(configs.ConfigError, match="did you mean 'learning_rate'"):
        configs.build(configs.load_config(config, words))


def test_the_sampler_of_a_diffusion_model_is_named_on_the_command_line():
    file = "experiments/diffusion/digits.py:edm"
    words = ["--config.sample.sampler.name=dpm_solver", "--config.sample.sampler.order=3"]
    sampler = configs.load_config(file, words).sample.sampler
    assert sampler.name == "dpm_solver" and sampler.order == 3 and "churn" not in sampler
    # A section that is not there is made, and one that is there can be left out.
    words = ["--config.sample.guidance.name=classifier_free", "--config.sample.guidance.scale=2"]
    guidance = configs.load_config(file, words).sample.guidance
    assert guidance.name == "classifier_free" and guidance.scale == 2.0
    mnist = "experiments/diffusion/mnist.py"
    assert configs.load_config(mnist, ["--config.sample.guidance=None"]).sample.guidance is None
    with pytest.raises(configs.ConfigError, match="unknown config key 'sample.smpler'"):
        configs.load_config(mnist, ["--config.sample.smpler.name=heun"])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["--config.train.keep_chekpoints=5"], r"did you mean 'keep_checkpoints'"),
        (["--config.trian.seed=5"], r"unknown config key 'trian'; did you mean 'train'"),
        (["--config.train.num_steps=many"], r"num_steps.*many|many.*num_steps"),
        (["--config.train.num_steps"], "has no value"),
        (["train.num_steps=3"], r"expected --config\.section\.key=value"),
        (["--config.model.critic.name=mpl"], r"did you mean 'mlp'"),
        (
            ["--config.model.critic=mlp"],
            r"a section; did you mean --config\.model\.critic\.name=mlp",
        ),
        (["--config.train.num_steps=None"], r"train\.num_steps must not be None"),
        (["--config.train.num_steps", "--config.train.seed=3"], "num_steps has no value"),
        ("train.num_steps=5", "overrides must be a mapping"),
        (3, "overrides must be a mapping"),
        ({5: 5}, r"overrides are by section\.key, got 5"),
        ({"train.num_stps": 3}, r"did you mean 'num_steps'"),
    ],
)
def test_overrides_of_nothing_are_named(overrides, message):
    with pytest.raises(configs.ConfigError, match=message) as caught:
        configs.load_config(RING, overrides)
    assert "<class" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("import nowhere_at_all", "cannot be read: ModuleNotFoundError: No module named"),
        ("x = 1", r"has no function get_config\(\)"),
        ("def get_config(): return 3", "a config is a mapping of sections, got int"),
        ("def get_config(): return dict(train=3)", "section 'train' must be a mapping, got 3"),
        ("def get_config(): raise ValueError('no such variant')", "no such variant"),
        ("def get_config(): return {}['name']", r"get_config\(\) failed: KeyError: 'name'"),
        ("def get_config(): return dict(family='vdm')", "section 'family' must be a mapping"),
        ("def get_config(): return dict(family=dict(name=['vdm']))", "family.name must be str"),
        ("def get_config(): return dict()", "has no section 'data'"),
    ],
)
def test_files_that_are_no_experiments_are_named(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(configs.ConfigError, match=message):
        configs.load_config(str(file))
    with pytest.raises(configs.ConfigError, match="there is no experiment file /no.py"):
        configs.load_config("/no.py")


def test_a_plain_dict_and_a_config_dict_are_one(tmp_path):
    plain = configs.as_dict(configs.load_config(RING))
    assert configs.complete(plain) == configs.complete(ConfigDict(plain)) == plain
    file = tmp_path / "mine.py"
    file.write_text(f"def get_config():\n    return {plain!r}\n")
    assert configs.as_dict(configs.load_config(str(file))) == plain


def test_defaults_fill_what_is_left_out_and_numbers_become_what_they_stand_for():
    valid = {"rate": Argument(float, 0.1), "size": Argument(int | None, None)}
    assert fill_in({"rate": 1}, valid) == {"rate": 1.0, "size": None}
    assert fill_in({"other": 3}, valid)["other"] == 3, "refused by name later"
    assert type(fill_in({"rate": 1}, valid)["rate"]) is float
    for hint, value in [(int | None, 3), (str | None, "a"), (float | None, 0.5)]:
        config = ConfigDict({"key": settable(None, hint)})
        config.key = value
        assert config.key == value
    assert settable(4, int) == 4


def test_every_row_of_the_tables_can_be_completed():
    from genjax.config import tables
    from genjax.config.arguments import arguments

    for name, recipe in tables.FAMILIES.items():
        keys = recipe.keys()
        assert "optimizer" not in keys and "event_shape" not in keys, name
        for group in recipe.groups.values():
            assert set(arguments(group)) - set(recipe.fixes) <= set(keys), name
    assert "penalties" not in tables.FAMILIES["wgan_gp"].keys()
    assert np.isclose(tables.FAMILIES["wgan"].keys()["clip_limit"].default, 0.01)
