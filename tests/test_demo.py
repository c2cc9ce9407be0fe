"""What make demo runs and says; the commands themselves are tested elsewhere."""

import runpy
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from PIL import Image

from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.validation import config_dir

DEMO = runpy.run_path(str(Path(__file__).parents[1] / "scripts/demo.py"))


def rows(metric: str, images: int = 100, **means: float) -> list[dict[str, Any]]:
    return [
        {"method": name, "metric": metric, "mean": mean, "images": images}
        for name, mean in means.items()
    ]


def test_the_best_other_method_is_named() -> None:
    """It is no control, no oracle, and was scored on the same images."""
    found = {
        "roles": {
            "explainer": "explainer",
            **dict.fromkeys(("rise", "lrp", "gradient"), "rival"),
            "oracle": "oracle",
            "centre": "control",
        },
        "metrics": [
            *rows("insertion", explainer=0.9, lrp=0.7, gradient=0.8, oracle=0.99, centre=0.85),
            *rows("insertion", 20, rise=0.95),
            *rows("deletion", explainer=0.1, lrp=0.2, gradient=0.3),
            *rows("iou", explainer=0.6, lrp=0.5, gradient=0.4),
        ],
    }
    said = DEMO["main_figures"](found)
    assert "On 100 test digits" in said
    assert "best other method by insertion, gradient" in said
    assert "0.900 against 0.800" in said
    assert "0.600 against 0.400" in said


def test_digits_lie_in_directories_of_their_class(tmp_path: Path) -> None:
    DEMO["write_digits"](tmp_path)
    files = sorted(tmp_path.glob("*/*.png"))
    assert len(files) == DEMO["IMAGES"]
    assert {file.parent.name for file in files} <= set("0123456789")
    with Image.open(files[0]) as picture:
        assert picture.size == (48, 48)


def test_its_settings_exist() -> None:
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        overrides = ["explainer=x", "data=cluttered_digits", *DEMO["COMPARED"]]
        config = compose("evaluate", overrides)
    assert config.limit == 40
    assert config.baselines.per_image is None
