"""Sharing explainers: the Hugging Face Hub's side of them, without the network."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import RepositoryNotFoundError
from markdown_it import MarkdownIt
from omegaconf import OmegaConf

from saliency_vae import Explainer, load_explainer
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.models import save_explainer
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.model_card import model_card
from tests.conftest import blob_classifier
from tests.models.test_explainer import random_images, trained_explainer

PNG = b"\x89PNG, as far as a copy can tell"

FACTS = ExplainerConfig(
    name="cats",
    classifier=ClassifierIdentity(
        name="torchvision/resnet50",
        weights="IMAGENET1K_V2",
        output="softmax",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        sha256="0123456789abcdef" * 4,
    ),
    data={"_target_": "saliency_vae.data.imagenet.ImageNet", "batch_size": 32},
    encoder={"_target_": "saliency_vae.models.encoders.UNet", "channels": [8, 24]},
    prior={
        "_target_": "saliency_vae.distributions.KroneckerNormal",
        "_partial_": True,
        "correlation": 0.9,
    },
    metrics={"val/loss": 0.25, "test/loss": 0.5, "val/images_per_second": 321.0},
    version="0.1.0",
)


@pytest.fixture
def explainer(tmp_path: Path) -> Explainer:
    """A loaded explainer with a picture."""
    trained = trained_explainer()
    trained.record(classifier=FACTS.classifier, metrics=FACTS.metrics)
    trained.figure = tmp_path / "run.png"
    trained.figure.write_bytes(PNG)
    save_explainer(trained, tmp_path / "explainer")
    return load_explainer(tmp_path / "explainer")


def same(first: Explainer, second: Explainer) -> bool:
    images = random_images(2, 3, 20, 17)
    return torch.equal(first(images).mean, second(images).mean) and first.config == second.config


def test_save_pretrained_and_from_pretrained_are_a_round_trip(
    explainer: Explainer, tmp_path: Path
) -> None:
    saved = tmp_path / "saved"
    explainer.save_pretrained(saved)
    assert {path.name for path in saved.iterdir()} == {
        "config.json",
        "model.safetensors",
        "explanations.png",
        "README.md",
    }
    assert (saved / "explanations.png").read_bytes() == PNG
    for loaded in (
        Explainer.from_pretrained(saved),
        Explainer.from_pretrained(str(saved)),
        load_explainer(saved),
    ):
        assert type(loaded) is Explainer
        assert same(loaded, explainer)
        assert loaded.figure == saved / "explanations.png"
    loaded.save_pretrained(saved)  # onto itself, its own picture included
    assert same(load_explainer(saved), explainer)
    assert (saved / "explanations.png").read_bytes() == PNG


def test_an_explainer_without_a_picture_has_none(tmp_path: Path) -> None:
    trained = trained_explainer()
    trained.save_pretrained(tmp_path / "saved")
    assert load_explainer(tmp_path / "saved").figure is None
    assert "explanations.png" not in (tmp_path / "saved/README.md").read_text()


def test_the_picture_of_an_earlier_explainer_does_not_stay(
    explainer: Explainer, tmp_path: Path
) -> None:
    explainer.save_pretrained(tmp_path / "saved")
    trained_explainer().save_pretrained(tmp_path / "saved")
    assert load_explainer(tmp_path / "saved").figure is None
    assert not (tmp_path / "saved/explanations.png").exists()


@pytest.mark.parametrize("load", [load_explainer, Explainer.from_pretrained])
def test_a_hub_id_is_downloaded_with_its_options(
    explainer: Explainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Any
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot(repo_id: str, **options: Any) -> str:
        asked.append((repo_id, options))
        return str(tmp_path / "explainer")

    monkeypatch.setattr("saliency_vae.models.serialization.snapshot_download", snapshot)
    assert same(load("owner/name", revision="v1", token="t"), explainer)
    assert asked == [
        (
            "owner/name",
            {
                "allow_patterns": [
                    *("config.json", "model.safetensors"),
                    *("classifier.safetensors", "explanations.png"),
                ],
                "revision": "v1",
                "token": "t",
            },
        )
    ]


def test_push_to_hub_uploads_what_loads_again(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    created: list[Any] = []

    def create(self: HfApi, repo_id: str, **options: Any) -> SimpleNamespace:
        created.append((repo_id, options["private"]))
        return SimpleNamespace(repo_id=repo_id)

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, **options: Any) -> str:
        folder_path.rename(tmp_path / "uploaded")
        folder_path.mkdir()
        return f"https://huggingface.co/{repo_id} {options['commit_message']}"

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    url = explainer.push_to_hub("owner/name", private=True, commit_message="First")
    assert url == "https://huggingface.co/owner/name First"
    assert created == [("owner/name", True)]
    assert same(load_explainer(tmp_path / "uploaded"), explainer)
    card = ModelCard.load(tmp_path / "uploaded/README.md")
    assert "torchvision/resnet50" in card.text
    assert (tmp_path / "uploaded/explanations.png").read_bytes() == PNG


def error_of(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ValueError, match="Expected") as info:
        load_explainer(*arguments, **options)
    message = str(info.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"copies": 4}, r"a universal explainer, a whole number >= 1\. Found copies=4 for .* UNet"),
        ({"copies": 0}, r"Found copies=0 for"),
        ({"revision": "v1", "copy": 4}, r"only for owner/name .* Found revision, copy for"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    explainer: Explainer, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    source = "universal" if options.get("copies") == 0 else tmp_path / "explainer"
    assert re.search(message, error_of(source, **options))


def test_a_missing_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        response: Any = SimpleNamespace(headers={}, request=None)
        text = "404 Client Error.\n\nRepository Not Found"
        raise RepositoryNotFoundError(text, response=response)

    monkeypatch.setattr("saliency_vae.models.serialization.snapshot_download", refuse)
    message = error_of("nobody/nothing")
    assert "nobody/nothing" in message
    assert "Repository Not Found" in message


def test_a_broken_connection_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProxyError(Exception):  # the HTTP library's: neither the hub's error nor an OSError
        pass

    def refuse(*_: Any, **__: Any) -> None:
        raise ProxyError("proxy says no")

    monkeypatch.setattr("saliency_vae.models.serialization.snapshot_download", refuse)
    assert "proxy says no" in error_of("owner/name")


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "owner/name" in error_of("owner/name", cache_dir=tmp_path, local_files_only=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "owner/name" in error_of("owner/name", cache_dir=tmp_path)


@pytest.mark.parametrize("path", [Path("no/such"), "no/such/directory", "nothing"])
def test_what_can_only_be_a_directory_is_not_looked_up(
    monkeypatch: pytest.MonkeyPatch, path: Any
) -> None:
    monkeypatch.setattr(
        "saliency_vae.models.serialization.snapshot_download",
        lambda *_, **__: pytest.fail("looked up"),
    )
    assert str(path) in error_of(path)


def rendered(card: str) -> str:
    """HTML of the card's text, as CommonMark with tables."""
    page: str = MarkdownIt("commonmark").enable("table").render(ModelCard(card).text)
    return page


