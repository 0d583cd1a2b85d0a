"""genjax: functional training of generative models in JAX and Flax.

    import genjax

    experiment = genjax.build("experiments/vdm/digits.py", {"train.num_steps": 500})
    run = genjax.Run(experiment, "/tmp/digits")
    run.train()

Importing this package imports none of its parts: take ``genjax.losses`` alone and only jax comes
with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genjax.assembly import build, load
    from genjax.pipeline import Pipeline
    from genjax.training.experiment import Experiment
    from genjax.training.run import Run

__all__ = ["Experiment", "Pipeline", "Run", "build", "load"]

_PLACES = {
    "Experiment": "genjax.training.experiment",
    "Pipeline": "genjax.pipeline",
    "Run": "genjax.training.run",
    "build": "genjax.assembly",
    "load": "genjax.assembly",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'genjax' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
