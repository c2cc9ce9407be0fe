"""Measuring methods, on a classifier whose true saliency is known."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.baselines import Method
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data.batch import Batch
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.protocol import Protocol, with_decision
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.scoring import measure, score
from saliency_vae.metrics.agreement import kept_agreement
from saliency_vae.metrics.insertion_deletion import area_under_curve, insertion_curve
from saliency_vae.metrics.localization import pointing_game
from saliency_vae.perturbations import Blur
from tests.conftest import SIZE, Blobs, blob_classifier
from tests.helpers.reference import gaussian_blur

CPU = torch.device("cpu")


class MaskedBlobs(Dataset[Batch]):
    """Blobs with the mask of the square that decides."""

    def __init__(self, size: int) -> None:
        self.blobs = Blobs(size, seed=3)

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitem__(self, index: int) -> Batch:
        image = self.blobs[index]["image"]
        return {"image": image, "mask": image.float().mean(0) > 120}


def toys(size: int = 12, batch_size: int = 5, masks: bool = True) -> Images:
    dataset = MaskedBlobs(size) if masks else Blobs(size, seed=3)
    return Images(dataset, name="toys", batch_size=batch_size, num_workers=0, device=CPU)


def truth(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """Brightness: what the classifier adds up."""
    return batch["image"].mean(1)


def untruth(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return -batch["image"].mean(1)


def noise(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return torch.rand(batch["image"][:, 0].shape, generator=torch.Generator().manual_seed(0))


METHODS: dict[str, Method] = {"noise": noise, "untruth": untruth, "truth": truth}


def measured(
    methods: dict[str, Method] | None = None,
    images: Images | None = None,
    protocol: Protocol | None = None,
    keep: int = 0,
) -> tuple[Scores, dict[str, Tensor]]:
    return measure(
        images or toys(),
        Methods(methods or METHODS, memory={"noise": 3.0}),
        blob_classifier(),
        protocol or Protocol(steps=16),
        Progress(),
        keep=keep,
        seed=5,
    )


def test_scores_take_over_what_is_known_of_the_methods() -> None:
    scores, _ = measured()
    assert scores.methods == ["noise", "untruth", "truth"]
    assert scores.roles == dict.fromkeys(METHODS, Role.RIVAL)
    assert (scores.memory, scores.seed, scores.left_out) == ({"noise": 3.0}, 5, ())


def test_truth_ranks_first_and_its_opposite_last() -> None:
    scores, _ = measured(protocol=Protocol(["zero"], steps=16))  # a blur would tell the place
    metrics = ("insertion", "agreement_5", "agreement_20", "pointing_game", "iou", "relevance_rank")
    for metric in metrics:
        means = [scores.mean(metric, method) for method in ("truth", "noise", "untruth")]
        assert all(better >= worse for better, worse in pairwise(means)), metric
        assert means[0] > means[2] + 0.3, metric
    deletion = [scores.mean("deletion", method) for method in ("truth", "noise", "untruth")]
    assert deletion == sorted(deletion)
    assert scores.mean("iou", "truth") == 1
    assert scores.mean("pointing_game", "untruth") == 0


def test_values_are_those_of_the_functions_in_the_order_of_the_images() -> None:
    classifier, images = blob_classifier(), toys()
    scores, _ = measured(protocol=Protocol(steps=10, tolerance=2))
    batch = images.as_batch()
    baseline = Blur(SIZE / 6)(batch["image"])
    # Noise differs in every batch: compare where the batches are those of the command.
    parts = [(part, noise(part, classifier)) for part in images]
    assert [len(part["image"]) for part, _ in parts] == [5, 5, 2]
    curves = torch.cat(
        [
            insertion_curve(
                classifier, part["image"], found, Blur(SIZE / 6)(part["image"]), step=26
            )
            for part, found in parts
        ]
    )
    torch.testing.assert_close(scores.curves["insertion"]["noise"], curves)
    torch.testing.assert_close(scores.values["insertion"]["noise"], area_under_curve(curves))
    hits = torch.cat([pointing_game(found, part["mask"], 2) for part, found in parts]).float()
    torch.testing.assert_close(scores.values["pointing_game"]["noise"], hits)
    maps = truth(batch, classifier)
    agrees = kept_agreement(classifier, batch["image"], maps, baseline, fractions=[0.1])
    torch.testing.assert_close(scores.values["agreement_10"]["truth"], agrees[:, 0].float())


def test_every_method_sees_the_same_images_in_the_same_order() -> None:
    seen: dict[str, list[Tensor]] = {"first": [], "second": []}

    def spy(name: str) -> Method:
        def explain(batch: Batch, classifier: FrozenClassifier) -> Tensor:
            seen[name].append(batch["image"].clone())
            return truth(batch, classifier)

        return explain

    scores, _ = measured({name: spy(name) for name in seen})
    assert torch.equal(torch.cat(seen["first"]), torch.cat(seen["second"]))
    assert torch.equal(torch.cat(seen["first"]), toys().as_batch()["image"])
    for by_method in scores.values.values():
        torch.testing.assert_close(by_method["first"], by_method["second"])


def test_only_the_first_maps_are_kept() -> None:
    _, maps = measured(keep=7)
    assert set(maps) == set(METHODS)
    torch.testing.assert_close(maps["truth"], truth(toys().first(7).as_batch(), blob_classifier()))
    assert measured(keep=0)[1]["truth"].shape == (0, SIZE, SIZE)
    assert len(measured(keep=100)[1]["truth"]) == 12


def test_without_masks_their_metrics_are_missing() -> None:
    scores, _ = measured(images=toys(masks=False))
    assert set(scores.values) == {
        "insertion",
        "deletion",
        "srg",
        *(f"agreement_{share}" for share in (5, 10, 20, 40, 80)),
        *("sufficiency_10", "necessity_10", "lost_10"),
        "sparsity",
    }


def test_sufficiency_and_necessity_by_the_textbook() -> None:
    """Image by image: one view of the most salient pixels, and one of all others."""
    images = torch.rand(12, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    classifier, batch = blob_classifier(), Batch(image=images)
    protocol = Protocol(["mean"], steps=4, fraction=0.125)
    decided = with_decision(batch, classifier)
    prepared = protocol.prepared_baselines(decided, classifier)
    maps = truth(batch, classifier)
    found, _ = score(decided, maps, maps, classifier, prepared, protocol)
    for i, image in enumerate(images):
        order = maps[i].flatten().argsort(descending=True, stable=True)
        kept = torch.zeros(SIZE * SIZE, dtype=torch.bool)
        kept[order[: round(0.125 * SIZE * SIZE)]] = True
        mean = image.mean((1, 2))[:, None, None].expand_as(image)
        views = [torch.where(where.view(SIZE, SIZE), image, mean) for where in (kept, ~kept)]
        logits = classifier(torch.stack([image, *views]))
        target = classifier.decide(logits[:1]).expand_as(logits)
        whole, on_kept, on_rest = classifier.probability(logits, target).tolist()
        _, stays, stays_without = classifier.keeps_decision(logits, target).tolist()
        assert float(found["sufficiency_12.5"][i]) == pytest.approx(on_kept, abs=1e-5)
        assert float(found["necessity_12.5"][i]) == pytest.approx(whole - on_rest, abs=1e-5)
        assert bool(found["agreement_12.5"][i]) == stays
        assert bool(found["lost_12.5"][i]) == (not stays_without)
    assert 0 < found["lost_12.5"].mean() < 1
    assert 0 < found["agreement_12.5"].mean() < 1


def test_further_baseline_images_have_their_own_columns() -> None:
    scores, _ = measured(protocol=Protocol(("zero", "mean"), steps=4))
    assert list(scores.curves) == ["insertion", "deletion", "insertion_mean", "deletion_mean"]
    assert scores.curves["insertion"]["truth"].shape == (12, 5)
    decisions = blob_classifier()(toys().as_batch()["image"]).argmax(1)
    black = blob_classifier()(torch.zeros(1, 3, SIZE, SIZE)).softmax(1)[0, decisions]
    torch.testing.assert_close(scores.curves["insertion"]["truth"][:, 0], black)


def test_baseline_images_hold_little_information() -> None:
    images = torch.rand(2, 3, 24, 36, generator=torch.Generator().manual_seed(0))
    classifier = blob_classifier()
    classifier.mean.copy_(torch.tensor([0.4, 0.5, 0.6])[:, None, None])
    made = Protocol(list(BASELINE_IMAGES)).make_baseline_images(images, classifier)
    found = {name: baseline for name, baseline in made.items() if isinstance(baseline, Tensor)}
    torch.testing.assert_close(found["blur"], Blur(4)(images))
    assert not found["zero"].any()
    torch.testing.assert_close(found["mean"][:, :, 3, 4], images.mean((2, 3)), rtol=1e-5, atol=1e-6)
    for image, blurred in zip(images, found["light_blur"], strict=True):
        for channel, of_channel in zip(image, blurred, strict=True):
            expected = gaussian_blur(channel, 5 / 224 * 24).float()
            torch.testing.assert_close(of_channel, expected, rtol=1e-4, atol=1e-5)
    assert found["classifier_mean"].shape == images.shape
    assert found["classifier_mean"][1, :, 7, 8].tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_seconds_are_those_of_an_image_in_the_fastest_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0, 9, 10, 11, 12, 14])  # start and end of three batches; the first one warms up
    monkeypatch.setattr("saliency_vae.metrics.cost.time.perf_counter", lambda: next(clock))
    scores, _ = measured({"truth": truth})
    assert scores.seconds == {"truth": 1 / 5}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"baseline_images": ()},
            "Expected baseline_images among blur, mean, zero, noise, light_blur, classifier_mean, "
            "inpaint, road. Found none.",
        ),
        ({"baseline_images": ["blur", "nose"]}, "Found blur, nose."),
        ({"steps": 0}, "Found 0 and 0.0."),
        ({"tolerance": -1}, "Found 24 and -1."),
    ],
)
def test_wrong_protocols_are_refused(change: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Protocol(**change)  # type: ignore[arg-type]


def test_wrong_maps_are_named() -> None:
    def channels(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return batch["image"]

    def nothing(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return truth(batch, classifier) / 0

    with pytest.raises(ValueError, match=r"mine: Expected maps \(5, 16, 16\). Found \(5, 3, 16"):
        measured({"mine": channels})
    with pytest.raises(ValueError, match=r"Expected finite maps"):
        measured({"mine": nothing})


@pytest.mark.parametrize("place", [0, 6])
def test_an_empty_true_mask_is_refused_before_its_batch_is_explained(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = MaskedBlobs.__getitem__

    def emptied(blobs: MaskedBlobs, index: int) -> Batch:
        item = real(blobs, index)
        return {**item, "mask": item["mask"] & (index != place)}

    def spy(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        asked.append(len(batch["image"]))
        return truth(batch, classifier)

    monkeypatch.setattr(MaskedBlobs, "__getitem__", emptied)
    with pytest.raises(ValueError, match=f"Found an empty one, of image {place}.$"):
        measured({"spy": spy})
    assert asked == [5] * (place // 5)


def test_gradients_of_a_method_do_not_stay() -> None:
    def leaking(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return (batch["image"] * torch.ones(1, requires_grad=True)).mean(1)

    _, maps = measured({"leaking": leaking}, keep=3)
    assert not maps["leaking"].requires_grad


def test_score_of_one_batch() -> None:
    classifier = blob_classifier()
    batch = with_decision(toys().as_batch(), classifier)
    protocol = Protocol(steps=8)
    maps = truth(batch, classifier)
    scores, curves = score(
        batch,
        maps,
        maps.clamp_min(0),
        classifier,
        protocol.prepared_baselines(batch, classifier),
        protocol,
    )
    assert {tuple(values.shape) for values in scores.values()} == {(12,)}
    assert {tuple(curve.shape) for curve in curves.values()} == {(12, 9)}


def test_a_constant_changes_no_score_of_a_map_without_a_zero_of_its_own() -> None:
    def below_zero(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return truth(batch, classifier) - 2

    scores, _ = measured({"truth": truth, "below_zero": below_zero})
    for metric, by_method in scores.values.items():
        if metric != "sparsity":  # of magnitudes
            torch.testing.assert_close(
                by_method["truth"], by_method["below_zero"], rtol=0, atol=1e-4
            )
    assert scores.mean("relevance_mass", "truth") > 0.5


def test_slow_methods_alone_are_refused_in_one_line() -> None:
    slow = Methods({"rise": truth}, passes={"rise": 1000})
    with pytest.raises(ValueError, match=r"Expected a method to score\. .* slow_images=N"):
        measure(*(toys(), slow, blob_classifier(), Protocol(slow_images=0), Progress()), keep=0)
