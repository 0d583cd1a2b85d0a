"""Guidance of exact models: what it samples is known, and so is what it does not sample.

Two populations, each with an exact denoiser and an exact classifier of latents. MIXTURE is two
classes of Gaussian points of the plane. In CROWD the points of class 0 are N(m, s^2) and those of
all classes together N(0, 1), so that guided scores are linear and the guided flow has a closed
form.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion

MEANS = ((1.5, -1.0), (-1.0, 0.5))
STDS = (0.5, 0.8)
SHARES = (0.3, 0.7)
PROCESSES = {
    "ve": diffusion.VarianceExploding(),
    "vp": diffusion.VariancePreserving(),
    "straight": diffusion.Straight(),
    "cosine": diffusion.Cosine(),
}
SAMPLERS = {
    "ddim": (diffusion.DDIM(times="karras"), 1000),
    "heun": (diffusion.Heun(), 150),
    "2m": (diffusion.DPMSolver(order=2, times="karras"), 300),
}


def denoised(z, scales, mean, std):
    """E[x | z] of data N(mean, std^2)."""
    alpha, sigma = scales
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return mean + gain * (z - alpha * mean)


def log_joint(z, scales):
    """log p(z, c) of the mixture, [B, 2]."""
    alpha, sigma = scales
    parts = []
    for mean, std, share in zip(MEANS, STDS, SHARES, strict=True):
        variance = alpha**2 * std**2 + sigma**2
        squares = jnp.sum(jnp.square(z - alpha * jnp.array(mean)), -1)
        parts.append(math.log(share) - squares / (2 * variance) - jnp.log(variance))
    return jnp.stack(parts, -1)


def mixture_model(process):
    """Exact estimates of the mixture; of all classes together for a label of -1."""

    def estimate(z, t, label):
        scales = process.scales(t)
        every = jnp.stack(
            [denoised(z, scales, jnp.array(m), s) for m, s in zip(MEANS, STDS, strict=True)], 1
        )
        share = jax.nn.softmax(log_joint(z, scales), -1)
        one = jax.nn.one_hot(label, 2, dtype=z.dtype)
        weights = jnp.where((label < 0)[:, None], share, one)
        data = jnp.sum(weights[..., None] * every, 1)
        return diffusion.Estimate(data, (z - scales.alpha * data) / scales.sigma)

    return estimate


def exact_classifier(process):
    def log_prob(z, t, label):
        log_probs = jax.nn.log_softmax(log_joint(z, process.scales(t)), -1)
        return jnp.take_along_axis(log_probs, label[:, None], 1)[:, 0]

    return log_prob


def latents(process, count=400, dims=2):
    """A grid of quantiles of the prior: its moments have no error of sampling."""
    side = round(count ** (1 / dims))
    line = jax.scipy.special.ndtri((jnp.arange(side) + 0.5) / side)
    line = line / jnp.std(line)
    points = jnp.stack(jnp.meshgrid(*[line] * dims), -1).reshape(-1, dims)
    return process.prior_std * points


def sampled(guidance, process, *, label=0, sampler=diffusion.Heun(), steps=150, model=None, z=None):  # noqa: B008
    z = latents(process) if z is None else z
    model = (model or mixture_model)(process)
    labels = jnp.full(len(z), label, jnp.int32)
    if guidance is None:

        def estimate(z, t):
            return model(z, t, labels)
    else:
        estimate = guidance.guided(process, model, labels)
    asked = diffusion.Denoiser(process, estimate)
    with jax.numpy_dtype_promotion("strict"):
        rows, _ = sampler.sample(asked, jax.random.key(0), z, num_steps=steps)
    return np.asarray(rows)


@pytest.mark.parametrize("name, label", [
    pytest.param("ve", 0, marks=pytest.mark.slow), ("vp", 1),
    pytest.param("straight", 0, marks=pytest.mark.slow), ("cosine", 1),
])  # fmt: skip
@pytest.mark.parametrize("solver", SAMPLERS)
def test_the_exact_classifier_at_scale_1_samples_the_gaussian_of_the_class(
    x64, name, label, solver
):
    process, (sampler, steps) = PROCESSES[name], SAMPLERS[solver]
    guidance = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(process))
    rows = sampled(guidance, process, label=label, sampler=sampler, steps=steps)
    # The flow of a Gaussian takes z at time 1 to m + s (z - alpha m) / sqrt(alpha^2 s^2 + sigma^2);
    # the prior differs from the latents of the data by the alpha m that it has not.
    alpha, sigma = process.scales(jnp.ones(()))
    shrunk = STDS[label] / float(jnp.sqrt((alpha * STDS[label]) ** 2 + sigma**2))
    mean = np.array(MEANS[label]) * (1.0 - shrunk * float(alpha))
    std = shrunk * process.prior_std
    np.testing.assert_allclose(rows.mean(0), mean, atol=2e-3)
    np.testing.assert_allclose(rows.std(0), std, atol=6e-3)
    np.testing.assert_allclose(mean, MEANS[label], atol=0.011)
    np.testing.assert_allclose(std, STDS[label], atol=1e-4)
    # The score of a class is that of all and the classifier's slope: the steps are the same.
    told = sampled(None, process, label=label, sampler=sampler, steps=steps)
    np.testing.assert_allclose(rows, told, atol=1e-6)


def test_stochastic_samplers_agree_sample_by_sample_too(x64):
    process = diffusion.Chain(num_timesteps=100)
    guidance = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(process))
    made = [sampled(g, process, sampler=diffusion.Ancestral(), steps=100) for g in (guidance, None)]
    np.testing.assert_allclose(*made, atol=1e-6)


@pytest.mark.parametrize("theirs", ["vp", "straight"])
def test_a_classifier_of_another_process_is_asked_at_the_same_noise(x64, theirs):
    process, other = PROCESSES["ve"], PROCESSES[theirs]
    guidance = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(other), process=other)
    rows, told = sampled(guidance, process), sampled(None, process)
    # Latents below the other's earliest noise are asked about as if they had it.
    np.testing.assert_allclose(rows, told, atol=2e-3)
    np.testing.assert_allclose(rows.std(0), STDS[0], atol=5e-3)


def test_a_classifier_has_no_say_beyond_its_noise_nor_without_a_label(x64):
    process, little = PROCESSES["ve"], diffusion.VarianceExploding(sigma_max=1.0)
    guidance = diffusion.ClassifierGuidance(
        log_prob_fn=exact_classifier(little), process=little, scale=3.0
    )
    model, z = mixture_model(process), latents(process) / 80.0
    labels = jnp.zeros(len(z), jnp.int32)
    guided = guidance.guided(process, model, labels)
    for sigma, moved in ((30.0, False), (1.1, False), (0.9, True)):
        t = diffusion.time_of(process, -jnp.log(jnp.array(sigma)))
        free = model(z, t, jnp.full_like(labels, -1)).data
        assert bool((guided(z, t).data != free).any()) == moved
    with pytest.raises(ValueError, match="noise of at most 1 times the data, but samples start"):
        guidance.check(process)
    # Little of the classes is left in data of unit size at 20 times the noise.
    enough = diffusion.VarianceExploding(sigma_max=25.0)
    diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(enough), process=enough).check(
        process
    )
    exact = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(process), scale=3.0)
    np.testing.assert_array_equal(
        sampled(exact, process, label=-1, steps=20), sampled(None, process, label=-1, steps=20)
    )


def test_scale_1_is_the_conditional_model_and_scale_0_the_unconditional_one(x64):
    process = PROCESSES["straight"]
    for scale, label in ((1.0, 0), (0.0, -1)):
        rows = sampled(diffusion.ClassifierFree(scale=scale), process, steps=40)
        np.testing.assert_allclose(rows, sampled(None, process, label=label, steps=40), atol=1e-10)
    # Without a label there is nothing to be guided to, whatever the scale.
    free = sampled(diffusion.ClassifierFree(scale=3.0), process, label=-1, steps=40)
    np.testing.assert_allclose(free, sampled(None, process, label=-1, steps=40), atol=1e-10)


def test_the_scale_is_the_papers_plus_1(x64):
    process, t = PROCESSES["vp"], jnp.array(0.4)
    model, z = mixture_model(process), latents(process)
    label = jnp.zeros(len(z), jnp.int32)
    told, untold = model(z, t, label), model(z, t, jnp.full_like(label, -1))
    paper = 0.5  # (1 + w) conditional - w unconditional
    expected = (1 + paper) * told.noise - paper * untold.noise
    guidance = diffusion.ClassifierFree(scale=1.0 + paper)
    found = guidance.guided(process, model, label)(z, t)
    np.testing.assert_allclose(found.noise, expected, atol=1e-12)
    np.testing.assert_allclose(
        process.scales(t).alpha * found.data + process.scales(t).sigma * found.noise, z, atol=1e-12
    )


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 4.0])
def test_both_kinds_of_guidance_agree_at_all_scales(x64, scale):
    process = PROCESSES["cosine"]
    free = diffusion.ClassifierFree(scale=scale)
    exact = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(process), scale=scale)
    np.testing.assert_allclose(
        sampled(free, process, steps=60), sampled(exact, process, steps=60), atol=1e-6
    )


# A class N(MEAN, STD^2) of a population N(0, 1), in which it has a small share.

MEAN, STD = 0.7, 0.5


def crowd_model(process):
    def estimate(z, t, label):
        scales = process.scales(t)
        told, untold = denoised(z, scales, MEAN, STD), denoised(z, scales, 0.0, 1.0)
        data = jnp.where((label < 0)[:, None], untold, told)
        return diffusion.Estimate(data, (z - scales.alpha * data) / scales.sigma)

    return estimate


def test_samples_of_scale_2_are_not_those_of_the_tilted_density(x64):
    """Both in closed form: std 0.25 of samples, 0.378 of the density; means 0.966 and 0.8.

    In noise sigma the guided score is -2 (z - m) / (s^2 + sigma^2) + z / (1 + sigma^2). Along the
    probability flow dz/dsigma = -sigma score a difference of two points shrinks in proportion to
    h = (s^2 + sigma^2) / sqrt(1 + sigma^2), from h = sigma at much noise to s^2; the mean, by
    variation of constants, is m (1 + s^2 artanh(b) / b) with b = sqrt(1 - s^2), less what a flow
    from noise of 80, not from infinity, leaves out.
    The tilted density p(x) p(c | x)^2, proportional to p(x | c)^2 / p(x), is Gaussian of precision
    2 / s^2 - 1 and mean (2 m / s^2) / (2 / s^2 - 1).
    """
    process = PROCESSES["ve"]
    z = latents(process, 2000, dims=1)
    rows = sampled(diffusion.ClassifierFree(scale=2.0), process, model=crowd_model, z=z, steps=400)
    root = math.sqrt(1 - STD**2)
    mean, std = MEAN * (1 + STD**2 * math.atanh(root) / root), STD**2
    far = math.sqrt(1 + 80.0**2)
    left_out = MEAN * STD**2 * (far / (far**2 - root**2) + math.atanh(root / far) / root)
    assert rows.mean() == pytest.approx(mean - left_out, abs=1e-4)
    assert rows.std() == pytest.approx(std, abs=1e-4)
    precision = 2 / STD**2 - 1
    tilted_mean, tilted_std = 2 * MEAN / STD**2 / precision, precision**-0.5
    assert (mean, tilted_mean) == pytest.approx((0.96612, 0.8), abs=1e-5)
    assert (std, tilted_std) == pytest.approx((0.25, 0.37796), abs=1e-5)
    assert abs(rows.std() - tilted_std) > 0.12 and abs(rows.mean() - tilted_mean) > 0.16


def test_guided_samples_of_a_mixture_are_not_those_of_its_tilted_density(x64):
    """The density by sums on a grid; with scale 1 the same sums give the samples' moments."""
    process = PROCESSES["ve"]
    line = jnp.linspace(-6.0, 6.0, 601)
    points = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
    joint = log_joint(points, (jnp.ones(()), jnp.zeros(())))
    differences = {}
    for scale in (1.0, 3.0):
        log_density = jax.nn.logsumexp(joint, -1) + scale * jax.nn.log_softmax(joint, -1)[:, 0]
        weights = np.asarray(jax.nn.softmax(log_density))
        mean = weights @ np.asarray(points)
        std = np.sqrt(weights @ np.asarray(points - mean) ** 2)
        rows = sampled(diffusion.ClassifierFree(scale=scale), process)
        differences[scale] = np.abs(rows.mean(0) - mean).max(), np.abs(rows.std(0) - std).max()
    assert max(differences[1.0]) < 0.011  # as above: the alpha m that the prior has not
    # Measured: 0.566 in the mean, 0.123 in the standard deviation.
    assert differences[3.0] == pytest.approx((0.566, 0.123), abs=0.02)


