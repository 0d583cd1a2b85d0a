"""Damaged parts of a workdir, one kind after the other; test_damage.py does it to whole runs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from genjax.families.base import TrainState
from genjax.training import mesh as meshes
from genjax.training import step as stepping
from genjax.training import workdir
from genjax.training.checkpoints import CheckpointError, Checkpoints
from genjax.training.host_part import HostPart, decoded
from genjax.training.logs import MetricLog

PART = HostPart(
    [[7, {"loss": 0.5}]], {"eval/nats": 1.25}, {"w": 1, "v": None}, {"w": "f", "v": "f"}
)
BEFORE = {"loop": {"window": [[1, {"loss": 0.5}]]}, "checksums": {"w": 3}}


def state_at(step):
    weights = {"net": {"w": jnp.full(3, float(step))}}
    return TrainState(
        step=jnp.asarray(step, jnp.int32), params=weights, opt_state={}, model_state={}, ema={}
    )


TEMPLATE = stepping.state_template(jax.eval_shape(lambda: state_at(1)), meshes.make_mesh())


def save(path, scores, **kwargs):
    with Checkpoints(path, **kwargs) as checkpoints:
        for step, score in scores.items():
            found = {} if score is None else {"eval/nats": score, "eval/bits_per_dim": -score}
            checkpoints.save(step, state_at(step), [], found)


def saved(path):
    return sorted(int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdigit())


def restore(path, **kwargs):
    with Checkpoints(path, **kwargs) as checkpoints:
        resumed = checkpoints.restore(TEMPLATE)
    if resumed.state is not None:
        np.testing.assert_array_equal(resumed.state.params["net"]["w"], np.full(3, resumed.step))
    return resumed.step


def host_file(path, step):
    return path / "checkpoints" / str(step) / "host" / "metadata"


def make_as_before(path, step, score=b"{}"):
    """Makes of a checkpoint one of the version before, with a file of Orbax's for the score."""
    file = host_file(path, step)
    part = decoded(file.read_bytes())
    before = {"loop": {"window": part.window}, "checksums": part.checksums}
    file.write_text(json.dumps(before))
    folder = path / "checkpoints" / str(step) / "metrics"
    folder.mkdir()
    (folder / "metrics").write_bytes(score)


def test_no_damaged_byte_of_the_host_part_is_believed():
    data = PART.encoded()
    assert decoded(data) == PART
    for place in range(len(data)):
        for hurt in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
            if hurt.rstrip(b"\n") == data.rstrip(b"\n"):
                continue
            try:
                assert decoded(hurt) == PART, "another spelling of the same"
            except ValueError as error:
                assert "its host part is damaged" in str(error)
    with pytest.raises(ValueError, match="damaged"):
        decoded(data.partition(b"\n")[0])  # of today, without its checksum


