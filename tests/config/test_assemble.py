import inspect

import ml_collections
import optax
import pytest

from genjax.config import ConfigError, build, tables
from genjax.families import Acts
from genjax.training.workdir import changed_keys


def config(**sections):
    base = dict(
        data=dict(name="digits", batch_size=16),
        model=dict(name="score_resnet", channels=8, num_layers=1, num_groups=4),
        family=dict(name="vdm", schedule=dict(name="learned_monotone")),
        optimizer=dict(name="adamw"),
        train=dict(num_steps=5),
        eval=dict(batch_size=36),
        sample=dict(num_samples=4),
    )
    for name, changes in sections.items():
        base[name] = {**base[name], **changes} if name in base else changes
    return ml_collections.ConfigDict(base)


def test_defaults_come_from_signatures():
    experiment = build(config())
    assert experiment.train.log_every == 100 and experiment.sample.num_steps == 1000
    assert experiment.family.eval_protocol["num_noise_draws"] == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model=dict(chanels=8)), r"'model\.chanels'; did you mean 'channels'\? valid: atten"),
        (dict(model=dict(channels="8")), r"model\.channels must be int, got '8' \(str\)"),
        (dict(model=dict(channels=8.0)), r"model\.channels must be int, got 8\.0"),
        (dict(model=dict(parent=1)), r"unknown config key 'model\.parent'"),
        (dict(optimizer=dict(lr=1.0)), r"unknown config key 'optimizer\.lr'"),
        (dict(family=dict(scheduel=1)), r"unknown config key 'family\.scheduel'"),
        (dict(family=dict(score_net=1)), r"unknown config key 'family\.score_net'"),
        (dict(family=dict(schedule=dict(name="cosine"))), r"unknown family\.schedule\.name 'cos"),
        (dict(family=dict(schedule=dict(gamma_0=1.0))), r"family\.schedule has no name"),
        (dict(family=dict(ema_decay=2.0)), r"family: ema_decay must be in \[0, 1\)"),
        (dict(trian=dict(a=1)), r"unknown config section 'trian'; did you mean 'train'"),
        (dict(train=dict(num_steps=0)), r"train\.num_steps must be at least 1"),
        (dict(train=dict(log_every=0)), r"train\.log_every must be at least 1"),
        (dict(train=dict(steps_per_call=0)), r"train\.steps_per_call must be at least 1"),
        (dict(data=dict(device_limit_mib=-1)), r"data\.device_limit_mib must be at least 0"),
        (dict(data=dict(train_split="tarin")), r"has the splits train and test"),
        (dict(data=dict(labelled=dict(per_class=500))), r"data\.labelled: per_class is 500, but"),
        (dict(data=dict(labelled=dict(seed=1))), r"the config has no data\.labelled\.per_class"),
        (dict(data=dict(labelled=dict(per_clas=1))), r"'data\.labelled\.per_clas'; did you mean"),
        (dict(model=dict(num_groups=3)), r"num_groups \(3\) must divide channels \(8\)"),
        (dict(model=dict(num_classes=3)), r"digits has 10 classes"),
        (
            dict(data=dict(name="swirl"), model=dict(name="score_mlp")),
            r"unknown config key 'model\.",
        ),
    ],
)
def test_bad_configs_are_named_by_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(config(**changes))


def test_labelled_rows_are_those_of_the_stream_that_says_so():
    labelled = dict(per_class=2, seed=3)
    streams = dict(unlabelled=dict(batch_size=32), few=dict(labelled=dict(per_class=1)))
    made = build(config(data=dict(labelled=labelled, streams=streams)), mode="sample").streams
    counts = {name: len(stream.train.source) for name, stream in made.items()}
    assert counts == {"": 20, "unlabelled": 1437, "few": 10}
    assert {len(stream.test.source) for stream in made.values()} == {360}


def gan_config(**sections):
    base = dict(
        data=dict(name="digits", batch_size=16),
        model=dict(
            generator=dict(name="dcgan", channels=8, min_channels=4),
            critic=dict(name="dcgan", channels=8, min_channels=4, norm="none"),
        ),
        family=dict(name="gan", latent_size=4),
        optimizer=dict(generator=dict(name="adam"), critic=dict(name="adam")),
        train=dict(num_steps=5, eval_every=0),
        eval=dict(batch_size=36),
        sample=dict(num_samples=4),
    )
    built = ml_collections.ConfigDict(base)
    for name, changes in sections.items():
        built[name].update(changes)
    return built


