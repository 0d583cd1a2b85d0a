import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from genjax import nets
from genjax.devices import nested
from genjax.nets.convolution import conv
from genjax.nets.equalized import EqualizedConv
from genjax.nets.resampling import downsample, resample, unit, upsample
from genjax.nets.stylegan import DoublingConv, adaptive_instance_norm
from genjax.nets.stylegan2 import _doubled, _same, modulated_conv
from genjax.nets.stylegan2_critic import minibatch_deviation
from genjax.nets.styles import Mapping

KEY = jax.random.key(0)
SMALL = dict(base_channels=32, max_channels=8, style_size=6, num_mapping_layers=2)


def cosines(*shape, frequency):
    return jnp.cos(frequency * jnp.arange(np.prod(shape))).reshape(shape)


@functools.partial(jax.jit, static_argnames=("net", "train", "method", "mutable"))
def apply(net, variables, x, *, train=False, method=None, mutable=False, rngs=None):
    kwargs = {} if method == "synthesis" else {"train": train}
    return net.apply(variables, x, method=method, mutable=mutable, rngs=rngs, **kwargs)


def close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), a, b)


@pytest.mark.parametrize("up, down", [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_resampling_is_scipys_along_each_axis(up, down):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3))
    taps = (0.1, 0.5, 0.2, -0.3)
    expected = x
    for axis in (1, 2):
        expected = scipy.signal.upfirdn(taps, expected, up, down, axis=axis)
    # scipy pads with all that the filter reaches, and leaves the last zeros out.
    pads = dict(up=up, down=down, padding=(3, 4 - up))
    close(jax.jit(functools.partial(resample, taps=taps, **pads))(jnp.float32(x)), expected)


def test_resampled_images_keep_their_mean_and_their_place():
    ones = jnp.ones((1, 8, 8, 1))
    ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], (1, 8, 8, 1))
    for taps in ((1, 3, 3, 1), (1, 2, 1), (1, 1)):
        big, small = jax.jit(lambda x, t=taps: (upsample(x, t), downsample(x, t)))(ones)
        assert big.shape == (1, 16, 16, 1) and small.shape == (1, 4, 4, 1)
        close((big[:, 2:-2, 2:-2], small[:, 1:-1, 1:-1]), (1.0, 1.0))
    # Of an even filter the pixels of the coarser grid lie between two of the finer.
    taps = (1, 3, 3, 1)
    big, small = jax.jit(lambda x: (upsample(x, taps), downsample(x, taps)))(ramp)
    close(big[0, 2:-2, 5, 0], (np.arange(16) / 2 - 0.25)[2:-2])
    close(small[0, 1:-1, 2, 0], [2.5, 4.5])
    with pytest.raises(ValueError, match="at least 4 padded pixels"):
        resample(jnp.ones((1, 2, 2, 1)), unit((1, 3, 3, 1)))


@pytest.mark.parametrize(
    "double, value, style_grad, kernel_grad",
    [
        (False, 0.1455412421, [0.3940647931, -0.7906840777, -0.0404702336, 0.0203674587],
         [-0.2445998699, -0.3796939438, -0.2608460027, -0.1776333054]),
        (True, -0.0753675498, [-0.0800307569, 0.1605803065, 0.0270230263, -0.0135998814],
         [-0.0552166464, 0.0092142508, 0.2412910735, 0.2913587661]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["activations", "weights"])
def test_modulated_convolution_and_its_gradients_are_those_of_torch(
    double, value, style_grad, kernel_grad, form
):
    # Numbers of torch in float64: a convolution of each row with a kernel of its own.
    x, kernel = cosines(2, 3, 3, 2, frequency=0.7), cosines(3, 3, 2, 2, frequency=1.3)
    style = 1.0 + 0.5 * cosines(2, 2, frequency=2.1)

    def weighted(style, kernel):
        conv_fn = _doubled if double else _same
        y = modulated_conv(x, kernel, style, conv_fn=conv_fn, form=form)
        if double:
            y = resample(y, unit((1, 3, 3, 1)), padding=(1, 1), gain=2.0)
        return jnp.sum(y * cosines(*y.shape, frequency=0.3))

    found, grads = jax.jit(jax.value_and_grad(weighted, argnums=(0, 1)))(style, kernel)
    assert float(found) == pytest.approx(value, abs=1e-5)
    close(grads[0].ravel(), np.array(style_grad), atol=1e-5)
    close(grads[1].ravel()[:4], np.array(kernel_grad), atol=1e-5)


def test_unknown_forms_are_refused(unchecked):
    x, kernel, style = jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 1)), jnp.ones((1, 3))
    with pytest.raises(ValueError, match="form must be"):
        modulated_conv(x, kernel, style, conv_fn=_same, form="rows")


