"""An explainer in other tools: the real Captum and Quantus, held against values known by hand."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import quantus
import torch
from captum.attr import NoiseTunnel
from captum.attr import visualization as viz
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

from saliency_vae.adapters.captum import Quantity, VariationalSaliencyAttribution
from saliency_vae.adapters.grad_cam import VariationalCAM
from saliency_vae.adapters.quantus import explain_func
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.metrics import min_max
from saliency_vae.models import load_explainer
from saliency_vae.models.encoders import PaperEncoder
from saliency_vae.models.explainer import Explainer
from tests.conftest import blob_classifier, blobs
from tests.helpers.tiny_classifier import build

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS = (0.5, -2.0, 1.0)


def explainer_of(encoder: nn.Module) -> Explainer:
    return Explainer(encoder, prior=partial(KroneckerNormal, correlation=0.9)).eval()


def random_explainer(*shape: int) -> tuple[Explainer, Tensor]:
    """An explainer with random weights and statistics, and images (*shape) in [0, 1]."""
    torch.manual_seed(0)
    encoder = PaperEncoder((8, 8))
    encoder.head.reset_parameters()  # it begins at 0, the same map for every image
    with torch.no_grad():
        encoder(torch.rand(8, 3, 20, 20))  # batch norm's statistics become other than 0 and 1
    return explainer_of(encoder), torch.rand(shape)


def linear_explainer(*weights: float) -> Explainer:
    """The map of an image is the weighted sum of its channels."""
    encoder = nn.Conv2d(3, 2, 1)
    values = torch.zeros(2, 3, 1, 1)
    values[0, :, 0, 0] = torch.tensor(weights)
    encoder.load_state_dict({"weight": values, "bias": torch.zeros(2)})
    return explainer_of(encoder)


class Fixed(nn.Module):
    """The same map for every image."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(torch.stack((scores, torch.zeros_like(scores))))

    def forward(self, images: Tensor) -> Tensor:
        return self.output.expand(len(images), -1, -1, -1)


def digit_classifier() -> FrozenClassifier:
    """The built-in classifier's architecture with random weights."""
    torch.manual_seed(0)
    return FrozenClassifier(DigitNet(), name="random digits")


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Noise:
    """Perturb as Captum's metrics ask, and remember by what."""

    def __init__(self, std: float) -> None:
        self.std = std
        self.drawn: list[Tensor] = []

    def __call__(self, inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        self.drawn.append(self.std * torch.randn_like(images))
        return self.drawn[-1], images - self.drawn[-1]


# All adapters


def captum_map(explainer: Explainer, inputs: Tensor, **normalisation: Any) -> Tensor:
    attributions = VariationalSaliencyAttribution(explainer, **normalisation).attribute(inputs)
    assert isinstance(attributions, Tensor)
    return attributions[:, 0]


def quantus_map(explainer: Explainer, inputs: Tensor, **normalisation: Any) -> Tensor:
    explain = explain_func(explainer, **normalisation)
    maps = explain(model=None, inputs=inputs.detach().numpy(), targets=None, device="cpu")
    return torch.from_numpy(maps)[:, 0]


def cam_map(explainer: Explainer, inputs: Tensor, **normalisation: Any) -> Tensor:
    return torch.from_numpy(VariationalCAM(explainer, **normalisation)(input_tensor=inputs))


every_adapter = pytest.mark.parametrize("adapter", [captum_map, quantus_map, cam_map])
Adapter = Callable[..., Tensor]


@every_adapter
def test_normalised_inputs_get_the_map_of_the_raw_ones(adapter: Adapter) -> None:
    explainer, images = random_explainer(2, 3, 20, 33)
    raw = adapter(explainer, images)
    assert raw.shape == (2, 20, 33)
    undone = adapter(explainer, normalised(images), mean=MEAN, std=STD)
    torch.testing.assert_close(undone, raw, atol=1e-5, rtol=0)
    noisy = normalised(images) + torch.randn(images.shape)  # a noise tunnel's
    assert adapter(explainer, noisy, mean=MEAN, std=STD).isfinite().all()
    for forgotten in (normalised(images), 255 * images, normalised(images) + torch.nan):
        with pytest.raises(ValueError, match=r"undo, to images in \[0, 1\]\. Found images from"):
            adapter(explainer, forgotten)
    with pytest.raises(ValueError, match=r"of floating point\. Found .* of torch\.uint8"):
        adapter(explainer, images.to(torch.uint8))  # all of them 0
    halved = adapter(explainer, 2 * images, std=(0.5, 0.5, 0.5))  # one without the other
    torch.testing.assert_close(halved, raw, atol=1e-5, rtol=0)


@every_adapter
def test_explains_in_eval_mode_and_leaves_the_modes_and_statistics(adapter: Adapter) -> None:
    explainer, images = random_explainer(4, 3, 16, 16)
    expected = adapter(explainer, images)
    first_block = next(explainer.encoder.blocks.children())  # type: ignore[union-attr]
    explainer.train()
    first_block.eval()
    modes = [part.training for part in explainer.modules()]
    state = {name: value.clone() for name, value in explainer.state_dict().items()}
    found = adapter(explainer, images.requires_grad_())
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="Expected images"):
        adapter(explainer, images[..., :4, :4])
    assert [part.training for part in explainer.modules()] == modes
    torch.testing.assert_close(explainer.state_dict(), state, rtol=0, atol=0)


