"""A neural spline flow on the 1,797 digits of scikit-learn as a table of 64 columns.

Settings after Durkan et al., arXiv:1906.04032, appendix B (linear layers by LU, 8 bins, interval of
half-length 3, residual networks of 2 blocks, Adam with clipping at 5), with smaller networks.

Command:  python scripts/run.py --config=experiments/flow/digits.py \
              --workdir=/tmp/genjax/flow_digits
Expected: 2.04 +- 0.03 bits/dim at step 500 (1.97 from 16 importance-weighted draws); it overfits
          from there, to 2.17 at the end. 50 s on two CPU cores.

After a colon what it is shown for scripts/outliers.py: ``no_nines``, all digits but the nines, or
``background``, these with a fifth of the pixels at random, for likelihood ratios. Both end at step
500.
"""

from typing import Any

from ml_collections import ConfigDict

_NO_NINES: dict[str, Any] = dict(classes=tuple(range(9)))
_DATA: dict[str, dict[str, Any]] = {
    "all": {},
    "no_nines": _NO_NINES,
    "background": _NO_NINES
    | dict(transforms=(dict(name="random_levels", share=0.2, num_levels=17),)),
}


def get_config(shown: str = "all") -> ConfigDict:
    """Returns the config.

    Args:
        shown: What it is shown.
    """
    if shown not in _DATA:
        raise ValueError(f"expected one of {', '.join(_DATA)} after the colon, got {shown!r}")
    return ConfigDict(
        dict(
            data=dict(name="digits", batch_size=128, **_DATA[shown]),
            model=dict(
                name="coupling_flow",
                elementwise="spline",
                num_layers=6,
                hidden_size=128,
                num_bins=8,
            ),
            family=dict(name="flow", ema_decay=0.99),
            optimizer=dict(
                name="adamw", learning_rate=5e-4, warmup_steps=100, weight_decay=0.1, clip_norm=5.0
            ),
            train=dict(
                num_steps=1500 if shown == "all" else 500,
                log_every=50,
                eval_every=250,
                sample_every=500,
                checkpoint_every=250,
            ),
            eval=dict(batch_size=360, num_times=16),
            sample=dict(num_samples=100),
        )
    )
