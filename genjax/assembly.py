"""What a notebook calls: an experiment from a config, a run from its workdir."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from genjax import config as configs
from genjax.pipeline import has_pipeline
from genjax.training import workdir
from genjax.training.experiment import Experiment
from genjax.training.run import Run


def build(
    config: Any,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    mode: configs.Mode = "train",
) -> Experiment:
    """Builds an experiment from a config.

    Args:
        config: Path of an experiment file (with its argument after a colon, if it takes one), or
            what its ``get_config()`` returns.
        overrides: Values by dotted key, such as ``{"train.num_steps": 500}``, or words as on the
            command line.
        mode: What it is built for, ``"train"``, ``"eval"``, ``"sample"`` or ``"plan"``: what is
            needed for evaluation only is not asked for otherwise.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the config cannot be run; the message is one line and names the key.
        MissingDataError: If its data set is not prepared.
    """
    complete = configs.load_config(config, overrides)
    try:
        configs.divide_cpu(complete)
    except RuntimeError:
        # jax has looked for devices already: the run goes on those there are, in other roundings.
        pass
    return configs.build(complete, mode=mode)


def load(
    place: epath.PathLike, overrides: Mapping[str, Any] | None = None, *, quiet: bool = False
) -> Run:
    """Opens the run in a workdir, to evaluate it, to sample from it or to go on with it.

    Args:
        place: Directory of the run.
        overrides: Values by dotted key that may differ from the run's: those of ``eval`` and
            ``sample``, ``train.num_steps``, and where its data is.
        quiet: Whether the run says nothing.

    Returns:
        The run, of the config in its ``config.json``.

    Raises:
        WorkdirError: If there is no run.
        ConfigError: If its config cannot be run here.
    """
    folder = workdir.resolved(place)
    if has_pipeline(folder):
        raise workdir.WorkdirError(
            f"{folder} holds a pipeline: open it with genjax.Pipeline(None, {str(place)!r}), or "
            "load the folder of a stage"
        )
    if not workdir.has_run(folder):
        raise workdir.WorkdirError(f"there is no run in {folder}: it has no checkpoints")
    own = configs.own_config(folder)
    experiment = build(own, overrides or {}, mode="sample")
    run = Run(experiment, folder, quiet=quiet, own_config=own)
    run.check_config(training=False)
    return run