@every_adapter
def test_explains_inputs_of_another_precision(adapter: Adapter) -> None:
    explainer, images = random_explainer(2, 3, 16, 16)
    expected = adapter(explainer, images)
    torch.testing.assert_close(adapter(explainer, images.double()).float(), expected)
    half = adapter(explainer, images.half()).float()
    torch.testing.assert_close(half, expected, atol=5e-3, rtol=0)


@every_adapter
@pytest.mark.parametrize(
    "wrong", [{"mean": (0.5,)}, {"mean": 0.5}, {"std": (1.0, 1.0)}, {"std": (1.0, 0.0, 1.0)}]
)
def test_refuses_what_cannot_be_a_normalisation(adapter: Adapter, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected mean and std of 3 numbers, std > 0\. Found"):
        adapter(linear_explainer(*WEIGHTS), blobs(1), **wrong)


@every_adapter
@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 4, 16, 16), (3, 16, 16)])
def test_refuses_what_are_not_colour_images(adapter: Adapter, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"Expected inputs \(B, 3, H, W\) of floating point\. Found \("
    ):
        adapter(linear_explainer(*WEIGHTS), torch.rand(shape))


# Captum


@pytest.mark.parametrize("quantity", ["mean", "stddev", "inclusion_probability", "excess"])
def test_attributes_the_posterior_to_every_channel(quantity: Quantity) -> None:
    explainer, images = random_explainer(2, 3, 20, 33)
    posterior = explainer(images)
    expected = {
        "mean": posterior.mean,
        "stddev": posterior.variance.sqrt(),
        "inclusion_probability": posterior.inclusion_probability(0.1),
        "excess": posterior.inclusion_probability(0.1) - 0.1,
    }[quantity]
    found = VariationalSaliencyAttribution(explainer, quantity=quantity).attribute(images)
    assert isinstance(found, Tensor)
    assert found.shape == images.shape
    for channel in found.unbind(1):
        torch.testing.assert_close(channel, expected)