def test_demodulation_undoes_the_scale_of_a_style():
    x, kernel = jax.random.normal(KEY, (4, 8, 8, 16)), jax.random.normal(KEY, (3, 3, 16, 8))
    style = jnp.exp(jax.random.normal(KEY, (4, 16)))
    plain = jax.jit(
        functools.partial(modulated_conv, x, kernel, conv_fn=_same),
        static_argnames=("demodulate", "form"),
    )
    close(plain(10.0 * style), plain(style))
    assert float(jnp.abs(plain(10.0 * style, demodulate=False)).max()) > 20
    for form in ("activations", "weights"):
        y = plain(style, form=form)
        inner = y[:, 1:-1, 1:-1]
        assert float(jnp.mean(inner**2)) == pytest.approx(1.0, abs=0.15)


def test_layers_begin_with_unit_variance():
    x = jax.random.normal(KEY, (64, 8, 8, 16))
    for layer in (EqualizedConv(32), EqualizedConv(32, 1)):
        y, _ = jax.jit(layer.init_with_output)(KEY, x)
        assert float(y[:, 1:-1, 1:-1].std()) == pytest.approx(1.0, abs=0.1)
    z = jax.random.normal(KEY, (32, 128))
    mapping = Mapping(features=128, num_layers=8, num_classes=None, multiplier=0.01)
    styles, _ = jax.jit(mapping.init_with_output)(KEY, z)
    # Eight layers of leaky ReLUs that keep the mean square.
    assert float(jnp.mean(styles**2)) == pytest.approx(1.0, abs=0.4)


def test_minibatch_deviation_has_the_strided_groups_of_the_paper():
    rows = jnp.array([0.0, 0, 0, 0, 1, 2, 3, 4, 100, 200, 300, 400])
    x = jnp.broadcast_to(rows[:, None, None, None], (12, 2, 2, 3))
    found = jax.jit(minibatch_deviation, static_argnums=1)(x, 4)
    assert found.shape == (12, 2, 2, 1)
    close(found[:, 0, 0, 0], np.tile([86.18, 129.19, 163.56], 4), atol=5e-3)
    close(found[:, 0, 0, 0], found[:, 1, 1, 0])
    # A size that does not divide the batch gives way to one that does; equal rows have none.
    close(minibatch_deviation(x[:6], 4), minibatch_deviation(x[:6], 3))
    assert float(minibatch_deviation(x[:4], 4).max()) < 1e-3
    slope = jax.grad(lambda x: jnp.sum(minibatch_deviation(x, 4)))(x[:4])
    assert bool(jnp.all(jnp.isfinite(slope)))


def test_doubling_convolutions_repeat_pixels_first():
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    layer = DoublingConv(5, jnp.float32)
    y, variables = layer.init_with_output(KEY, x)
    kernel = variables["params"]["kernel"] * np.sqrt(2 / 27)
    close(y, conv(x.repeat(2, 1).repeat(2, 2), kernel, (1, 1), "SAME"))


def test_adaptive_norm_gives_channels_the_mean_and_the_scale_of_the_style():
    x = 5 + 3 * jax.random.normal(KEY, (2, 8, 8, 4))
    scale, shift = jax.random.normal(KEY, (2, 4)), jax.random.normal(jax.random.key(1), (2, 4))
    y = adaptive_instance_norm(x, scale, shift)
    close((y.mean((1, 2)), y.std((1, 2))), (shift, jnp.abs(1 + scale)), atol=1e-4)


@pytest.fixture(scope="module", params=["stylegan2", "stylegan"])
def generator(request):
    make = {"stylegan2": nets.StyleGAN2Generator, "stylegan": nets.StyleGANGenerator}
    net = make[request.param]((8, 8, 1), **SMALL)
    z = jax.random.normal(KEY, (4, 5))
    return net, jax.jit(net.init)(KEY, z), z


def test_styles_lie_between_latents_and_images(generator):
    net, variables, z = generator
    styles = apply(net, variables, z, method="mapping")
    assert styles.shape == (4, net.num_styles, 6) and net.num_styles == 4
    close(apply(net, variables, styles, method="synthesis"), apply(net, variables, z))
    # Only the direction of a latent counts.
    close(apply(net, variables, 3.0 * z, method="mapping"), styles)
    # Each layer has a style: another one of the last changes the image, but less than all do.
    moved = styles.at[:, -1].add(1.0)
    assert not np.allclose(
        apply(net, variables, moved, method="synthesis"), apply(net, variables, z)
    )


def test_the_mean_style_follows_training_and_not_what_styles_are_mixed_with(generator):
    net, variables, z = generator
    net = net.clone(mean_decay=0.75, mixing_probability=1.0)

    def mapped(net, variables, rngs=None):
        return apply(net, variables, z, train=True, method="mapping", mutable="styles", rngs=rngs)

    pure, kept = mapped(net, variables)  # without a random stream nothing is mixed
    mean = kept["styles"]["mapping_net"]["mean"]
    close(mean, 0.25 * pure[:, 0].mean(0))
    mixed, again = mapped(net, variables, {"noise": KEY})
    close(again["styles"]["mapping_net"]["mean"], mean)
    # The first layers keep the style, the last have another's, from one layer on.
    same = np.all(np.isclose(mixed, pure), axis=-1)
    assert same[:, 0].all() and not same[:, -1].any()
    assert (np.diff(same.astype(int), axis=1) <= 0).all()
    close(mapped(net.clone(mixing_probability=0.0), variables, {"noise": KEY})[0], pure)


