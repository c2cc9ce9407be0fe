"""Compare an explainer with every common method, on the same images and classifier.

python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits
python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits methods=[ours,rise] limit=100
python -m saliency_vae.evaluate explainer=DIR data=imagenet annotations=BOXES tolerance=15
"""

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from saliency_vae import __version__
from saliency_vae.baselines import Method, PerImageOptimisation
from saliency_vae.classifiers import FrozenClassifier, describe
from saliency_vae.command import command
from saliency_vae.configuration import Node
from saliency_vae.data.datamodule import Batch, SaliencyDataModule, collate
from saliency_vae.device import pick_device
from saliency_vae.evaluation import Protocol, measure
from saliency_vae.evaluation_figures import (
    curves_figure,
    gallery_figure,
    lines_figure,
    reliability_figure,
    speed_figure,
)
from saliency_vae.explained_classifier import explained_classifier
from saliency_vae.explainer import Explainer, load_explainer
from saliency_vae.metrics.bootstrap import difference_interval
from saliency_vae.metrics.boxes import WithBoxes
from saliency_vae.metrics.sanity import similarity
from saliency_vae.perturbations import Constant, Mean
from saliency_vae.report import save_figures, write_report
from saliency_vae.results import QUALITIES, Results
from saliency_vae.robustness import add_robustness
from saliency_vae.uncertainty_evaluation import (
    entropy,
    evaluate_images,
    evaluate_pixels,
    pixel_uncertainties,
)

_REMOVALS = {"mean": Mean, "zero": Constant}
_NEED_MASKS = ("oracle",)


class Ours:
    """The explainer as a method: posterior mean, one forward pass."""

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer

    @torch.inference_mode()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch: (B, H, W)."""
        mean: Tensor = self.explainer(batch["image"]).mean
        return mean


@command("evaluate", paths=("explainer", "annotations", "randomised"))
def evaluate(config: Node, run: Path) -> None:
    """Evaluate as configured; write metrics, figures and report into the run's directory.

    Raises:
        ValueError: If a setting is wrong.
    """
    torch.manual_seed(config["seed"])
    device = pick_device(config["device"])
    explainer = load_explainer(config["explainer"]).to(device)
    data: SaliencyDataModule = instantiate(config["data"], _convert_="all")
    classifier = explained_classifier(explainer, config["classifier"], force=config["force"])
    classifier = classifier.to(device)
    dataset = test_images(data, classifier, config["limit"])
    methods = choose(config, explainer)
    if config["annotations"] is not None:
        dataset = WithBoxes(dataset, Path(config["annotations"]), classifier.preprocessing)
    has_masks = "mask" in dataset[0]
    left_out: list[str] = []
    if not has_masks:
        left_out.append("Pointing game, IoU, relevance: the data have no true masks.")
        methods = {name: m for name, m in methods.items() if name not in _NEED_MASKS}
    protocol = Protocol(
        removals(config["removal"], explainer), config["steps"], config["tolerance"]
    )

    images = len(dataset)  # type: ignore[arg-type]
    results, maps = measure(
        load(dataset, config, device), methods, classifier, protocol, total=images
    )
    results.left_out = left_out
    results.about = about(config, explainer, images)
    results.about["findings"] = findings(results)
    first = next(load(dataset, {**config, "batch_size": max(1, config["gallery"])}, device))
    figures = {
        "curves": curves_figure(results),
        "speed": speed_figure(results, "iou" if has_masks else "insertion"),
        "gallery": gallery_figure(
            first["image"].cpu(),
            {name: values[: len(first["image"])] for name, values in maps.items()},
            first["mask"].cpu() if "mask" in first else None,
        ),
    }
    if config["robustness_images"]:
        add_robustness(results, methods, first_images(dataset, config, device), classifier)
    if "ours" in methods:
        figures |= add_uncertainty(results, dataset, explainer, classifier, config, device)
        add_sanity(results, maps["ours"], dataset, config, device)
    results.save(run)
    save_figures(figures, run / "figures")
    write_report(results, figures, run / "report.html")
    Console(highlight=False).print(ranking_table(results))
    for finding in [*results.about["findings"], *results.uncertainty.get("findings", [])]:
        print(finding)
    print(run / "report.html")


def first_images(dataset: Dataset[Batch], config: Node, device: torch.device) -> Batch:
    """Images for Captum's metrics."""
    return next(load(dataset, {**config, "batch_size": config["robustness_images"]}, device))


