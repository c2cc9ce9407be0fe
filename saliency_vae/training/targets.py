"""What an explainer that can be asked about any class is asked about in training."""

import torch
from torch import Tensor

from saliency_vae.classifiers import class_target

_PROBABLE = 5  # most probable classes that questions are about


def draw_target(logits: Tensor) -> Tensor:
    """Draw what to ask about each image: one of its five most probable classes.

    Each in proportion to the square root of its probability, so that a sure decision is mostly
    asked about, and every class that an unsure classifier sees. What speaks for a class that the
    image does not show is a question without a good answer.

    Args:
        logits: Logits of the images, (B, classes).

    Returns:
        Weights of the logits, (B, classes).
    """
    highest, classes = logits.topk(min(_PROBABLE, logits.shape[1]))
    probability = (highest / 2).softmax(1)
    # As torch.multinomial draws one, which waits for a GPU to check the probabilities.
    place = (probability / torch.empty_like(probability).exponential_()).argmax(1, keepdim=True)
    return class_target(classes.gather(1, place)[:, 0], logits)
