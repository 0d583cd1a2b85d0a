"""Turns a checkpoint of google-research/vdm into a workdir that run.py evaluates and samples.

    python scripts/import_vdm.py --checkpoint=checkpoints-0.flax \
        --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10
    python scripts/run.py --config=experiments/vdm/cifar10.py --workdir=/tmp/vdm_cifar10 --mode=eval

The checkpoint is the msgpack file that the official code writes (its README names the public
bucket). The optimiser starts afresh: continue training from it only as a fine-tuning.
"""

import json
import sys

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file of the same model.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Official checkpoint file.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir to create.", required=True)


def main(_: list[str]) -> None:
    """Imports, checks every shape, saves."""
    logging.set_verbosity(logging.WARNING)
    import flax.serialization
    import jax
    import jax.numpy as jnp

    from genjax import builders
    from genjax.data import TrainBatches
    from genjax.families.vdm_import import import_official_vdm
    from genjax.training import mesh, stepping
    from genjax.training.checkpoints import Checkpoints
    from genjax.training.logs import write_atomically

    workdir = epath.Path(_WORKDIR.value).expanduser().resolve()
    if (workdir / "checkpoints").exists():
        sys.exit(f"error: {workdir} already has checkpoints; give a new --workdir")
    config = _CONFIG.value
    if config is None:
        sys.exit("error: --config is missing: give the experiment file of the same model")
    try:
        experiment = builders.build(config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    path = epath.Path(_CHECKPOINT.value)
    if not path.exists():
        path = epath.Path(f"{_CHECKPOINT.value}.flax")  # the suffix is not part of its name
    if not path.exists():
        sys.exit(f"error: there is no file {_CHECKPOINT.value}")
    official = flax.serialization.msgpack_restore(path.read_bytes())
    missing = {"step", "params", "ema_params"} - set(official)
    if missing:
        sys.exit(f"error: {path} is no checkpoint of google-research/vdm: it has no {missing}")

    key, devices = jax.random.key(0), mesh.make_mesh()
    batch = TrainBatches(experiment.train_data.source, devices.size, seed=0)[0]
    state = stepping.init_state(experiment.family, key, batch, devices)
    try:
        imported = {
            name: import_official_vdm(
                official[theirs],
                context_size=config.model.get("context_size", 0),
                scan_layers=config.model.get("scan_layers", False),
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
    state = jax.device_put(state, mesh.replicated(devices))
    step = int(state.step)
    resolved = json.dumps(builders.as_dict(config), indent=2, sort_keys=True)
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "config.json", resolved + "\n")
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(step, state, {"window": []})
    print(f"{path}, step {step}, is in {workdir}: run scripts/run.py with --mode=eval or sample")


if __name__ == "__main__":
    app.run(main)
