"""The algebra of guidance; what guided samples of exact models are is in another file."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion
from genjax.diffusion import NO_LABEL, ClassifierFree, ClassifierGuidance, Estimate

TABLE = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())[
    "tables"
]["guidance"]
PROCESS = diffusion.VariancePreserving()
Z, LABEL, T = jax.random.normal(jax.random.key(0), (3, 5, 2)), jnp.array([0, 2, 1]), jnp.array(0.4)


class Model:
    """Estimates that say which label was told, and a count of the rows that were asked about."""

    def __init__(self):
        self.rows = []

    def __call__(self, z, t, label):
        self.rows.append(len(z))
        alpha, sigma = PROCESS.scales(t)
        # Unlike for each class and without one.
        data = jnp.sin(z + label.astype(z.dtype)[:, None, None] + 2.0)
        return Estimate(data, (z - alpha * data) / sigma)


def guided(guidance, t=T, label=LABEL):
    model = Model()
    return guidance.guided(PROCESS, model, label)(Z, t), model


def alone(label):
    return Model()(Z, T, label)


TOLD, UNTOLD = alone(LABEL), alone(jnp.full_like(LABEL, NO_LABEL))


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_guided_estimates_are_those_of_diffusers(x64):
    cond, uncond = (jnp.array(TABLE[name]) for name in ("cond", "uncond"))
    told, untold = Estimate(cond, -cond), Estimate(uncond, -uncond)
    found = ClassifierFree(scale=TABLE["weight"]).joined(told, untold)
    np.testing.assert_allclose(found.data, TABLE["guided"], rtol=1e-12)
    np.testing.assert_allclose(found.noise, -np.array(TABLE["guided"]), rtol=1e-12)
    for row in TABLE["rescaled"]:
        made = ClassifierFree(scale=TABLE["weight"], rescale=row["rescale"])
        np.testing.assert_allclose(made.joined(told, untold).data, row["value"], rtol=1e-12)


def test_scale_one_is_the_conditional_model_of_as_many_rows():
    found, model = guided(ClassifierFree())
    close(found, TOLD)
    assert model.rows == [3]


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0, -1.0])
def test_guidance_joins_two_models_in_one_call(scale):
    found, model = guided(ClassifierFree(scale=scale))
    close(found, [u + scale * (c - u) for c, u in zip(TOLD, UNTOLD, strict=True)])
    assert model.rows == [6]


@pytest.mark.parametrize("guidance", [
    ClassifierFree(scale=3.0),
    ClassifierFree(scale=3.0, rescale=0.7),
    ClassifierFree(scale=3.0, rescale=1.0),
    ClassifierGuidance(log_prob_fn=lambda z, t, c: -jnp.sum(z**2, (1, 2)), scale=2.0),
])  # fmt: skip
def test_the_latent_is_made_of_the_guided_data_and_noise(guidance):
    found, _ = guided(guidance)
    alpha, sigma = PROCESS.scales(T)
    np.testing.assert_allclose(alpha * found.data + sigma * found.noise, Z, rtol=1e-4, atol=1e-4)


def test_a_rescaled_estimate_is_as_wide_as_the_conditional_one():
    found, _ = guided(ClassifierFree(scale=4.0, rescale=1.0))
    plain, _ = guided(ClassifierFree(scale=4.0))
    wide = jnp.std(plain.data, axis=(1, 2))
    np.testing.assert_allclose(
        jnp.std(found.data, axis=(1, 2)), jnp.std(TOLD.data, axis=(1, 2)), rtol=1e-5
    )
    assert bool((jnp.abs(wide - jnp.std(TOLD.data, axis=(1, 2))) > 0.05).all())


@pytest.mark.parametrize("t, acts", [(0.9, False), (0.8, True), (0.4, True), (0.3, False)])
def test_guidance_acts_between_its_times_only(t, acts):
    limited = ClassifierFree(scale=3.0, start=0.8, stop=0.35)
    found, _ = guided(limited, jnp.array(t))
    close(found, guided(ClassifierFree(scale=3.0 if acts else 1.0), jnp.array(t))[0])


@pytest.mark.parametrize("tells", [False, True])
def test_a_classifier_moves_the_score_by_its_slope(tells):
    def log_prob(z, t, label):
        return -jnp.sum(jnp.square(z - label[:, None, None]), axis=(1, 2))

    found, _ = guided(ClassifierGuidance(log_prob_fn=log_prob, scale=1.5, tells_label=tells))
    sigma = PROCESS.scales(T).sigma
    expected = TOLD if tells else UNTOLD
    # The score is minus the noise over its scale.
    score = -expected.noise / sigma + 1.5 * -2.0 * (Z - LABEL[:, None, None])
    np.testing.assert_allclose(found.noise, -sigma * score, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("guidance", [
    ClassifierFree(scale=2.0, rescale=0.3, start=0.9),
    ClassifierGuidance(log_prob_fn=lambda z, t, c: -jnp.sum(z**2, (1, 2))),
])  # fmt: skip
def test_guidance_keeps_precision_and_is_the_same_compiled(guidance, strict):
    found, _ = guided(guidance)
    compiled = jax.jit(guidance.guided(PROCESS, Model(), LABEL))(Z, T)
    assert {a.dtype for a in compiled} == {jnp.dtype("float32")}
    close(compiled, found)


@pytest.mark.parametrize("kwargs, message", [
    (dict(rescale=1.5), r"rescale must be in \[0, 1\]"),
    (dict(start=0.2, stop=0.5), "0 <= stop < start <= 1"),
    (dict(start=1.2), "0 <= stop < start <= 1"),
])  # fmt: skip
def test_guidance_that_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ClassifierFree(scale=2.0, **kwargs)
