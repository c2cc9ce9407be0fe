"""Pictures during training: one for each validation."""

from pathlib import Path
from typing import Any

import pytest

from saliency_vae.training import panels
from tests.conftest import BlobsData, MakeModule, make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("trainer", "names"),
    [
        ({}, ["epoch_000", "epoch_001"]),
        ({"check_val_every_n_epoch": 2}, ["epoch_001"]),
        (
            {"val_check_interval": 2},
            [
                f"epoch_00{epoch}_step_00000{step}"
                for epoch, step in ((0, 2), (0, 4), (1, 6), (1, 8))
            ],
        ),
        (
            {"check_val_every_n_epoch": None, "val_check_interval": 3},
            [f"epoch_00{epoch}_step_00000{step}" for epoch, step in ((0, 3), (1, 6))],
        ),
    ],
)
def test_each_validation_has_a_picture(
    trainer: dict[str, Any],
    names: list[str],
    make_module: MakeModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(panels, "draw_explanations", lambda *_, **__: None)
    monkeypatch.setattr(panels, "save_figure", lambda _, path: path.touch())
    drawn = panels.SaliencyPanels(str(tmp_path), 2)
    make_trainer(tmp_path, [drawn], max_epochs=2, **trainer).fit(
        make_module(), datamodule=BlobsData()
    )
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == names