def test_attributes_as_the_explainer_itself_does() -> None:
    explainer, images = random_explainer(2, 3, 20, 33)
    method = VariationalSaliencyAttribution(explainer)
    expected = explainer.attribute(images)
    found = method.attribute(images, additional_forward_args=(1, "a"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    pair = method.attribute((images, images[:, :, :16]))
    assert isinstance(pair, tuple)
    assert [part.shape for part in pair] == [(2, 3, 20, 33), (2, 3, 16, 33)]
    torch.testing.assert_close(pair[0], expected, rtol=0, atol=0)
    assert len(method.attribute((images,))) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attributions_have_the_type_of_the_inputs(dtype: torch.dtype) -> None:
    found = VariationalSaliencyAttribution(linear_explainer(1, 1, 1)).attribute(blobs(1).to(dtype))
    assert isinstance(found, Tensor)
    assert found.dtype == dtype


def test_is_a_method_of_captum() -> None:
    classifier = digit_classifier()
    method = VariationalSaliencyAttribution(linear_explainer(*WEIGHTS), classifier)
    assert method.forward_func is classifier
    assert not method.has_convergence_delta()
    assert method.get_name() == "Variational Saliency Attribution"
    with pytest.raises(ValueError, match=r"Expected quantity mean, stddev, .* Found 'median'"):
        VariationalSaliencyAttribution(linear_explainer(*WEIGHTS), quantity="median")  # type: ignore[arg-type]


def test_the_excess_is_zero_on_average() -> None:
    explainer, images = random_explainer(2, 3, 20, 33)
    found = VariationalSaliencyAttribution(explainer, quantity="excess").attribute(images)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(2), atol=0.01, rtol=0)
    assert -0.1 <= found.min() < 0 < found.max()


def test_another_network_than_the_explained_one_is_refused() -> None:
    frozen = FrozenClassifier(build(), name="mine", mean=MEAN, std=STD)
    explainer = load_explainer("universal", frozen)
    network = frozen.network
    scaled: dict[str, Any] = {"mean": MEAN, "std": STD}
    wrapped = nn.Sequential(nn.Identity(), network)
    for model, given in ((network, scaled), (frozen, {}), (wrapped, {}), (wrapped, scaled)):
        found = VariationalSaliencyAttribution(explainer, model, **given).attribute(blobs(1) * 0.9)
        assert isinstance(found, Tensor)
    with pytest.raises(
        ValueError, match=r"Expected the network .* mine .* Found Sequential .*other"
    ):
        VariationalSaliencyAttribution(explainer, build(), **scaled)
    for model, given in ((network, {}), (frozen, scaled), (network, {"mean": STD, "std": STD})):
        with pytest.raises(ValueError, match=r"Expected mean and std by which .* Found mean="):
            VariationalSaliencyAttribution(explainer, model, **given)


def test_noise_tunnel_gives_the_moments_of_a_linear_map() -> None:
    """For the map w.x under noise of std s: mean w.x, variance s^2 |w|^2."""
    torch.manual_seed(0)
    images, stdev = blobs(2), 0.1
    tunnel = NoiseTunnel(VariationalSaliencyAttribution(linear_explainer(*WEIGHTS)))
    scores = torch.einsum("c,bchw->bhw", torch.tensor(WEIGHTS), images)
    variance = stdev**2 * sum(w**2 for w in WEIGHTS)
    for kind, expected, tolerance in (
        ("smoothgrad", scores, 5 * (variance / 400) ** 0.5),
        ("smoothgrad_sq", scores.square() + variance, 0.25),
        ("vargrad", torch.full_like(scores, variance), 0.4 * variance),
    ):
        found = tunnel.attribute(
            images, nt_type=kind, nt_samples=400, nt_samples_batch_size=150, stdevs=stdev
        )
        assert found.shape == images.shape
        torch.testing.assert_close(found[:, 2], expected, atol=tolerance, rtol=0)
        torch.testing.assert_close(found.mean(), expected.mean(), atol=tolerance / 10, rtol=0)


def test_noise_tunnel_takes_tuples_and_draws_no_gradient() -> None:
    explainer, images = random_explainer(2, 3, 16, 20)
    tunnel = NoiseTunnel(VariationalSaliencyAttribution(explainer.train(), digit_classifier()))
    found = tunnel.attribute((images.requires_grad_(), images), nt_samples=2, stdevs=(0.0, 0.1))
    assert isinstance(found, tuple)
    assert not found[0].requires_grad
    torch.testing.assert_close(found[0], explainer.eval().attribute(images))


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_of_a_linear_model_is_known(normalise: bool) -> None:
    """For f(x) = w.x and the map a it is E (I.(a - w))^2, which is s^2 |a - w|^2 for noise I."""
    torch.manual_seed(0)
    images = blobs(2)
    inputs, normalisation = images, dict[str, Any]()
    if normalise:
        inputs, normalisation = normalised(images), {"mean": MEAN, "std": STD}
    scores, weights = torch.randn(16, 16), torch.randn(3, 16, 16)

    def model(x: Tensor) -> Tensor:
        return (x * weights).sum((1, 2, 3))

    method = VariationalSaliencyAttribution(explainer_of(Fixed(scores)), model, **normalisation)
    noise = Noise(0.1)
    found = infidelity(
        method.forward_func, noise, inputs, method.attribute(inputs), n_perturb_samples=2000
    )
    difference = (scores - weights).double()
    by_hand = torch.cat(noise.drawn).double().mul(difference).sum((1, 2, 3)).square()
    assert len(by_hand) == 4000
    torch.testing.assert_close(found.double(), by_hand.view(2, -1).mean(1), rtol=1e-3, atol=0)
    known = 0.1**2 * difference.square().sum()
    torch.testing.assert_close(found.double(), known.expand(2), rtol=0.15, atol=0)


def test_infidelity_is_zero_where_the_map_is_the_model() -> None:
    torch.manual_seed(0)
    images, scores = blobs(2), torch.randn(16, 16)

    def model(x: Tensor) -> Tensor:
        return (x * scores).sum((1, 2, 3))

    attributions = VariationalSaliencyAttribution(explainer_of(Fixed(scores))).attribute(images)
    found = infidelity(model, Noise(0.1), images, attributions, n_perturb_samples=10)
    assert found.max() < 1e-8 * model(images).square().mean() + 1e-8


def test_sensitivity_of_a_linear_map_is_known() -> None:
    """It is the highest |w.r| / |w.x| over the perturbations r."""
    torch.manual_seed(0)
    images, weights = blobs(3), torch.tensor(WEIGHTS)
    noise = Noise(0.05)
    method = VariationalSaliencyAttribution(linear_explainer(*WEIGHTS))
    found = sensitivity_max(
        method.attribute, images, perturb_func=lambda x: noise(x)[1], n_perturb_samples=7
    )
    moved = torch.einsum("c,nchw->nhw", weights, torch.cat(noise.drawn)).flatten(1).norm(dim=1)
    size = torch.einsum("c,bchw->bhw", weights, images).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, moved.view(3, 7).amax(1) / size)