def test_truncation_draws_first_layers_to_the_mean_in_sampling_only(generator):
    net, variables, z = generator
    mean = jnp.arange(6.0)
    variables = {**variables, "styles": {"mapping_net": {"mean": mean}}}
    pure = apply(net, variables, z, method="mapping")
    half = net.clone(truncation=0.5, truncated_layers=2)
    styles = apply(half, variables, z, method="mapping")
    close(styles[:, :2], 0.5 * (pure + mean)[:, :2])
    close(styles[:, 2:], pure[:, 2:])
    close(apply(half, variables, z, method="mapping", train=True), pure)
    none = apply(net.clone(truncation=0.0), variables, z)
    close(none, jnp.broadcast_to(none[:1], none.shape))


def test_noise_enters_by_its_strength_alone(generator):
    net, variables, z = generator
    plain = apply(net, variables, z)
    close(apply(net, variables, z, rngs={"noise": KEY}), plain)  # strengths begin at 0
    loud = jax.tree_util.tree_map_with_path(
        lambda path, p: p + 1.0 if path[-1].key == "noise_strength" else p, variables
    )
    close(apply(net, loud, z), plain)
    one, two = (apply(net, loud, z, rngs={"noise": jax.random.key(i)}) for i in range(2))
    assert float(jnp.abs(one - two).mean()) > 0.05


def count(net, *args):
    shapes = jax.eval_shape(lambda: net.init(KEY, *args))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_published_sizes():
    z, label = jnp.zeros((1, 512)), jnp.zeros(1, jnp.int32)
    large, x = jnp.zeros((1, 1024, 1024, 3)), jnp.zeros((1, 32, 32, 3))
    # Configuration F, as the authors' code prints it.
    assert count(nets.StyleGAN2Generator((1024, 1024, 3)), z) == 30_370_060
    assert count(nets.StyleGAN2Critic(), large) == 29_012_513
    # 20.22 M and 23.09 M in POSTECH-CVLab/PyTorch-StudioGAN's table of CIFAR-10.
    cifar = nets.StyleGAN2Generator((32, 32, 3), num_mapping_layers=2, num_classes=10)
    assert count(cifar, z, label) == pytest.approx(20.22e6, rel=3e-4)
    critic = nets.StyleGAN2Critic(residual=False, num_classes=10)
    assert count(critic, x, label) == pytest.approx(23.09e6, rel=3e-4)


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sizes_types_and_labels(side, dtype):
    shape = (side, side, 1)
    z, x, label = jnp.zeros((2, 5)), jnp.zeros((2, *shape)), jnp.zeros(2, jnp.int32)
    few = dict(base_channels=64, max_channels=8, num_classes=3, dtype=dtype)
    for net, rows in [
        (nets.StyleGAN2Generator(shape, style_size=6, **few), z),
        (nets.StyleGAN2Generator(shape, style_size=6, form="weights", **few), z),
        (nets.StyleGANGenerator(shape, style_size=6, **few), z),
        (nets.StyleGAN2Critic(**few), x),
        (nets.StyleGAN2Critic(residual=False, taps=(1, 2, 1), **few), x),
    ]:
        y, variables = jax.eval_shape(lambda n=net, r=rows: n.init_with_output(KEY, r, label))
        assert y.dtype == jnp.float32 and y.shape in ((2, *shape), (2,))
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
        with pytest.raises(ValueError, match="the label is missing"):
            jax.eval_shape(lambda n=net, r=rows: n.init(KEY, r))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(mixing_probability=1.5), r"mixing_probability must be in \[0, 1\]"),
        (dict(truncation=-1.0), "truncation must not be negative"),
        (dict(mapping_multiplier=0.0), "mapping_multiplier must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        nets.StyleGAN2Generator((8, 8, 1), **kwargs)


def test_convolutions_in_branches_compute_the_same():
    x, w = jax.random.normal(KEY, (2, 6, 6, 3)), jax.random.normal(KEY, (3, 3, 3, 4))

    def penalty(w):  # gradients of gradients
        slope = jax.grad(lambda x: jnp.sum(jnp.tanh(conv(x, w, (1, 1), ((1, 0), (2, 1))))))(x)
        return jnp.sum(slope**2)

    plain = jax.jit(jax.value_and_grad(penalty))(w)
    with nested():
        inside = jax.jit(lambda w: jax.lax.cond(w[0, 0, 0, 0] < 9, jax.value_and_grad(penalty),
                                                lambda w: (0.0, w), w))(w)  # fmt: skip
    close(inside, plain)
