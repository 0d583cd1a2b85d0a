"""How pipelines are read."""

import pytest
from ml_collections import ConfigDict

from genjax import config as configs
from genjax.config import ConfigError
from genjax.config.frozen import planned
from genjax.config.pipelines import Link, references, stage_config, with_names


def stages(**more):
    images = dict(file="experiments/vae/vq_digits.py:fsq", model=dict(encoder=dict(channels=8)))
    codes = dict(
        file="experiments/autoregressive/digit_codes.py:stage:images", train=dict(num_steps=7)
    )
    return dict(stages=dict(images=images, codes=codes), **more)


def test_a_stage_is_a_file_and_what_differs_from_it():
    pipeline = configs.read_pipeline(ConfigDict(stages()))
    images = stage_config(pipeline, "images", {})
    assert (
        images["model"]["encoder"]["channels"] == 8 and images["model"]["decoder"]["channels"] == 64
    )
    assert images["family"]["quantizer"]["name"] == "fsq" and images["train"]["num_steps"] == 1500
    codes = stage_config(pipeline, "codes", {"images": "/runs/images"})
    assert codes["data"]["first_stage"]["workdir"] == "/runs/images"
    assert codes["train"]["num_steps"] == 7 and codes["model"]["hidden_size"] == 64
    assert pipeline.chain == (Link(stage="codes"),)
    # What is written down holds wherever the pipeline is.
    assert with_names(codes, {"images": "/runs/images"})["data"]["first_stage"] == {
        "workdir": "stage:images"
    }


def test_files_are_found_from_the_file_that_names_them(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "one.py").write_text(
        "def get_config(steps='3'):\n"
        "    return dict(data=dict(name='digits', batch_size=4), model=dict(name='linear'),\n"
        "                family=dict(name='classifier'), optimizer=dict(name='adam'),\n"
        "                train=dict(num_steps=int(steps)))\n"
    )
    (inner / "both.py").write_text(
        "def get_config():\n    return dict(stages=dict(a='../one.py', b='../one.py:5'))\n"
    )
    assert configs.is_pipeline(inner / "both.py") and not configs.is_pipeline(tmp_path / "one.py")
    pipeline = configs.read_pipeline(str(inner / "both.py"))
    steps = [stage_config(pipeline, name, {})["train"]["num_steps"] for name in ("a", "b")]
    assert steps == [3, 5]


@pytest.mark.parametrize("by_word", [True, False])
def test_overrides_are_of_a_stage_and_may_name_another(by_word):
    changes = {
        "stages.images.train.num_steps": 9,
        "stages.codes.optimizer.name": "rmsprop",
        "stages.codes.data.first_stage.workdir": "stage:images",
        "stages.codes.parallel.cpu_devices": 3,
        "sample.chain": [{"stage": "images"}],
    }
    words = [f"--config.{key}={value}" for key, value in changes.items()]
    pipeline = configs.read_pipeline(stages(), words if by_word else changes)
    assert stage_config(pipeline, "images", {})["train"]["num_steps"] == 9
    codes = stage_config(pipeline, "codes", {"images": "/runs/images"})
    assert codes["data"]["first_stage"]["workdir"] == "/runs/images"
    assert codes["optimizer"]["name"] == "rmsprop"
    assert pipeline.chain == (Link(stage="images"),)
    # One process trains all stages: the most that one of them asks for.
    assert configs.parallel_of(pipeline) == {"cpu_devices": 3, "plan_devices": 0}


