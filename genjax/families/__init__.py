"""Families of generative models: records of pure functions that one training loop runs."""

from genjax.families.base import Family, TrainState
from genjax.families.vdm import vdm

__all__ = ["Family", "TrainState", "vdm"]