def test_host_parts_of_before_are_read_and_checked_for_what_they_say():
    assert decoded(json.dumps(BEFORE).encode()) == HostPart(
        BEFORE["loop"]["window"], {}, {"w": 3}, None
    )
    window, checksums = BEFORE["loop"], BEFORE["checksums"]
    for wrong in (
        {"lopp": window, "checksums": checksums}, {"loop": window}, [],
        {"loop": [], "checksums": {}},
        {"loop": {"window": [[1, {"loss": "x"}]]}, "checksums": checksums},
        {"loop": {"window": [[1, {}], [3, {}]]}, "checksums": checksums},
        {"loop": window, "checksums": {"w": "3"}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="its host part is damaged"):
            decoded(json.dumps(wrong).encode())


def test_every_array_has_a_checksum_of_its_own():
    arrays = {"w": np.ones(2, np.float32)}
    sound = HostPart([], {}, {"w": 1}, {"w": "float32[2]"})
    with pytest.raises(ValueError, match="content of w has changed"):
        sound.check(arrays, ["w"])
    with pytest.raises(ValueError, match="no checksum of w"):
        HostPart([], {}, {}, {}).check(arrays, ["w"])
    with pytest.raises(ValueError, match="checksum of v, which is no array"):
        HostPart([], {}, {"v": 1}, None).check(arrays, ["w"])
    HostPart([], {}, {"w": None}, {"w": "float32[2]"}).check(arrays, ["w"])  # spread over processes


@pytest.mark.parametrize("damage", [b"x", b"{}", b"\xff", b"[1]", b'{"eval/bits_per_dim": "x"}'])
def test_a_damaged_score_of_an_old_checkpoint_is_in_nobodys_way(tmp_path, damage, caplog):
    save(tmp_path, {1: 3.0, 2: 2.0, 3: 5.0})
    make_as_before(tmp_path, 1, damage)
    make_as_before(tmp_path, 2, b'{"eval/bits_per_dim": -2.5}')
    make_as_before(tmp_path, 3, damage)
    assert restore(tmp_path) == 3
    save(tmp_path, {4: 2.25, 5: None}, keep=1)
    assert saved(tmp_path) == [2, 5], "the best by the score that can be read, and the last"
    assert ("score of checkpoint 1" in caplog.text) == (damage != b"{}")


def test_another_best_metric_finds_what_old_checkpoints_have_of_it(tmp_path):
    save(tmp_path, {1: 3.0, 2: 2.0, 3: 5.0})  # the best by bits_per_dim is 3, by nats 2
    save(tmp_path, {4: 4.0, 5: None}, keep=1, best_metric="eval/nats")
    assert saved(tmp_path) == [2, 5]
    save(tmp_path, {6: 4.0, 7: 4.0}, keep=1, best_metric="eval/never_heard_of")
    assert saved(tmp_path) == [7]


def test_damaged_host_parts_are_set_aside_and_never_believed(tmp_path, caplog):
    save(tmp_path, {1: 1.0, 2: 2.0, 3: 3.0}, keep=5)
    for step in (1, 3):
        file = host_file(tmp_path, step)
        file.write_bytes(file.read_bytes().replace(b"nats", b"nuts"))
    assert restore(tmp_path, read_only=True) == 2 and saved(tmp_path) == [1, 2, 3]
    assert restore(tmp_path) == 2
    assert saved(tmp_path) == [2]
    assert {p.name for p in tmp_path.glob("damaged_*")} == {"damaged_1", "damaged_3"}
    assert "checkpoint 3" in caplog.text and "its checksum is another" in caplog.text
    save(tmp_path, {3: 3.0})
    assert restore(tmp_path) == 3


def test_metadata_that_changed_is_damage_and_not_another_model(tmp_path):
    save(tmp_path, {1: 1.0, 2: 2.0})
    (file,) = (tmp_path / "checkpoints" / "2" / "state").glob("_METADATA")
    file.write_text(file.read_text().replace("net", "not"))
    assert restore(tmp_path) == 1


def test_a_file_in_place_of_the_checkpoints_is_refused_in_one_line(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="must be a folder of checkpoints and is a file"):
        Checkpoints(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]


def test_a_damaged_note_of_what_is_due_counts_as_one(tmp_path, caplog):
    save(tmp_path, {3: 1.0})
    for note, due in [(b"3", True), (b"2", False), (b"\xff\xfe", True), (b"", True)]:
        (tmp_path / "actions_due").write_bytes(note)
        with Checkpoints(tmp_path) as checkpoints:
            assert checkpoints.restore(TEMPLATE).actions_due == due
    assert (tmp_path / "damaged_actions_due").read_bytes() == b"\xff\xfe"
    assert caplog.text.count("does not hold the number of a step") == 2


def test_lines_that_are_none_of_a_log_are_dropped_and_kept_beside_it(tmp_path, caplog):
    good = [b'{"step": 1, "train/a": 1}', b'{"step": 2, "train/a": 1}']
    hurt = [b"[1, 2]", b'{"step": 1, "tr\xff": 1}', b"null", b'{"step": "2"}', b'{"step": true}']
    data = b"\n".join([good[0], *hurt, good[1], b'{"step": 3, "tra'])
    (tmp_path / "metrics.jsonl").write_bytes(data)
    with MetricLog(tmp_path) as log:
        log.rewind(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"\n".join([*good, b""])
    assert (tmp_path / "damaged_metrics.jsonl").read_bytes() == data
    assert "5 lines" in caplog.text
    with MetricLog(tmp_path) as log:
        log.rewind(2)
    assert len(list(tmp_path.glob("damaged_*"))) == 1, "sound, it stays what it is"


def test_what_stands_where_a_run_writes_is_set_aside(tmp_path, caplog):
    (tmp_path / "samples").write_text("mine")
    (tmp_path / "tensorboard").write_text("mine")
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / ".lock").mkdir()
    workdir.make_writable(epath.Path(tmp_path))
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {f"damaged_{n}" for n in ("samples", "tensorboard", "metrics.jsonl", ".lock")}
    assert (tmp_path / "damaged_samples").read_text() == "mine"
    assert len(caplog.records) == 4
    workdir.make_writable(epath.Path(tmp_path))
    assert len(caplog.records) == 4