def test_images(
    data: SaliencyDataModule, classifier: FrozenClassifier, limit: int | None
) -> Dataset[Batch]:
    """Test images of a data module, or validation images where it has no others."""
    data.preprocessing = classifier.preprocessing
    data.setup("test" if data.has_test_set else "validate")
    dataset = data.test_set if data.has_test_set else data.val_set
    if limit is None:
        return dataset
    if limit < 1:
        raise ValueError(f"Expected limit >= 1 image. Found {limit}.")
    return Subset(dataset, range(min(limit, len(dataset))))  # type: ignore[arg-type]


def load(dataset: Dataset[Batch], config: Node, device: torch.device) -> Iterator[Batch]:
    """Batches of float images in [0, 1] on the device."""
    loader = DataLoader(
        dataset,
        batch_size=config["batch_size"],
        num_workers=config["num_workers"],
        collate_fn=collate,
    )
    for batch in loader:
        moved: Batch = {"image": batch["image"].to(device).float() / 255}
        if "mask" in batch:
            moved["mask"] = batch["mask"].to(device)
        yield moved


def choose(config: Node, explainer: Explainer) -> dict[str, Method]:
    """Methods to compare: ours and those of the configuration, or those named.

    Raises:
        ValueError: If a name is unknown.
    """
    known = ["ours", *config["baselines"]]
    names = config["methods"] or known
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"Expected methods among {', '.join(known)}. Found {', '.join(unknown)}.")
    return {
        name: Ours(explainer)
        if name == "ours"
        else instantiate(config["baselines"][name], _convert_="all")
        for name in names
    }


def removals(names: list[str], explainer: Explainer) -> dict[str, nn.Module]:
    """What removes information, by name: ``blur`` is the explainer's own perturbation.

    Raises:
        ValueError: If there is none or a name is unknown.
    """
    if not names or not set(names) <= {"blur", *_REMOVALS}:
        raise ValueError(f"Expected removal among blur, mean, zero. Found {names}.")
    return {
        name: explainer.objective().perturbation if name == "blur" else _REMOVALS[name]()
        for name in names
    }


def findings(results: Results) -> list[str]:
    """Say where ours stands, in plain words, each comparison with its interval."""
    if "ours" not in results.methods:
        return []
    lines = []
    rivals = [m for m in results.methods if m not in ("ours", *_NEED_MASKS)]
    for metric in ("insertion", "deletion", "agreement_5", "pointing_game", "iou"):
        if metric not in results.values or not rivals:
            continue
        quality = QUALITIES[metric]
        rival = results.best(metric, among=rivals)
        values = results.values[metric]
        interval = difference_interval(values["ours"], values[rival], seed=results.about["seed"])
        better = interval.low > 0 if quality.higher_is_better else interval.high < 0
        worse = interval.high < 0 if quality.higher_is_better else interval.low > 0
        verdict = "better than" if better else "worse than" if worse else "level with"
        lines.append(
            f"{quality.title}: ours {float(values['ours'].mean()):.3f}, {verdict} the best other, "
            f"{rival.replace('_', ' ')}, {float(values[rival].mean()):.3f} "
            f"(difference {interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}])."
        )
    return lines


