"""Data sets and batches: nothing here knows of devices."""

from genjax.data.batches import (
    EvalBatches,
    JoinedSource,
    TrainBatches,
    iterate,
    stream_name,
    stream_seed,
)
from genjax.data.captions import tokens_of
from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import (
    ArraySource,
    DataSet,
    Feature,
    Source,
    check_rows,
    column,
    from_arrays,
    looks_like_levels,
)
from genjax.data.identity import difference, identity, vocabularies
from genjax.data.moments import Moments, deviation, moments
from genjax.data.pairing import PAIRED, Edges, Grey, Pairing, Shrink
from genjax.data.resizing import resized
from genjax.data.sources import LOADERS, load
from genjax.data.splits import labelled_rows, of_classes, sliced, split_name
from genjax.data.stacked import stacked
from genjax.data.transforms import (
    Augment,
    Augmentation,
    CenterCrop,
    HorizontalFlip,
    Preparation,
    RandomCrop,
    RandomLevels,
    Resize,
    ToRGB,
    Transform,
    augmenter,
    prepared,
)
from genjax.data.vocabulary import UNKNOWN, Vocabulary

__all__ = [
    "ArraySource",
    "Augment",
    "Augmentation",
    "CenterCrop",
    "DamagedDataError",
    "DataSet",
    "Edges",
    "EvalBatches",
    "Feature",
    "Grey",
    "HorizontalFlip",
    "JoinedSource",
    "LOADERS",
    "MissingDataError",
    "Moments",
    "PAIRED",
    "Pairing",
    "Preparation",
    "RandomCrop",
    "RandomLevels",
    "Resize",
    "Shrink",
    "Source",
    "ToRGB",
    "TrainBatches",
    "Transform",
    "UNKNOWN",
    "Vocabulary",
    "augmenter",
    "check_rows",
    "column",
    "difference",
    "from_arrays",
    "identity",
    "iterate",
    "labelled_rows",
    "load",
    "looks_like_levels",
    "deviation",
    "moments",
    "of_classes",
    "prepared",
    "resized",
    "sliced",
    "split_name",
    "stacked",
    "stream_name",
    "stream_seed",
    "tokens_of",
    "vocabularies",
]
