"""Turns a checkpoint of google-research/vdm into a workdir that run.py evaluates and samples.

    python scripts/import_vdm.py --checkpoint=checkpoints-0.flax \
        --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10
    python scripts/run.py --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10 --mode=eval

The checkpoint is the msgpack file that the official code writes (its README names the public
bucket). The optimiser starts afresh: continue training from it only as a fine-tuning.
"""

import argparse
import sys

from absl import logging
from etils import epath


def main() -> None:
    """Imports, checks every shape, saves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", required=True, help="experiment file of the same model")
    parser.add_argument("--checkpoint", required=True, help="official checkpoint file")
    parser.add_argument("--workdir", required=True, help="workdir to create")
    args, overrides = parser.parse_known_args()
    logging.set_verbosity(logging.WARNING)
    import flax.serialization
    import jax
    import jax.numpy as jnp

    import genjax
    from genjax.families.vdm_import import import_official_vdm
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
    path = epath.Path(args.checkpoint)
    if not path.exists():
        path = epath.Path(f"{args.checkpoint}.flax")  # the suffix is not part of its name
    if not path.exists():
        sys.exit(f"error: there is no file {args.checkpoint}")
    official = flax.serialization.msgpack_restore(path.read_bytes())
    missing = {"step", "params", "ema_params"} - set(official)
    if missing:
        sys.exit(f"error: {path} is no checkpoint of google-research/vdm: it has no {missing}")

    run = genjax.Run(experiment, place, quiet=True)
    state = run.init_state()
    config = experiment.config
    assert config is not None
    model = config["model"]
    try:
        imported = {
            name: import_official_vdm(
                official[theirs],
                context_size=model["context_size"],
                scan_layers=model["scan_layers"],
            )
            for name, theirs in [("params", "params"), ("ema", "ema_params")]
        }
    except (ValueError, TypeError) as error:
        sys.exit(f"error: {path} is not a model of google-research/vdm: {error}")
    for name, tree in imported.items():
        expected = jax.tree.map(jnp.shape, getattr(state, name))
        if jax.tree.map(jnp.shape, tree) != expected:
            sys.exit(
                f"error: the config describes another model than {path}: compare model.channels, "
                "num_layers, attention and family.schedule.name"
            )
    state = state.replace(step=jnp.asarray(official["step"], jnp.int32), **imported)
    state = jax.device_put(state, mesh.replicated(run.mesh))
    step = int(state.step)
    place.mkdir(parents=True, exist_ok=True)
    workdir.write_config(place, config)
    with Checkpoints(place) as checkpoints:
        checkpoints.save(step, state, [])
    print(f"{path}, step {step}, is in {place}: run scripts/run.py with --mode=eval or sample")


if __name__ == "__main__":
    main()