def add_uncertainty(
    results: Results,
    dataset: Dataset[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    config: Node,
    device: torch.device,
) -> dict[str, Any]:
    """Evaluate the uncertainty; returns its figures."""
    confidence, classifier_entropy, posteriors = [], [], []
    for batch in load(dataset, config, device):
        with torch.inference_mode():
            posterior = explainer(batch["image"])
            confidence.append(posterior.confidence.cpu())
            logits = classifier(batch["image"])
            classifier_entropy.append(entropy(classifier.probabilities(logits)).cpu())
            posteriors.append(posterior)
    rows, lines, shown = evaluate_images(
        torch.cat(confidence),
        {"classifier entropy": torch.cat(classifier_entropy)},
        results.values["agreement_5"]["ours"],
        results.values["insertion"]["ours"],
        seed=config["seed"],
    )
    figures = {
        "selective": lines_figure(
            shown["selective"],
            x=shown["rejected"],
            x_label="share of the images withheld, least certain first",
            y_label="insertion AUC of the rest",
        )
    }
    if config["reference_images"]:
        pixel_rows, pixel_lines, pixel_shown = _pixels(
            dataset, explainer, classifier, config, device
        )
        rows, lines = pixel_rows + rows, pixel_lines + lines
        figures["reliability"] = reliability_figure(pixel_shown["reliability"], pixel_shown["ece"])
        figures["sparsification"] = lines_figure(
            pixel_shown["sparsification"],
            x=pixel_shown["sparsified"],
            x_label="share of the pixels removed, least certain first",
            y_label="rank error of the rest, relative",
        )
        shown |= pixel_shown
    results.uncertainty = {
        "findings": lines,
        "table": [
            {**vars(row), "interval": {k: float(v) for k, v in row.interval._asdict().items()}}
            for row in rows
        ],
        **shown,
    }
    return figures


def _pixels(
    dataset: Dataset[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    config: Node,
    device: torch.device,
) -> tuple[Any, Any, Any]:
    batch = next(load(dataset, {**config, "batch_size": config["reference_images"]}, device))
    posterior = explainer(batch["image"])
    runs = [
        PerImageOptimisation(seed=config["seed"] + run)(batch, classifier)
        for run in range(config["reference_runs"])
    ]
    runs += [
        load_explainer(directory).to(device)(batch["image"]).mean
        for directory in config["ensemble"]
    ]
    vargrad = config["baselines"].get("vargrad")
    uncertain = vargrad and instantiate(vargrad, _convert_="all")(batch, classifier)
    return evaluate_pixels(
        pixel_uncertainties(posterior, uncertain),
        posterior.mean,
        posterior.inclusion_probability(0.1),
        torch.stack(runs),
        seed=config["seed"],
    )


def add_sanity(
    results: Results, maps: Tensor, dataset: Dataset[Batch], config: Node, device: torch.device
) -> None:
    """Compare with an explainer of a randomised classifier, which must not look alike."""
    if config["randomised"] is None:
        results.left_out.append(
            "Sanity check against a randomised classifier: randomised=DIR names an explainer "
            "trained for one."
        )
        return
    other = load_explainer(config["randomised"]).to(device)
    others = torch.cat(
        [other(batch["image"]).mean.cpu() for batch in load(dataset, config, device)]
    )
    alike = similarity(maps, others)
    results.about["findings"].append(
        "Sanity: maps of an explainer for a randomised classifier agree with ours by Spearman "
        f"{float(alike.spearman.mean()):.3f}, SSIM {float(alike.ssim.mean()):.3f} (1 is alike)."
    )


def about(config: Node, explainer: Explainer, images: int) -> dict[str, Any]:
    """Everything that a reader needs to repeat it."""
    model = explainer.config
    return {
        "explains": describe(model["classifier"]),
        "explainer": f"{config['explainer']} ({model.get('name')}, posterior {model['posterior']})",
        "data": config["data"]["_target_"].rpartition(".")[2],
        "images": images,
        "seed": config["seed"],
        "protocol": (
            f"{config['steps']} steps; baselines {', '.join(config['removal'])}; mean over "
            f"{images} images; times in batches of {config['batch_size']}."
        ),
        "command": " ".join(["python -m saliency_vae.evaluate", *sys.argv[1:]]),
        "versions": f"saliency_vae {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "hardware": _hardware(config["device"]),
    }


def _hardware(device: str) -> str:
    chosen = pick_device(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def ranking_table(results: Results) -> Table:
    """Lay out the ranking for the terminal."""
    metrics = [name for name in QUALITIES if name in results.values]
    headings = [
        f"{QUALITIES[m].short} {'↑' if QUALITIES[m].higher_is_better else '↓'}" for m in metrics
    ]
    table = Table("method", *headings, "ms", box=SIMPLE, padding=(0, 0, 0, 1), pad_edge=False)
    for method in results.methods:
        cells = [
            f"{float(results.values[m][method].mean()):.3f}".removeprefix("0")
            if method in results.values[m]
            else ""
            for m in metrics
        ]
        style = "bold" if method == "ours" else None
        table.add_row(method, *cells, f"{1000 * results.seconds[method]:.3g}", style=style)
    return table


if __name__ == "__main__":
    evaluate()
