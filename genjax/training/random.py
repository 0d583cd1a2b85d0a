"""Random keys of a run."""

import jax
from jaxtyping import PRNGKeyArray

_PURPOSES = (
    "init",
    "train",
    "eval",
    "sample",
    "eval_samples",
    "augment",
    "log_prob",
    "edit",
    "impute",
    "attack",
    "invert",
    "reconstruct",
)


def random_key(seed: int, purpose: str) -> PRNGKeyArray:
    """The key of one purpose: equal seeds give unrelated keys to different purposes.

    Args:
        seed: Seed from the config.
        purpose: What it is for, of the names above.

    Example:
        >>> bool(random_key(0, "init") == random_key(0, "eval"))
        False
    """
    return jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose))
