"""Batched metrics of saliency maps and their uncertainty, and their confidence intervals."""

from saliency_vae.metrics.agreement import kept_agreement, mask_agreement_matrix, own_mask_advantage
from saliency_vae.metrics.bootstrap import (
    Interval,
    difference_interval,
    mean_interval,
    statistic_interval,
)
from saliency_vae.metrics.cost import peak_memory, timed
from saliency_vae.metrics.grid_pointing import (
    has_most,
    positive_attribution,
    region_shares,
    top_shares,
)
from saliency_vae.metrics.imputation import Imputation, InPainting, NoisyLinearImputation
from saliency_vae.metrics.insertion_deletion import (
    CurveEnds,
    InsertionDeletion,
    curve_ends,
    deletion_curve,
    insertion_curve,
    insertion_deletion,
)
from saliency_vae.metrics.localization import (
    mask_iou,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from saliency_vae.metrics.ranking import descending_rank, spearman
from saliency_vae.metrics.sanity import similarity
from saliency_vae.metrics.scaling import min_max
from saliency_vae.metrics.sparsity import gini_index
from saliency_vae.metrics.uncertainty import (
    REJECTED,
    SPARSIFIED,
    aurc,
    ause,
    calibration_error,
    expected_calibration_error,
    failure_auroc,
    reliability_table,
    selective_curve,
    sparsification_curve,
)
from saliency_vae.metrics.views import masked_view, view_logits, views_at_once

__all__ = [
    "REJECTED",
    "SPARSIFIED",
    "CurveEnds",
    "Imputation",
    "InPainting",
    "InsertionDeletion",
    "Interval",
    "NoisyLinearImputation",
    "aurc",
    "ause",
    "calibration_error",
    "curve_ends",
    "deletion_curve",
    "descending_rank",
    "difference_interval",
    "expected_calibration_error",
    "failure_auroc",
    "gini_index",
    "has_most",
    "insertion_curve",
    "insertion_deletion",
    "kept_agreement",
    "mask_agreement_matrix",
    "mask_iou",
    "masked_view",
    "mean_interval",
    "min_max",
    "own_mask_advantage",
    "peak_memory",
    "pointing_game",
    "positive_attribution",
    "region_shares",
    "relevance_mass",
    "relevance_rank",
    "reliability_table",
    "selective_curve",
    "similarity",
    "sparsification_curve",
    "spearman",
    "statistic_interval",
    "timed",
    "top_shares",
    "view_logits",
    "views_at_once",
]
