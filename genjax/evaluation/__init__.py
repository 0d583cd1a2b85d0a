"""Measures of samples against data: arrays in, numbers out, on the host in float64."""

from genjax.evaluation.frechet import frechet_distance, frechet_distance_of_moments, moments
from genjax.evaluation.inception_score import inception_score
from genjax.evaluation.kernel import kernel_distance
from genjax.evaluation.latents import active_units
from genjax.evaluation.manifold import density_and_coverage, precision_and_recall
from genjax.evaluation.modes import mode_coverage
from genjax.evaluation.strokes import rank_correlation, slant, thickness
from genjax.evaluation.transport import sliced_wasserstein_distance, wasserstein_distance

__all__ = [
    "active_units",
    "density_and_coverage",
    "frechet_distance",
    "frechet_distance_of_moments",
    "inception_score",
    "kernel_distance",
    "mode_coverage",
    "moments",
    "precision_and_recall",
    "rank_correlation",
    "slant",
    "sliced_wasserstein_distance",
    "thickness",
    "wasserstein_distance",
]
