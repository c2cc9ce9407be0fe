"""Images of two objects of different classes: does the map of a class lie on its object?"""

from dataclasses import replace

from torch import Tensor

from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.data.datamodule import Predict, SaliencyDataModule
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.pointing.questions import Game
from saliency_vae.metrics import mask_iou, pointing_game, region_shares


def score_object(
    saliency: Tensor, attribution: Tensor, masks: Tensor, asked: int, *, tolerance: float = 0.0
) -> dict[str, Tensor]:
    """Score maps whose target is the class of one of two objects.

    Args:
        saliency: Maps, (B, H, W).
        attribution: Their positive attribution, (B, H, W).
        masks: Masks of the objects, (B, 2, H, W) bool.
        asked: Index of the target object.
        tolerance: Distance from the object that still counts as a hit, pixels.

    Returns:
        Whether the most salient pixel lies on the object, intersection over union with its mask,
        and its share of the attribution on the two objects, each (B,).
    """
    return {
        "two_objects_point": pointing_game(saliency, masks[:, asked], tolerance),
        "two_objects_iou": mask_iou(saliency, masks[:, asked]),
        "two_objects_share": region_shares(attribution, masks)[:, asked],
    }


# A method that ignores its target points at half of the objects at most, and its share is 1/2.
TWO_OBJECTS = Game("two_objects", "Images of two objects", score_object)


def two_object_images(
    data: SaliencyDataModule, images: Images, predict: Predict, number: int
) -> Images:
    """Images of two objects of different classes, see :mod:`data.cutouts`.

    The classifier is confident about each object alone.

    Args:
        data: Data module of the evaluation, set up.
        images: Its images, which set the batch size and the device.
        predict: Class probabilities of the classifier.
        number: Number of images to make; fewer if too few are found.

    Raises:
        ValueError: If the data are not cut-outs, or no such image is found.
    """
    if not isinstance(data, CutoutsData):
        raise ValueError(
            f"Expected data=cutouts for images of two objects. Found {type(data).__name__}."
        )
    scenes, chosen = data.two_object_scenes(predict, number)
    if not len(scenes):
        raise ValueError(f"Expected images of two objects. Found {chosen}.")
    return replace(images, dataset=scenes, name=chosen, left_out=())