def test_captum_measures_an_explainer_of_the_built_in_classifier() -> None:
    explainer, images = random_explainer(2, 3, 32, 40)
    method = VariationalSaliencyAttribution(explainer, digit_classifier())
    target = torch.tensor([3, 7])
    attributions = method.attribute(images)
    for found in (
        infidelity(method.forward_func, Noise(0.1), images, attributions, target=target),
        sensitivity_max(method.attribute, images),
        sensitivity_max(method.attribute, images, max_examples_per_batch=4),
    ):
        assert found.shape == (2,)
        assert found.isfinite().all()
        assert (found > 0).all()


def test_captum_draws_the_map() -> None:
    explainer, images = random_explainer(1, 3, 20, 28)
    attributions = VariationalSaliencyAttribution(explainer).attribute(images)
    assert isinstance(attributions, Tensor)
    figure, axis = viz.visualize_image_attr(
        attributions[0].permute(1, 2, 0).numpy(),
        images[0].permute(1, 2, 0).numpy(),
        method="blended_heat_map",
        sign="all",
        outlier_perc=0,
        use_pyplot=False,
    )
    figure.canvas.draw()
    scores = explainer(images).mean[0].detach()
    np.testing.assert_allclose(
        axis.images[-1].get_array(), scores / scores.abs().max(), atol=1e-5, rtol=0
    )


def test_says_how_to_install_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "saliency_vae.adapters.captum")
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"pip install 'saliency-vae\[captum\]'") as raised:
        importlib.import_module("saliency_vae.adapters.captum")
    assert "\n" not in str(raised.value)


# Quantus


