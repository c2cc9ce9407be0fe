"""The directory of the Hugging Face Space fits the package."""

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from saliency_vae.cli.targets import check_targets

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "docs/space"


def test_the_app_asks_for_a_page_that_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Blocks:
        def block_thread(self) -> None:
            asked.append("served")

    monkeypatch.setattr("saliency_vae.app.serve.make_page", lambda config: asked.append(config))
    monkeypatch.setattr("saliency_vae.app.serve.launch", lambda page, config: Blocks())
    runpy.run_path(str(SPACE / "app.py"))
    config, served = asked
    assert (config.host, served) == ("0.0.0.0", "served")
    check_targets(config.classifier)
    assert callable(get_object(config.classifier["_target_"]))


def test_its_header_and_requirements() -> None:
    _, header, _ = (SPACE / "README.md").read_text().split("---", 2)
    settings: Any = OmegaConf.create(header)
    assert settings["sdk"] == "gradio"
    assert (SPACE / settings["app_file"]).is_file()
    locked = (ROOT / "requirements.lock").read_text()
    assert f"\ngradio=={settings['sdk_version']} " in locked
    (extras,) = re.findall(r"saliency-vae\[([\w,-]+)\]", (SPACE / "requirements.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
