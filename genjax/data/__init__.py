"""Data sets and batches: nothing here knows of devices."""

from genjax.data.batches import EvalBatches, TrainBatches, iterate, stream_name, stream_seed
from genjax.data.features import ArraySource, DataSet, Feature, Source, from_arrays
from genjax.data.sources import DamagedDataError, MissingDataError, load
from genjax.data.transforms import (
    Augment,
    Augmentation,
    CenterCrop,
    HorizontalFlip,
    Preparation,
    RandomCrop,
    Resize,
    Transform,
    augmenter,
    prepared,
)

__all__ = [
    "ArraySource",
    "Augment",
    "Augmentation",
    "CenterCrop",
    "DamagedDataError",
    "DataSet",
    "EvalBatches",
    "Feature",
    "HorizontalFlip",
    "MissingDataError",
    "Preparation",
    "RandomCrop",
    "Resize",
    "Source",
    "TrainBatches",
    "Transform",
    "augmenter",
    "from_arrays",
    "iterate",
    "load",
    "prepared",
    "stream_name",
    "stream_seed",
]