def test_a_network_may_be_that_of_a_stage_that_is_yet_to_be_trained():
    first = dict(
        data=dict(name="digits", batch_size=4), model=dict(name="linear", num_classes=10),
        family=dict(name="classifier"), optimizer=dict(name="adam"), train=dict(num_steps=3),
    )  # fmt: skip
    second = dict(first, model=dict(start=dict(workdir="stage:first")))
    pipeline = configs.read_pipeline(dict(stages=dict(first=first, second=second)))
    assert references(pipeline, "second") == {"first"} and not references(pipeline, "first")
    places = {"first": "/nowhere/first"}
    with pytest.raises(ConfigError, match="stages.second: .*no trained run in /nowhere/first"):
        stage_config(pipeline, "second", places)
    whole = configs.as_json(configs.complete(first))
    with planned({"/nowhere/first": whole}):
        found = stage_config(pipeline, "second", places)
    assert found["model"]["start"]["model"]["name"] == "linear"
    # In place of a file's network, too.
    said = dict(file="experiments/classifier/digits.py", model=second["model"])
    pipeline = configs.read_pipeline(dict(stages=dict(first=first, second=said)))
    with planned({"/nowhere/first": whole}):
        assert list(stage_config(pipeline, "second", places)["model"]) == ["start"]


FIRST = dict(stages()["stages"]["images"])


@pytest.mark.parametrize("config, overrides, message", [
    (dict(stages={}), {}, "stages: a pipeline has at least one"),
    (stages(train={}), {}, "unknown section 'train' of a pipeline; valid: sample, stages; sect"),
    (dict(stages={"a b": FIRST}), {}, "a name is made of letters"),
    (dict(stages={"checkpoints": FIRST}), {}, "is not 'checkpoints'"),
    (dict(stages=dict(a=3)), {}, "stages.a: expected sections, or an experiment file, got 3"),
    (dict(stages=dict(a="nowhere.py")), {}, "stages.a: there is no experiment file nowhere.py"),
    (dict(stages=dict(a=dict(FIRST, modle={}))), {}, "stages.a: unknown config key 'modle'"),
    (dict(stages=dict(a=dict(FIRST, train=dict(num_stepps=1)))), {},
     "stages.a: unknown config key 'train.num_stepps'; did you mean 'num_steps'"),
    (dict(stages=dict(a=dict(FIRST, data=dict(first_stage=dict(workdir="stage:a"))))), {},
     "stages: none of a can be the first: each names one"),
    (stages(), {"stages.codes.data.first_stage.workdir": "stage:image"},
     "stages.codes: 'stage:image' names no stage; did you mean 'images'"),
    (stages(), {"train.num_steps": 3}, "'train.num_steps' of a pipeline: expected stages.NAME.se"),
    (stages(), {"stages.code.train.seed": 3}, "with NAME one of images, codes, or sample.chain"),
    (stages(), {"stages.codes.train.sed": 3}, "stages.codes: unknown config key 'train.sed'"),
    (stages(sample=dict(chian=())), {}, "unknown config key 'sample.chian'; did you mean 'chain'"),
    (stages(sample=dict(chain=[dict(stage="code")])), {}, "'code' is none of the stages; did you"),
    (stages(sample=dict(chain=[dict(stage="codes"), dict(stage="codes")])), {}, "is there twice"),
    (stages(sample=dict(chain=[dict(stage="codes", reads=dict(source="images"))])), {},
     "codes reads source from 'images', which is no earlier stage of the chain"),
])  # fmt: skip
def test_what_is_no_pipeline_is_said_in_one_line(config, overrides, message):
    with pytest.raises(ConfigError) as caught:
        pipeline = configs.read_pipeline(config, overrides)
        for name in pipeline.stages:
            stage_config(pipeline, name, {"images": "/runs/images"})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_stages_are_trained_after_those_they_name_and_samples_come_from_the_last():
    one, two = (stages()["stages"][name] for name in ("images", "codes"))
    pipeline = configs.read_pipeline(dict(stages=dict(codes=two, images=one)))
    assert list(pipeline.stages) == ["images", "codes"]
    pipeline = configs.read_pipeline(dict(stages=dict(b=one, a=one)))
    assert list(pipeline.stages) == ["b", "a"]
    with pytest.raises(ConfigError, match="say which stages samples come from, .* names b or a"):
        assert pipeline.chain
