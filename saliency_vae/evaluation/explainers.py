"""The explainers to evaluate, by name."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from saliency_vae.evaluation.roles import EXPLAINER, REFINED
from saliency_vae.evaluation.signal_controls import CONTROLS
from saliency_vae.models import Explainer, load_explainer


def load_explainers(setting: str, device: torch.device) -> dict[str, Explainer]:
    """Load the explainers that a setting names.

    Args:
        setting: One or more directories or names on the Hub, separated by commas. The first one is
            called ``explainer``, the others after their directories.
        device: Device of the explainers.

    Raises:
        ValueError: If a name is empty, or there is no explainer.
    """
    sources = separate(setting)
    return {
        name: load_explainer(source).to(device)
        for name, source in zip(names_of(sources), sources, strict=True)
    }


def separate(setting: str) -> list[str]:
    """Split sources at commas; an existing path that contains commas is one source.

    Example:
        >>> separate("runs/a/explainer,runs/b/explainer")
        ['runs/a/explainer', 'runs/b/explainer']

    Raises:
        ValueError: If a source is empty.
    """
    if Path(setting).exists():
        return [setting]
    sources = [source.strip() for source in setting.split(",")]
    if not all(sources):
        raise ValueError(f"Expected explainer=A,B,C, none of them empty. Found {setting!r}.")
    return sources


def names_of(sources: Sequence[str]) -> list[str]:
    """Name explainers: the first one ``explainer``, the others after their directories.

    A directory ``explainer`` in a run is named after the run. Equal names are numbered.

    Example:
        >>> names_of(["runs/a/explainer", "runs/b-2/explainer", "hub/b-2"])
        ['explainer', 'b_2', 'b_2_2']
    """
    names = [EXPLAINER]
    taken = {EXPLAINER, REFINED, *CONTROLS}
    for source in sources[1:]:
        parts = [part for part in Path(source).parts if part != EXPLAINER] or ["another"]
        name = re.sub(r"\W+", "_", parts[-1]).strip("_") or "another"
        number = 1
        while (own := name if number == 1 else f"{name}_{number}") in taken:
            number += 1
        names.append(own)
        taken.add(own)
    return names
