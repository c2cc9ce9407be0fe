"""What the gallery says about each image: where it is from and what the classifier decides."""

from torch import Tensor
from torch.utils.data import Dataset, Subset

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.report import Caption
from saliency_vae.evaluation.scoring import with_decision


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
        Caption(name_of(images.dataset, index), decision, certain)
        for index, (decision, certain) in enumerate(
            zip(decisions(classifier, batch["decision"]), probability, strict=True)
        )
    ]


def decisions(classifier: FrozenClassifier, targets: Tensor) -> list[str]:
    """Name targets (B, classes): the class, or of independent labels those that are present."""
    names = []
    for target in targets:
        present = (target > 0).nonzero().flatten().tolist()
        names.append(", ".join(map(classifier.category, present)) or "none of the labels")
    return names


def name_of(dataset: Dataset[Batch], index: int) -> str:
    """File or scene of an image; its number where the data set does not name its images."""
    if isinstance(dataset, Subset):
        return name_of(dataset.dataset, dataset.indices[index])
    name = getattr(dataset, "name", None)
    return str(name(index)) if callable(name) else f"image {index + 1}"
