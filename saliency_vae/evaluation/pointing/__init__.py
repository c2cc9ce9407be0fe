"""Class-conditional evaluation: does the map of one of several classes lie on that class?"""

from saliency_vae.evaluation.pointing.grids import GRID_POINTING, build_grids
from saliency_vae.evaluation.pointing.questions import Answers, Game, ask_all
from saliency_vae.evaluation.pointing.two_objects import (
    TWO_OBJECTS,
    score_object,
    two_object_images,
)

__all__ = [
    "GRID_POINTING",
    "TWO_OBJECTS",
    "Answers",
    "Game",
    "ask_all",
    "build_grids",
    "score_object",
    "two_object_images",
]
