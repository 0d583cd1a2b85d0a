"""Samplers and guidance as a notebook chooses them, and what is said of samples."""

import json

import numpy as np
import pytest

import genjax
from genjax import diffusion

CONDITIONAL = dict(
    data=dict(name="digits", batch_size=16),
    model=dict(name="score_resnet", channels=8, num_layers=1, num_groups=4, num_classes=10),
    family=dict(name="rectified_flow", label_dropout=0.1, ema_decay=0.0),
    # Layers that act on a label start at zero: a few large steps move them.
    optimizer=dict(name="adam", learning_rate=0.02),
    train=dict(num_steps=10, eval_every=0, sample_every=0),
    eval=dict(batch_size=32),
    sample=dict(num_samples=4, num_steps=3),
)


def finished(config, workdir):
    genjax.Run(genjax.build(config), workdir, quiet=True).train()
    return genjax.load(workdir, quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(CONDITIONAL, tmp_path_factory.mktemp("run"))


@pytest.mark.slow
def test_samplers_and_guidance_are_mappings_or_values(run):
    plain = run.sample(label=[1, 2])
    for sampler, value in [(dict(name="heun"), diffusion.Heun()),
                           (dict(name="ddim", eta=0.5), diffusion.DDIM(eta=0.5))]:  # fmt: skip
        named, made = (run.sample(label=[1, 2], sampler=s) for s in (sampler, value))
        np.testing.assert_array_equal(named, made)
        assert (named != plain).any()
    scaled = dict(name="classifier_free", scale=3.0)
    guided = run.sample(label=[1, 2], guidance=scaled, num_steps=5)
    # A name or a scale alone are short for it.
    np.testing.assert_array_equal(guided, run.sample(label=[1, 2], guidance=3, num_steps=5))
    short = [run.sample(label=[1, 2], sampler=s) for s in ("heun", dict(name="heun"))]
    np.testing.assert_array_equal(*short)
    value = diffusion.ClassifierFree(scale=3.0)
    np.testing.assert_array_equal(guided, run.sample(label=[1, 2], guidance=value, num_steps=5))
    assert (guided != run.sample(label=[1, 2], num_steps=5)).any()
    np.testing.assert_array_equal(run.sample(label=[1, 2]), plain)


def test_each_setting_is_compiled_once(run):
    before = len(run._others)
    for _ in range(2):
        run.sample(
            label=1, sampler=dict(name="euler"), guidance=diffusion.ClassifierFree(scale=2.0)
        )
        run.sample(label=[3, 1], sampler=dict(name="euler"), guidance=diffusion.ClassifierFree())
    assert len(run._others) == before + 2


@pytest.mark.slow
def test_a_label_of_minus_1_is_none_where_labels_were_left_out(run, tmp_path):
    free = run.sample(label=-1)
    assert free.shape == (4, 8, 8, 1) and (free != run.sample(label=1)).any()
    mixed = run.sample(label=[-1, 1, -1, 1])
    np.testing.assert_array_equal(mixed[[0, 2]], free[[0, 2]])
    # There is nothing to be guided to: but for rounding, guidance does nothing.
    guided = run.sample(label=-1, guidance=diffusion.ClassifierFree(scale=4.0))
    assert (guided == free).mean() > 0.95
    x = run.experiment.test_data.source.rows(np.arange(3))["x"]
    assert (run.log_prob(x, label=-1) != run.log_prob(x, label=1)).any()
    config = {**CONDITIONAL, "family": dict(name="rectified_flow", ema_decay=0.0)}
    always = finished(config, tmp_path)
    for call in (lambda: always.sample(label=-1), lambda: always.log_prob(x, label=[1, -1, 1])):
        with pytest.raises(ValueError, match="-1 stands for no label, which this model was never"):
            call()
    with pytest.raises(ValueError, match="label_dropout"):
        always.sample(guidance=dict(name="classifier_free", scale=2.0))


def exact_classifier(z, t, label):
    """Of no use but for its slope: digits are told by the brightness of their first columns."""
    del t
    logits = z.mean(axis=(1, 3)) @ np.ones((8, 10), "f4") * np.arange(10, dtype="f4")
    return np.float32(0.1) * logits[np.arange(len(z)), label]


@pytest.mark.slow
def test_what_steers_an_unconditional_model_reads_labels_for_samples_alone(tmp_path):
    model = {k: v for k, v in CONDITIONAL["model"].items() if k != "num_classes"}
    run = finished(
        {**CONDITIONAL, "model": model, "family": dict(name="rectified_flow", ema_decay=0.0)},
        tmp_path,
    )
    with pytest.raises(ValueError, match="does not read 'label'"):
        run.sample(label=1)
    guidance = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier, scale=5.0)
    guided, plain = run.sample(label=9, guidance=guidance), run.sample()
    assert (guided != plain).any()
    np.testing.assert_array_equal(run.sample(label=-1, guidance=guidance), plain)
    assert run.sample(guidance=guidance).shape == (4, 8, 8, 1)  # classes in turn
    family = run.experiment.resampled(run.experiment.sample, guidance=guidance)
    assert family.reads == family.steers == family.unlabelled == ("label",)
    assert family.sample_protocol == {
        "sampler": "Ancestral, 3 network calls, classifier guidance 5"
    }
    x = run.experiment.test_data.source.rows(np.arange(3))["x"]
    assert run.log_prob(x).shape == (3,)


