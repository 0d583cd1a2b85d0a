import dataclasses
import json
import platform
import threading

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from genjax import data, nets
from genjax.data import ArraySource, TrainBatches
from genjax.families.base import Acts, Family, Samples, TrainState
from genjax.families.minimizing import minimizing
from genjax.training import allocator, feeds, loop, optimizers
from genjax.training import mesh as meshes
from genjax.training import step as stepping
from genjax.training.checkpoints import CheckpointError, Checkpoints
from genjax.training.evaluate import Evaluator
from genjax.training.host_part import decoded
from genjax.training.logs import MetricLog

KEY = jax.random.key(0)


def linear_family(bad_step=None):
    """Learns the mean of its batches; turns bad at a step if asked to."""

    def loss_fn(params, model_state, batch, key, step):
        noise = 0.01 * jax.random.normal(key)
        return jnp.mean(jnp.square(params["net"]["w"] - batch["x"])) + noise, ({}, model_state)

    init, train_step = minimizing(
        init_model=lambda key, batch: ({"net": {"w": jnp.zeros(())}}, {}),
        loss_and_grad=jax.value_and_grad(loss_fn, has_aux=True),
        optimizer=optax.adam(0.1),
        ema_decay=0.5,
    )

    def spoiled(state, batch, key):
        state, metrics = train_step(state, batch, key)
        if bad_step is not None:
            bad = state.step == bad_step
            metrics = {**metrics, "grad_norm": jnp.where(bad, jnp.nan, metrics["grad_norm"])}
        return state, metrics

    return Family(
        init=init,
        train_step=spoiled,
        eval_step=lambda state, batch, key: {"error": batch["x"] - state.ema["net"]["w"]},
        sample=lambda state, key, batch: Samples(rows=batch["x"] + state.ema["net"]["w"]),
        eval_protocol={"bound": "none"},
    )


SOURCE = ArraySource(x=np.linspace(-1.0, 3.0, 14, dtype=np.float32))
BATCHES = TrainBatches(SOURCE, 4, seed=0)


class Recorder:
    def __init__(self):
        self.calls = []

    def evaluate(self, step, state):
        self.calls.append(("evaluate", step))
        return {"eval/bits_per_dim": float(step % 4)}

    def sample(self, step, state):
        self.calls.append(("sample", step))


def run(tmp_path, num_steps, *, family=None, periods=None, recorder=None, stop=None, keep=3,
        most=1, resident=True, batches=None, **kwargs):  # fmt: skip
    family = family or linear_family()
    recorder = recorder or Recorder()
    mesh = meshes.make_mesh()
    shapes = jax.eval_shape(family.init, KEY, BATCHES[0])
    template = stepping.state_template(shapes, mesh)
    with MetricLog(tmp_path) as log, Checkpoints(tmp_path, keep=keep) as checkpoints:
        resumed = checkpoints.restore(template)
        state = resumed.state
        log.rewind(resumed.step)
        if state is None:
            state = stepping.init_state(family, KEY, BATCHES[0], mesh)
        limit = 1 if resident else 0
        feed = feeds.make_feed({"": batches or BATCHES}, mesh, most=most, device_limit_mib=limit)
        return loop.train(
            state,
            stepping.TrainingSteps(family, template, feed, key=KEY, mesh=mesh),
            num_steps=num_steps,
            log=log,
            checkpoints=checkpoints,
            periods=periods or loop.Periods(log=2, evaluate=0, sample=0, checkpoint=3),
            evaluate=recorder.evaluate,
            sample=recorder.sample,
            resumed=resumed,
            stop=lambda step: stop is not None and stop.is_set(),
            **kwargs,
        )


def records(path):
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "per_second" not in k} for row in rows]


def saved_steps(path):
    return sorted(int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdigit())


def assert_same(a: TrainState, b: TrainState):
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def test_resumed_run_equals_the_uninterrupted_one_in_state_and_log(tmp_path):
    whole = run(tmp_path / "whole", 10)
    run(tmp_path / "parts", 3)  # in the middle of a log window
    run(tmp_path / "parts", 7)
    assert_same(run(tmp_path / "parts", 10), whole)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")
    assert [row["step"] for row in records(tmp_path / "whole")] == [2, 4, 6, 8, 10]


