"""A finished run is usable: samples, latents, networks, and programs that need no genjax."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import genjax

FLOW = dict(
    data=dict(name="two_moons", batch_size=16),
    model=dict(name="coupling_flow", hidden_size=8, num_layers=2),
    family=dict(name="flow"),
    optimizer=dict(name="adamw"),
    train=dict(num_steps=2, eval_every=0, sample_every=0),
    eval=dict(batch_size=32),
    sample=dict(num_samples=5),
)
VDM = FLOW | dict(
    data=dict(name="digits", batch_size=16),
    model=dict(name="score_resnet", channels=8, num_layers=1, num_groups=4, num_classes=10),
    family=dict(name="vdm", schedule=dict(name="fixed_linear")),
    sample=dict(num_samples=5, num_steps=3),
)
GAN = FLOW | dict(
    model={p: dict(name="mlp", hidden_size=8, num_layers=1) for p in ("generator", "critic")},
    family=dict(name="gan", latent_size=2),
    optimizer={p: dict(name="adam") for p in ("generator", "critic")},
)
MATCHED = FLOW | dict(
    model=dict(name="score_mlp", hidden_size=8, num_layers=1),
    family=dict(name="flow_matching"),
)
SCORE = MATCHED | dict(
    family=dict(name="score_sde", process=dict(name="vp"), likelihood="ode", tolerance=1e-3),
    sample=dict(num_samples=5, num_steps=3),
)

VAE = FLOW | dict(
    model={p: dict(name="mlp_layers", hidden_sizes=(8, 4), num_layers=1)
           for p in ("encoder", "decoder")},
    family=dict(name="vae", latent_size=(3, 2), observation=dict(name="gaussian")),
)  # fmt: skip
HIERARCHICAL = FLOW | dict(
    data=dict(name="digits", batch_size=16, binarize="threshold"),
    model=dict(
        encoder=dict(name="bottom_up", channels=4, middle_channels=4, num_blocks=(0, 0, 1)),
        decoder=dict(name="top_down", channels=4, middle_channels=4, num_blocks=(0, 0, 2)),
    ),
    family=dict(name="hierarchical_vae", observation=dict(name="bernoulli"), temperature=0.8),
)


def finished(config, workdir):
    genjax.Run(genjax.build(config), workdir, quiet=True).train()
    return genjax.load(workdir, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("config", [FLOW, MATCHED], ids=["flow", "flow_matching"])
def test_rows_are_encoded_and_decoded_again(tmp_path, config):
    run = finished(config, tmp_path)
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("f4")
    z = run.encode(x)
    np.testing.assert_allclose(run.decode(z), x, atol=2e-3)
    np.testing.assert_allclose(run.reconstruct(x), x, atol=2e-3)
    assert set(run.networks) == {"flow" if config is FLOW else "velocity_net"}
    if config is FLOW:
        latents, log_det = run.networks["flow"].encode(jnp.asarray(x), None)
        np.testing.assert_allclose(np.asarray(latents), z, atol=1e-5)
        gaussian = -0.5 * (z**2).sum(1) - np.log(2 * np.pi)
        np.testing.assert_allclose(run.log_prob(x), gaussian + log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_labels_seeds_and_steps_are_chosen_at_sampling(tmp_path):
    run = finished(VDM, tmp_path)
    assert run.sample(4, label=3).shape == (4, 8, 8, 1)
    a, b, c = run.sample(label=[1, 2]), run.sample(label=[1, 2]), run.sample(label=[1, 2], seed=1)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any() and (a != run.sample(label=[1, 2], num_steps=7)).any()
    np.testing.assert_array_equal(a, run.sample(label=[1, 2], num_steps=3))
    x = run.experiment.test_data.source.rows(np.arange(3))["x"]
    assert run.log_prob(x, label=3).shape == (3,)
    for call, message in [
        (lambda: run.log_prob(x), "this model is conditional: give label"),
        (lambda: run.log_prob(x, label=11), "expected whole class ids from 0 to 9, got 11"),
        (lambda: run.sample(3, label=[1, 2]), r"label: expected rows \[3\], got shape \[2\]"),
        (lambda: run.sample(label=0.5), "expected whole class ids"),
        (lambda: run.encode(x, label=11), "expected whole class ids from 0 to 9, got 11"),
        (lambda: run.sample(2, num_steps=0), "num_steps must be at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("config, size", [
    pytest.param(VAE, 5, id="vae"),
    pytest.param(HIERARCHICAL, 2 * 2 * 2 * 4, id="hierarchical_vae", marks=pytest.mark.slow),
])  # fmt: skip
def test_latents_of_groups_go_through_a_finished_run(tmp_path, config, size):
    run = finished(config, tmp_path)
    x = run.experiment.test_data.source.rows(np.arange(6))["x"]
    z = run.encode(x)
    assert z.shape == (6, size) and np.isfinite(z).all()
    rows = run.decode(z)
    assert rows.shape == x.shape and rows.dtype == x.dtype
    np.testing.assert_array_equal(rows, run.reconstruct(x))
    assert np.isfinite(run.log_prob(x)).all()
    path = run.edit.interpolate(x[:2], x[2:4], 3)
    assert path.shape == (2, 3, *x.shape[1:])
    assert run.sample(4).shape == (4, *x.shape[1:])


WITHOUT_GENJAX = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax import export
from safetensors.flax import load_file
folder = sys.argv[1]
read = lambda name: export.deserialize(bytearray(open(f"{folder}/{name}.stablehlo", "rb").read()))
weights = load_file(f"{folder}/weights.safetensors")
reads = {"label": jnp.arange(5, dtype=jnp.int32)} if sys.argv[2] == "vdm" else {}
rows = read("sample").call(weights, jnp.uint32(7), reads)
found = {"rows": np.asarray(rows)}
if sys.argv[2] != "gan":
    x = np.load(f"{folder}/x.npz")
    batch = {name: jnp.asarray(x[name]) for name in x.files}
    found["nats"] = np.asarray(read("log_prob").call(weights, batch))
np.savez(f"{folder}/found.npz", **found)
assert not any(name.split(".")[0] in ("genjax", "flax") for name in sys.modules
               if not name.startswith("flax")), "without genjax"
"""


