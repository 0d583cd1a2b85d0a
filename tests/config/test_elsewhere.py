"""Families, networks, data sets and more from a package outside of this repository."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax
import numpy as np
import pytest

import genjax
from genjax import config as configs

NEBULAE = {
    "nets.py": '''
        import flax.linen as nn


        class TwoLayers(nn.Module):
            """Denoises rows of a table."""

            hidden_size: int = 16
            event_rank = 1

            @nn.compact
            def __call__(self, x):
                return nn.Dense(x.shape[-1])(nn.relu(nn.Dense(self.hidden_size)(x)))
        ''',
    "data.py": """
        import numpy as np

        from genjax.data import from_arrays


        def load(split, *, data_dir=None, num_rows: int = 64):
            rng = np.random.default_rng(len(split))
            x = rng.normal(size=(num_rows, 3)).astype(np.float32)
            return from_arrays("nebulae", x=x, redshift=rng.random((num_rows, 2)))


        class Shift:
            def __init__(self, *, by: float):
                self.by = by

            def prepare(self, x):
                return x + np.float32(self.by)
        """,
    "families.py": """
        import jax
        import jax.numpy as jnp

        from genjax.config import Recipe, Slot
        from genjax.families.base import Family, Samples, init_network
        from genjax.families.minimizing import minimizing
        from nebulae import nets

        def autoencoder(*, net, optimizer, event_shape, noise_scale: float = 0.3):
            if noise_scale <= 0:
                raise ValueError(f"noise_scale must be positive, got {noise_scale}")

            def init_model(key, batch):
                params, state = init_network(net, key, jnp.zeros((1, *event_shape)))
                return {"net": params}, {"net": state}

            def denoise(params, state, x):
                return net.apply({"params": params["net"], **state["net"]}, x)

            def loss(params, state, batch, key, step):
                x = batch["x"]
                noisy = x + noise_scale * jax.random.normal(key, x.shape)
                return jnp.mean((denoise(params, state, noisy) - x) ** 2), ({}, state)

            def sample(state, key, batch):
                assert batch["redshift"].shape[1:] == (2,)
                noise = jax.random.normal(key, (batch["x"].shape[0], *event_shape))
                return Samples(rows=denoise(state.ema, state.model_state, noise))

            init, train_step = minimizing(
                init_model=init_model, loss_and_grad=jax.value_and_grad(loss, has_aux=True),
                optimizer=optimizer, ema_decay=0.9,
            )
            return Family(init=init, train_step=train_step, sample=sample, eval_protocol={},
                          reads=("redshift",))

        RECIPE = Recipe(make=autoencoder, networks={"net": Slot(table={"two": nets.TwoLayers})})
        """,
    "__init__.py": "",
}
CONFIG = """
    def get_config():
        return dict(
            data=dict(name="nebulae.data:load", options=dict(num_rows=50), batch_size=8,
                      transforms=(dict(name="nebulae.data:Shift", by=0.5),)),
            model=dict(name="nebulae.nets:TwoLayers", hidden_size=5),
            family=dict(name="nebulae.families:RECIPE", noise_scale=0.2),
            optimizer=dict(name="optax:sgd", learning_rate=0.1),
            train=dict(num_steps=40, log_every=10, eval_every=0, sample_every=0,
                       checkpoint_every=5),
            sample=dict(num_samples=6),
        )
    """


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with the package and an experiment, which can be imported here, too."""
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "nebulae").mkdir()
    for name, text in NEBULAE.items():
        (place / "nebulae" / name).write_text(textwrap.dedent(text))
    (place / "mine.py").write_text(textwrap.dedent(CONFIG))
    sys.path.insert(0, str(place))
    yield place
    sys.path.remove(str(place))


def command(place, *args):
    env = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, "-m", "genjax", f"--config={place}/mine.py", *args],
        env=env, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def states(workdir):
    run = genjax.load(workdir, quiet=True)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(run.state)]


