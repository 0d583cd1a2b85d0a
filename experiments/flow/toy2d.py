"""Normalizing flows on two-dimensional densities, for a CPU.

Command:  python scripts/run.py --config=experiments/flow/toy2d.py --workdir=/tmp/genjax/flow_toy2d
Expected: 0.325 nats (the entropy is 0.312); experiments/README.md has the table over flows.

The file takes the name of a flow: `--config=experiments/flow/toy2d.py:affine`; FLOWS has them all.
The continuous ones differ in how they are trained: by likelihood, or by matching velocities with
noise paired at random or by optimal transport within the batch.
Any density of genjax.data will do: `--config.data.name=swirl`.
"""

from ml_collections import ConfigDict

FLOWS = {
    "affine": dict(name="coupling_flow", elementwise="affine", num_layers=8),
    "spline": dict(name="coupling_flow", elementwise="spline", num_layers=4, num_bins=16),
    "autoregressive": dict(name="autoregressive_flow", elementwise="affine", num_layers=8),
    "autoregressive_spline": dict(
        name="autoregressive_flow", elementwise="spline", num_layers=4, num_bins=16
    ),
    "continuous": dict(name="continuous_flow", num_layers=3, tolerance=1e-4),
    "flow_matching": dict(name="score_mlp", num_layers=3),
    "flow_matching_ot": dict(name="score_mlp", num_layers=3),
}
FAMILIES = {
    "flow_matching": dict(name="flow_matching", coupling="independent"),
    "flow_matching_ot": dict(name="flow_matching", coupling="optimal_transport"),
}


def get_config(flow: str = "spline") -> ConfigDict:
    """Returns the config of a flow of :data:`FLOWS`."""
    if flow not in FLOWS:
        raise ValueError(f"the flow must be one of {', '.join(FLOWS)}, got {flow!r}")
    return ConfigDict(
        dict(
            # An assignment of n rows takes up to n^3 operations.
            data=dict(
                name="eight_gaussians",
                batch_size=128 if flow == "flow_matching_ot" else 512,
            ),
            model=dict(hidden_size=64, **FLOWS[flow]),
            family=dict(ema_decay=0.998, **FAMILIES.get(flow, dict(name="flow"))),
            optimizer=dict(
                name="adamw", learning_rate=1e-3, warmup_steps=100, weight_decay=0.0, clip_norm=5.0
            ),
            train=dict(
                num_steps=5000,
                eval_every=5000,
                sample_every=5000,
                best_metric="eval/nats",
            ),
            eval=dict(batch_size=2000),
            sample=dict(num_samples=5000),
        )
    )
