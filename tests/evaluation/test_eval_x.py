"""EVAL-X: masks that tell the class by their shape gain nothing, and honest masks lose nothing."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import parameter_hash
from saliency_vae.data.preprocessing import Preprocessing
from saliency_vae.evaluation.eval_x import (
    Judge,
    eval_x,
    random_masks,
    training_images,
    tune_on_random_masks,
)
from saliency_vae.metrics import descending_rank, kept_agreement
from tests.conftest import SIZE, BlobsData, blob_classifier, blobs

SIDE = 4  # height and width of the toy's images, pixels
ONE_PIXEL = 1 / SIDE**2  # share of the pixels
MAJORITY = 0.7  # share of the images of class 1


def grey(images: Tensor, kept: Tensor) -> Tensor:
    """Show grey where pixels are removed."""
    return torch.where(kept[:, None], images, 0.5)


def pixel(place: int) -> Tensor:
    """Map of one salient pixel, (SIDE, SIDE)."""
    return (torch.arange(SIDE**2) == place).float().view(SIDE, SIDE)


SIGNAL, FIRST, LAST = pixel(5), pixel(0), pixel(15)


def two_classes(number: int) -> tuple[Tensor, Tensor]:
    """Grey images; a pixel is white in class 1 and black in class 0, two corners are white."""
    labels = (torch.arange(number) % 10 < 10 * MAJORITY).long()
    images = 0.5 + 0.5 * (FIRST + LAST) + (labels[:, None, None] - 0.5) * SIGNAL
    return images[:, None].expand(-1, 3, -1, -1).contiguous(), labels


def shape_sensitive() -> FrozenClassifier:
    """Decide by the pixel that tells the classes; where a corner is missing it is misled."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2))
    weights = (20 * SIGNAL + 10 * FIRST - 10 * LAST).flatten().repeat(3) / 3
    network.load_state_dict(
        {"1.weight": torch.stack([0 * weights, weights]), "1.bias": torch.tensor([0.0, -10.1])}
    )
    return FrozenClassifier(network, name="toy")


def again(images: Tensor, batch_size: int = 20) -> Iterator[Tensor]:
    """Repeat images without end."""
    while True:
        yield from torch.split(images, batch_size)


def tuned(steps: int, lr: float = 0.3) -> Judge:
    images, _ = two_classes(40)
    return tune_on_random_masks(
        shape_sensitive(), again(images), grey, images[:10], steps=steps, lr=lr
    )


@pytest.fixture(scope="module")
def judge() -> Judge:
    return tuned(steps=200)


def test_maps_of_further_images_are_left_out() -> None:
    """Where a slow method has explained fewer images than others."""
    images, _ = two_classes(5)
    classifier, maps = shape_sensitive(), {"slow": torch.rand(3, 4, 4), "fast": torch.rand(5, 4, 4)}
    decisions = classifier.decide(classifier(images[:3]))
    values = eval_x(classifier, maps, images[:3], decisions, grey, fraction=1.0)
    assert {name: len(of) for name, of in values.items()} == {"slow": 3, "fast": 3}


def test_a_shape_that_tells_the_class_gains_nothing(judge: Judge) -> None:
    classifier = shape_sensitive()
    images, labels = two_classes(10)
    decisions = classifier.decide(classifier(images))
    assert decisions.argmax(1).equal(labels)
    maps = {
        "cheating": torch.where(labels[:, None, None] == 1, FIRST, LAST),
        "honest": SIGNAL.expand(10, -1, -1),
    }
    grey_image = torch.full_like(images, 0.5)
    for saliency in maps.values():  # the classifier itself is convinced by both
        kept = kept_agreement(classifier, images, saliency, grey_image, fractions=[ONE_PIXEL])
        assert kept.all()
    values = eval_x(judge.classifier, maps, images, decisions, grey, fraction=ONE_PIXEL)
    probability = {
        name: judge.classifier.probability(
            judge.classifier(grey(images, descending_rank(saliency) < 1)), decisions
        )
        for name, saliency in maps.items()
    }
    assert values["honest"].mean() == 1
    assert probability["honest"].min() > 0.9
    # Where nothing is seen of the class, the best guess is the more frequent one.
    assert values["cheating"].equal(labels.float())
    chance = torch.where(labels == 1, MAJORITY, 1 - MAJORITY)
    torch.testing.assert_close(probability["cheating"], chance, atol=0.1, rtol=0)


def test_the_tuning_predicts_held_out_masks_better(judge: Judge) -> None:
    assert judge.after.divergence < judge.before.divergence
    assert judge.after.agreement > judge.before.agreement
    assert f"{judge.after.agreement:.1%} (before the tuning {judge.before.agreement:.1%})" in str(
        judge
    )


def test_a_tuning_that_does_harm_is_seen_on_the_whole_images(judge: Judge) -> None:
    assert judge.whole.agreement == 1
    assert judge.whole.divergence < 0.01
    images = two_classes(40)[0]
    blind = tune_on_random_masks(
        shape_sensitive(),
        again(images),
        lambda images, kept: 0 * images,
        images[:10],
        steps=60,
        lr=1,
    )
    assert blind.whole.agreement < 1
    assert f"decides {blind.whole.agreement:.1%} alike" in str(blind)


