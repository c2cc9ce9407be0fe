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
from saliency_vae.evaluation.methods import (
    ExplainerMethod,
    Methods,
    RefinedExplainer,
    build_methods,
    check_names,
    warm_up,
)
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.signal_controls import RandomisedSignals
from saliency_vae.models import load_explainer, save_explainer
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
    "explainer",
    "rise",
    *("grad_cam", "layer_cam", "score_cam"),
    *("smoothgrad", "vargrad"),
    *("gradient_shap", "lrp", "shap_bpt", "optimised_mask", "region_search"),
    "per_image",
    "guided_backprop",
    "random",
    "centre_prior",
    "edge_magnitude",
    "oracle",
}


def chosen(names: list[str] | None, nodes: dict[str, Any] | None = None) -> Methods:
    given = {"explainer": ExplainerMethod(trained_explainer(encoder=UNET))}
    return build_methods(names, nodes or NODES, given)


def no_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Captum look as if it were not installed."""
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "captum" else find_spec(name, package)

    monkeypatch.setattr("saliency_vae.runtime.extras.find_spec", without)


def test_all_with_the_explainer_first() -> None:
    methods = chosen(None)
    assert list(methods.by_name) == ["explainer", "random", "grad_cam", "oracle"]
    assert isinstance(methods.by_name["random"], RandomMap)
    assert methods.left_out == ()


def test_named_ones_in_their_order() -> None:
    assert list(chosen(["oracle", "explainer"]).by_name) == ["oracle", "explainer"]


def test_what_is_null_is_left_out_and_said_to_be() -> None:
    methods = chosen(None, NODES | {"per_image": None})
    assert list(methods.by_name) == ["explainer", "random", "grad_cam", "oracle"]
    assert methods.left_out == ("per-image optimisation: baselines.per_image is null.",)
    with pytest.raises(ValueError, match="Found per_image"):
        chosen(["explainer", "per_image"], NODES | {"per_image": None})


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["explainer", "randm"], "Found randm. Did you mean random?"),
        (["zebra"], "oracle. Found zebra."),
        ([], "Found none."),
    ],
)
def test_unknown_names_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(ValueError, match=f"^Expected methods among .*{found}".replace("?", r"\?")):
        check_names(names, ["explainer", *NODES])
    with pytest.raises(ValueError, match="Expected methods"):
        chosen(names)


def test_the_former_name_of_the_explainer_is_refused_with_the_new_one() -> None:
    with pytest.raises(
        ValueError,
        match=r"^Expected explainer among methods, the new name of ours. Found ours, random.$",
    ):
        chosen(["ours", "random"])
    assert list(chosen(["ours"], {"ours": NODES["random"]}).by_name) == ["ours"]


def test_no_baseline_takes_the_name_of_the_explainer() -> None:
    with pytest.raises(ValueError, match=r"another name than explainer .* Found baselines.expl"):
        chosen(None, NODES | {"explainer": NODES["random"]})


def test_all_default_methods_can_be_built() -> None:
    assert isinstance(DEFAULT, dict)
    methods = chosen(None, DEFAULT["baselines"])
    assert list(methods.by_name) == ["explainer", *DEFAULT["baselines"]]
    assert methods.left_out == ()


def test_without_captum_its_methods_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    assert isinstance(DEFAULT, dict)
    methods = chosen(None, DEFAULT["baselines"])
    assert set(methods.by_name) == WITHOUT_CAPTUM
    (line,) = methods.left_out
    assert line.endswith("pip install 'saliency-vae[captum]'.")
    for name in {*DEFAULT["baselines"]} - WITHOUT_CAPTUM:
        assert name in line


def test_without_captum_a_named_method_of_its_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    with pytest.raises(InstantiationException, match="extra captum"):
        chosen(
            ["explainer", "occlusion"],
            {"occlusion": {"_target_": "saliency_vae.baselines.Occlusion"}},
        )


def test_a_wrong_setting_is_an_error_even_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    no_captum(monkeypatch)
    rise = {"_target_": "saliency_vae.baselines.Rise", "masks": 0}
    with pytest.raises(InstantiationException, match="masks"):
        chosen(None, {"rise": rise})


def test_the_explainer_is_its_posterior_mean() -> None:
    explainer = trained_explainer(encoder=UNET)
    maps = ExplainerMethod(explainer)({"image": blobs(3)}, blob_classifier())
    torch.testing.assert_close(maps, explainer(blobs(3)).mean)


def test_a_second_explainer_joins_by_its_directory(tmp_path: Path) -> None:
    save_explainer(trained_explainer(encoder=UNET), tmp_path)
    node = {
        "_target_": "saliency_vae.evaluation.methods.ExplainerMethod",
        "explainer": str(tmp_path),
    }
    methods = chosen(None, {"second": node})
    assert methods.roles == {"explainer": Role.EXPLAINER, "second": Role.EXPLAINER}
    batch: Batch = {"image": blobs(3)}
    first, second = (method(batch, blob_classifier()) for method in methods.by_name.values())
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)  # batch norms are folded


def mean(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"].mean(1)


class Refusing:
    """A method that cannot explain this classifier."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        raise ValueError("Expected a network\nwith convolutions.")


