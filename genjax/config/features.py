"""Networks whose features samples are compared by."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from genjax import data, nets
from genjax.config.errors import ConfigError, first_line
from genjax.config.frozen import build_frozen, checksum, complete_frozen
from genjax.config.recipes import Table
from genjax.families.levels import Ends
from genjax.training.quality import Features
from genjax.training.record import is_of, read_record
from genjax.training.workdir import WorkdirError, read_config, resolved


def classifier_features(*, dataset: data.DataSet, workdir: str) -> Features:
    """Features of a classifier that was trained here on the same data.

    Args:
        dataset: Data the samples imitate.
        workdir: Directory of the classifier's run.

    Returns:
        The features.

    Raises:
        ConfigError: If there is no such classifier.
    """
    place = resolved(workdir)
    try:
        config = read_config(place)
    except WorkdirError:
        raise ConfigError(
            f"eval.features.workdir: there is no trained classifier in {workdir}; train one first "
            f"({classifier_command(dataset, workdir)}), name another workdir, or set "
            "train.eval_every to 0"
        ) from None
    family, name = (config.get(section, {}).get("name") for section in ("family", "data"))
    if family != "classifier" or not is_of_data(place, name, dataset):
        raise ConfigError(
            f"eval.features.workdir: {workdir} holds a {family} of {name}, not a classifier of "
            f"this data ({dataset.name}); train one ({classifier_command(dataset, workdir)})"
        )
    if config["family"].get("process") is not None:
        raise ConfigError(
            f"eval.features.workdir: {workdir} holds a classifier of noisy images, whose features "
            f"are none of clean ones; train another ({classifier_command(dataset, workdir)})"
        )
    where = "eval.features"
    frozen = build_frozen(complete_frozen({"workdir": workdir}, where), where, dataset.event_shape)
    try:
        variables, step = frozen.load()
    except ConfigError as error:
        raise ConfigError(
            f"eval.features.workdir: {error}; run {classifier_command(dataset, workdir)}"
        ) from error
    if dataset.num_levels is None:
        raise ConfigError(
            f"eval.features: a classifier's features are of grey levels, {dataset.name} is of real "
            "numbers"
        )
    units = Ends(dataset.num_levels)

    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, features = cast(Any, frozen.net.apply(variables, units.encode(images)))
        return features, logits

    return Features(
        name=_name_of(resolved(workdir), dataset),
        description=(
            f"{config['model']['name']} trained on {dataset.name} for {step} steps, "
            f"weights {checksum(variables['params'])}"
        ),
        apply=apply,
        variables=variables,
    )


def channel_features(*, dataset: data.DataSet, workdir: str) -> Features:
    """Features of a classifier of one channel, asked of each channel of stacked images.

    Logits are those of all combinations of classes: sums of the channels' log-probabilities.

    Args:
        dataset: Stacked images (:func:`genjax.data.stacked`).
        workdir: Directory of the run of a classifier of what is stacked, such as MNIST.

    Returns:
        The features.

    Raises:
        ConfigError: If there is no such classifier, or the data is not stacked.
    """
    base = dataset.name.removeprefix("stacked_")
    if base == dataset.name:
        raise ConfigError(
            f"eval.features: 'channels' is of stacked images, such as stacked_mnist, not of "
            f"{dataset.name}; take 'classifier'"
        )
    one = dataclasses.replace(dataset.spec["x"], shape=(*dataset.event_shape[:-1], 1))
    of_one = classifier_features(
        dataset=dataclasses.replace(dataset, name=base, spec={**dataset.spec, "x": one}),
        workdir=workdir,
    )

    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = [of_one.apply(variables, images[..., i : i + 1]) for i in range(images.shape[-1])]
        joint = jnp.zeros((len(images), 1))
        for _, logits in found:  # the first channel's class is the highest digit of a label
            joint = joint[:, :, None] + jax.nn.log_softmax(logits)[:, None]
            joint = joint.reshape(len(images), -1)
        return jnp.concatenate([features for features, _ in found], axis=1), joint

    return Features(
        name=f"stacked_{of_one.name}",
        description=f"each channel by a {of_one.description}",
        apply=apply,
        variables=of_one.variables,
    )


def classifier_command(dataset: data.DataSet, workdir: str, *, noisy: bool = False) -> str:
    """What trains a classifier of some data.

    Args:
        dataset: The data.
        workdir: Directory of the run.
        noisy: Whether it is one of latents.

    Returns:
        The command.
    """
    own = dataset.name if dataset.name in ("digits", "mnist", "cifar10") else "of"
    argument = ":YOUR_EXPERIMENT.py" if own == "of" else ""
    if noisy and own == "digits":
        own = "noisy_digits"
    process = " --config.family.process=\"{'name': 'vp'}\"" if noisy and "noisy" not in own else ""
    return (
        f"python scripts/run.py --config=experiments/classifier/{own}.py{argument} "
        f"--workdir={workdir}{process}"
    )


def _name_of(place: epath.Path, dataset: data.DataSet) -> str:
    """What the data was called when the classifier was trained: rows may have moved since."""
    recorded = read_record(place) or {}
    return str(recorded.get("", {}).get("train", {}).get("name", dataset.name))


def is_of_data(place: epath.Path, name: Any, dataset: data.DataSet) -> bool:
    """Whether a run's data is that of a data set.

    The name tells where rows cannot be others: files of one's own may hold anything, and say who
    they are by their content.

    Args:
        place: Directory of the run.
        name: Name of its data.
        dataset: The data set.

    Returns:
        Whether it is.
    """
    if isinstance(name, str) and name not in data.LOADERS and ":" not in name:
        return name == dataset.name
    recorded = read_record(place)
    return recorded is not None and is_of(recorded, dataset)


def inception_features(*, dataset: data.DataSet, weights: str) -> Features:
    """Features of the Inception-v3 that FID is defined by.

    Args:
        dataset: Data the samples imitate.
        weights: File with the published weights: ``.pth`` (which needs torch to read) or ``.npz``
            with the same names.

    Returns:
        The features.

    Raises:
        ConfigError: If the file cannot be used, or the data is not of 8-bit images.
    """
    if dataset.num_levels != 256 or dataset.event_shape[-1] not in (1, 3):
        raise ConfigError(
            f"eval.features: Inception takes 8-bit images of 1 or 3 channels; {dataset.name} has "
            f"{dataset.num_levels} levels and shape {dataset.event_shape}"
        )
    place = epath.Path(weights).expanduser()
    if not place.exists():
        raise ConfigError(
            f"eval.features.weights: there is no file {weights}; get "
            "pt_inception-2015-12-05-6726825d.pth from the releases of mseitzer/pytorch-fid, or "
            "set train.eval_every to 0"
        )
    try:
        variables = nets.inception_variables(_read_weights(place))
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged files may raise anything
        raise ConfigError(f"eval.features.weights: {weights}: {first_line(error)}") from error
    net = nets.InceptionV3()

    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, logits = cast(Any, net.apply(variables, images))[:2]
        return features, logits

    return Features(
        name=None,
        description="Inception-v3 2015-12-05, 2048 features, resized as TensorFlow 1",
        apply=apply,
        variables=variables,
    )


def _read_weights(place: epath.Path) -> dict[str, np.ndarray]:
    if place.suffix == ".npz":
        with np.load(place) as file:
            return dict(file)
    try:
        import torch
    except ImportError:
        raise ConfigError(
            f"eval.features.weights: reading {place} needs torch (pip install torch); an .npz file "
            "with the same names does not"
        ) from None
    loaded = torch.load(place, map_location="cpu", weights_only=True)
    return {name: value.numpy() for name, value in loaded.items()}


FEATURES: Table = {
    "channels": channel_features,
    "classifier": classifier_features,
    "inception": inception_features,
}
