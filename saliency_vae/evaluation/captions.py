"""Captions of the gallery: where each image is from and what the classifier decides."""

from pathlib import Path

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import image_name
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.protocol import with_decision
from saliency_vae.evaluation.report import Caption


def captions_of(images: Images, classifier: FrozenClassifier) -> list[Caption]:
    """Caption a few images.

    Args:
        images: Images of the gallery; may be none.
        classifier: Classifier that decides.
    """
    if not len(images):
        return []
    batch = with_decision(images.as_batch(), classifier)
    logits = classifier(batch["image"])
    probability = classifier.probability(logits, batch["decision"]).tolist()
    return [
        Caption(_short(image_name(images.dataset, index)), decision, certain)
        for index, (decision, certain) in enumerate(
            zip(decisions(classifier, batch["decision"]), probability, strict=True)
        )
    ]


def _short(name: str) -> str:
    """Shorten a path to the file and its directory, which is enough for a report.

    Example:
        >>> _short("/data/photos/tench/1.jpg"), _short("val scene 3")
        ('tench/1.jpg', 'val scene 3')
    """
    return "/".join(Path(name).parts[-2:])


def decisions(classifier: FrozenClassifier, targets: Tensor) -> list[str]:
    """Name targets (B, classes): the class, or all present labels if labels are independent."""
    names = []
    for target in targets:
        present = (target > 0).nonzero().flatten().tolist()
        names.append(", ".join(map(classifier.category, present)) or "none of the labels")
    return names