@pytest.mark.parametrize("resident", [True, False])
def test_calls_of_several_steps_do_what_single_steps_do(tmp_path, resident):
    periods = loop.Periods(log=2, evaluate=5, sample=0, checkpoint=3)
    single, several = Recorder(), Recorder()
    whole = run(tmp_path / "single", 11, periods=periods, recorder=single, resident=not resident)
    kwargs = {"periods": periods, "recorder": several, "most": 4, "resident": resident}
    run(tmp_path / "several", 7, **kwargs)
    for x, y in zip(
        jax.tree.leaves(run(tmp_path / "several", 11, **kwargs)),
        jax.tree.leaves(whole),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-6)
    rows = zip(records(tmp_path / "several"), records(tmp_path / "single"), strict=True)
    assert all(a == pytest.approx(b) for a, b in rows)
    assert several.calls == [*single.calls[:1], ("evaluate", 7), *single.calls[1:]]
    assert saved_steps(tmp_path / "several") == saved_steps(tmp_path / "single")


def test_a_loop_resumed_in_the_middle_of_a_call_computes_the_same_bits(tmp_path):
    periods = loop.Periods(log=8, evaluate=0, sample=0, checkpoint=8)
    whole = run(tmp_path / "whole", 16, periods=periods, most=4)
    run(tmp_path / "parts", 3, periods=periods, most=4)
    assert_same(run(tmp_path / "parts", 16, periods=periods, most=4), whole)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_a_bad_step_in_the_middle_of_a_call_is_named(tmp_path):
    periods = loop.Periods(log=8, evaluate=0, sample=0, checkpoint=8)
    with pytest.raises(loop.NonFiniteError, match="grad_norm is nan at step 6"):
        run(tmp_path, 16, family=linear_family(bad_step=6), periods=periods, most=8)
    assert saved_steps(tmp_path) == []


def test_convolutions_are_not_looped_over_on_cpus():
    family = linear_family()
    shapes = jax.eval_shape(family.init, KEY, BATCHES[0])
    assert stepping.loops_well(family, shapes, BATCHES[0])

    def convolved(state, batch, key):
        params = {"kernel": jnp.ones((3, 1, 1)), "bias": jnp.ones(1)}
        x = nets.Conv(1, (3,)).apply({"params": params}, batch["x"][None, :, None])
        return family.train_step(state, {"x": x.ravel()}, key)

    other = dataclasses.replace(family, train_step=convolved)
    assert not stepping.loops_well(other, shapes, BATCHES[0])