def test_the_fit_is_measured_on_random_views_of_the_held_out_images() -> None:
    judge, classifier = tuned(steps=3), shape_sensitive()
    held_out = two_classes(40)[0][:10].repeat(4, 1, 1, 1)
    masks = random_masks(held_out, torch.Generator().manual_seed(0))
    for fit, seeing in ((judge.before, classifier), (judge.after, judge.classifier)):
        divergences, agreements = [], []
        for image, mask in zip(held_out, masks, strict=True):
            view = image * mask + 0.5 * ~mask
            whole, seen = classifier(image[None])[0], seeing(view[None])[0]
            p, q = whole.double().log_softmax(0), seen.double().log_softmax(0)
            divergences.append((p.exp() * (p - q)).sum())
            agreements.append(whole.argmax() == seen.argmax())
        assert fit.divergence == pytest.approx(float(torch.stack(divergences).mean()), rel=1e-4)
        assert fit.agreement == pytest.approx(float(torch.stack(agreements).float().mean()))


def test_the_classifier_is_left_as_it_was() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    classifier = FrozenClassifier(network, name="normalised")
    before = parameter_hash(network)
    judge = tune_on_random_masks(classifier, again(blobs(8)), grey, blobs(4), steps=2, lr=0.1)
    assert parameter_hash(network) == before
    copied = judge.classifier.network.state_dict()
    assert not copied["0.weight"].equal(network.state_dict()["0.weight"])
    for statistic in ("running_mean", "running_var", "num_batches_tracked"):
        assert copied[f"1.{statistic}"].equal(network.state_dict()[f"1.{statistic}"])
    for frozen in (classifier, judge.classifier):
        assert not any(weight.requires_grad for weight in frozen.parameters())
        assert not frozen.network.training


def test_the_same_seed_tunes_the_same_way() -> None:
    first, second = (parameter_hash(tuned(steps=5).classifier.network) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"steps": 1, "lr": 0.0}])
def test_refuses_a_tuning_of_nothing(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"Expected steps >= 1 and lr > 0\. Found"):
        tuned(**arguments)  # type: ignore[arg-type]  # one dictionary for both


def test_random_masks_keep_any_share_and_half_of_them_are_smooth() -> None:
    masks = random_masks(torch.zeros(400, 3, 32, 32), torch.Generator().manual_seed(0)).float()
    share = masks.mean((1, 2))
    assert share.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.06
    )
    wide = masks[(share > 0.2) & (share < 0.8)]
    changes = (wide[:, :, 1:] != wide[:, :, :-1]).float().mean((1, 2))
    own = wide.mean((1, 2))
    by_chance = 2 * own * (1 - own)  # of independent pixels
    smooth = changes < 0.6 * by_chance
    assert 0.4 < smooth.float().mean() < 0.6
    torch.testing.assert_close(changes[~smooth], by_chance[~smooth], atol=0.06, rtol=0)


def test_random_masks_depend_on_no_image() -> None:
    drawn = [
        random_masks(images, torch.Generator().manual_seed(1))
        for images in (blobs(8), torch.zeros(8, 3, SIZE, SIZE))
    ]
    assert drawn[0].equal(drawn[1])


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_values_are_those_of_single_views(output: str) -> None:
    linear = nn.Linear(12, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    network = nn.Sequential(nn.AvgPool2d(SIZE // 2), nn.Flatten(), linear)
    judge = FrozenClassifier(network, name="toy", output=output)  # type: ignore[arg-type]  # a str
    images, classifier = blobs(6), blob_classifier()
    decisions = judge.decide(classifier(images)[:, :3])
    maps = {"brightness": images.mean(1), "darkness": -images.mean(1)}
    values = eval_x(judge, maps, images, decisions, grey, fraction=0.1)
    for name, saliency in maps.items():
        for n, image in enumerate(images):
            best = saliency[n].flatten().argsort(descending=True, stable=True)[:26]
            view = torch.full((3, SIZE * SIZE), 0.5)
            view[:, best] = image.flatten(1)[:, best]
            logits, asked = judge(view.view(1, 3, SIZE, SIZE))[0], decisions[n]
            if output == "softmax":
                agrees = logits.argmax() == asked.argmax()
            else:
                agrees = (logits.sign() == asked).all()
            assert values[name][n] == agrees


def test_training_images_come_without_end_and_in_random_order() -> None:
    data = BlobsData(batch_size=8)
    preprocessing = Preprocessing(SIZE, (SIZE, SIZE))
    batches = training_images(data, preprocessing, torch.device("cpu"), seed=0)
    epochs = [torch.cat([next(batches) for _ in range(4)]) for _ in range(2)]
    assert data.preprocessing == preprocessing
    expected = torch.stack([data.train_set[n]["image"] for n in range(32)]).float() / 255
    for epoch in epochs:
        order = (epoch[:, None] == expected).flatten(2).all(2).float().argmax(1)
        assert order.sort().values.tolist() == list(range(32))
    assert not epochs[0].equal(epochs[1])
    assert not epochs[0].equal(expected)
