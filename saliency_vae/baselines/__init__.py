"""The rival methods that an explainer is compared with, and the controls that it must beat.

Each one is a :class:`Method`: a batch and its classifier in, one saliency map for each image out.
"""

from saliency_vae.baselines.captum_method import CaptumMethod, Reduction
from saliency_vae.baselines.controls import Blurred, CentrePrior, EdgeMagnitude, Oracle, RandomMap
from saliency_vae.baselines.grad_cam import GradCAM
from saliency_vae.baselines.guided_backprop import GuidedBackprop
from saliency_vae.baselines.method import Method
from saliency_vae.baselines.occlusion import Occlusion
from saliency_vae.baselines.per_image import PerImageOptimisation
from saliency_vae.baselines.rise import Rise
from saliency_vae.baselines.target_score import TargetProbability, TargetScore, asked

__all__ = [
    "Blurred",
    "CaptumMethod",
    "CentrePrior",
    "EdgeMagnitude",
    "GradCAM",
    "GuidedBackprop",
    "Method",
    "Occlusion",
    "Oracle",
    "PerImageOptimisation",
    "RandomMap",
    "Reduction",
    "Rise",
    "TargetProbability",
    "TargetScore",
    "asked",
]
