"""Which methods are compared."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from torch import Tensor

from saliency_vae.baselines import EdgeMagnitude, Method, Oracle, RandomMap
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.cli.validation import config_dir
from saliency_vae.data.batch import Batch
from saliency_vae.evaluation.methods import ExplainerMethod, build_methods, check_names, warm_up
from saliency_vae.evaluation.results import Results
from saliency_vae.models.explainer import save_explainer
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

NODES: dict[str, Any] = {
    "random": {"_target_": "saliency_vae.baselines.RandomMap"},
    "grad_cam": {"_target_": "saliency_vae.baselines.GradCAM"},
    "oracle": {"_target_": "saliency_vae.baselines.Oracle"},
}
DEFAULT = OmegaConf.to_container(
    OmegaConf.create({"baselines": OmegaConf.load(Path(config_dir()) / "baselines/default.yaml")}),
    resolve=True,
)
WITHOUT_CAPTUM = {
    "ours",
    "rise",
    "per_image",
    "guided_backprop",
    "random",
    "centre_prior",
    "edge_magnitude",
    "oracle",
}


def chosen(names: list[str] | None, nodes: dict[str, Any] | None = None) -> tuple[Any, list[str]]:
    left_out: list[str] = []
    return build_methods(names, nodes or NODES, trained_explainer(encoder=UNET), left_out), left_out


def no_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Captum look as if it were not installed."""
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "captum" else find_spec(name, package)

    for module in ("evaluation.methods", "baselines.captum_method"):
        monkeypatch.setattr(f"saliency_vae.{module}.find_spec", without)


def test_all_with_ours_first() -> None:
    methods, left_out = chosen(None)
    assert list(methods) == ["ours", "random", "grad_cam", "oracle"]
    assert isinstance(methods["random"], RandomMap)
    assert left_out == []


def test_named_ones_in_their_order() -> None:
    assert list(chosen(["oracle", "ours"])[0]) == ["oracle", "ours"]


def test_what_is_null_is_left_out_and_said_to_be() -> None:
    methods, left_out = chosen(None, NODES | {"per_image": None})
    assert list(methods) == ["ours", "random", "grad_cam", "oracle"]
    assert left_out == ["per-image optimisation: baselines.per_image is null."]
    with pytest.raises(ValueError, match="Found per_image"):
        chosen(["ours", "per_image"], NODES | {"per_image": None})


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["ours", "randm"], "Found randm. Did you mean random?"),
        (["zebra"], "oracle. Found zebra."),
        ([], "Found none."),
    ],
)
def test_unknown_names_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(ValueError, match=f"^Expected methods among .*{found}".replace("?", r"\?")):
        check_names(names, ["ours", *NODES])
    with pytest.raises(ValueError, match="Expected methods"):
        chosen(names)


def test_all_default_methods_can_be_built() -> None:
    assert isinstance(DEFAULT, dict)
    methods, left_out = chosen(None, DEFAULT["baselines"])
    assert list(methods) == ["ours", *DEFAULT["baselines"]]
    assert left_out == []


def test_without_captum_its_methods_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    assert isinstance(DEFAULT, dict)
    methods, left_out = chosen(None, DEFAULT["baselines"])
    assert set(methods) == WITHOUT_CAPTUM
    (line,) = left_out
    assert line.endswith("pip install 'saliency-vae[captum]'.")
    for name in {*DEFAULT["baselines"]} - WITHOUT_CAPTUM:
        assert name in line


def test_without_captum_a_named_method_of_its_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    with pytest.raises(InstantiationException, match="extra captum"):
        chosen(["ours", "grad_cam"])


def test_a_wrong_setting_is_an_error_even_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    rise = {"_target_": "saliency_vae.baselines.Rise", "masks": 0}
    with pytest.raises(InstantiationException, match="masks"):
        chosen(None, {"rise": rise})


def test_ours_is_the_posterior_mean() -> None:
    explainer = trained_explainer(encoder=UNET)
    maps = ExplainerMethod(explainer)({"image": blobs(3)}, blob_classifier())
    torch.testing.assert_close(maps, explainer(blobs(3)).mean)


def test_a_second_explainer_joins_by_its_directory(tmp_path: Path) -> None:
    save_explainer(trained_explainer(encoder=UNET), tmp_path)
    node = {
        "_target_": "saliency_vae.evaluation.methods.ExplainerMethod",
        "explainer": str(tmp_path),
    }
    methods, _ = chosen(None, {"ours_2": node})
    batch: Batch = {"image": blobs(3)}
    first, second = (method(batch, blob_classifier()) for method in methods.values())
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)  # batch norms are folded


def mean(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"].mean(1)


class Refusing:
    """A method that cannot explain this classifier."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        raise ValueError("Expected a network\nwith convolutions.")


def tried(*, strict: bool) -> tuple[dict[str, Any], Results]:
    results = Results()
    methods: dict[str, Method] = {
        "edges": EdgeMagnitude(),
        "mine": mean,
        "oracle": Oracle(),
        "refusing": Refusing(),
    }
    one: Batch = {"image": blobs(1)}
    return warm_up(methods, one, blob_classifier(), results, strict=strict), results


def test_what_cannot_explain_these_images_is_left_out_and_said_to_be() -> None:
    able, results = tried(strict=False)
    assert list(able) == ["edges", "mine"]
    assert results.left_out == [
        "oracle: Expected data with true masks for the oracle. Found ['image'].",
        "refusing: Expected a network with convolutions.",
    ]
    assert results.controls == {"edges"}
    assert results.oracles == set()
    assert results.memory["mine"] >= 4 * 16 * 16


def test_what_was_asked_for_by_name_must_work() -> None:
    with pytest.raises(ValueError, match="true masks for the oracle"):
        tried(strict=True)


def test_oracles_and_controls_are_known_by_their_class() -> None:
    results, one = Results(), Batch(image=blobs(1), mask=torch.ones(1, 16, 16, dtype=torch.bool))
    methods: dict[str, Method] = {
        "a": RandomMap(),
        "b": Oracle(),
        "c": ExplainerMethod(trained_explainer(encoder=UNET)),
    }
    warm_up(methods, one, blob_classifier(), results, strict=False)
    assert (results.controls, results.oracles) == ({"a", "b"}, {"b"})
    assert list(results.memory) == ["a", "b", "c"]


def test_ours_must_work() -> None:
    with pytest.raises(ValueError, match="Expected a network"):
        warm_up(
            {"ours": Refusing()}, {"image": blobs(1)}, blob_classifier(), Results(), strict=False
        )