def test_the_card_says_what_the_configuration_does() -> None:
    card = model_card(FACTS, figure=True)
    header = OmegaConf.create(card.split("---\n")[1])
    assert header == {
        "library_name": "saliency_vae",
        "license": "apache-2.0",
        "tags": ["saliency", "explainability", "uncertainty"],
    }
    page = rendered(card)
    for fact in (
        "<h1>cats: an explainer of torchvision/resnet50</h1>",
        "<td>IMAGENET1K_V2</td>",
        f"<td>{'0123456789abcdef' * 4}</td>",
        "<td>ImageNet(batch_size=32)</td>",
        "<td>UNet(channels=[8, 24])</td>",
        "<td>KroneckerNormal(correlation=0.9)</td>",
        "<td>mean_field</td>",
        '<img src="explanations.png"',
        "forum?id=x2ywTOFM4xt",
    ):
        assert fact in page, fact
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", page[page.index("Metrics") :])
    assert cells == [
        *("", "val", "test"),
        *("loss", "0.2500", "0.5000"),
        *("images_per_second", "321.0000", ""),
    ]


def test_the_card_of_a_conditional_explainer_shows_how_to_attach() -> None:
    page = rendered(model_card(FACTS, conditional=True))
    assert "explainer.attach_classifier(classifier)" in page
    assert "In one forward pass" not in page
    assert ".attach_classifier(" not in model_card(FACTS)


def test_the_card_leaves_out_what_is_not_known() -> None:
    page = rendered(
        model_card(ExplainerConfig(encoder={}, prior={}, name="new", posterior="correlated"))
    )
    assert "None are recorded." in page
    assert re.findall(r"<td>(.*?)</td>", page) == ["Posterior", "correlated"]
    assert "<img" not in page


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "a | b | c",
        "x\n# Heading\n---\n```",
        "[link](https://example.com) ![image](x.png) <https://example.com>",
        "**bold** _it_ ~~no~~ `code` $x$ @user &amp; \\ {name} {0}",
    ],
)
def test_text_of_the_configuration_is_shown_as_it_is(text: str) -> None:
    plain = rendered(model_card(replace(FACTS, name="X", command="X", metrics={"val/X": 1.0})))
    card = model_card(replace(FACTS, name=text, command=text, metrics={f"val/{text}": 1.0}))
    page = rendered(card)
    shown = " ".join(text.split())
    for mark, replacement in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        shown = shown.replace(mark, replacement)
    assert page.count(shown) == 3
    assert re.sub(r"\bX\b", "", plain) == page.replace(shown, "")


def run_code(card: str, place: str, **given: Any) -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {"images": random_images(2, 3, 20, 20), **given}
    exec(code.replace("OWNER/NAME", place), names)
    assert names["posterior"].mean.shape == (2, 20, 20)
    return names


def test_the_card_shows_code_that_runs(explainer: Explainer, tmp_path: Path) -> None:
    assert same(run_code(model_card(FACTS), str(tmp_path / "explainer"))["explainer"], explainer)


def test_the_card_of_the_universal_explainer_is_about_any_classifier() -> None:
    card = load_explainer("universal").generate_model_card().content
    run_code(card, "universal", classifier=blob_classifier())
    assert ": an explainer of any image classifier\n" in card
    assert "OWNER/NAME classifier=torchvision" in card
    assert "the classifier above" not in card