@pytest.mark.parametrize("asked, message", [
    (dict(sampler=dict(name="hune")), "unknown sample.sampler.name 'hune'; did you mean 'heun'"),
    (dict(sampler=dict(name="heun", chrun=1.0)), "unknown config key 'sample.sampler.chrun'"),
    (dict(sampler="hune"), "unknown sample.sampler.name 'hune'; did you mean 'heun'"),
    (dict(sampler=3), r"sample.sampler must be a mapping with a name, or a value with a met"),
    (dict(guidance=dict(name="classifier_free", rescale=2.0)), "rescale must be in"),
    (dict(num_steps=0), "num_steps must be at least 1, got 0"),
])  # fmt: skip
def test_what_cannot_be_asked_of_sampling_is_one_line(run, asked, message):
    with pytest.raises(ValueError, match=message) as caught:
        run.sample(2, **asked)
    assert "\n" not in str(caught.value)


def test_a_family_without_steps_takes_no_sampler(tmp_path):
    config = {
        **CONDITIONAL,
        "data": dict(name="two_moons", batch_size=16),
        "model": dict(name="coupling_flow", hidden_size=8, num_layers=2),
        "family": dict(name="flow"),
    }
    run = finished(config, tmp_path)
    with pytest.raises(
        ValueError, match="the family 'flow' does not go from noise to data in step"
    ):
        run.sample(2, sampler=dict(name="heun"))


def test_network_calls_are_said_with_samples_and_with_measures_of_them(tmp_path, capsys):
    config = {
        **CONDITIONAL,
        "data": dict(name="two_moons", batch_size=16),
        "model": dict(name="score_mlp", hidden_size=8, num_layers=1),
        "family": dict(name="edm"),
        "eval": dict(batch_size=32, metrics=("sliced_w2",), num_samples=40, num_reference=40),
        "sample": dict(num_samples=4, num_steps=4, sampler=dict(name="heun")),
    }
    finished(config, tmp_path)
    run = genjax.load(tmp_path)
    # Two calls a step, but one for the last: Karras et al., arXiv:2206.00364, algorithm 1.
    said = "Heun, 7 network calls"
    assert run.evaluate()["eval/sampler"] == said
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["eval/sampler"] for row in rows if "eval/sliced_w2" in row] == [said]
    run.draw()
    out = " ".join(capsys.readouterr().out.split())
    assert f"4 samples ({said}) in" in out and f"sampler {said}" in out
