"""The attribution methods that an explainer is compared with, and the controls that it must beat.

Each is a :class:`Method`: it maps a batch and its classifier to one saliency map per image.
"""

from saliency_vae.baselines.captum_method import CaptumMethod, Reduction
from saliency_vae.baselines.controls import Blurred, CentrePrior, EdgeMagnitude, Oracle, RandomMap
from saliency_vae.baselines.deep_lift import DeepLIFT
from saliency_vae.baselines.grad_cam import GradCAM, LayerCAM
from saliency_vae.baselines.gradient_shap import GradientSHAP
from saliency_vae.baselines.guided_backprop import GuidedBackprop
from saliency_vae.baselines.kernel_shap import KernelSHAP
from saliency_vae.baselines.lrp import LRP
from saliency_vae.baselines.method import Method
from saliency_vae.baselines.occlusion import Occlusion
from saliency_vae.baselines.optimised_mask import OptimisedMask
from saliency_vae.baselines.per_image import PerImageOptimisation
from saliency_vae.baselines.region_search import RegionSearch
from saliency_vae.baselines.rise import Rise
from saliency_vae.baselines.score_cam import ScoreCAM
from saliency_vae.baselines.shap_bpt import ShapBPT
from saliency_vae.baselines.smoothgrad import SmoothGrad, VarGrad
from saliency_vae.baselines.target_score import TargetProbability, TargetScore, target_of

__all__ = [
    "LRP",
    "Blurred",
    "CaptumMethod",
    "CentrePrior",
    "DeepLIFT",
    "EdgeMagnitude",
    "GradCAM",
    "GradientSHAP",
    "GuidedBackprop",
    "KernelSHAP",
    "LayerCAM",
    "Method",
    "Occlusion",
    "OptimisedMask",
    "Oracle",
    "PerImageOptimisation",
    "RandomMap",
    "Reduction",
    "RegionSearch",
    "Rise",
    "ScoreCAM",
    "ShapBPT",
    "SmoothGrad",
    "TargetProbability",
    "TargetScore",
    "VarGrad",
    "target_of",
]
