"""Turns a released checkpoint into a workdir that run.py evaluates and samples.

    python scripts/import_checkpoint.py --checkpoint=checkpoints-0.flax \
        --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10
    python scripts/import_checkpoint.py --checkpoint=diffusion_pytorch_model.safetensors \
        --config=experiments/diffusion/cifar10_ddpm.py --workdir=/tmp/ddpm_cifar10
    python scripts/run.py --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10 --mode=eval

The family of the config says what is read: ``vdm`` the msgpack file that google-research/vdm
writes (its README names the public bucket), ``ddpm`` the weights of a ``UNet2DModel`` of diffusers,
such as those of google/ddpm-cifar10-32, as safetensors. The optimiser starts afresh: continue
training from a released checkpoint only as a fine-tuning.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging
from etils import epath


class Imported(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: Training steps that were taken; 0 where the file does not say.
        params: Parameters.
        ema: Their moving average.
    """

    step: int
    params: Any
    ema: Any


def official_vdm(path: epath.Path, config: Mapping[str, Any]) -> Imported:
    """Reads what google-research/vdm writes."""
    import flax.serialization

    from genjax.families.vdm_import import import_official_vdm

    found = flax.serialization.msgpack_restore(path.read_bytes())
    missing = {"step", "params", "ema_params"} - set(found)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    model = config["model"]
    options = {name: model[name] for name in ("context_size", "scan_layers")}
    params, ema = (import_official_vdm(found[k], **options) for k in ("params", "ema_params"))
    return Imported(int(found["step"]), params, ema)


def diffusers_ddpm(path: epath.Path, config: Mapping[str, Any]) -> Imported:
    """Reads the weights of a ``UNet2DModel``."""
    import safetensors
    import safetensors.numpy

    from genjax.families.ddpm_import import import_diffusers_ddpm

    process = config["family"]["process"]
    if process["num_timesteps"] != 1000:
        raise ValueError(
            "its chain has 1,000 steps, but family.process.num_timesteps is "
            f"{process['num_timesteps']}"
        )
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"it is no safetensors file ({error}); pickled files (.bin) are not read: save the "
            "state dictionary with safetensors.torch.save_file"
        ) from error
    params = import_diffusers_ddpm(tensors)
    return Imported(0, params, params)


READERS = {
    "vdm": (official_vdm, "google-research/vdm"),
    "ddpm": (diffusers_ddpm, "the UNet2DModel of a DDPM"),
}


def main() -> None:
    """Imports, checks every shape, saves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", required=True, help="experiment file of the same model")
    parser.add_argument("--checkpoint", required=True, help="released checkpoint file")
    parser.add_argument("--workdir", required=True, help="workdir to create")
    args, overrides = parser.parse_known_args()
    logging.set_verbosity(logging.WARNING)
    import jax
    import jax.numpy as jnp

    import genjax
    from genjax.training import mesh, workdir
    from genjax.training.checkpoints import Checkpoints

    try:
        place = workdir.resolved(args.workdir)
    except workdir.WorkdirError as error:
        sys.exit(f"error: {error}")
    if workdir.has_run(place):
        sys.exit(f"error: {place} already has checkpoints; give a new --workdir")
    try:
        experiment = genjax.build(args.config, overrides)
    except ValueError as error:
        sys.exit(f"error: {error}")
    config = experiment.config
    assert config is not None
    if config["family"]["name"] not in READERS:
        sys.exit(
            f"error: nothing is known to be released for the family {config['family']['name']!r}; "
            f"there are readers for {', '.join(READERS)}"
        )
    read, what = READERS[config["family"]["name"]]
    path = epath.Path(args.checkpoint)
    if not path.exists():
        path = epath.Path(f"{args.checkpoint}.flax")  # the suffix is not part of its name
    if not path.exists():
        sys.exit(f"error: there is no file {args.checkpoint}")
    try:
        imported = read(path, config)
    except (ValueError, TypeError) as error:
        sys.exit(f"error: {path} is not a checkpoint of {what}: {error}")

    run = genjax.Run(experiment, place, quiet=True)
    state = run.init_state()
    for expected, found in ((state.params, imported.params), (state.ema, imported.ema)):
        if jax.tree.map(jnp.shape, found) != jax.tree.map(jnp.shape, expected):
            sys.exit(
                f"error: the config describes another model than {path}: compare the numbers of "
                "model, such as channels, its layers and attention, and family.schedule if any"
            )
    state = state.replace(
        step=jnp.asarray(imported.step, jnp.int32),
        params=imported.params,
        # A copy: the state is donated, and two of its leaves may not share a buffer.
        ema=jax.tree.map(jnp.copy, imported.ema),
    )
    state = jax.device_put(state, mesh.replicated(run.mesh))
    place.mkdir(parents=True, exist_ok=True)
    workdir.write_config(place, config)
    with Checkpoints(place) as checkpoints:
        checkpoints.save(imported.step, state, [])
    what_next = "run scripts/run.py with --mode=eval or sample"
    print(f"{path}, step {imported.step}, is in {place}: {what_next}")


if __name__ == "__main__":
    main()
