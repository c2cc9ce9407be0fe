"""What an explainer that can be asked about any class is asked about in training."""

import torch
from torch import Tensor

from saliency_vae.classifiers import Output, class_target

_PROBABLE = 5  # most probable classes that questions are about


def draw_target(logits: Tensor, output: Output = "softmax") -> Tensor:
    """Draw what to ask about each image: one of its five most probable classes, or labels.

    Each in proportion to the square root of its probability, so that a sure decision is mostly
    asked about, and every class that an unsure classifier sees. What speaks for a class that the
    image does not show is a question without a good answer. Of a label that is less probable than
    not is asked what speaks against it, as the decision on it does.

    Args:
        logits: Logits of the images, (B, classes).
        output: Kind of output.

    Returns:
        Weights of the logits, (B, classes).
    """
    highest, classes = logits.topk(min(_PROBABLE, logits.shape[1]))
    # Up to a factor that all classes share.
    probability = (highest / 2).softmax(1) if output == "softmax" else highest.sigmoid().sqrt()
    # As torch.multinomial draws one, which waits for a GPU to check the probabilities.
    place = (probability / torch.empty_like(probability).exponential_()).argmax(1, keepdim=True)
    target = class_target(classes.gather(1, place)[:, 0], logits)
    return target if output == "softmax" else torch.where(logits > 0, target, -target)