class LinearNet(nn.Module):
    """Class 0 is the sum of the image, class 1 is 0."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.sum((1, 2, 3))
        return torch.stack((total, torch.zeros_like(total)), dim=1)


def evaluate(
    metric: str, explainer: Explainer, images: Tensor, model: nn.Module, **call: Any
) -> np.ndarray[Any, Any]:
    """Run a metric of Quantus with the explainer's function: one score for each image."""
    np.random.seed(0)
    settings = call.pop("settings", {})
    explain = call.pop("explain", explain_func(explainer))
    measure = getattr(quantus, metric)(disable_warnings=True, return_aggregate=False, **settings)
    labels = np.zeros(len(images), dtype=int)
    scores = measure(
        model=model.eval(),
        x_batch=images.numpy(),
        y_batch=labels,
        explain_func=explain,
        device="cpu",
        **call,
    )
    return np.asarray(scores, dtype=float)


def squares(images: Tensor) -> np.ndarray[Any, Any]:
    """The true masks of the blobs, (B, 1, H, W)."""
    return (images.amin(1, keepdim=True) > 0.5).numpy()


def test_quantus_gets_the_mean_from_zero_upwards() -> None:
    explainer, images = random_explainer(3, 3, 20, 33)
    found = explain_func(explainer)(None, images.numpy(), np.zeros(3), device="cpu")
    mean = explainer(images).mean.detach().numpy()
    assert found.shape == (3, 1, 20, 33)
    for i in range(3):
        np.testing.assert_allclose(found[i, 0], mean[i] - mean[i].min(), atol=1e-6, rtol=0)
        assert found[i].min() == 0


def test_quantus_may_pass_views_and_read_only_arrays() -> None:
    explainer, images = random_explainer(2, 3, 16, 16)
    explain = explain_func(explainer)
    array = images.numpy()
    backward = array[:, :, :, ::-1]
    expected = explain(None, np.ascontiguousarray(backward), None)
    np.testing.assert_array_equal(explain(None, backward, None), expected)
    repeated = np.broadcast_to(array[0], (2, 3, 16, 16))
    np.testing.assert_array_equal(explain(None, repeated, None)[1], explain(None, array, None)[0])


def test_quantus_may_pass_no_other_network() -> None:
    frozen = FrozenClassifier(build(), mean=MEAN, std=STD)
    explain = explain_func(
        load_explainer("universal", frozen),
        mean=np.array(MEAN),  # type: ignore[arg-type]
        std=torch.tensor(STD),  # type: ignore[arg-type]
    )
    inputs, targets = normalised(blobs(2)).numpy(), np.zeros(2, dtype=int)
    for asked in (targets, None):
        assert explain(frozen.network, inputs, asked).shape == (2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"Found Sequential of .* An explainer attached to this"):
        explain(build(), inputs, targets)


@pytest.mark.parametrize("metric", ["PointingGame", "RelevanceRankAccuracy"])
def test_quantus_finds_the_square_that_the_map_marks(metric: str) -> None:
    images, model = blobs(6), digit_classifier()
    masks = squares(images)
    marks = evaluate(metric, linear_explainer(1, 1, 1), images, model, s_batch=masks)
    np.testing.assert_array_equal(marks, np.ones(6))
    # These maps are negative everywhere; Quantus would refuse them as they are.
    misses = evaluate(metric, linear_explainer(-1, -1, -1), images, model, s_batch=masks)
    np.testing.assert_array_equal(misses, np.zeros(6))


def test_quantus_sparseness_is_the_gini_index() -> None:
    explainer, images = random_explainer(3, 3, 16, 16)
    found = evaluate("Sparseness", explainer, images, digit_classifier())
    scores = explainer(images).mean.detach().flatten(1).double()
    scores = scores - scores.amin(1, keepdim=True)
    differences = (scores[:, :, None] - scores[:, None, :]).abs().mean((1, 2))
    np.testing.assert_allclose(found, differences / (2 * scores.mean(1)), atol=1e-4, rtol=0)


def test_quantus_max_sensitivity_of_a_linear_map_is_known() -> None:
    images, weights = blobs(3), torch.tensor(WEIGHTS)
    explain = explain_func(linear_explainer(*WEIGHTS))
    seen: list[Tensor] = []

    def remember(model: Any, inputs: np.ndarray[Any, Any], targets: Any, **settings: Any) -> Any:
        seen.append(torch.tensor(inputs))
        return explain(model, inputs, targets, **settings)

    settings = {"nr_samples": 4}
    found = evaluate(
        "MaxSensitivity",
        linear_explainer(*WEIGHTS),
        images,
        digit_classifier(),
        explain=remember,
        settings=settings,
    )

    scores = torch.einsum("c,snchw->snhw", weights, torch.stack(seen)).flatten(2)
    original, *moved = scores - scores.amin(-1, keepdim=True)
    assert len(moved) == 4
    ratios = [(m - original).norm(dim=1) / original.norm(dim=1) for m in moved]
    np.testing.assert_allclose(found, torch.stack(ratios).amax(0), rtol=1e-4)


