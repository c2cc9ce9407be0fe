"""FastSHAP (Jethani et al. 2022): train a network that gives Shapley values in one pass.

The players are the cells of a grid. The value of a coalition is the log-probability of the
classifier's decision on the image whose other cells are blurred, as in the authors' example on
CIFAR-10. No surrogate is trained: every pass of the budget is one of the classifier itself.

python -m benchmarks.fastshap lite0 OUTPUT --cutouts DIR --backgrounds DIR
python -m benchmarks.fastshap digits OUTPUT
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from benchmarks.fastshap_method import ShapleyNetwork, save_fastshap
from saliency_vae.classifiers import FrozenClassifier, counted_passes, efficientnet_lite_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data import Batch, collate
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.perturbations import blurred, perturb

_LEAST = 1e-6  # lower limit of a probability before its logarithm


@dataclass(frozen=True)
class Budget:
    """Limits of a training.

    Attributes:
        passes: Maximum number of classifier passes.
        images: Number of training images.
        epochs: Number of times that each image is seen.
    """

    passes: int
    images: int
    epochs: int

    @property
    def pairs(self) -> int:
        """Pairs of coalitions for each image and epoch; the whole and the empty image are extra.

        Raises:
            ValueError: If the budget has no pass for a single pair.
        """
        pairs = (self.passes // self.images - 2) // (2 * self.epochs)
        if pairs < 1:
            raise ValueError(
                f"Expected passes >= images * (2 + 2 * epochs) = "
                f"{self.images * (2 + 2 * self.epochs)}. Found {self.passes}."
            )
        return pairs


def sample_coalitions(number: int, players: int, generator: torch.Generator) -> Tensor:
    """Draw pairs of a coalition and its complement, with the probabilities of the Shapley kernel.

    A coalition has k of n players with a probability proportional to 1 / (k (n - k)).

    Args:
        number: Number of pairs.
        players: Number n of players, at least 2.
        generator: Source of the random numbers.

    Returns:
        Members, (number, 2, players) bool.
    """
    size = torch.arange(1, players)
    weights = 1 / (size * (players - size))
    drawn = 1 + torch.multinomial(weights, number, replacement=True, generator=generator)
    order = torch.rand(number, players, generator=generator).argsort(1)
    members = order < drawn[:, None]
    return torch.stack([members, ~members], 1)


def efficient(shapley: Tensor, total: Tensor) -> Tensor:
    """Shift Shapley values (B, players) so that they sum to a total (B,), as the true ones do."""
    return shapley + ((total - shapley.sum(1)) / shapley.shape[1])[:, None]


def fastshap_loss(
    shapley: Tensor, coalitions: Tensor, values: Tensor, empty: Tensor, whole: Tensor
) -> Tensor:
    """Mean squared error of the predicted values of coalitions.

    With coalitions drawn by the Shapley kernel, the Shapley values minimise its expectation
    (Charnes et al. 1988).

    Args:
        shapley: Shapley values, up to a constant, (B, players).
        coalitions: Members, (B, n, players) bool.
        values: Values of the coalitions, (B, n).
        empty: Values of the empty coalition, (B,).
        whole: Values of the coalition of all players, (B,).

    Returns:
        Mean squared error, ().
    """
    completed = efficient(shapley, whole - empty)
    predicted = empty[:, None] + torch.einsum("bp,bnp->bn", completed, coalitions.float())
    return F.mse_loss(predicted, values)


@torch.no_grad()
def coalition_values(
    classifier: FrozenClassifier, images: Tensor, coalitions: Tensor, decisions: Tensor
) -> Tensor:
    """Log-probability of each image's decision when only a coalition's cells are visible.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (B, 3, H, W).
        coalitions: Cells that are shown, (B, n, cells) bool, of a square grid.
        decisions: Decisions on the images, weights of the logits, (B, classes).

    Returns:
        Values, (B, n), in nats.
    """
    number, each, cells = coalitions.shape
    grid = coalitions.view(number, each, *2 * (round(cells**0.5),)).float()
    masks = F.interpolate(grid, images.shape[-2:]).flatten(0, 1)
    seen, blurs, asked = (
        of_image.repeat_interleave(each, 0) for of_image in (images, blurred(images), decisions)
    )
    views = perturb(seen, masks, blurs).contiguous(memory_format=torch.channels_last)
    probability = classifier.probability(classifier(views), asked)
    return probability.clamp_min(_LEAST).log().view(number, each)


@dataclass(frozen=True)
class Known:
    """Values that are computed once for each training image.

    Attributes:
        decisions: Decisions, weights of the logits, (N, classes).
        whole: Values of the whole images, (N,).
        empty: Values of the blurred images, (N,).
    """

    decisions: Tensor
    whole: Tensor
    empty: Tensor


@torch.no_grad()
def ask_once(classifier: FrozenClassifier, batches: DataLoader[Batch]) -> Known:
    """Classify each training image both unchanged and blurred: two passes per image."""
    decisions, whole, empty = [], [], []
    for batch in tqdm(batches, "Values of the whole images"):
        images = batch["image"].float() / 255
        logits = classifier(images.contiguous(memory_format=torch.channels_last))
        decided = classifier.decide(logits)
        nobody = torch.zeros(len(images), 1, 1, dtype=torch.bool)
        decisions.append(decided)
        whole.append(classifier.probability(logits, decided).clamp_min(_LEAST).log())
        empty.append(coalition_values(classifier, images, nobody, decided)[:, 0])
    return Known(torch.cat(decisions), torch.cat(whole), torch.cat(empty))


def train(
    network: ShapleyNetwork,
    classifier: FrozenClassifier,
    images: Dataset[Batch],
    budget: Budget,
    *,
    batch_size: int = 32,
    lr: float = 3e-3,
    seed: int = 0,
) -> None:
    """Train a network to give the Shapley values of the classifier's decisions.

    Args:
        network: Network to train; left in eval mode.
        classifier: Classifier to explain.
        images: Training images, uint8 and with their index; as many as the budget has.
        budget: Limits of the training.
        batch_size: Number of images in a batch.
        lr: Highest learning rate of the cycle.
        seed: Seed of the coalitions and the order of the images.
    """
    generator = torch.Generator().manual_seed(seed)
    known = ask_once(classifier, DataLoader(images, batch_size, collate_fn=collate))
    batches: DataLoader[Batch] = DataLoader(
        images, batch_size, shuffle=True, drop_last=True, collate_fn=collate, generator=generator
    )
    steps = budget.epochs * len(batches)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    network.train().to(memory_format=torch.channels_last)
    players = network.grid**2
    with tqdm(total=steps, desc="FastSHAP", unit="step") as bar:
        for batch in (batch for _ in range(budget.epochs) for batch in batches):
            picture, index = batch["image"].float() / 255, batch["index"]
            drawn = sample_coalitions(budget.pairs * len(picture), players, generator)
            drawn = drawn.view(len(picture), -1, players)
            values = coalition_values(classifier, picture, drawn, known.decisions[index])
            shapley = network(picture.contiguous(memory_format=torch.channels_last))
            loss = fastshap_loss(shapley, drawn, values, known.empty[index], known.whole[index])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=float(loss.detach()))
            bar.update()
    network.eval()


def prepare(options: argparse.Namespace) -> tuple[FrozenClassifier, SaliencyDataModule]:
    """Build the classifier and its data, as the command line asks for."""
    size, number, seed = options.image_size, options.images, options.seed
    if options.classifier == "digits":
        path = f"outputs/classifiers/digits_{size}px_16000x5_seed0.safetensors"
        classifier = cluttered_digits_classifier(options.weights or path, size)
        return classifier, ClutteredDigitsData(size, number, val_size=1, seed=seed)
    data = CutoutsData(
        options.cutouts, options.backgrounds, size, sizes={"train": number}, seed=seed
    )
    return efficientnet_lite_classifier(options.classifier, size), data


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("classifier", choices=["lite0", "digits"])
    parser.add_argument("output", type=Path, help="directory of the trained network")
    parser.add_argument("--cutouts", help="directory of cut-outs, for lite0")
    parser.add_argument("--backgrounds", help="directory of photographs, for lite0")
    parser.add_argument("--weights", help="file of the built-in classifier, for digits")
    parser.add_argument("--image-size", type=int, help="pixels; 128, of digits 48")
    parser.add_argument("--images", type=int, help="training images; 3600, of digits 16000")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--passes", type=int, help="classifier passes; 8 an image by default")
    parser.add_argument("--grid", type=int, default=16, help="cells along each side")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    digits = options.classifier == "digits"
    options.image_size = options.image_size or (48 if digits else 128)
    options.images = options.images or (16_000 if digits else 3600)
    options.passes = options.passes or 8 * options.images
    return options


def main() -> None:
    """Train, and write the network."""
    options = arguments()
    budget = Budget(options.passes, options.images, options.epochs)
    pairs = budget.pairs  # refuses too small a budget before anything is built
    torch.manual_seed(options.seed)
    classifier, data = prepare(options)
    data.setup("fit")
    network = ShapleyNetwork(grid=options.grid)
    start = time.perf_counter()
    with counted_passes() as passes:
        train(network, classifier, data.train_set, budget, seed=options.seed)
    minutes = (time.perf_counter() - start) / 60
    facts = asdict(budget) | {"passes": passes.number, "pairs": pairs, "minutes": round(minutes, 1)}
    save_fastshap(network, classifier, options.output, **facts, seed=options.seed)
    print(f"{options.output}: {passes.number:,} passes of the classifier, {minutes:.1f} minutes.")


if __name__ == "__main__":
    main()
