"""Whatever is made wrong in a config ends in one line that names the key."""

import collections
import importlib.util
import pathlib
import random
import sys

import pytest


def helper():
    """The module beside this file, which is no package."""
    place = pathlib.Path(__file__).with_name("mutations.py")
    spec = importlib.util.spec_from_file_location("mutations", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module
    spec.loader.exec_module(module)
    return module


mutations = helper()


@pytest.fixture(scope="module")
def completed():
    return mutations.completed_configs()


@pytest.mark.parametrize("count, seed", [(100, 0), pytest.param(300, 1, marks=pytest.mark.slow)])
def test_whatever_is_made_wrong_is_one_line_that_names_the_key(completed, count, seed):
    every = mutations.every_mutation(completed)
    chosen = random.Random(seed).sample(every, count)
    counts = collections.Counter()
    for mutation in chosen:
        found = mutations.outcome(completed[mutation.config], mutation)
        assert found.kind in ("built", "refused"), (mutation, found)
        counts[found.kind] += 1
    assert counts["refused"] > count / 2, "most of what was done to them is wrong"


@pytest.mark.parametrize("config, key, what", [
    ("gan", "data.transforms", "0.5"),
    ("gan", "data.transforms", "{'a': 1}"),
    ("jet", "model.kinds.1", "[]"),
    ("jet", "model.kinds.8", "' x'"),
    ("r3gan", "model.generator.hidden_size", "0"),
    ("sngan", "model.critic.hidden_size", "-1"),
    ("gan", "model.generator.num_layers", "10**12"),
    ("flow_matching", "model.num_layers", "10**12"),
    ("gan", "family.critic_steps", "10**12"),
    ("gan", "optimizer.critic.learning_rate", "inf"),
    ("gan", "optimizer.critic.learning_rate", "=1e400"),
    ("gan", "optimizer.critic.clip_norm", "True"),
    ("gan", "train.num_steps", "True"),
    ("vdm", "family.schedule.gamma_0", "nan"),
    ("hinge_gan", "family.penalties.r1", "inf"),
    ("vdm", "data.name", "spaces"),
    ("vdm", "data.name", "upper case"),
    ("vdm", "optimizer.name", "list of it"),
    ("vdm", "family", "' x'"),
    ("vdm", "train", "3"),
    ("vdm", "model", "(0,)"),
    ("vdm", "data.data_dir", "object()"),
    ("glow", "model.dtype", "set()"),
    ("glow", "model.dtype", "lambda"),
    ("classifier", "data.streams.more.name", "10**12"),
    ("classifier", "data.streams.more", "3"),
    ("classifier", "data.streams", "=abc"),
    ("gan", "eval.metrics", "[1, 'a']"),
    ("gan", "eval.metrics", "' x'"),
    ("vdm", "parallel.cpu_devices", "10**12"),
    ("vdm", "parallel.cpu_devices", "True"),
    ("vdm", "model.num_layers", "= x"),
    ("vdm", "model.num_layers", "="),
    ("vdm", "model", "={"),
])  # fmt: skip
def test_what_once_ended_otherwise_is_refused(completed, config, key, what):
    found = mutations.outcome(completed[config], mutations.Mutation(config, key, what))
    assert found.kind == "refused", found
    last = [part for part in key.split(".") if not part.isdigit()][-1]
    assert last in found.message


@pytest.mark.parametrize("config, key, what", [
    ("gan", "model.generator.num_layers", "np.int64(3)"),
    ("vdm", "optimizer.learning_rate", "np.float32(0.5)"),
    ("vdm", "data.data_dir", "Path('a/b')"),
    ("gan", "model.generator.num_layers", "0"),
])  # fmt: skip
def test_numbers_of_numpy_and_paths_are_taken(completed, config, key, what):
    made = mutations.outcome(completed[config], mutations.Mutation(config, key, what))
    assert made.kind == "built", made