LABELS = dict(generator=dict(num_classes=10), critic=dict(num_classes=10))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model=dict(generator=dict(chanels=8))), r"'model\.generator\.chanels'; did you mean"),
        (
            dict(model=dict(critic=dict(norm="bach"))),
            r"model\.critic\.norm must be Literal.*'bach'",
        ),
        (dict(model=dict(critic=dict(event_shape=(1,)))), r"unknown config key 'model\.critic"),
        (
            dict(model=dict(generator=dict(event_shape=(1,)))),
            r"unknown config key 'model\.generator",
        ),
        (dict(model=dict(generator=dict(name="mlp"))), r"unknown config key 'model\.generator\."),
        (dict(family=dict(loss="hinged")), r"loss must be one of"),
        (dict(family=dict(critic_step=2)), r"'family\.critic_step'; did you mean 'critic_steps'"),
        (dict(family=dict(name="wgan", loss="hinge")), r"unknown config key 'family\.loss'"),
        (dict(family=dict(name="wgan", critic_stps=2)), r"did you mean 'critic_steps'"),
        (dict(family=dict(name="wgan", clip_limit="x")), r"family\.clip_limit must be float"),
        (dict(family=dict(name="wgan", latent="cauchy")), r"family\.latent must be Literal"),
        (
            dict(family=dict(name="wgan_gp", penalties=dict(r1=1.0))),
            r"unknown.*'family\.penalties'",
        ),
        (dict(family=dict(name="fgan")), r"no family\.divergence"),
        (dict(family=dict(name="fgan", divergence="kll")), r"divergence must be one of.*'kl'"),
        (dict(family=dict(name="sngan")), r"family: sngan needs .* set its spectral_norm"),
        (dict(family=dict(name="mmd_gan")), r"family: mmd_gan needs .* num_outputs"),
        (dict(family=dict(pack_size=5)), r"pack_size \(5\) must divide the batch size \(16\)"),
        (dict(family=dict(ema_half_life=1.0)), r"did you mean 'ema_half_life_kimg'"),
        (dict(optimizer=dict(critic=dict(lr=1.0))), r"unknown config key 'optimizer\.critic\.lr'"),
        (dict(optimizer=dict(critic=dict(acts=1))), r"'optimizer\.critic\.acts"),
        (
            dict(optimizer=dict(encoder=dict(name="adam"))),
            r"optimizer must have the sections generator, critic, each with a name; got .*encoder",
        ),
        (dict(model=dict(critic=dict(num_classes=10))), r"agree on num_classes, got None and 10"),
        (
            dict(data=dict(name="ring"), model=LABELS),
            r"model\.generator: DCGANGenerator takes images",
        ),
        (
            dict(train=dict(eval_every=5)),
            r"evaluated by its samples: name measures in eval\.metrics",
        ),
        (dict(family=dict(critic_steps=0)), r"family\.critic_steps must be at least 1, got 0"),
        (
            dict(
                family=dict(penalty_every=4, penalties=dict(r1=1.0)),
                optimizer=dict(critic=dict(name="optax:lion", learning_rate=1e-4)),
            ),
            r"optimizer\.critic\.name 'optax:lion' is not corrected",
        ),
        (dict(optimizer=dict(generator=dict(regularize_every=4))), r"unknown.*generator\.regular"),
    ],
)
def test_bad_adversarial_configs_are_named_by_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(gan_config(**changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(metrics=("fid",)), r"metrics must be among fd, kid"),
        (dict(metrics=("fd",)), r"'fd' needs features"),
        (dict(metrics=("modes",)), r"known mixture"),
        (dict(metrics=("w1",)), r"needs points"),
        (dict(metrics=("label_accuracy",)), r"needs a conditional model"),
        (dict(metrics=("fd",), num_reference=-5), r"num_reference must be at least 2, got -5"),
        (
            dict(metrics=("fd",), features=dict(name="classifier", workdir="/nowhere")),
            r"no trained classifier in /nowhere; train one first \(python scripts/run\.py "
            r"--config=experiments/classifier/digits\.py",
        ),
        (
            dict(metrics=("fd",), features=dict(name="inception", weights="/no.pth")),
            r"Inception takes 8-bit images",
        ),
        (
            dict(metrics=("w1",), statistics="/nowhere.npz"),
            r"^eval\.statistics: there is no file /nowhere\.npz; scripts/fid_statistics\.py writes",
        ),
    ],
)
def test_measures_that_cannot_be_made_are_refused_where_they_would_be(changes, message):
    config = gan_config(eval=changes)
    with pytest.raises(ConfigError, match=message):
        build(config, mode="eval")
    if "num_reference" not in changes:
        asked_later = build(config).quality  # training does not evaluate
        with pytest.raises(ConfigError, match=message):
            asked_later()
        build(config, mode="sample")