def test_rescaling_brings_the_deviation_of_estimates_back(x64):
    process, t = PROCESSES["vp"], jnp.array(0.5)
    # Two examples of 64 entries, whose conditional estimate varies less than the guided one.
    z = 3.0 * jax.random.normal(jax.random.key(0), (2, 64), jnp.float64)
    label, model = jnp.zeros(2, jnp.int32), crowd_model(process)
    told = model(z, t, label).data
    plain = diffusion.ClassifierFree(scale=4.0).guided(process, model, label)(z, t).data
    stds = {0.0: jnp.std(plain, 1), 1.0: jnp.std(told, 1)}
    assert float(jnp.abs(stds[0.0] / stds[1.0] - 1).min()) > 0.3
    for share in (0.0, 0.5, 1.0):
        guidance = diffusion.ClassifierFree(scale=4.0, rescale=share)
        found = guidance.guided(process, model, label)(z, t).data
        # Lin et al., eq. 15 and 16: a mean of the guided estimate and of that of the old deviation.
        expected = (1 - share) * stds[0.0] + share * stds[1.0]
        np.testing.assert_allclose(jnp.std(found, 1), expected, rtol=1e-12)


def test_guidance_acts_inside_its_interval_alone(x64):
    process = PROCESSES["straight"]
    model, z = mixture_model(process), latents(process, 100)
    label = jnp.zeros(len(z), jnp.int32)
    between = diffusion.ClassifierFree(scale=3.0, start=0.8, stop=0.3)
    always = diffusion.ClassifierFree(scale=3.0)
    inside, everywhere = (g.guided(process, model, label) for g in (between, always))
    for t in (0.1, 0.29, 0.3, 0.5, 0.8, 0.81, 0.95):
        time = jnp.array(t)
        expected = everywhere(z, time) if 0.3 <= t <= 0.8 else model(z, time, label)
        np.testing.assert_allclose(inside(z, time).data, expected.data, atol=1e-12)
    rows = [sampled(g, process, steps=40) for g in (between, always, None)]
    assert np.abs(rows[0] - rows[1]).max() > 0.01 and np.abs(rows[0] - rows[2]).max() > 0.01


def test_guidance_says_what_it_is_and_refuses_what_cannot_be():
    assert str(diffusion.ClassifierFree(scale=1.5)) == "guidance 1.5"
    assert (
        str(diffusion.ClassifierFree(scale=2.0, start=0.8, stop=0.25, rescale=0.7))
        == "guidance 2 from time 0.8 to 0.25, rescaled by 0.7"
    )
    exact = diffusion.ClassifierGuidance(log_prob_fn=exact_classifier(PROCESSES["vp"]), scale=4.0)
    assert str(exact) == "classifier guidance 4"
    with pytest.raises(ValueError, match=r"expected 0 <= stop < start <= 1, got stop 0.5"):
        diffusion.ClassifierFree(start=0.5, stop=0.5)
    with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\], got 1.5"):
        diffusion.ClassifierFree(rescale=1.5)
