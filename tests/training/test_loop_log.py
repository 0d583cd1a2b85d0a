"""What lines of the log and of the terminal say, and of which step."""

import json
import re
import struct
import time
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2, plugin_hparams_pb2

import genjax
from genjax.training import loop
from genjax.training.logs import MetricLog

CONFIG = dict(
    data=dict(name="ring", batch_size=16),
    model=dict(
        generator=dict(name="mlp", hidden_size=8, num_layers=1),
        critic=dict(name="mlp", hidden_size=8, num_layers=1),
    ),
    family=dict(name="gan", critic_steps=2),
    optimizer=dict(generator=dict(name="adam", decay_steps=8), critic=dict(name="adamw")),
    train=dict(num_steps=4, log_every=2, eval_every=0, sample_every=0, checkpoint_every=4),
    sample=dict(num_samples=4),
)


class Later:
    """A number that a device will have computed by some time."""

    def __init__(self, value, ready):
        self._value, self._ready = value, ready

    def block_until_ready(self):
        time.sleep(max(0.0, self._ready - time.perf_counter()))
        return self

    def copy_to_host_async(self):
        pass

    def __array__(self, dtype=None, copy=None):
        self.block_until_ready()
        return np.asarray([self._value], dtype)


class Steps:
    """Steps that a device takes its time for, or batches that take theirs to come."""

    def __init__(self, *, of_device=0.0, of_batch=0.0, of_compiler=0.0):
        self.feed = types.SimpleNamespace(most=1)
        self._device, self._batch, self._compiler = of_device, of_batch, of_compiler
        self._busy_until = 0.0

    def start(self, *steps):
        pass

    stop = start

    def compiled(self):
        time.sleep(self._compiler)
        self._compiler = 0.0

    def take(self, count):
        time.sleep(self._batch)

    def __call__(self, state, fed):
        self.compiled()
        self._busy_until = max(self._busy_until, time.perf_counter()) + self._device
        step = int(state.step) + 1
        return types.SimpleNamespace(step=step), {"loss": Later(float(step), self._busy_until)}


class Nowhere:
    """Checkpoints of a state that is none."""

    def save(self, *args, **kwargs):
        pass

    wait = actions_done = save


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("slow", ["of_device", "of_batch"])
def test_the_rate_of_every_line_is_that_of_its_steps(tmp_path, slow):
    with MetricLog(tmp_path) as log:
        log._events()  # imported now, not while steps are timed
        loop.train(
            types.SimpleNamespace(step=0),
            Steps(**{slow: 0.02}, of_compiler=1.0),
            num_steps=25,
            log=log,
            checkpoints=Nowhere(),
            periods=loop.Periods(log=5, evaluate=10, sample=0, checkpoint=100),
            evaluate=lambda step, state: time.sleep(1.0) or {},
            sample=lambda step, state: None,
        )
    rates = {row["step"]: row["train/steps_per_second"] for row in rows(tmp_path)}
    assert [*rates] == [5, 10, 15, 20, 25]
    # Neither compilation nor evaluation counts, nor that the device had not begun.
    assert all(9 < rate < 90 for rate in rates.values()), rates


def test_a_new_line_is_shown_once_with_the_step_it_is_of(tmp_path):
    shown, latest = [], {}
    with MetricLog(tmp_path) as log:
        loop.train(
            types.SimpleNamespace(step=0),
            Steps(),
            num_steps=7,
            log=log,
            checkpoints=Nowhere(),
            periods=loop.Periods(log=2, evaluate=0, sample=0, checkpoint=4),
            evaluate=lambda step, state: {},
            sample=lambda step, state: None,
            facts=lambda step: {"examples_seen": 10 * step},
            on_step=lambda step, row: latest.update({step: row.get("step")}),
            on_log=lambda step, row: shown.append((step, row)),
        )
    # The mean of two steps' losses, which are their numbers: of a window, not of the one after it.
    assert [row["train/loss"] for _, row in shown] == [1.5, 3.5, 5.5]
    assert [row["step"] for _, row in shown] == [2, 4, 6]
    assert [row["train/examples_seen"] for _, row in shown] == [20, 40, 60]
    assert [step for step, _ in shown] == [4, 4, 7], "one late, or when a checkpoint needs it"
    assert latest == {1: None, 2: None, 3: None, 4: 4, 5: 4, 6: 4, 7: 6}
    assert [row for _, row in shown] == rows(tmp_path)


def events(folder):
    """What event files hold: records of a length, its checksum, an event, its checksum."""
    for file in folder.iterdir():
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield event_pb2.Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_a_run_logs_rates_of_both_players_and_its_config_and_says_which_step_it_shows(
    tmp_path, capsys
):
    genjax.Run(genjax.build(CONFIG), tmp_path).train()
    two, four = rows(tmp_path)
    assert two["train/generator_learning_rate"] == pytest.approx(2e-4 * 7 / 8)
    assert four["train/generator_learning_rate"] == pytest.approx(2e-4 * 5 / 8)
    # Two updates of the critic a step, of which 200 are its warm-up (float32).
    assert four["train/critic_learning_rate"] == pytest.approx(2e-4 * 7 / 200, rel=1e-5)
    assert [two["train/examples_seen"], four["train/examples_seen"]] == [64, 128]
    assert "train/device_memory_mib" not in four, "CPUs do not say"
    said = re.findall(r"step (\d)/4  critic_loss (\S+)", capsys.readouterr().out)
    assert said == [(str(r["step"]), f"{r['train/critic_loss']:.4g}") for r in (two, four)]

    values = [value for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    (text,) = [v.tensor.string_val[0] for v in values if v.tag.startswith("config")]
    assert json.loads(text) == json.loads((tmp_path / "config.json").read_text())
    (started,) = [v for v in values if v.tag == "_hparams_/session_start_info"]
    content = started.metadata.plugin_data.content
    found = plugin_hparams_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert found["optimizer.generator.decay_steps"].number_value == 8
    assert found["family.name"].string_value == "gan"
