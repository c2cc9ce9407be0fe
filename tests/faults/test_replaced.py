"""An explainer that is saved over another while that one is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saliency_vae.models import Explainer, load_explainer, serialization
from tests.faults import explainer_run


@pytest.mark.parametrize("moment", ["config", "networks", "weights"])
def test_a_replaced_explainer_is_the_one_or_the_other(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer_run.save(tmp_path / "explainer", 0)

    def replacing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            monkeypatch.undo()
            explainer_run.save(tmp_path / "explainer", 1)
            return function(*arguments)

        return call

    after = {
        "config": (serialization, "read_config"),  # between the two readings of the configuration
        "networks": (Explainer, "from_config"),
        "weights": (serialization, "from_bytes"),
    }
    place, name = after[moment]
    monkeypatch.setattr(place, name, replacing(getattr(place, name)))
    if moment == "weights":  # all had been read
        loaded, seed = load_explainer(tmp_path / "explainer"), 0
    else:
        with pytest.raises(ValueError, match=r"Found ValueError: those of another one.*again"):
            load_explainer(tmp_path / "explainer")
        loaded, seed = load_explainer(tmp_path / "explainer"), 1
    assert loaded.config.metrics["seed"] == seed
    expected = explainer_run.explainer(seed).get_parameter("encoder.head.weight")
    torch.testing.assert_close(loaded.get_parameter("encoder.head.weight"), expected)
