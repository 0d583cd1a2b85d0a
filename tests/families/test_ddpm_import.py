"""Weights of released DDPMs in genjax's U-Net: reference outputs, and what is refused.

``diffusers_ddpm.npz`` has random weights of diffusers 0.42's ``UNet2DModel`` (8 and 16 channels, a
block at each of two resolutions, attention at the lower) and its outputs in float64 for three rows.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families
from genjax.diffusion import Chain
from genjax.families.ddpm_import import import_diffusers_ddpm
from genjax.nets import UNet

NET = UNet(
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention_sizes=(4,),
    num_groups=4,
    conditioning="add",
    gamma_min=0.0,
    gamma_max=1.0,
)


@pytest.fixture(scope="module")
def reference():
    with np.load(pathlib.Path(__file__).with_name("diffusers_ddpm.npz")) as file:
        arrays = dict(file)
    weights = {k.removeprefix("w/"): v for k, v in arrays.items() if k.startswith("w/")}
    return weights, arrays


def test_imported_weights_give_the_reference_outputs(reference):
    weights, arrays = reference
    params = import_diffusers_ddpm(weights)["net"]
    times = jnp.asarray((arrays["t"] + 1) / 1000.0, jnp.float32)
    x = jnp.asarray(arrays["x"], jnp.float32)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(
        jnp.shape, jax.eval_shape(NET.init, jax.random.key(0), x, times)["params"]
    )
    found = jax.jit(NET.apply)({"params": params}, x, times)
    np.testing.assert_allclose(found, arrays["y"], atol=2e-5)


def test_names_of_early_files_are_read(reference):
    weights, _ = reference
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        for new, early in old.items():
            name = name.replace(f".{new}.", f".{early}.")
        return name

    ours = import_diffusers_ddpm(weights)
    early = import_diffusers_ddpm({renamed(name): value for name, value in weights.items()})
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), ours, early))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: {**w, "class_embedding.weight": np.zeros((2, 2))}, "class_embedding.weight is"),
        (lambda w: {**w, "mid_block.resnets.0.skip.weight": np.zeros(2)}, "skip.weight is not"),
        (lambda w: {k: v for k, v in w.items() if "to_k" not in k}, "lacks its query, key"),
        (lambda w: {k: v for k, v in w.items() if "time_emb" not in k}, "time_embedding.linear_1"),
        (lambda w: {}, "there is no tensor down_blocks"),
    ],
)
def test_other_models_are_refused(reference, change, message):
    with pytest.raises(ValueError, match=message):
        import_diffusers_ddpm(change(reference[0]))


def test_the_family_takes_them(reference):
    family = families.ddpm(
        net=NET,
        process=Chain(num_timesteps=1000),
        optimizer=optax.adam(1e-3),
        event_shape=(8, 8, 1),
        num_levels=256,
    )
    batch = {"x": jnp.zeros((2, 8, 8, 1), jnp.uint8)}
    state = jax.eval_shape(family.init, jax.random.key(0), batch)
    ours = jax.tree.map(jnp.shape, import_diffusers_ddpm(reference[0]))
    assert ours == jax.tree.map(jnp.shape, state.params)
