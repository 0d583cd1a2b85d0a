"""Networks and sizes that other libraries have been timed at, on random data: for scripts/bench.py.

Command:  python scripts/bench.py --config=experiments/benchmarks.py:dcgan64 --baseline=flax

The benchmark fills in random data: nothing here is meant to learn anything.

* ``dcgan64``, ``dcgan32``: the DCGAN of pytorch/examples, nz 100, ngf = ndf = 64, batch 64.
* ``stylegan2_32``: StyleGAN2 with at most 64 channels and two mapping layers, batch 32.
* ``wgan_gp64``, ``wgan_gp32``: the same networks without normalisation in the critic.
* ``vdm28``, ``vdm32``: google-research/vdm's network with 32 channels and 4 layers, batch 32.
* ``unet28``, ``unet32``: a U-Net of 32, 64 and 64 channels, two blocks a level, attention at the
  lowest, trained as a VDM, batch 64.
* ``real_nvp2``, ``real_nvp8``, ``spline2``, ``spline8``: coupling flows of points, batch 256.
"""

from ml_collections import ConfigDict

NAMES = (
    "dcgan64",
    "dcgan32",
    "stylegan2_32",
    "wgan_gp64",
    "wgan_gp32",
    "vdm28",
    "vdm32",
    "unet28",
    "unet32",
    "real_nvp2",
    "real_nvp8",
    "spline2",
    "spline8",
)


def get_config(name: str = "dcgan64") -> ConfigDict:
    """Returns the config of one benchmark."""
    if name not in NAMES:
        raise ValueError(f"expected one of {', '.join(NAMES)}, got {name!r}")
    points = name.startswith(("real_nvp", "spline"))
    if name == "stylegan2_32":
        parts = _stylegan2()
    elif name.startswith(("dcgan", "wgan")):
        parts = _gan(int(name[-2:]), penalty=name.startswith("wgan"))
    elif name.startswith(("vdm", "unet")):
        parts = _vdm(name[:-2], (28, 28, 1) if name.endswith("28") else (32, 32, 3))
    else:
        parts = _flow(int(name[-1]), "affine" if name.startswith("real_nvp") else "spline")
    return ConfigDict(
        dict(
            parallel=dict(cpu_devices=2) if name.startswith(("vdm", "unet")) else dict(),
            train=dict(
                num_steps=1_000_000,
                **(dict(steps_per_call=50) if points else {}),
                eval_every=0,
                sample_every=0,
                checkpoint_every=10_000,
            ),
            **parts,
        )
    )


def _gan(size: int, *, penalty: bool) -> dict:
    adam = dict(name="adam", learning_rate=2e-4, b1=0.5, b2=0.999)
    channels = 512 if size == 64 else 256
    norm = "none" if penalty else "batch"
    return dict(
        data=dict(name="npy", event_shape=(size, size, 3), batch_size=64),
        model=dict(
            generator=dict(name="dcgan", channels=channels, last_layer="transposed_conv"),
            critic=dict(name="dcgan", channels=channels, norm=norm),
        ),
        family=dict(
            name="wgan_gp" if penalty else "gan",
            latent_size=100,
            critic_steps=1,
            ema_half_life_kimg=0.0,
            share_fakes=not penalty,  # as pytorch/examples does
        ),
        optimizer=dict(generator=dict(adam), critic=dict(adam)),
        eval=dict(batch_size=64),
    )


def _stylegan2() -> dict:
    adam = dict(name="adam", learning_rate=2.5e-3, b1=0.0, b2=0.99)
    small = dict(base_channels=512, max_channels=64)
    return dict(
        data=dict(name="npy", event_shape=(32, 32, 3), batch_size=32),
        model=dict(
            generator=dict(name="stylegan2", style_size=128, num_mapping_layers=2, **small),
            critic=dict(name="stylegan2", **small),
        ),
        family=dict(name="stylegan2", latent_size=128),
        optimizer=dict(generator=dict(adam), critic=dict(adam)),
        eval=dict(batch_size=32),
    )


def _vdm(net: str, shape: tuple[int, int, int]) -> dict:
    if net == "unet":
        batch_size, model = 64, dict(name="unet", multipliers=(1, 2, 2), num_blocks=2)
        model["attention_sizes"] = (shape[0] // 4,)
    else:
        batch_size, model = 32, dict(name="score_resnet", num_layers=4, scan_layers=False)
    model |= dict(channels=32, num_groups=32, dropout_rate=0.1, dtype="float32", remat="none")
    return dict(
        data=dict(name="npy", event_shape=shape, batch_size=batch_size),
        model=model,
        family=dict(name="vdm", schedule=dict(name="learned_linear"), ema_decay=0.9999),
        optimizer=dict(name="adamw", learning_rate=2e-4),
        eval=dict(batch_size=batch_size, num_times=1),
        sample=dict(num_samples=batch_size, num_steps=50),
    )


def _flow(size: int, elementwise: str) -> dict:
    return dict(
        data=dict(name="npy", event_shape=(size,), batch_size=256),
        model=dict(
            name="coupling_flow",
            elementwise=elementwise,
            num_layers=8,
            hidden_size=64,
            num_bins=8,
            linear=False,
            actnorm=False,
        ),
        family=dict(name="flow", ema_decay=0.999),
        optimizer=dict(name="adam", learning_rate=1e-3),
        eval=dict(batch_size=256, num_times=1),
        sample=dict(num_samples=256),
    )