def test_quantus_finds_a_linear_map_faithful_to_its_linear_model() -> None:
    """Grey images, f = the sum: blackening a subset costs the sum of its map, up to the shift."""
    images = blobs(3)[:, :1].expand(-1, 3, -1, -1).contiguous()
    settings = {"nr_runs": 20, "subset_size": 200}
    run = partial(evaluate, "FaithfulnessCorrelation", settings=settings)
    faithful = run(linear_explainer(1, 0, 0), images, LinearNet())
    np.testing.assert_allclose(faithful, np.ones(3), atol=1e-4)
    inverted = run(linear_explainer(-1, 0, 0), images, LinearNet())
    np.testing.assert_allclose(inverted, -np.ones(3), atol=1e-4)
    explainer, images = random_explainer(3, 3, 32, 32)
    anyhow = run(explainer, images, digit_classifier())
    assert (np.abs(anyhow) < 1).all()


# pytorch-grad-cam


def test_cam_is_each_mean_scaled_to_its_own_range() -> None:
    explainer, images = random_explainer(3, 3, 20, 33)
    found = VariationalCAM(explainer)(input_tensor=images, targets=None)
    assert found.shape == (3, 20, 33)
    assert found.dtype == np.float32
    for cam, mean in zip(found, explainer(images).mean.detach().numpy(), strict=True):
        lowest = mean - mean.min()
        np.testing.assert_allclose(cam, lowest / lowest.max(), atol=1e-6)
        assert (cam.min(), cam.max()) == (0, 1)


def test_cam_of_a_constant_map_is_zero_and_leaves_the_others() -> None:
    images = blobs(2)
    images[0] = 0.25
    found = VariationalCAM(linear_explainer(1, 0, 0))(input_tensor=images)
    assert (found[0] == 0).all()
    assert found[1].max() == 1


def test_cam_takes_the_smoothings_of_grad_cam_switched_off_alone() -> None:
    explainer, images = random_explainer(1, 3, 16, 16)
    cam = VariationalCAM(explainer)
    np.testing.assert_array_equal(cam(images, None, False, False), cam(images))
    with pytest.raises(ValueError, match="Found aug_smooth=True, eigen_smooth=False"):
        cam(images, aug_smooth=True)


def test_cam_in_a_with_statement() -> None:
    explainer, images = random_explainer(1, 3, 16, 16)
    expected = VariationalCAM(explainer)(images)
    with VariationalCAM(explainer) as cam:
        np.testing.assert_array_equal(cam(input_tensor=images), expected)
    with pytest.raises(KeyError), VariationalCAM(explainer):
        raise KeyError


def test_an_explainer_of_the_decision_refuses_a_target() -> None:
    explainer, images = random_explainer(1, 3, 16, 16)
    attribution = VariationalSaliencyAttribution(explainer)
    for ask in (
        lambda: attribution.attribute(images, target=1),
        lambda: explainer.attribute(images, target=1),
        lambda: VariationalCAM(explainer)(images, targets=[lambda logits: logits[1]]),
    ):
        with pytest.raises(ValueError, match="Expected target=None"):
            ask()


