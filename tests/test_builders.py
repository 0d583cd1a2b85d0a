import ml_collections
import pytest

from genjax import builders


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
    experiment = builders.build(config())
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
        (dict(data=dict(train_split="tarin")), r"has the splits train and test"),
        (dict(model=dict(num_groups=3)), r"num_groups \(3\) must divide channels \(8\)"),
        (dict(model=dict(num_classes=3)), r"digits has 10 classes"),
        (
            dict(data=dict(name="swirl"), model=dict(name="score_mlp")),
            r"unknown config key 'model\.",
        ),
    ],
)
def test_bad_configs_are_named_by_key(changes, message):
    with pytest.raises(builders.ConfigError, match=message):
        builders.build(config(**changes))


def test_a_missing_section_is_named():
    broken = config()
    del broken["optimizer"]
    with pytest.raises(builders.ConfigError, match="no section 'optimizer'"):
        builders.build(broken)


def test_a_conditional_model_needs_labels():
    points = config(data=dict(name="swirl"))
    points.model = dict(name="score_mlp", num_classes=2)
    with pytest.raises(builders.ConfigError, match="swirl has no labels"):
        builders.build(points)


def test_a_whole_number_is_a_float_and_none_an_absent_option():
    builders.build(config(optimizer=dict(weight_decay=0, clip_norm=None)))


def test_batches_must_be_divided_by_the_devices():
    with pytest.raises(builders.ConfigError, match="eval.batch_size .* 8 devices, got 36"):
        builders.build(config(), num_devices=8)


def test_changed_keys_are_named_in_full():
    old = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    new = {"a": {"b": 1, "c": {"d": 5}}, "f": None}
    assert builders.changed_keys(old, new) == ["a.c.d", "e", "f"]


def test_labels_to_sample_go_through_the_classes():
    assert "label" not in builders.build(config()).sample_requests(12)
    requests = builders.build(config(model=dict(num_classes=10))).sample_requests(12)
    assert requests["label"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert requests["x"].shape == (12, 8, 8, 1)