@pytest.mark.slow
def test_a_package_elsewhere_trains_is_killed_resumes_and_samples(elsewhere, tmp_path):
    long = ["--config.train.num_steps=4000", "--config.train.checkpoint_every=400"]
    killed = command(elsewhere, f"--workdir={tmp_path / 'killed'}", *long)
    checkpoints = tmp_path / "killed" / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints.exists() and any(p.name.isdigit() for p in checkpoints.iterdir())):
        assert time.monotonic() < deadline and killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for name in ("killed", "whole"):
        done = command(elsewhere, f"--workdir={tmp_path / name}", *long)
        out, _ = done.communicate(timeout=300)
        assert done.returncode == 0, out
    for a, b in zip(states(tmp_path / "killed"), states(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)
    done = command(elsewhere, f"--workdir={tmp_path / 'whole'}", "--mode=sample", *long)
    out, _ = done.communicate(timeout=300)
    assert done.returncode == 0 and "6 samples" in out, out


def test_the_complete_config_finds_the_package_again(elsewhere, tmp_path):
    experiment = genjax.build(str(elsewhere / "mine.py"), {"train.num_steps": 2})
    assert experiment.train_data.source.rows(np.arange(50))["x"].mean() == pytest.approx(
        0.5, abs=0.2
    )
    genjax.Run(experiment, tmp_path, quiet=True).train()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["name"] == "nebulae.nets:TwoLayers"
    assert config["optimizer"]["nesterov"] is False, "defaults of the optimiser, too"
    assert config["data"]["options"] == {"num_rows": 50}
    run = genjax.load(tmp_path, quiet=True)
    assert run.sample(4).shape == (4, 3), "it reads rows of the test split"
    assert run.sample(redshift=np.zeros((5, 2))).shape == (5, 3)
    assert genjax.build(str(elsewhere / "mine.py"), ["--config.optimizer.nesterov=true"])


def test_options_of_a_function_have_its_defaults_and_are_its_own(elsewhere):
    config = configs.as_dict(configs.load_config(str(elsewhere / "mine.py")))
    del config["data"]["options"]
    completed = configs.load_config(config, ["--config.data.options.num_rows=40"])
    assert completed.data.options.num_rows == 40
    config["data"] |= dict(options=dict(num_rows=50), streams=dict(sky=dict(name="swirl")))
    experiment = genjax.build(config)
    assert experiment.spec["sky/x"].shape == (2,)


BROKEN = """
import flax.linen as nn
import numpy as np
from genjax.data import from_arrays


def raises(split):
    raise KeyError("boom")


def holes(split):
    return from_arrays("holes", x=np.full((9, 3), np.nan, np.float32))


def labels(split):
    return from_arrays("labels", x=np.zeros((9, 3)), label=np.arange(9) - 1)


class Fewer:
    def prepare(self, x):
        return x[:5]


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x, y):
        return x
"""


@pytest.mark.parametrize("changes, message", [
    ({"data.name": "broken:raises"}, r"data.name 'broken:raises' failed: KeyError: 'boom'"),
    ({"data.name": "broken:holes"}, r"data: x of holes holds NaN or infinity"),
    ({"data.name": "broken:labels"}, r"label must hold class ids .* from -1 to"),
    ({"data.transforms": (dict(name="broken:Fewer"),)}, "must keep the rows: 50 became 5"),
    ({"model.name": "broken:Deep"}, "cannot be initialised with this data: TypeError"),
    ({"model.name": "unparsable:Deep"}, "cannot be imported: SyntaxError"),
])  # fmt: skip
def test_what_fails_in_a_package_elsewhere_is_one_line_that_names_the_key(
    elsewhere, changes, message
):
    (elsewhere / "broken.py").write_text(BROKEN)
    (elsewhere / "unparsable.py").write_text("def (")
    config = configs.as_dict(configs.load_config(str(elsewhere / "mine.py")))
    if "data.name" in changes:
        config["data"]["options"] = None
    if "model.name" in changes:
        del config["model"]["hidden_size"]
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(config, changes)


@pytest.mark.parametrize("changes, message", [
    ({"model.name": "nebulae.nets:ThreeLayers"}, "did you mean .TwoLayers.. valid: TwoLayers$"),
    ({"model.name": "nebula.nets:TwoLayers"}, "cannot be imported: No module named 'nebula'"),
    ({"model.name": "tow"}, "unknown model.name 'tow'; did you mean 'two'"),
    ({"family.name": "nebulae.families:autoencoder"}, "must lead to a genjax.config.Recipe"),
    ({"data.name": "nebulae.data:np"}, "expected a function or a class, got module"),
    ({"data.options": {"num_row": 3}}, "did you mean 'num_rows'"),
    ({"data.options": {"num_rows": "3"}}, "data.options.num_rows must be int, got '3'"),
    ({"family.noise_scale": -1.0}, "family: noise_scale must be positive"),
    ({"family.noise_scale": "much"}, "family.noise_scale must be float, got 'much'"),
    ({"model.hidden_size": 5.5}, "model.hidden_size must be int"),
    ({"optimizer.learning_rat": 5.5}, "did you mean 'learning_rate'"),
])  # fmt: skip
def test_mistakes_are_named_as_those_of_names_here(elsewhere, changes, message):
    with pytest.raises((configs.ConfigError, TypeError), match=message):
        genjax.build(str(elsewhere / "mine.py"), changes)


def gan(**critic):
    small = dict(name="dcgan", channels=8, min_channels=4)
    return dict(
        data=dict(name="digits", batch_size=16),
        model=dict(generator=small, critic=critic or dict(small, norm="none")),
        family=dict(name="gan", latent_size=4),
        optimizer=dict(generator=dict(name="adam"), critic=dict(name="adam")),
        train=dict(num_steps=4, log_every=2, eval_every=0, sample_every=0, checkpoint_every=2),
    )


@pytest.mark.slow
def test_a_frozen_network_stands_for_one_to_train_and_its_run_is_needed_once(tmp_path):
    source = genjax.Run(genjax.build(gan()), tmp_path / "source", quiet=True)
    source.train()
    frozen = dict(workdir=str(tmp_path / "source"), what="params", network="critic")
    config = gan(frozen=frozen)
    whole = genjax.Run(genjax.build(config), tmp_path / "whole", quiet=True)
    whole.train()
    held = whole.state.model_state["critic"]["frozen"]["variables"]["params"]
    for a, b in zip(
        jax.tree.leaves(held), jax.tree.leaves(source.state.params["critic"]), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert not jax.tree.leaves(whole.state.params["critic"])
    genjax.Run(genjax.build(config, {"train.num_steps": 2}), tmp_path / "parts", quiet=True).train()
    shutil.rmtree(tmp_path / "source")
    rest = genjax.load(tmp_path / "parts", {"train.num_steps": 4}, quiet=True)
    rest.train()
    for a, b in zip(jax.tree.leaves(rest.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("frozen, message", [
    (dict(workdir="/nowhere"), r"model.critic.frozen.workdir: there is no trained run in /nowhere"),
    (dict(), "no model.critic.frozen.workdir"),
    (dict(workdir="{source}"), "has several networks; name one of generator, critic"),
    (dict(workdir="{source}", network="critik"), "did you mean 'critic'"),
    (dict(workdir="{source}", network="critic", what="best"), "frozen.what must be Literal"),
])  # fmt: skip
def test_bad_frozen_sections_are_named(tmp_path, frozen, message):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(configs.as_json(configs.complete(gan()))))
    frozen = {k: v.format(source=source) for k, v in frozen.items()}
    with pytest.raises(configs.ConfigError, match=message):
        genjax.build(gan(frozen=frozen))


def test_a_loss_from_elsewhere_is_played(elsewhere, tmp_path):
    (elsewhere / "nebulae" / "losses.py").write_text(
        "from genjax.losses import ADVERSARIAL_LOSSES\nMINE = ADVERSARIAL_LOSSES['hinge']\n"
    )
    made = []
    for loss in ("nebulae.losses:MINE", "hinge"):
        config = gan()
        config["family"]["loss"] = loss
        run = genjax.Run(genjax.build(config), tmp_path / loss[-5:], quiet=True)
        run.train()
        made.append(jax.tree.leaves(run.state))
    for a, b in zip(*made, strict=True):
        np.testing.assert_array_equal(a, b)
    config["family"]["loss"] = "nebulae.losses:MIN"
    with pytest.raises(configs.ConfigError, match="did you mean 'MINE'"):
        genjax.build(config)