def flow_config(*, model=None, family=None, data=None, **changes):
    table = dict(name="coupling_flow", hidden_size=8, num_layers=1, **changes)
    return ml_collections.ConfigDict(
        dict(
            data={**dict(name="digits", batch_size=16), **(data or {})},
            model=model or table,
            family=family or dict(name="flow"),
            optimizer=dict(name="adam"),
            train=dict(num_steps=5),
            eval=dict(batch_size=36, num_times=3),
        )
    )


@pytest.mark.parametrize("changes, message", [
    (dict(model=dict(name="glow", num_scales=4)), "needs a height and width that 16 divides"),
    (dict(model=dict(name="jet", patch_size=3)), "patches of 3 pixels needs .* got 8 x 8"),
    (dict(model=dict(name="real_nvp", context_size=7)),
     "model.context_size is 7, but digits has 10 classes"),
    (dict(model=dict(name="coupling_flow", context_size=2), data=dict(name="swirl")),
     "model.context_size is 2, but swirl has no labels"),
    (dict(model=dict(name="glow"), data=dict(name="swirl")), r"is for images \[H, W, C\]"),
    (dict(family=dict(name="flow", dequantizer=dict(name="normal"))),
     "unknown family.dequantizer.name 'normal'"),
    (dict(family=dict(name="flow", dequantizer="uniform")), "dequantizer must have a name"),
    (dict(family=dict(name="flow", dequantizer=dict(name="uniform")), data=dict(name="swirl")),
     "needs no dequantizer"),
    (dict(family=dict(name="flow", dequantizer=dict(name="variational", num_coupling=3))),
     "did you mean 'num_couplings'"),
    (dict(family=dict(name="flow_matching", coupling="optimal"), model=dict(name="score_resnet")),
     "family.coupling must be Literal"),
    (dict(family=dict(name="flow_matching"), model=dict(name="score_mlp")), "takes points"),
    (dict(family=dict(name="flow_matching"), model=dict(name="score_resnet", gamma_min=1.0)),
     "unknown config key 'model.gamma_min'"),
    (dict(data=dict(event_shape=(8, 8))), r"expected examples of shape \(8, 8\), got \(8, 8, 1\)"),
])  # fmt: skip
def test_bad_flow_configs_are_named_by_key(changes, message):
    with pytest.raises(ConfigError, match=message):
        build(flow_config(**changes))


def test_real_values_are_refused_by_a_flow_that_begins_with_a_logit(tmp_path):
    import numpy as np

    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", np.random.default_rng(0).normal(size=(9, 4, 4, 1)))
    section = dict(name="npy", data_dir=str(tmp_path), batch_size=4)
    small = dict(num_scales=1, hidden_size=4)
    with pytest.raises(
        ConfigError, match=r"logit of data in \[0\.0, 1\.0\], but \w+ has values from"
    ):
        build(flow_config(data=section, model=dict(name="real_nvp", **small)))
    build(flow_config(data=section, model=dict(name="glow", num_steps=1, **small)))
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", np.random.default_rng(0).random(size=(9, 4, 4, 1)))
    build(flow_config(data=section, model=dict(name="real_nvp", **small)))


def test_classes_that_training_does_not_have_are_refused(tmp_path):
    import numpy as np

    for split, num_classes in [("train", 3), ("test", 4)]:
        np.save(tmp_path / f"{split}.npy", np.zeros((12, 2)))
        np.save(tmp_path / f"{split}_label.npy", np.arange(12) % num_classes)
    section = dict(name="npy", data_dir=str(tmp_path), batch_size=4)
    with pytest.raises(ConfigError, match="has labels up to 3, which data.train_split"):
        build(flow_config(data=section, context_size=3))


