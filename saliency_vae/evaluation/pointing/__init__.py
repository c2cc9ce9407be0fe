"""Class-conditional evaluation: asked about one of several classes, does a method look there?"""

from saliency_vae.evaluation.pointing.grids import Grids, build_grids, grid_pointing_game
from saliency_vae.evaluation.pointing.questions import Answers, Game, ask_all, questions
from saliency_vae.evaluation.pointing.two_objects import ask_about_two_objects, two_object_images

__all__ = [
    "Answers",
    "Game",
    "Grids",
    "ask_about_two_objects",
    "ask_all",
    "build_grids",
    "grid_pointing_game",
    "questions",
    "two_object_images",
]
