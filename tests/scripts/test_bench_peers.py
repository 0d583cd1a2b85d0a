"""Other libraries' times: the fastest setting counts, and what fails is a row."""

import pathlib
import runpy

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def peers():
    return runpy.run_path(str(SCRIPTS / "bench_peers.py"))


def test_the_ratio_is_of_the_fastest_settings(peers):
    def row(library, setting, times):
        return peers["_Row"](library, setting, times, {"parameters": 3, "examples": 64})

    rows = [row("genjax", "float32", [0.3, 0.2, 0.4]), row("genjax", "bfloat16", [0.5] * 3),
            row("torch", "plain", [0.9] * 3), row("torch", "channels_last", [0.6] * 3)]  # fmt: skip
    rows.append(peers["_Row"]("torch", "bfloat16", [0.1] * 3, failed="ended after three"))
    fastest = peers["_fastest"](rows)
    found = [peers["_figures"](one, fastest) for one in rows[:-1]]
    assert [one.get("ratio") for one in found] == [1.0, None, None, pytest.approx(2.0)]
    assert found[0]["ms"] == pytest.approx(300) and found[2]["examples_per_s"] == 64 / 0.9


def test_a_setting_that_fails_is_a_row_with_its_reason(peers):
    row = peers["_Row"]("torch", "no_such_setting")
    row.start("dcgan32", 0.1, [])
    row.measure()
    row.end()
    assert not row.times and ("no_such_setting" in row.failed or "torch" in row.failed)


def test_names_of_steps_are_told_from_their_sizes(peers):
    split = peers["_name_and_size"]
    assert split("wgan_gp64") == ("wgan_gp", 64) and split("sngan_cifar10") == ("sngan_cifar", 10)
    with pytest.raises(SystemExit, match="expected one of dcgan, .* got 'dcgan'"):
        split("dcgan")


def test_peers_of_experiments_have_as_many_parameters(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import torch_peers

    # Those that genjax's networks have.
    counts = dict(dcgan_cifar10=6_450_564, wgan_gp_cifar10=2_258_308, sngan_cifar10=5_330_564,
                  dcgan64=6_350_852, unet28=1_742_881, unet32=1_744_035)  # fmt: skip
    assert {what: torch_peers.peer(what, "plain")[1] for what in counts} == counts
