"""Data sets and batches, in NumPy: nothing here knows of devices."""

from genjax.data.batches import EvalBatches, TrainBatches, iterate
from genjax.data.sources import (
    ArraySource,
    DamagedDataError,
    DataSet,
    MissingDataError,
    Source,
    load,
)

__all__ = [
    "ArraySource",
    "DamagedDataError",
    "DataSet",
    "EvalBatches",
    "MissingDataError",
    "Source",
    "TrainBatches",
    "iterate",
    "load",
]
