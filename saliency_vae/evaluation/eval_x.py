"""EVAL-X: kept views judged by a copy of the classifier that was tuned on random masks.

The classifier itself has never seen a masked image, so the shape of a mask alone may lead it to its
decision. The copy is tuned to predict, from a randomly masked image, what the classifier predicts
for the whole image. Random masks carry no information about the class, so the copy learns from the
visible pixels, not from the mask (Jethani et al. 2021, "Have we learned to explain?").
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import trange

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Preprocessing, collate
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.metrics import Imputation, descending_rank
from saliency_vae.metrics.views import views_at_once
from saliency_vae.perturbations import Blur
from saliency_vae.runtime.device import loader_processes
from saliency_vae.topk import num_kept

_KEPT = (0.01, 0.99)  # range of the share of the pixels that a random mask keeps
# Widths of the blobs of a mask, as shares of the shorter side; 0 for single pixels.
_BLOBS = (0.0, 0.0, 1 / 32, 1 / 10)
_DRAWS = 4  # random masks of each held-out image


@dataclass(frozen=True)
class Fit:
    """How well predictions from randomly masked views match those for the whole images.

    Attributes:
        divergence: Mean KL(y || y'), nats per image.
        agreement: Share of the views with the same decision as the whole image, in [0, 1].
    """

    divergence: float
    agreement: float


@dataclass(frozen=True)
class Judge:
    """A classifier tuned on random masks.

    Attributes:
        classifier: Tuned copy of the classifier.
        before: Fit of the classifier itself on held-out images.
        after: Fit of the tuned copy on the same views.
        whole: Fit of the tuned copy on the whole held-out images. A low agreement means that the
            tuning did harm: try a lower learning rate, or more steps.
    """

    classifier: FrozenClassifier
    before: Fit
    after: Fit
    whole: Fit

    def __str__(self) -> str:
        return (
            "on random masks of images that it was not tuned on, EVAL-X's classifier decides as "
            f"for the whole image in {self.after.agreement:.1%} (before the tuning "
            f"{self.before.agreement:.1%}), KL {self.after.divergence:.2f} nats "
            f"({self.before.divergence:.2f}); of the whole images themselves it decides "
            f"{self.whole.agreement:.1%} alike"
        )


def eval_x(
    judge: FrozenClassifier,
    maps: Mapping[str, Tensor],
    images: Tensor,
    decisions: Tensor,
    remove: Imputation,
    *,
    fraction: float,
) -> dict[str, Tensor]:
    """Compare a tuned classifier's decisions from the most salient pixels with the explained ones.

    Args:
        judge: Classifier tuned by :func:`tune_on_random_masks`.
        maps: Method to its maps of the first images, (n, H, W); those beyond N are ignored.
        images: Images in [0, 1], (N, 3, H, W).
        decisions: Decisions of the explained classifier, weights of the logits, (N, classes).
        remove: Function of images (n, 3, H, W) and kept pixels (n, H, W) bool that returns views.
        fraction: Share of the pixels to keep, in (0, 1].

    Returns:
        Method to whether the tuned classifier decides like the explained one, (n,) of 0 and 1, on
        the CPU.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
        >>> judge = FrozenClassifier(network, name="linear")
        >>> images, maps = torch.rand(1, 3, 2, 2), {"random": torch.rand(1, 2, 2)}
        >>> show = lambda images, kept: images * kept[:, None]
        >>> eval_x(judge, maps, images, judge.decide(judge(images)), show, fraction=1.0)
        {'random': tensor([1.])}
    """
    values: dict[str, Tensor] = {}
    for name, saliency in maps.items():
        rank = descending_rank(saliency[: len(images)].to(images.device))
        kept = rank < num_kept(fraction, rank[0].numel())
        number = len(rank)
        logits = _predict(judge, remove(images[:number], kept))
        values[name] = judge.keeps_decision(logits, decisions[:number]).float().cpu()
    return values


def tune_on_random_masks(
    classifier: FrozenClassifier,
    batches: Iterator[Tensor],
    remove: Imputation,
    held_out: Tensor,
    *,
    steps: int,
    lr: float = 3e-4,
    seed: int = 0,
) -> Judge:
    """Tune a copy of a classifier to predict whole images from views through random masks.

    The loss is ``KL(y || y')``, where ``y`` is the classifier's prediction for the whole image and
    ``y'`` the copy's for the view. No labels are needed. Batch norms keep their statistics.

    Args:
        classifier: Classifier to explain; it is not changed.
        batches: Endless batches of training images in [0, 1], (B, 3, H, W).
        remove: Function of images (n, 3, H, W) and kept pixels (n, H, W) bool that returns views.
        held_out: Images in [0, 1] to measure the fit on, (N, 3, H, W).
        steps: Number of steps of Adam, each on one batch.
        lr: Peak learning rate: it rises in the first tenth of the steps, then falls to 0.
        seed: Seed of the masks.

    Raises:
        ValueError: If steps or lr is not positive.
    """
    if steps < 1 or not lr > 0:
        raise ValueError(f"Expected steps >= 1 and lr > 0. Found {steps} and {lr}.")
    generator = torch.Generator().manual_seed(seed)
    seen = held_out.repeat(_DRAWS, 1, 1, 1)
    views = remove(seen, random_masks(seen, generator))
    tuned = copy.deepcopy(classifier)
    tuned.name = f"{classifier.name}, tuned on random masks"
    tuned.network.requires_grad_()
    optimizer = torch.optim.Adam(tuned.network.parameters(), lr)
    # Warm-up in the first tenth, because Adam's first steps are large, then decay to 0.
    rate = [min(10 * (step + 1), steps - step) / steps for step in range(steps + 1)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate.__getitem__)
    for _ in trange(steps, desc="Tuning EVAL-X's classifier", unit="step"):
        images = next(batches)
        loss = _loss(tuned, classifier, images, remove(images, random_masks(images, generator)))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    tuned.network.requires_grad_(False)
    before, after = (_fit(judge, classifier, seen, views) for judge in (classifier, tuned))
    return Judge(tuned, before, after, whole=_fit(tuned, classifier, held_out, held_out))


def random_masks(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw masks that do not depend on the images: half of single pixels, half of smooth blobs.

    Args:
        images: Images, (n, 3, H, W), that set the number, size and device of the masks.
        generator: Source of the random numbers, on the CPU.

    Returns:
        Kept pixels, (n, H, W) bool; their share is uniform between 1 and 99 %.
    """
    number, _, height, width = images.shape
    noise = torch.randn(number, 1, height, width, generator=generator)
    blobs = torch.randint(len(_BLOBS), (number,), generator=generator)
    for kind, share in enumerate(_BLOBS):
        if share:
            noise[blobs == kind] = Blur(share * min(height, width))(noise[blobs == kind])
    low, high = _KEPT
    fraction = low + (high - low) * torch.rand(number, 1, 1, generator=generator)
    rank = descending_rank(noise[:, 0])
    return (rank < fraction * height * width).to(images.device)


def training_images(
    data: SaliencyDataModule, preprocessing: Preprocessing, device: torch.device, *, seed: int = 0
) -> Iterator[Tensor]:
    """Yield training images of a data module without end, in random order.

    Args:
        data: Data module that is not set up yet.
        preprocessing: Preprocessing that the classifier expects.
        device: Device of the images.
        seed: Seed of the order.

    Yields:
        Images in [0, 1], (B, 3, H, W).
    """
    data.preprocessing = preprocessing
    data.setup("fit")
    streamed = isinstance(data.train_set, IterableDataset)  # in an order of its own
    loader = DataLoader(
        data.train_set,
        batch_size=data.batch_size,
        shuffle=not streamed,
        num_workers=loader_processes(data.num_workers),
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )
    while True:
        for batch in loader:
            yield batch["image"].to(device).float() / 255


@torch.no_grad()
def _predict(classifier: FrozenClassifier, images: Tensor) -> Tensor:
    """Logits (n, classes) of images (n, 3, H, W), in batches of bounded size."""
    return torch.cat([classifier(part) for part in torch.split(images, views_at_once(images))])


def _loss(
    tuned: FrozenClassifier, classifier: FrozenClassifier, images: Tensor, views: Tensor
) -> Tensor:
    """Mean KL(y || y') between predictions for whole images and for their views (n, 3, H, W)."""
    return classifier.divergence(_predict(classifier, images), tuned(views)).mean()


def _fit(
    judge: FrozenClassifier, classifier: FrozenClassifier, images: Tensor, views: Tensor
) -> Fit:
    """Fit of a judge's predictions for views (n, 3, H, W) to a classifier's for the images."""
    whole, seen = _predict(classifier, images), _predict(judge, views)
    return Fit(
        divergence=float(classifier.divergence(whole, seen).mean()),
        agreement=float(classifier.agreement(whole, seen).float().mean()),
    )
