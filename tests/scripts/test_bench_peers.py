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


def fill(module, layer):
    """Puts a layer's weights into PyTorch's, whose axes have another order."""
    import numpy as np
    import torch

    weight = np.asarray(layer.get("kernel", layer.get("scale")))
    order = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weight.ndim]
    module.weight.data = torch.tensor(weight.transpose(order).copy())
    module.bias.data = torch.tensor(np.asarray(layer["bias"]).copy())


def fill_block(module, layer):
    """Likewise a block of the U-Net."""
    residual = layer["residual"]
    for part, name in ((module.first, "conv_0"), (module.second, "conv_1"),
                       (module.film, "film"), (module.norms[0], "norm_0"),
                       (module.norms[1], "norm_1")):  # fmt: skip
        fill(part, residual[name])
    if "shortcut" in residual:
        fill(module.shortcut, residual["shortcut"])
    if module.attention:
        for name in ("norm", "query_key_value", "out"):
            fill(getattr(module, name), layer["attention"][name])


@pytest.mark.slow
def test_the_peers_u_net_computes_what_genjaxs_does(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import jax
    import jax.numpy as jnp
    import numpy as np
    import torch_peers

    from genjax.nets import UNet

    net = UNet(channels=32, multipliers=(1, 2, 2), num_blocks=1, num_groups=32,
               attention_sizes=(2,), gamma_min=0.0, gamma_max=1.0, add_input=True)  # fmt: skip
    z_t, time = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([0.1, 0.7])
    leaves, shape = jax.tree.flatten(jax.eval_shape(net.init, jax.random.key(1), z_t, time))
    rng = np.random.default_rng(0)
    params = jax.tree.unflatten(
        shape, [jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    )
    tree = params["params"]

    peer = torch_peers._UNet(1, blocks=1).eval()
    for module in peer.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-6  # Flax's
    places = [(peer.first, tree["conv_in"]), (peer.embed[0], tree["condition"]["dense_0"]),
              (peer.embed[2], tree["condition"]["dense_1"]), (peer.last[0], tree["norm_out"]),
              (peer.last[2], tree["conv_out"])]  # fmt: skip
    blocks = [(peer.middle[i], tree[f"mid_{i}"]) for i in (0, 1)]
    for level in range(3):
        blocks.append((peer.down[2 * level], tree[f"down_{level}_0"]))
        blocks += [(peer.up[3 * (2 - level) + i], tree[f"up_{level}_{i}"]) for i in (0, 1)]
        if level < 2:
            conv = peer.down[2 * level + 1]
            places.append((conv, tree[f"downsample_{level}"]))
            # Flax's SAME, where PyTorch pads both sides.
            conv.padding = (0, 0)
            peer.down[2 * level + 1] = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), conv)
        if level:
            places.append((peer.up[3 * (2 - level) + 2], tree[f"upsample_{level}"]))
    for place in places:
        fill(*place)
    for block in blocks:
        fill_block(*block)

    weights = jax.random.normal(jax.random.key(3), z_t.shape)
    ours, slope = jax.jit(
        jax.value_and_grad(lambda z, params: jnp.sum(weights * net.apply(params, z, time)))
    )(z_t, params)
    z = torch.tensor(np.asarray(z_t).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    out = peer(z, torch.tensor(np.asarray(time).copy()))
    theirs = (torch.tensor(np.asarray(weights).transpose(0, 3, 1, 2).copy()) * out).sum()
    theirs.backward()
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-3)
    scale = float(jnp.abs(slope).max())
    np.testing.assert_allclose(
        slope, z.grad.numpy().transpose(0, 2, 3, 1), atol=1e-3 * scale, rtol=1e-3
    )
