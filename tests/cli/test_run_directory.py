"""A training without a name is called by its data."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from saliency_vae.cli.run_directory import OwnDirectory
from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.validation import config_dir


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "imagenet"),
        (["data=image_folder"], "image_folder"),
        (["experiment=cluttered_digits"], "cluttered_digits"),
        (["data=image_folder", "name=mine"], "mine"),
    ],
)
def test_the_directory_of_a_run_is_named_after_what_it_trains_on(
    overrides: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", overrides, return_hydra_config=True)
    OwnDirectory().on_run_start(config)
    assert config.name == name
    assert Path(config.hydra.run.dir).parent == Path("outputs", name)
    OwnDirectory().on_multirun_start(config)
    assert Path(config.hydra.sweep.dir).parent == Path("outputs", name)