def test_what_a_crashed_run_logged_after_its_checkpoint_is_logged_once(tmp_path):
    run(tmp_path / "whole", 10)
    run(tmp_path / "crashed", 6)
    log = tmp_path / "crashed" / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 8, "train/loss": 1.0}\n{"step": 10, "tr')
    run(tmp_path / "crashed", 10)
    assert records(tmp_path / "crashed") == records(tmp_path / "whole")


def test_actions_come_in_order_on_their_steps_and_after_the_last(tmp_path):
    recorder = Recorder()
    periods = loop.Periods(log=1, evaluate=2, sample=4, checkpoint=2)
    run(tmp_path, 5, recorder=recorder, periods=periods)
    expected = [("evaluate", 2), ("evaluate", 4), ("sample", 4), ("evaluate", 5), ("sample", 5)]
    assert recorder.calls == expected


def test_the_last_checkpoints_and_the_best_are_kept_across_resumes(tmp_path):
    class Scored(Recorder):
        def evaluate(self, step, state):
            return {"eval/bits_per_dim": abs(step - 4.0)}  # best after step 4

    periods = loop.Periods(log=1, evaluate=1, sample=0, checkpoint=1)
    for num_steps in (6, 9, 11):
        run(tmp_path, num_steps, periods=periods, keep=2, recorder=Scored())
    assert saved_steps(tmp_path) == [4, 10, 11]


def test_an_evaluated_state_is_saved_and_an_unevaluated_one_never_the_best(tmp_path):
    periods = loop.Periods(log=1, evaluate=2, sample=0, checkpoint=3)
    run(tmp_path, 5, periods=periods, keep=9)
    assert saved_steps(tmp_path) == [2, 3, 4, 5]
    folder = tmp_path / "checkpoints"
    three, four = (decoded((folder / s / "host" / "metadata").read_bytes()) for s in "34")
    assert three.scores == {} and four.scores == {"eval/bits_per_dim": 0.0}


class Unreadable:
    """A set of which one batch cannot be read."""

    def __init__(self, broken):
        self.broken = broken

    def __len__(self):
        return len(BATCHES.source)

    def rows(self, indices):
        if len(indices) > 1 and np.array_equal(indices, self.broken):
            raise data.DamagedDataError("the disk has gone")
        return BATCHES.source.rows(indices)


def test_a_batch_that_cannot_be_read_loses_no_step(tmp_path):
    periods = loop.Periods(log=2, evaluate=0, sample=0, checkpoint=100)
    whole = run(tmp_path / "whole", 10, periods=periods, resident=False)
    broken = TrainBatches(Unreadable(BATCHES.indices(7)), BATCHES.batch_size, seed=BATCHES.seed)
    with pytest.raises(data.DamagedDataError, match="the disk has gone"):
        run(tmp_path / "parts", 10, periods=periods, resident=False, batches=broken)
    assert saved_steps(tmp_path / "parts") == [7]
    assert_same(run(tmp_path / "parts", 10, periods=periods, resident=False), whole)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_a_line_that_cannot_be_printed_loses_no_step(tmp_path):
    def on_step(step, latest):
        if step == 4:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        run(tmp_path, 10, on_step=on_step)
    assert saved_steps(tmp_path) == [3, 4]


@pytest.mark.parametrize("error", [RuntimeError("no disk for pictures"), loop.StopRequested()])
def test_an_action_that_fails_loses_nothing_and_is_done_by_the_next_run(tmp_path, error):
    class Failing(Recorder):
        def sample(self, step, state):
            raise error

    periods = loop.Periods(log=1, evaluate=4, sample=4, checkpoint=100)
    expected = loop.Preempted if isinstance(error, loop.StopRequested) else RuntimeError
    with pytest.raises(expected):
        run(tmp_path / "parts", 10, periods=periods, recorder=Failing())
    assert saved_steps(tmp_path / "parts") == [4]
    recorder = Recorder()
    state = run(tmp_path / "parts", 10, periods=periods, recorder=recorder)
    assert recorder.calls[:3] == [("evaluate", 4), ("sample", 4), ("evaluate", 8)]
    assert_same(state, run(tmp_path / "whole", 10, periods=periods))
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_rewinding_drops_what_comes_again_and_torn_lines_only(tmp_path):
    lines = ['{"step": 2, "train/a": 1}', '{"step": 2, "eval/a": 1}', '{"step": 3, "tra']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    with MetricLog(tmp_path) as log:  # eval mode writes after a torn line
        log.write(2, {"eval/b": 1})
    with MetricLog(tmp_path) as log:
        log.rewind(2)
        assert [*records(tmp_path)[-1]] == ["step", "eval/b"] and len(records(tmp_path)) == 3
        log.rewind(2, actions_due=True)
        assert records(tmp_path) == [{"step": 2, "train/a": 1}]
        log.rewind(1)
        assert records(tmp_path) == []


def test_a_metric_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path):
    with pytest.raises(loop.NonFiniteError, match=r"grad_norm is nan at step 5"):
        run(tmp_path, 20, family=linear_family(bad_step=5))
    assert saved_steps(tmp_path) == [3]