def warmed_up(*, strict: bool) -> Methods:
    methods: dict[str, Method] = {
        "edges": EdgeMagnitude(),
        "mine": mean,
        "oracle": Oracle(),
        "refusing": Refusing(),
    }
    one: Batch = {"image": blobs(1)}
    before = Methods(methods, left_out=("Before.",))
    return warm_up(before, one, blob_classifier(), strict=strict)


def test_what_cannot_explain_these_images_is_left_out_and_said_to_be() -> None:
    methods = warmed_up(strict=False)
    assert list(methods.by_name) == ["edges", "mine"]
    assert methods.left_out == (
        "Before.",
        "oracle: Expected data with true masks for the oracle. Found ['image'].",
        "refusing: Expected a network with convolutions.",
    )
    assert methods.roles == {"edges": Role.CONTROL, "mine": Role.RIVAL}
    assert methods.memory["mine"] >= 4 * 16 * 16


def test_what_was_asked_for_by_name_must_work() -> None:
    with pytest.raises(ValueError, match="true masks for the oracle"):
        warmed_up(strict=True)


def test_roles_follow_from_the_class_and_not_from_the_name() -> None:
    one = Batch(image=blobs(1), mask=torch.ones(1, 16, 16, dtype=torch.bool))
    methods: dict[str, Method] = {
        "a": RandomMap(),
        "b": Oracle(),
        "c": ExplainerMethod(trained_explainer(encoder=UNET)),
        "control": mean,
    }
    found = warm_up(Methods(methods), one, blob_classifier(), strict=False)
    assert found.roles == {
        "a": Role.CONTROL,
        "b": Role.ORACLE,
        "c": Role.EXPLAINER,
        "control": Role.RIVAL,
    }
    assert list(found.memory) == ["a", "b", "c", "control"]


class Asking:
    """A method that asks the classifier about an image ten times, one view after another."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        for _ in range(10):
            classifier(batch["image"])
            self.answers += 1
        return mean(batch, classifier)


@pytest.mark.parametrize(("slow", "answers"), [(False, 3), (True, 3 + 10)])
def test_a_slow_method_that_is_left_out_is_not_waited_for(slow: bool, answers: int) -> None:
    asking = Asking()
    methods = Methods({"asking": asking}, slow_passes=3)
    found = warm_up(methods, {"image": blobs(1)}, blob_classifier(), strict=False, slow=slow)
    assert found.is_slow("asking")
    assert asking.answers == answers
    assert ("asking" in found.memory) == slow


def test_all_passes_of_a_slow_explainer_are_counted() -> None:
    methods = Methods({"explainer": Asking()}, slow_passes=3)
    found = warm_up(methods, {"image": blobs(1)}, blob_classifier(), strict=False, slow=False)
    assert found.passes == {"explainer": 10}
    assert "explainer" in found.memory


class RefusingExplainer(ExplainerMethod):
    """An explainer that cannot explain this classifier."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return Refusing()(batch, classifier)


def test_the_explainer_must_work() -> None:
    methods = Methods({"explainer": RefusingExplainer(trained_explainer(encoder=UNET))})
    with pytest.raises(ValueError, match="Expected a network"):
        warm_up(methods, {"image": blobs(1)}, blob_classifier(), strict=False)


def test_a_universal_explainer_explains_the_decision_that_all_methods_do() -> None:
    """Under noise the image's own decision may be another one."""
    classifier, images = blob_classifier(), blobs(2)
    explainer = load_explainer("universal", classifier)
    decision = classifier.decide(classifier(images))
    other = decision.roll(1, dims=1)
    randomised = RandomisedSignals(explainer)
    for method in (ExplainerMethod(explainer), RefinedExplainer(explainer, 1), randomised):
        own, asked, target = (
            method(batch, classifier)
            for batch in (
                Batch(image=images),
                Batch(image=images, decision=other),
                Batch(image=images, decision=decision, target=other),
            )
        )
        assert torch.equal(asked, target)
        assert not torch.allclose(asked, own)
        if method is not randomised:  # which has a decision of its own
            assert torch.equal(own, method(Batch(image=images, decision=decision), classifier))