def test_a_universal_explainer_is_asked_about_targets() -> None:
    explainer = load_explainer("universal", blob_classifier()).eval()
    images = blobs(2)
    expected = explainer(images, target=torch.tensor([0, 1])).mean
    assert not torch.allclose(expected, explainer(images, target=torch.tensor([1, 0])).mean)
    attributed = VariationalSaliencyAttribution(explainer).attribute(
        images, target=torch.tensor([0, 1])
    )
    assert isinstance(attributed, Tensor)
    torch.testing.assert_close(attributed[:, 0], expected)
    targets = [lambda logits: logits[0], lambda logits: logits[1]]

    def score(logits: Tensor) -> Tensor:
        return logits[range(len(logits)), [0, 1] * (len(logits) // 2)]

    with pytest.raises(ValueError, match=r"Expected a target for each image, 2\. Found 1"):
        VariationalCAM(explainer)(images, targets=targets[:1])
    asked = explainer(images, target=score)
    maps = VariationalCAM(explainer)(images, targets=targets)
    low, high = (
        extreme(asked.mean, dim=(1, 2), keepdim=True) for extreme in (torch.amin, torch.amax)
    )
    torch.testing.assert_close(torch.from_numpy(maps), (asked.mean - low) / (high - low))


@pytest.mark.parametrize("sign", [1, -1])
def test_cam_of_a_single_logit_is_asked_about_its_sign(sign: int) -> None:
    """As pytorch-grad-cam's BinaryClassifierOutputTarget, which returns (1,), asks about it."""
    network = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(12, 1))
    torch.nn.init.constant_(network[2].bias, -3.0)  # type: ignore[arg-type]  # negative logits
    classifier = FrozenClassifier(network, name="binary", output="sigmoid")
    explainer = load_explainer("universal", classifier).eval()
    images = blobs(2)
    expected = min_max(explainer(images, target=lambda logits: sign * logits[:, 0]).mean)
    assert not torch.allclose(
        expected, min_max(explainer(images, target=lambda logits: -sign * logits[:, 0]).mean)
    )
    found = VariationalCAM(explainer)(images, targets=[lambda logit: sign * logit] * 2)
    torch.testing.assert_close(torch.from_numpy(found), expected)


@pytest.mark.parametrize(
    "target",
    [[(2,), (0,)], torch.tensor([[2], [0]]), torch.tensor([2, 0]), [2, 0]],
    ids=["tuples", "column", "row", "list"],
)
def test_targets_in_the_forms_of_captum(target: Any) -> None:
    explainer, images = load_explainer("universal", blob_classifier()).eval(), blobs(2)
    expected = explainer(images, target=torch.tensor([2, 0])).mean
    found = VariationalSaliencyAttribution(explainer).attribute(images, target=target)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found[:, 0], expected)


def test_targets_of_more_than_one_index_are_refused() -> None:
    method = VariationalSaliencyAttribution(load_explainer("universal", blob_classifier()))
    for target in ([(2, 0), (0, 1)], torch.tensor([[2, 0], [0, 1]])):
        with pytest.raises(ValueError, match=r"Expected target to be .* of shape \(2, 2\)"):
            method.attribute(blobs(2), target=target)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0]),
        np.array([2, 0], dtype=np.uint8),
        np.array([2, 0], dtype=object),
        np.array([2.0, 0.0], dtype=object),
        np.array([2.0, 0.0]),
        np.array([2.0, 0.0], dtype=np.float32),
        np.eye(4, dtype=np.float32)[[2, 0]],
    ],
    ids=["int", "bytes", "objects", "object floats", "float64", "float32", "weights"],
)
def test_quantus_labels_of_any_type_are_classes(labels: np.ndarray[Any, Any]) -> None:
    explainer, images = load_explainer("universal", blob_classifier()).eval(), blobs(2)
    mean = explainer(images, target=torch.tensor([2, 0])).mean.detach()
    found = explain_func(explainer)(None, images.numpy(), labels)
    expected = mean - mean.amin((-2, -1), keepdim=True)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.5, 1.0]),
        np.array([np.nan, 1.0]),
        np.array([np.inf, 1.0]),
        np.array([None, 1], dtype=object),
        np.array([True, False], dtype=object),
    ],
    ids=["half", "NaN", "infinite", "None", "bool"],
)
def test_quantus_labels_that_are_no_classes_are_refused(labels: np.ndarray[Any, Any]) -> None:
    explain = explain_func(load_explainer("universal", blob_classifier()))
    with pytest.raises(ValueError, match=r"^Expected target to be a class, .* Found [^\n]*$"):
        explain(None, blobs(2).numpy(), labels)