def test_a_stop_request_saves_and_the_run_goes_on_from_there(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(loop.Preempted, match="step 1 of 10"):
        run(tmp_path / "stopped", 10, stop=stop)
    assert saved_steps(tmp_path / "stopped") == [1]
    assert_same(run(tmp_path / "stopped", 10), run(tmp_path / "whole", 10))
    assert records(tmp_path / "stopped") == records(tmp_path / "whole")


def damage_by_truncation(folder):
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 40:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_by_deletion(folder):
    for path in (folder / "state").rglob("d/*"):
        if path.is_file():
            path.unlink()


def damage_metadata(folder):
    for name in ("_METADATA", "manifest.ocdbt"):
        for path in folder.rglob(name):
            path.write_bytes(b"garbage")


@pytest.mark.parametrize("damage", [damage_by_truncation, damage_by_deletion, damage_metadata])
def test_a_damaged_newest_checkpoint_is_skipped(tmp_path, damage, caplog):
    whole = run(tmp_path / "whole", 10)
    run(tmp_path / "hurt", 6)
    damage(tmp_path / "hurt" / "checkpoints" / "6")
    recorder = Recorder()
    with caplog.at_level("WARNING"):
        assert_same(run(tmp_path / "hurt", 10, recorder=recorder), whole)
    assert "checkpoint 6" in caplog.text and "skipped" in caplog.text
    assert (tmp_path / "hurt" / "damaged_6").exists()
    assert records(tmp_path / "hurt") == records(tmp_path / "whole")


def test_one_flipped_bit_is_noticed(tmp_path):
    weights = {"net": {"w": jax.random.normal(KEY, (64, 64))}}
    states = {
        step: TrainState(
            step=jnp.asarray(step, jnp.int32), params=weights, opt_state={}, model_state={}, ema={}
        )
        for step in (1, 2)
    }
    with Checkpoints(tmp_path) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state, [])
    shapes = jax.eval_shape(lambda: states[1])
    template = stepping.state_template(shapes, meshes.make_mesh())
    folder = tmp_path / "checkpoints" / "2" / "state"
    file = max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)
    sound = file.read_bytes()
    assert len(sound) > 10_000  # the weights do not compress
    noticed = 0
    for offset in range(100, len(sound), len(sound) // 8):
        file.write_bytes(sound[:offset] + bytes([sound[offset] ^ 4]) + sound[offset + 1 :])
        with Checkpoints(tmp_path, read_only=True) as checkpoints:
            resumed = checkpoints.restore(template)
        assert_same(resumed.state, states[resumed.step])  # never the newest with another content
        noticed += resumed.step == 1
    assert noticed >= 6


def test_a_machine_in_trouble_is_not_taken_for_damage(tmp_path, monkeypatch):
    run(tmp_path, 6)

    def failing(self, step, args):
        raise MemoryError

    monkeypatch.setattr(ocp.CheckpointManager, "restore", failing)
    with pytest.raises(MemoryError):
        run(tmp_path, 7)
    assert saved_steps(tmp_path) == [3, 6]


def test_a_half_written_checkpoint_is_never_seen(tmp_path):
    run(tmp_path, 6)
    folder = tmp_path / "checkpoints"
    (folder / "9.orbax-checkpoint-tmp").mkdir()
    (folder / "9.orbax-checkpoint-tmp" / "state").mkdir()
    assert_same(run(tmp_path, 10), run(tmp_path / "whole", 10))


def test_no_readable_checkpoint_is_an_error_not_a_new_run(tmp_path):
    run(tmp_path, 3)
    damage_metadata(tmp_path / "checkpoints" / "3")
    before = records(tmp_path)
    for _ in range(2):  # nor does the second attempt start over
        with pytest.raises(CheckpointError, match="none of the checkpoints"):
            run(tmp_path, 10)
    assert records(tmp_path) == before


def test_a_sound_checkpoint_of_another_model_is_refused_and_left_alone(tmp_path):
    run(tmp_path, 3)

    def init(key, batch):
        state = linear_family().init(key, batch)
        return state.replace(params={"net": {"w": jnp.zeros(2)}})

    other = dataclasses.replace(linear_family(), init=init)
    with pytest.raises(CheckpointError, match=r"another model: params/net/w is float32\[\] there"):
        run(tmp_path, 10, family=other)
    assert saved_steps(tmp_path) == [3]


def test_evaluation_averages_over_unmasked_examples_only():
    family, mesh = linear_family(), meshes.make_mesh()
    state = stepping.init_state(family, KEY, BATCHES[0], mesh)
    values = np.arange(6, dtype=np.float32)
    rows = [
        {"x": values[:4], "mask": np.ones(4, bool)},
        {"x": np.array([4, 5, 99, 99], np.float32), "mask": np.array([1, 1, 0, 0], bool)},
    ]
    result = Evaluator(family, mesh).evaluate(state, iter(rows), 2, KEY)
    assert result["error"] == pytest.approx(2.5)
    assert result["error_stderr"] == pytest.approx(values.std(ddof=1) / np.sqrt(6))
    assert result["num_examples"] == 6


def test_sampling_in_batches_gives_one_sample_a_request():
    family, mesh = linear_family(), meshes.make_mesh()
    state = stepping.init_state(family, KEY, BATCHES[0], mesh)
    requests = {"x": np.arange(7, dtype=np.float32)}
    drawn = Evaluator(family, mesh).sample(state, requests, KEY, batch_size=3)
    np.testing.assert_array_equal(drawn.rows, requests["x"])


def test_decay_spares_biases_norms_and_the_schedule():
    params = {
        "score_net": {"conv": {"kernel": 1.0, "bias": 1.0}, "norm": {"scale": 1.0, "bias": 1.0}},
        "schedule": {"gamma_0": 1.0, "shape": {"height": 1.0}},
    }
    mask = optimizers.decay_mask(params)
    decayed = [jax.tree_util.keystr(p) for p, m in jax.tree.leaves_with_path(mask) if m]
    assert decayed == ["['score_net']['conv']['kernel']"]


def test_learning_rate_warms_up_linearly_to_a_constant():
    optimizer = optimizers.adamw(learning_rate=1.0, warmup_steps=4, weight_decay=0.0)
    params = {"w": jnp.zeros(())}
    state, sizes = optimizer.init(params), []
    for _ in range(6):
        updates, state = optimizer.update({"w": jnp.ones(())}, state, params)
        sizes.append(-float(updates["w"]))
    np.testing.assert_allclose(sizes, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0], atol=1e-4)


