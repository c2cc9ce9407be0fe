"""Old names of settings are refused in one line that names the new one."""

from typing import get_type_hints

import pytest

from saliency_vae.cli.renamed import RENAMED, check_composed, check_override, translated
from saliency_vae.cli.schemas import EvaluateConfig, TrainConfig


@pytest.mark.parametrize("prefix", ["", "+", "++", "~"])
@pytest.mark.parametrize("old", RENAMED)
def test_an_override_with_an_old_name(old: str, prefix: str) -> None:
    override = prefix + old + ("" if "=" in old else "=0.3")
    new = RENAMED[old] if "=" in old else f"{RENAMED[old]}=VALUE"
    with pytest.raises(ValueError, match="Expected") as refused:
        check_override(override)
    assert str(refused.value) == f"Expected {new}, the new name of {old}. Found {override}."
    check_override(translated(override))


@pytest.mark.parametrize("override", ["~ridge", "ridge=0.1,0.3", "encoder=unet,informed_unet"])
def test_removal_and_sweeps(override: str) -> None:
    with pytest.raises(ValueError, match=rf"Found {override}\."):
        check_override(override)


@pytest.mark.parametrize(
    "override",
    ["mean_penalty=0.3", "encoder=conditional_unet", "name=ridge", "prior.ridge=1", "evidence=2"],
)
def test_what_only_looks_like_an_old_name(override: str) -> None:
    check_override(override)
    assert translated(override) == override


def test_a_composed_configuration() -> None:
    check_composed({"encoder": {"channels": [8]}, "classifier": {"arguments": {"ridge": 1}}})
    check_composed({"encoder": None})
    with pytest.raises(ValueError, match=r"prior_mean_scale=VALUE.*Found encoder\.evidence=0\.2\."):
        check_composed({"encoder": {"evidence": 0.2}})
    with pytest.raises(ValueError, match=r"mean_penalty=VALUE.*Found ridge=1\."):
        check_composed({"ridge": 1})


def test_new_names_are_settings_and_old_ones_are_not() -> None:
    known = {**get_type_hints(TrainConfig), **get_type_hints(EvaluateConfig)}
    for old, new in RENAMED.items():
        assert new.partition("=")[0].partition(".")[0] in known
        assert old not in known
