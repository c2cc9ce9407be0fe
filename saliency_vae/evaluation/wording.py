"""Display names and number formats for tables, figures and sentences."""

import re

import numpy as np

from saliency_vae.evaluation.roles import EXPLAINER, Role

_TITLES = {
    EXPLAINER: "this explainer",
    "grad_cam": "Grad-CAM",
    "input_x_gradient": "input x gradient",
    "rise": "RISE",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "per_image": "per-image optimisation",
    "refined": "this explainer, refined",
    "deep_lift": "DeepLIFT",
    "fastshap": "FastSHAP",
    "gradient_shap": "GradientSHAP",
    "kernel_shap": "KernelSHAP",
    "layer_cam": "LayerCAM",
    "lrp": "LRP",
    "score_cam": "Score-CAM",
    "shap_bpt": "ShapBPT",
}
_BASELINES = {"inpaint": "in-painting", "road": "noisy linear imputation"}
_BELONGS_TO = {Role.EXPLAINER: "this explainer", Role.CONTROL: "control"}


def title(method: str) -> str:
    """Display name of a method.

    Example:
        >>> title("grad_cam"), title("edge_magnitude"), title("explainer")
        ('Grad-CAM', 'edge magnitude', 'this explainer')
    """
    return _TITLES.get(method, method.replace("_", " "))


def baseline_title(baseline: str) -> str:
    """Display name of a baseline image or an imputation.

    Example:
        >>> baseline_title("inpaint"), baseline_title("light_blur")
        ('in-painting', 'light blur')
    """
    return _BASELINES.get(baseline, baseline.replace("_", " "))


def label(uncertainty: str, role: Role | None) -> str:
    """Name of an uncertainty, after its owner.

    Example:
        >>> label("VarGrad", Role.CONTROL), label("oracle", Role.ORACLE)
        ('control, VarGrad', 'oracle')
    """
    owner = None if role is None else _BELONGS_TO.get(role)
    return uncertainty if owner is None else f"{owner}, {uncertainty}"


def short(value: float) -> str:
    """Write a number with three decimals, or two digits if tiny, and no zero before the point.

    Example:
        >>> short(0.948), short(0.0021)
        ('.948', '.0021')
    """
    digits = f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
    return re.sub(r"^(-?)0\.", r"\1.", digits)


def three_digits(value: float) -> str:
    """Write a positive number with three significant digits and no exponent.

    Example:
        >>> three_digits(1290.4), three_digits(0.02664)
        ('1290', '0.0266')
    """
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")
