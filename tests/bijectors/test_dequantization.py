import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from genjax import bijectors as bij

KEY = jax.random.key(0)


def test_variational_noise_is_inside_and_has_the_density_it_says():
    dequantizer = bij.VariationalDequantizer(num_couplings=2, hidden_size=4, num_blocks=1)
    levels = jax.random.uniform(KEY, (5, 2, 4, 1))
    source = dequantizer.draw(jax.random.key(1), levels.shape)
    variables = dict(jax.jit(dequantizer.init)(KEY, source, levels))
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(KEY, len(leaves))
    leaves = [p + 0.2 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    variables = jax.tree.unflatten(tree, leaves)
    call = jax.jit(lambda s, k: dequantizer.apply(variables, s, k))
    noise, log_density = call(source, levels)
    assert ((noise > 0) & (noise < 1)).all()
    assert float(jnp.abs(noise - call(source, 1.0 - levels)[0]).max()) > 1e-3, "sees the levels"
    jacobian = jax.jacobian(lambda s: call(s[None], levels[:1])[0])(source[0]).reshape(8, 8)
    expected = stats.norm.logpdf(source[0]).sum() - np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_density[0], expected, atol=1e-4)


def test_uniform_noise_has_density_one():
    dequantizer = bij.UniformDequantizer()
    source = dequantizer.draw(KEY, (3, 2))
    noise, log_density = dequantizer.apply({}, source, jnp.ones((3, 2)))
    np.testing.assert_array_equal(noise, source)
    np.testing.assert_array_equal(log_density, np.zeros(3))
