"""Random targets for training an explainer that can explain any class."""

import torch
from torch import Tensor

from saliency_vae.classifiers import Output, class_target

_PROBABLE = 5  # number of most probable classes that targets are drawn from


def draw_target(logits: Tensor, output: Output = "softmax") -> Tensor:
    """Draw a target for each image: one of its five most probable classes, or labels.

    The draw is in proportion to the square root of the probability: mostly the decision if it is
    confident, any plausible class if it is not. Improbable classes are left out, as the image does
    not show them. A label with a probability below 1/2 has a negative weight, so that its absence
    is the target, as in the decision.

    Args:
        logits: Logits of the images, (B, classes).
        output: Kind of output.

    Returns:
        Weights of the logits, (B, classes).
    """
    highest, classes = logits.topk(min(_PROBABLE, logits.shape[1]))
    # Square roots of probabilities, up to a common factor.
    probability = (highest / 2).softmax(1) if output == "softmax" else highest.sigmoid().sqrt()
    # Draws as torch.multinomial, which would wait for a GPU to check the probabilities.
    place = (probability / torch.empty_like(probability).exponential_()).argmax(1, keepdim=True)
    target = class_target(classes.gather(1, place)[:, 0], logits)
    return target if output == "softmax" else torch.where(logits > 0, target, -target)
