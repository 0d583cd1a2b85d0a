"""Measures of samples, densities and what is filled in: arrays in, numbers out, in float64."""

from genjax.evaluation.calibration import (
    class_probabilities,
    classification_scores,
    expected_calibration_error,
    reliability,
)
from genjax.evaluation.critic import CriticFit, Parts, fit_critic, split_rows
from genjax.evaluation.divergence import (
    ESTIMATES,
    density_ratio_estimate,
    density_ratio_scores,
    divergence_between,
    f_divergence_estimate,
    f_divergence_of_ratios,
    fit_log_ratio,
    mmd_estimate,
    wasserstein_estimate,
)
from genjax.evaluation.embeddings import embedding_scores, nearest_candidates
from genjax.evaluation.frechet import frechet_distance, frechet_distance_of_moments, moments
from genjax.evaluation.image_quality import (
    chroma_distance,
    chroma_histogram,
    image_errors,
    luma,
    psnr,
    psnr_of_luma,
    ssim,
)
from genjax.evaluation.imputation import (
    BASELINES,
    baseline_imputation,
    gaussian_conditional,
    imputation_scores,
    known_entries,
    observed_moments,
)
from genjax.evaluation.inception_score import inception_score
from genjax.evaluation.kernel import kernel_distance
from genjax.evaluation.latents import active_units
from genjax.evaluation.manifold import density_and_coverage, precision_and_recall
from genjax.evaluation.modes import class_coverage, mode_coverage
from genjax.evaluation.neighbours import nearest_neighbour_accuracy
from genjax.evaluation.outlier_sets import (
    blank_images,
    blurred,
    constant_images,
    enlarged_digits,
    faded,
    half_contrast,
    outlier_sets,
    rotated,
    shuffled_columns,
    shuffled_pixels,
    uniform_noise,
)
from genjax.evaluation.outliers import (
    CODECS,
    auprc,
    auroc,
    batch_typicality,
    code_bits,
    input_complexity,
    likelihood_ratio,
    typicality,
    typicality_threshold,
)
from genjax.evaluation.retrieval import prototypes, retrieval_ranks
from genjax.evaluation.strokes import rank_correlation, slant, thickness
from genjax.evaluation.transport import (
    sinkhorn_divergence,
    sliced_wasserstein_distance,
    transport_plan,
    wasserstein_distance,
)

__all__ = [
    "active_units",
    "BASELINES",
    "CODECS",
    "ESTIMATES",
    "Parts",
    "CriticFit",
    "auprc",
    "auroc",
    "baseline_imputation",
    "batch_typicality",
    "blank_images",
    "blurred",
    "chroma_distance",
    "chroma_histogram",
    "class_probabilities",
    "classification_scores",
    "code_bits",
    "constant_images",
    "density_and_coverage",
    "density_ratio_estimate",
    "density_ratio_scores",
    "divergence_between",
    "enlarged_digits",
    "expected_calibration_error",
    "f_divergence_estimate",
    "f_divergence_of_ratios",
    "faded",
    "fit_critic",
    "fit_log_ratio",
    "frechet_distance",
    "frechet_distance_of_moments",
    "gaussian_conditional",
    "half_contrast",
    "image_errors",
    "imputation_scores",
    "inception_score",
    "input_complexity",
    "kernel_distance",
    "known_entries",
    "likelihood_ratio",
    "luma",
    "class_coverage",
    "mmd_estimate",
    "mode_coverage",
    "moments",
    "nearest_neighbour_accuracy",
    "observed_moments",
    "outlier_sets",
    "precision_and_recall",
    "prototypes",
    "psnr",
    "psnr_of_luma",
    "rank_correlation",
    "reliability",
    "retrieval_ranks",
    "embedding_scores",
    "nearest_candidates",
    "rotated",
    "shuffled_columns",
    "shuffled_pixels",
    "sinkhorn_divergence",
    "slant",
    "sliced_wasserstein_distance",
    "ssim",
    "split_rows",
    "thickness",
    "transport_plan",
    "typicality",
    "typicality_threshold",
    "uniform_noise",
    "wasserstein_distance",
    "wasserstein_estimate",
]
