import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import bijectors as bij
from genjax import ode
from genjax.nets.flow_mlp import ConcatSquashMLP

KEY = jax.random.key(0)
MATRIX = jnp.array([[0.3, -1.0, 0.2], [0.8, 0.1, 0.0], [0.0, 0.5, -0.6]])


def linear(x, t):
    """A field with a solution in closed form."""
    return 2.0 * t * x @ MATRIX.T


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "heun"])
def test_a_linear_field_moves_points_by_the_matrix_exponential(method):
    x = jax.random.normal(KEY, (5, 3))
    solver = ode.Solver(method=method, num_steps=400, rtol=1e-6, atol=1e-6)
    moved, log_det = jax.jit(lambda x: ode.integrate_with_log_det(linear, x, (0.0, 1.0), solver))(x)
    expected = x @ jax.scipy.linalg.expm(MATRIX).T
    np.testing.assert_allclose(moved, expected, atol=2e-5)
    np.testing.assert_allclose(log_det, jnp.full(5, jnp.trace(MATRIX)), atol=2e-5)
    np.testing.assert_allclose(ode.integrate(linear, x, (0.0, 1.0), solver), moved, atol=2e-5)
    back = ode.integrate(linear, moved, (1.0, 0.0), solver)
    np.testing.assert_allclose(back, x, atol=2e-5)


def test_a_program_for_other_platforms_can_hold_it():
    def moved(x, t):
        return ode.integrate_with_log_det(linear, x, (t, 2.0 * t), ode.Solver())

    x, t = jax.random.normal(KEY, (5, 3)), jnp.float32(0.5)
    exported = jax.export.export(jax.jit(moved), platforms=("cpu", "cuda", "tpu"))(x, t)
    expected = x @ jax.scipy.linalg.expm(0.75 * MATRIX).T
    np.testing.assert_allclose(exported.call(x, t)[0], expected, atol=2e-5)


def test_hutchinsons_estimate_is_unbiased():
    x = jnp.broadcast_to(jnp.array([0.2, -0.4, 1.0]), (4000, 3))
    probe = ode.draw_probe(KEY, x.shape)
    assert set(np.unique(probe)) == {-1.0, 1.0}
    solver = ode.Solver(method="heun", num_steps=20)
    _, estimates = ode.integrate_with_log_det(linear, x, (0.0, 1.0), solver, probe=probe)
    error = float(estimates.std()) / np.sqrt(4000)
    assert error > 1e-3, "the estimate is random"
    assert float(estimates.mean()) == pytest.approx(float(jnp.trace(MATRIX)), abs=4 * error)


@pytest.mark.slow
def test_signs_come_from_the_key_or_are_always_the_same():
    flow = bij.ContinuousFlow(ConcatSquashMLP(8, 1), ode.Solver(rtol=1e-3), "hutchinson")
    x = jax.random.normal(KEY, (4, 3))
    variables = flow.init(KEY, x)
    call = jax.jit(lambda **kwargs: flow.apply(variables, x, **kwargs)[1])
    np.testing.assert_array_equal(call(), call())
    drawn = [call(rngs={"probe": jax.random.key(i)}) for i in range(2)]
    assert float(jnp.abs(drawn[0] - drawn[1]).max()) > 1e-5
    one_sided = jax.grad(lambda v: flow.apply(v, x)[1].sum())(variables)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(one_sided))


def test_what_does_not_converge_is_nan_and_not_a_number_that_looks_right():
    solver = ode.Solver(max_steps=3, rtol=1e-6, atol=1e-6)
    moved = ode.integrate(
        lambda x, t: 50.0 * jnp.sin(50.0 * x), jnp.ones((2, 3)), (0.0, 1.0), solver
    )
    assert np.isnan(moved).all()


@pytest.mark.parametrize("kwargs, message", [
    (dict(rtol=0.0), "must be positive"), (dict(num_steps=0), "must be positive"),
    (dict(max_steps=0), "must be positive"), (dict(method="rk4"), "method must be dopri5"),
])  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ode.Solver(**kwargs)
    flow = bij.ContinuousFlow(ConcatSquashMLP(4), trace="exakt")
    with pytest.raises(ValueError, match="trace must be exact or hutchinson"):
        flow.init(KEY, jnp.ones((1, 2)))