@pytest.mark.parametrize(
    "acts", [Acts(), Acts(3.0), Acts(0.25), Acts(2.0, 4)], ids=["one", "critic", "averaged", "lazy"]
)
@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.adam], ids=["warm-up", "decay"])
def test_an_optimiser_tells_the_rate_of_its_last_update(make, acts):
    kwargs = {"warmup_steps": 4, "weight_decay": 0.0} if make is optimizers.adamw else {}
    optimizer = make(learning_rate=1.0, b1=0.0, decay_steps=12, acts=acts, **kwargs)
    params, turn = {"w": jnp.zeros(())}, 0
    state, size = optimizer.init(params), None
    share = acts.regularize_every / (acts.regularize_every + 1) if acts.regularize_every > 1 else 1
    for step in range(1, 15):
        while turn < int(step * acts.updates_per_step):
            lazy = acts.regularize_every > 1 and turn % acts.regularize_every == 0
            for _ in range(1 + lazy):
                updates, state = optimizer.update({"w": jnp.ones(())}, state, params)
                size = -float(updates["w"])  # of equal gradients Adam makes steps of its rate
            turn += 1
        if size is not None:
            assert optimizer.learning_rate(step) == pytest.approx(size, abs=1e-5), step
            assert size <= share + 1e-5


def test_clipping_bounds_the_global_norm():
    optimizer = optimizers.adamw(clip_norm=0.1, warmup_steps=0, b1=0.0)
    params = {"w": jnp.zeros(4)}
    _, state = optimizer.update({"w": jnp.full(4, 100.0)}, optimizer.init(params), params)
    second_moment = state[1][0].nu["w"]
    np.testing.assert_allclose(second_moment, 0.01 * 0.05**2, rtol=1e-4)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_allocator_settings_are_taken():
    assert allocator.keep_freed_memory()


@pytest.mark.parametrize(
    "kwargs",
    [dict(learning_rate=-1.0), dict(clip_norm=0.0), dict(warmup_steps=-1), dict(b2=1.0)],
)
def test_optimizer_arguments_out_of_range_raise(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        optimizers.adamw(**kwargs)


@pytest.mark.slow
def test_clipping_is_not_spent_on_the_shape_of_the_schedule():
    from genjax import config as configs

    config = ml_collections.ConfigDict(
        dict(
            data=dict(name="digits", batch_size=32),
            model=dict(name="score_resnet", channels=8, num_layers=1, num_groups=4),
            family=dict(name="vdm", schedule=dict(name="learned_monotone", gamma_0=-8.0)),
            optimizer=dict(name="adamw"),
            train=dict(num_steps=1),
            eval=dict(batch_size=36),
            sample=dict(num_samples=1),
        )
    )
    experiment = configs.build(config)
    batch = data.TrainBatches(experiment.train_data.source, 32, seed=0)[0]
    state = jax.jit(experiment.family.init)(KEY, batch)
    # After one step from zero, Adam's first moment is the gradient up to a factor.
    state, _ = jax.jit(experiment.family.train_step)(state, batch, KEY)
    moment = state.opt_state["model"][0].mu
    shape = optax.global_norm(moment["schedule"]["shape"])
    assert 0 < float(shape) < 0.5 * float(optax.global_norm(moment["score_net"]))