@pytest.mark.slow
@pytest.mark.parametrize("config", [
    pytest.param(FLOW, id="flow"),
    pytest.param(VDM, id="vdm", marks=pytest.mark.slow),
    pytest.param(SCORE, id="score_sde", marks=pytest.mark.slow),
    pytest.param(GAN, id="gan"),
    pytest.param(VAE, id="vae", marks=pytest.mark.slow),
])  # fmt: skip
def test_programs_and_weights_are_used_without_genjax(tmp_path, config, request):
    import jax

    run = finished(config, tmp_path / "run")
    folder = run.export(tmp_path / "made")
    kind = request.node.callspec.id
    names = {path.name for path in (tmp_path / "made").iterdir()}
    assert names == {"sample.stablehlo", "weights.safetensors"} | (
        set() if kind == "gan" else {"log_prob.stablehlo"}
    )
    batch = {}
    if kind != "gan":
        rows = run.experiment.test_data.source.rows(np.arange(32))
        batch = {n: rows[n] for n in ("x", *run.family.reads)}
        batch["index"] = np.arange(32, dtype=np.int32)
        np.savez(tmp_path / "made" / "x.npz", **batch)
    code = tmp_path / "use.py"
    code.write_text(WITHOUT_GENJAX)
    done = subprocess.run(
        [sys.executable, str(code), str(folder), kind], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "made" / "found.npz") as found:
        _, state = run.newest()
        request_rows = {"x": np.zeros((5, *run.experiment.spec["x"].shape), "u1")}
        if kind == "vdm":
            request_rows["label"] = np.arange(5, dtype=np.int32)
        else:
            request_rows["x"] = request_rows["x"].astype("f4")
        expected = jax.jit(run.family.sample)(state, jax.random.key(7), request_rows).rows
        np.testing.assert_allclose(found["rows"], expected, rtol=1e-4, atol=1e-4)
        if kind != "gan":
            nats = jax.jit(run.family.log_prob)(state, batch, jax.random.key(0))
            np.testing.assert_allclose(found["nats"], nats, rtol=1e-4, atol=1e-3)
