import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax.families.averages import Average, power_of
from genjax.families.minimizing import minimizing


def test_powers_are_those_of_the_paper():
    # Karras et al., arXiv:2312.02696, section 3.1: gamma 6.94 and 16.97.
    assert power_of(0.10) == pytest.approx(6.94, abs=0.005)
    assert power_of(0.05) == pytest.approx(16.97, abs=0.005)


@pytest.mark.parametrize("relative_std", [0.05, 0.2])
def test_a_power_average_weighs_steps_by_the_power_and_has_the_spread_it_says(relative_std):
    average, count = Average(ema_relative_std=relative_std), 3000
    decays = np.array(jax.vmap(lambda t: average.decay(t, 1))(jnp.arange(1, count + 1)))
    weights = (1 - decays) * np.append(np.cumprod(decays[::-1])[::-1][1:], 1.0)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-4)  # nothing of the start is left
    times = np.arange(1, count + 1) / count
    mean = (weights * times).sum()
    std = np.sqrt((weights * (times - mean) ** 2).sum())
    assert std == pytest.approx(relative_std, rel=0.01)
    ratio = weights[count // 2 - 1] / weights[-1]
    assert ratio == pytest.approx(0.5 ** power_of(relative_std), rel=0.02)


def average_after(average, steps, accumulate_steps=1):
    """The average of a parameter that is 0 and then the number of its updates."""
    init, train_step = minimizing(
        init_model=lambda key, batch: ({"net": jnp.zeros(())}, {}),
        loss_and_grad=lambda p, s, b, k, t: ((jnp.zeros(()), ({}, s)), {"net": -jnp.ones(())}),
        optimizer=optax.sgd(1.0),
        ema_decay=average.decay,
        accumulate_steps=accumulate_steps,
    )
    batch = {"x": jnp.zeros((500, 1))}
    state = init(jax.random.key(0), batch)
    for _ in range(steps):
        state, _ = train_step(state, batch, jax.random.key(0))
    return float(state.ema["net"])


def test_half_lives_are_counted_in_examples_of_all_accumulated_batches():
    # A half-life of one step of 500, and of two batches of 500 that are one update.
    one = Average(ema_half_life_kimg=0.5, ema_rampup=0.0)
    assert average_after(one, 2) == pytest.approx(0.5 * 0.5 + 0.5 * 2)
    two = Average(ema_half_life_kimg=1.0, ema_rampup=0.0)
    assert average_after(two, 4, accumulate_steps=2) == pytest.approx(0.5 * 0.5 + 0.5 * 2)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(ema_decay=1.0), "ema_decay must be in"),
        (dict(ema_half_life_kimg=1.0, ema_relative_std=0.1), "exclude each other"),
        (dict(ema_half_life_kimg=-1.0), "must not be negative"),
        (dict(ema_relative_std=0.3), "ema_relative_std must be in"),
    ],
)
def test_averages_that_cannot_be_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Average(**kwargs)