def test_flows_take_points_and_images_as_rows_and_name_bad_keys():
    experiment = build(flow_config())
    assert experiment.family.eval_protocol["num_noise_draws"] == 3
    for changes, message in [
        (dict(elementwise="cubic"), r"model\.elementwise must be Literal.*'cubic'"),
        (dict(event_shape=(2,)), r"unknown config key 'model\.event_shape'"),
        (dict(bound=-1.0), r"model: .*positive bound"),
        (dict(num_layer=2), r"did you mean 'num_layers'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build(flow_config(**changes))


def test_a_conditional_gan_on_unlabelled_data_is_refused():
    points = gan_config(data=dict(name="ring"))
    points.model = dict(
        generator=dict(name="mlp", num_classes=8), critic=dict(name="mlp", num_classes=8)
    )
    with pytest.raises(ConfigError, match="ring has no labels"):
        build(points)


def test_the_best_metric_must_be_one_that_is_evaluated():
    ring = dict(name="ring", batch_size=16)
    points = gan_config(data=ring, eval=dict(metrics=("w1",)), train=dict(eval_every=5))
    points.model = dict(generator=dict(name="mlp"), critic=dict(name="mlp"))
    with pytest.raises(ConfigError, match=r"'eval/bits_per_dim' is not evaluated.*eval/w1"):
        build(points)
    # It decides on checkpoints: evaluating one under other measures needs no other config.
    assert build(points, mode="eval").quality().names == ["w1"]
    points.train.best_metric = "eval/w1"
    assert build(points).quality().names == ["w1"]
    points.update(eval=dict(metrics=("w1", "modes")), train=dict(best_metric="eval/modes_covered"))
    with pytest.raises(ConfigError, match="whose lowest value is the best"):
        build(points)


def test_the_critics_optimiser_knows_how_often_it_acts(monkeypatch):
    seen = {}

    def spy(**kwargs):
        seen[kwargs["learning_rate"]] = kwargs
        return optax.sgd(0.1)

    spy.__signature__ = inspect.signature(tables.OPTIMIZERS["adam"])
    monkeypatch.setitem(tables.OPTIMIZERS, "adam", spy)
    rates = dict(generator=dict(learning_rate=1.0), critic=dict(learning_rate=2.0))
    build(
        gan_config(
            family=dict(critic_steps=3, penalties=dict(r1=1.0), penalty_every=4), optimizer=rates
        )
    )
    assert seen[2.0]["acts"] == Acts(updates_per_step=3, regularize_every=4)
    assert seen[1.0]["acts"] == Acts()
    build(gan_config(family=dict(name="wgan_gp"), optimizer=rates))
    assert seen[2.0]["acts"] == Acts(updates_per_step=5), "an alias has defaults of its own"


def test_a_missing_section_is_named():
    broken = config()
    del broken["optimizer"]
    with pytest.raises(ConfigError, match="no section 'optimizer'"):
        build(broken)


def test_a_conditional_model_needs_labels():
    points = config(data=dict(name="swirl"))
    points.model = dict(name="score_mlp", num_classes=2)
    with pytest.raises(ConfigError, match="swirl has no labels"):
        build(points)


def test_a_whole_number_is_a_float_and_none_an_absent_option():
    build(config(optimizer=dict(weight_decay=0, clip_norm=None)))


def test_batches_must_be_divided_by_the_devices():
    with pytest.raises(ConfigError, match="data.batch_size .* 5 devices, got 16"):
        build(config(), num_devices=5)
    build(config(), num_devices=8)  # batches of evaluation are filled up


def test_changed_keys_are_named_in_full():
    old = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    new = {"a": {"b": 1, "c": {"d": 5}}, "f": None}
    assert changed_keys(old, new) == ["a.c.d", "e", "f"]


def test_labels_to_sample_go_through_the_classes():
    assert "label" not in build(config()).sample_requests(12)
    requests = build(config(model=dict(num_classes=10))).sample_requests(12)
    assert requests["label"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert requests["x"].shape == (12, 8, 8, 1)
