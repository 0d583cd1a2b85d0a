"""What holds for all losses: which shapes they take, and in what precision they compute."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import losses

RNG = np.random.default_rng(0)
WIDE = RNG.uniform(-300.0, 300.0, size=(2, 4))  # whose squares leave the range of float16
NARROW = RNG.uniform(-8.0, 8.0, size=(2, 4))
ROWS = RNG.uniform(-300.0, 300.0, size=(2, 4, 3))
MIX, GAMMA = np.array([0.25, 0.5, 0.75, 1.0]), np.array([-8.0, -1.0, 0.0, 5.0])
CELLS = RNG.uniform(-300.0, 300.0, size=(4, 3, 2))
LEVELS = np.array([[0, 255, 7], [1, 2, 3], [128, 127, 126], [9, 9, 9]])


def steep(x):
    return jnp.sum(jnp.square(x), axis=-1)


def reconstruct(z, gamma_0):
    return losses.reconstruction_loss(jnp.asarray(LEVELS), z, gamma_0)


def discretized(mean, log_std):
    return losses.discretized_gaussian_loss(jnp.asarray(LEVELS), mean, log_std)


def logistic(mean, log_scale):
    return losses.discretized_logistic_loss(jnp.asarray(LEVELS), mean, log_scale)


def laplace(location, log_scale):
    return losses.discretized_laplace_loss(jnp.asarray(LEVELS), location, log_scale)


def mixture(logits, means, log_scales):
    return losses.logistic_mixture_loss(jnp.asarray(LEVELS), logits, means, log_scales)


def labelled(logits):
    return losses.labelled_loss(logits, jnp.arange(len(logits)) % 2, given_real=True)


def weighted(z):
    def log_weight(z, frozen):
        return -jnp.square(z.astype(jnp.promote_types(z.dtype, jnp.float32)))

    return losses.importance_weighted_loss(log_weight, jnp.asarray(z))


ALIKE = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]], bool)


def sigmoids(logits):
    return losses.sigmoid_contrastive_loss(logits, jnp.asarray(ALIKE))


def contrasted(image_logits, text_logits):
    targets = losses.caption_targets(jnp.asarray(ALIKE))
    return losses.contrastive_loss(image_logits, text_logits, targets)


# Scales alpha_s, sigma_s, alpha_t, sigma_t of four rows; a tenth of them is whole.
SCALES = np.array([[30.0, 40, 40, 50], [10, 20, 30, 30], [20, 30, 20, 10], [50, 60, 50, 40]])
ONE_SIDED = {
    "minimax_generator_loss": (losses.minimax_generator_loss, WIDE[:1]),
    "nonsaturating_generator_loss": (losses.nonsaturating_generator_loss, WIDE[:1]),
    "least_squares_generator_loss": (losses.least_squares_generator_loss, WIDE[:1]),
    "brier_generator_loss": (losses.brier_generator_loss, NARROW[:1]),
    "hinge_generator_loss": (losses.hinge_generator_loss, WIDE[:1]),
    "wasserstein_generator_loss": (losses.wasserstein_generator_loss, WIDE[:1]),
    "log_density_ratio": (lambda v: losses.log_density_ratio(v, 3, 40), WIDE[:1]),
    "importance_weighted_nats": (losses.importance_weighted_nats, WIDE[:1]),
    "nats_to_bits_per_dim": (lambda v: losses.nats_to_bits_per_dim(v, 3), WIDE[:1]),
    "f_divergence_log_ratio": (
        lambda v: losses.f_divergence_log_ratio(v, divergence="jeffreys", form="paper"), WIDE[:1],
    ),
    "r1_penalty": (lambda x: losses.r1_penalty(steep, x), ROWS[:1]),
    "path_lengths": (
        lambda z, y: losses.path_lengths(lambda z: jnp.square(z) / 30.0, z, y), (ROWS[0], ROWS[1])
    ),
    "r2_penalty": (lambda x: losses.r2_penalty(steep, x), ROWS[:1]),
    "prior_loss": (losses.prior_loss, (ROWS[0], GAMMA)),
    "decoder_logits": (lambda z, g: losses.decoder_logits(z, g, 17), (ROWS[0], GAMMA)),
    "reconstruction_loss": (reconstruct, (ROWS[0] / 300.0, GAMMA)),
    "gaussian_decoder_loss": (losses.gaussian_decoder_loss, (ROWS[0], GAMMA)),
    "discretized_logistic_loss": (logistic, (ROWS[0] / 300.0, GAMMA)),
    "discretized_laplace_loss": (laplace, (ROWS[0] / 300.0, GAMMA)),
    "laplace_loss": (losses.laplace_loss, (ROWS[0], ROWS[1], GAMMA)),
    "logistic_mixture_loss": (mixture, (NARROW.T, CELLS / 300.0, CELLS / 300.0)),
    "effective_sample_size": (losses.effective_sample_size, WIDE[:1]),
    "free_bits_loss": (lambda v: losses.free_bits_loss(v, 3.0), (ROWS[0],)),
    "capacity_loss": (lambda v: losses.capacity_loss(v, 3.0, weight=2.0), WIDE[:1]),
    "shared_variance_loss": (
        lambda v: losses.shared_variance_loss(v, 3), np.abs(WIDE[:1]),
    ),
    "sigmoid_contrastive_loss": (sigmoids, (ROWS[0],)),
    "unit_length": (losses.unit_length, (ROWS[0],)),
    "importance_weighted_loss": (weighted, (ROWS[0],)),
    "discretized_gaussian_loss": (discretized, (ROWS[0] / 300.0, GAMMA)),
    "gaussian_loss": (losses.gaussian_loss, (ROWS[0], ROWS[1], GAMMA)),
    "gaussian_kl_loss": (losses.gaussian_kl_loss, (ROWS[0], GAMMA, ROWS[1], GAMMA - 2)),
    "gaussian_prior_loss": (losses.gaussian_prior_loss, (ROWS[0], GAMMA + 9, SCALES[0])),
    "interpolated_log_variance": (
        losses.interpolated_log_variance, (ROWS[0] / 300.0, GAMMA, GAMMA + 1),
    ),
    "posterior_mean": (losses.posterior_mean, (ROWS[0], ROWS[1], *SCALES)),
    "posterior_variance": (losses.posterior_variance, tuple(SCALES)),
    "with_generated_logit": (losses.with_generated_logit, (ROWS[0],)),
    "real_log_odds": (losses.real_log_odds, (ROWS[0],)),
    "unlabelled_loss": (losses.unlabelled_loss, (ROWS[0],)),
    "generated_loss": (losses.generated_loss, (ROWS[0],)),
    "labelled_loss": (labelled, (ROWS[0],)),
    "feature_matching_loss": (losses.feature_matching_loss, (ROWS[0], ROWS[1])),
    "attack_step": (
        lambda x: losses.attack_step(steep, x, x, epsilon=3.0, step_size=3.0), ROWS[:1] / 300.0,
    ),
    "fgsm": (lambda x: losses.fgsm(steep, x, epsilon=3.0), ROWS[:1] / 300.0),
    "pgd": (
        lambda x: losses.pgd(steep, x, epsilon=3.0, step_size=2.0, num_steps=2), ROWS[:1] / 300.0,
    ),
    "entropy_weights": (losses.entropy_weights, (ROWS[0] / 300.0,)),
    "multilinear_features": (losses.multilinear_features, (ROWS[0], ROWS[1])),
    "reversal_schedule": (lambda v: losses.reversal_schedule(v, 100), np.abs(WIDE[:1])),
    "mmd_witness": (lambda x: losses.mmd_witness(x, x[:2], x[1:]), ROWS[:1] / 300.0),
}  # fmt: skip
PAIRS = {
    **{f"{name} critic": (game.critic, WIDE) for name, game in losses.ADVERSARIAL_LOSSES.items()},
    **{
        f"{name} correct": (game.correct, WIDE)
        for name, game in losses.ADVERSARIAL_LOSSES.items() if game.correct is not None
    },
    "relativistic_generator_loss": (losses.relativistic_generator_loss, WIDE),
    "relativistic_average_generator_loss": (losses.relativistic_average_generator_loss, WIDE),
    "least_squares_critic_loss": (losses.least_squares_critic_loss, WIDE),
    **{f"f_gan_loss {name}": (losses.f_gan_loss(name).critic, NARROW)
       for name in losses.F_DIVERGENCES},
    "f_divergence_bound": (
        functools.partial(losses.f_divergence_bound, divergence="pearson"), NARROW,
    ),
    "bernoulli_loss": (losses.bernoulli_loss, np.abs(ROWS / 300.0)),
    "continuous_bernoulli_loss": (losses.continuous_bernoulli_loss, np.abs(ROWS / 300.0)),
    "contrastive_loss": (contrasted, ROWS),
    "denoising_loss": (losses.denoising_loss, ROWS),
    "domain_loss": (losses.domain_loss, WIDE),
    "flow_matching_loss": (losses.flow_matching_loss, ROWS),
    "straight_path": (lambda a, b: losses.straight_path(a, b, jnp.asarray(MIX))[0], ROWS),
    "gaussian_reconstruction_loss": (
        lambda x, z: losses.gaussian_reconstruction_loss(x, z, jnp.asarray(-8.0)), ROWS,
    ),
    "diffusion_loss": (lambda a, b: losses.diffusion_loss(a, b, jnp.asarray(GAMMA)), ROWS),
    "discrete_diffusion_loss": (
        lambda a, b: losses.discrete_diffusion_loss(
            a, b, jnp.asarray(GAMMA - 2), jnp.asarray(GAMMA), num_timesteps=7), ROWS,
    ),
    "gradient_penalty": (
        lambda a, b: losses.gradient_penalty(steep, a, b, jnp.asarray(MIX)), ROWS,
    ),
    "dragan_penalty": (functools.partial(losses.dragan_penalty, steep), ROWS),
}  # fmt: skip
SETS = {
    "mmd_squared": (losses.mmd_squared, ROWS / 100.0),
    "mmd_gan_loss": (losses.mmd_gan_loss(losses.rational_quadratic_kernel).critic, ROWS / 100.0),
    "rbf_kernel": (losses.rbf_kernel, ROWS / 100.0),
    "rational_quadratic_kernel": (losses.rational_quadratic_kernel, ROWS),
}
ALL = ONE_SIDED | PAIRS | SETS


def test_no_public_function_is_left_out():
    # Losses of critics are those of the games; clipping and levels compute no loss.
    named = {name.split()[0] for name in ALL} | {
        f"{name}_critic_loss"
        for name in (
            "logistic",
            "brier",
            "hinge",
            "wasserstein",
            "relativistic",
            "relativistic_average",
        )
    }
    others = {"clip_weights", "correct_at", "grey_levels", "least_squares_loss", "reverse_gradient"}
    others |= {"caption_targets", "contrastive_floor", "same_captions"}  # of captions, no numbers
    functions = {name for name in losses.__all__ if name[0].islower()}
    assert functions == (named & functions) | others


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_low_precision_is_computed_in_float32(name, dtype):
    function, args = ALL[name]
    low = [jnp.asarray(a, jnp.float32).astype(dtype) for a in args]
    found = function(*low)
    assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = function(*(jnp.asarray(a.astype(jnp.float32), jnp.float64) for a in low))
        exact = np.asarray(exact)
    assert np.isfinite(exact).all()
    np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_gradients_of_low_precision_inputs_are_not_nan(name, dtype):
    function, args = ALL[name]
    low = [jnp.asarray(a, jnp.float32).astype(dtype) / 30 for a in args]
    grads = jax.grad(lambda *a: jnp.mean(function(*a)), tuple(range(len(low))))(*low)
    for grad, argument in zip(grads, low, strict=True):
        assert grad.dtype == argument.dtype and not jnp.isnan(grad).any()


@pytest.mark.parametrize("name", ALL)
def test_whole_numbers_and_lists_are_taken_as_the_numbers_they_are(name, unchecked):
    function, args = ALL[name]
    whole = [np.round(a / 10).astype(np.int32) for a in args]
    expected = function(*(jnp.asarray(a, jnp.float32) for a in whole))
    np.testing.assert_array_equal(function(*map(jnp.asarray, whole)), expected)
    np.testing.assert_array_equal(function(*(a.tolist() for a in whole)), expected)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_of_different_shapes_are_refused_with_both(name, unchecked):
    function, (real, fake) = PAIRS[name]
    real, fake = jnp.asarray(real, jnp.float32), jnp.asarray(fake, jnp.float32)
    for first, second, fix in [
        (real[..., None], fake, "drop the trailing axis"),
        (real, fake[..., None], "drop the trailing axis"),
        (real, fake[:1], "as many rows"),
    ]:
        with pytest.raises(ValueError, match=fix) as caught:
            function(first, second)
        assert str(list(first.shape)) in str(caught.value)
        assert str(list(second.shape)) in str(caught.value)


def test_velocities_of_another_width_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"velocity \[2, 3\], target \[2, 1\]"):
        losses.flow_matching_loss(jnp.ones((2, 3)), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="one value a row"):
        losses.straight_path(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones((2, 1)))


def test_a_mean_of_pairs_is_not_one_of_all_pairs(unchecked):
    real, fake = jnp.array([[1.0], [2.0], [3.0], [4.0]]), jnp.array([0.0, 1.0, 0.0, 1.0])
    loss = losses.relativistic_critic_loss(real[:, 0], fake)
    assert loss.shape == (4,) and float(loss.mean()) == pytest.approx(0.1809, abs=1e-4)
    with pytest.raises(ValueError, match=r"real_logits \[4, 1\], fake_logits \[4\]"):
        losses.relativistic_critic_loss(real, fake)


@pytest.mark.parametrize("name", SETS)
def test_sets_may_differ_in_number_but_not_in_width(name, unchecked):
    function, (x, y) = SETS[name]
    assert np.isfinite(function(jnp.asarray(x), jnp.asarray(y[:3]))).all()
    with pytest.raises(ValueError, match=r"the same D, got x \[4, 3\], y \[4, 2\]"):
        function(jnp.asarray(x), jnp.asarray(y[:, :2]))
    with pytest.raises(ValueError, match=r"x\[:, None\]"):
        function(jnp.asarray(x[:, 0]), jnp.asarray(y[:, 0]))


@pytest.mark.parametrize("name", losses.ADVERSARIAL_LOSSES)
def test_a_patch_critic_has_a_loss_at_each_place(name):
    game = losses.ADVERSARIAL_LOSSES[name]
    real, fake = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    for loss in (game.critic, game.generator):
        flat = loss(real.reshape(-1), fake.reshape(-1))
        # Means over a batch may be added up in another order.
        np.testing.assert_allclose(loss(real, fake), flat.reshape(real.shape), rtol=1e-6)


def test_levels_as_real_numbers_and_complex_numbers_are_refused(unchecked):
    with pytest.raises(ValueError, match="whole numbers from 0 to 255, got float32"):
        losses.reconstruction_loss(jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.array(0.0))
    with pytest.raises(ValueError, match="expected real numbers, got complex64"):
        losses.hinge_generator_loss(jnp.ones(2, jnp.complex64))
    with pytest.raises(ValueError, match=r"nats\[None\]"):
        losses.importance_weighted_nats(jnp.array(1.0))


@pytest.mark.usefixtures("unchecked")
def test_images_in_an_interval_are_not_taken_for_grey_levels():
    from genjax.families.levels import Bins, Centres, Ends

    x = jnp.array([[0.2, 0.5]])
    for call in (
        lambda: losses.grey_levels(x, 256),
        lambda: losses.reconstruction_loss(x, x, jnp.array(0.0)),
        lambda: Ends(256).encode(x),
        lambda: Centres(256).encode(x),
        lambda: Bins(256).encode(x, x),
        lambda: jax.eval_shape(Ends(256).encode, x),
    ):
        with pytest.raises(ValueError, match="grey levels as whole numbers from 0 to 255, got flo"):
            call()
