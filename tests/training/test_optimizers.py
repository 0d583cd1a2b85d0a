"""Optimisers: any of optax by name, with any of its schedules, counted in training steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax.config import ConfigError
from genjax.families import Acts
from genjax.training import optimizers
from genjax.training.logs import read_metrics
from genjax.training.loop import NonFiniteError
from genjax.training.skipping import count_skips


def sizes(optimizer, count):
    """Sizes of updates on a gradient of one."""
    params = {"w": jnp.zeros(())}
    state, found = optimizer.init(params), []
    for _ in range(count):
        updates, state = optimizer.update({"w": jnp.ones(())}, state, params)
        found.append(-float(updates["w"]))
    return found


@pytest.mark.parametrize("make", [optimizers.adam, optimizers.rmsprop])
def test_optimizers_of_gans_warm_up_and_decay(make):
    kwargs = dict(learning_rate=1.0, warmup_steps=2, decay_steps=6, eps=1e-12)
    rates = {
        shape: np.array(sizes(make(decay_shape=shape, **kwargs), 7))
        for shape in ("linear", "cosine")
    }
    # Adam's updates have the size of the rate; RMSprop's that over the root of its mean square.
    scale = 1.0 if make is optimizers.adam else np.sqrt(1.0 - 0.99 ** np.arange(1, 8))
    np.testing.assert_allclose(rates["linear"] * scale, [0, 0.5, 1, 0.75, 0.5, 0.25, 0], atol=1e-4)
    fall = 0.5 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(rates["cosine"] * scale, [0, 0.5, *fall], atol=1e-4)


def test_any_optimizer_of_optax_by_name():
    ours = optimizers.any_of_optax(optimizer="lion", learning_rate=0.1, arguments=dict(b1=0.8))
    np.testing.assert_allclose(sizes(ours, 3), sizes(optax.lion(0.1, b1=0.8), 3))
    momentum = optimizers.any_of_optax(
        optimizer="sgd", learning_rate=0.1, arguments=dict(momentum=0.9), warmup_steps=2
    )
    np.testing.assert_allclose(
        sizes(momentum, 3), sizes(optax.sgd(optax.linear_schedule(0, 0.1, 2), momentum=0.9), 3)
    )
    for name in ("lamb", "adafactor", "yogi", "nadam", "radam", "adan", "adabelief"):
        assert np.isfinite(sizes(optimizers.any_of_optax(optimizer=name), 2)).all()


def test_a_schedule_of_optax_counts_training_steps():
    schedule = dict(name="exponential_decay", init_value=1.0, transition_steps=4, decay_rate=0.5)
    kwargs = dict(optimizer="sgd", schedule=schedule)
    expected = 0.5 ** (np.arange(8) / 4)
    np.testing.assert_allclose(sizes(optimizers.any_of_optax(**kwargs), 8), expected, rtol=1e-5)
    twice = optimizers.any_of_optax(**kwargs, acts=Acts(updates_per_step=2))
    np.testing.assert_allclose(sizes(twice, 16)[::2], expected, rtol=1e-5)


@pytest.mark.parametrize("make", [optimizers.adam, optimizers.adamax, optimizers.adamw,
                                  optimizers.rmsprop, optimizers.any_of_optax])  # fmt: skip
def test_updates_of_large_and_of_non_finite_gradients_are_skipped_but_not_for_ever(make):
    given = dict(optimizer="sgd") if make is optimizers.any_of_optax else {}
    guarded = make(learning_rate=0.1, skip_norm=5.0, max_skips=2, clip_norm=1.0, **given)
    plain = make(learning_rate=0.1, clip_norm=1.0, **given)
    params = {"w": jnp.ones(2)}
    state, expected = guarded.init(params), plain.init(params)
    skipped = []
    for size in (1.0, 100.0, jnp.nan, 1.0, 100.0, jnp.inf, 100.0, 1.0):
        grads = {"w": jnp.full(2, size)}
        before = state.guarded.inner_state
        updates, state = guarded.update(grads, state, params)
        skipped.append(int(count_skips({"model": state})))
        if len(skipped) > 1 and skipped[-1] > skipped[-2]:  # as if the step had not been
            assert not updates["w"].any()
            chex.assert_trees_all_equal(state.guarded.inner_state, before)
        else:
            made, expected = plain.update(grads, expected, params)
            np.testing.assert_allclose(updates["w"], made["w"], rtol=1e-6)
    # The third in a row is made: it is clipped.
    assert skipped == [0, 1, 2, 2, 3, 4, 4, 4]
    assert count_skips({"model": plain.init(params)}) is None


@pytest.mark.parametrize("kwargs", [dict(skip_norm=0.0), dict(skip_norm=1.0, max_skips=0)])
def test_limits_of_skips_out_of_range_are_refused(kwargs):
    with pytest.raises(ValueError, match=list(kwargs)[-1]):
        optimizers.adam(**kwargs)


@pytest.mark.parametrize("key, run", [("skip_norm", 1e3), ("clip_norm", 1e3)])
def test_a_batch_that_is_damaged_costs_one_update_of_a_run_that_skips(tmp_path, key, run):
    rows = np.random.default_rng(0).normal(size=(64, 2)).astype("f4")
    rows[::8] = 1e30  # the loss of which is not finite
    np.save(tmp_path / "train.npy", rows)
    np.save(tmp_path / "test.npy", rows[1:8])
    config = dict(
        data=dict(
            name="npy", data_dir=str(tmp_path), batch_size=2, event_shape=(2,), standardize=False
        ),
        model=dict(
            encoder=dict(name="mlp", hidden_size=4, num_layers=0),
            decoder=dict(name="mlp", hidden_size=4, num_layers=0),
        ),
        family=dict(name="vae", latent_size=1, observation=dict(name="gaussian")),
        optimizer={"name": "adam", key: run},
        train=dict(num_steps=20, log_every=20, eval_every=0, sample_every=0),
        eval=dict(batch_size=2),
    )
    made = genjax.Run(genjax.build(config), tmp_path / "run", quiet=True)
    if key == "clip_norm":
        with pytest.raises(NonFiniteError):
            made.train()
        return
    made.train()
    (row,) = [row for row in read_metrics(tmp_path / "run") if "train/loss" in row]
    assert 0.0 < row["train/skipped_updates"] < 1.0 and np.isfinite(row["train/loss"])


@pytest.mark.parametrize("keys, message", [
    (dict(optimizer="lyon"), "optax has no optimiser 'lyon' with a learning rate; did you"),
    (dict(optimizer="chain"), "optax has no optimiser 'chain' with a learning rate"),
    (dict(optimizer="sgd", arguments=dict(b7=1)), "arguments: sgd has no 'b7'; it has"),
    (dict(optimizer="sgd", schedule=dict(name="no")), "schedule: optax has no 'no'; it has"),
    (dict(optimizer="sgd", schedule=dict(name="linear_schedule")), "schedule: .* missing"),
    (dict(optimizer="sgd", warmup_steps=3, schedule=dict(name="constant_schedule", value=1.0)),
     "use one"),
    (dict(optimizer="sgd", learning_rate=0.0), "learning_rate must be positive"),
])  # fmt: skip
def test_what_optax_has_not_is_named_before_anything_is_compiled(keys, message):
    config = dict(
        data=dict(name="two_moons", batch_size=8),
        model=dict(name="score_mlp", hidden_size=8, num_layers=1),
        family=dict(name="vdm", schedule=dict(name="fixed_linear")),
        optimizer=dict(name="optax", **keys),
        train=dict(num_steps=2, eval_every=0, sample_every=0),
    )
    with pytest.raises(ConfigError, match=f"optimizer.*{message}"):
        genjax.build(config)


def test_an_l2_penalty_is_part_of_the_gradient_of_weights():
    params = {"dense": {"kernel": jnp.array([[2.0, -3.0]]), "bias": jnp.array([4.0, 5.0])}}
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = optimizers.adam(learning_rate=0.1, l2=1e-3)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    # Where the loss has no slope, weights shrink by whole steps of Adam; biases stay.
    np.testing.assert_allclose(updates["dense"]["kernel"], [[-0.1, 0.1]], rtol=1e-4)
    assert not updates["dense"]["bias"].any()
    with pytest.raises(ValueError, match="l2 must not be negative"):
        optimizers.adam(l2=-1.0)
