"""The LightningModule: Figure 1 of the paper in one readable step."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from torchmetrics import CatMetric

from saliency_vae.classifiers import ClassifierIdentity, FrozenClassifier, check_classifier
from saliency_vae.data import Batch
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.metrics import failure_auroc
from saliency_vae.models import (
    ConfidenceNetwork,
    Explainer,
    agreement_score,
    calibrate,
    distillation_loss,
)
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.objective import LossTerms, MaskedViews, Objective
from saliency_vae.training.checkpoints import planned_steps
from saliency_vae.training.measuring import (
    AGREEMENT_FRACTIONS,
    Stage,
    measured_agreement,
    measured_localization,
    measured_posterior,
    measured_terms,
)
from saliency_vae.training.resume import check_resumable
from saliency_vae.training.samples import repeated, stratified
from saliency_vae.training.targets import draw_target

ANNEALED = 0.5  # share of the steps in which the temperature falls to its final value


@dataclass(frozen=True)
class Step:
    """Result of one step of Figure 1.

    Attributes:
        posterior: q(s|x) of the images, batch shape (B,).
        views: The images masked by sampled maps, one of each image, and the predictions for them.
        terms: The loss of each image, term by term.
    """

    posterior: SaliencyPosterior
    views: MaskedViews
    terms: LossTerms


@dataclass(frozen=True)
class Execution:
    """How the networks are executed; what they compute stays the same.

    Attributes:
        channels_last: Run encoder and classifier in the channels-last memory format.
        compile: Compile encoder and classifier with ``torch.compile``.
    """

    channels_last: bool = False
    compile: bool = False


class VariationalSaliency(LightningModule):
    """Trains an explainer for a frozen classifier.

    Args:
        explainer: Explainer whose encoder is trained.
        classifier: Classifier to explain, never trained or saved; or several, if each batch
            names its own.
        objective: Objective of the training.
        optimizer: Makes the optimizer from the explainer's parameter groups.
        scheduler: Makes its schedule, called with ``total_steps``; None for a constant rate.
        execution: Memory format and compilation of the networks.
        confidence_width: Channels of the first block of the confidence network; None for no such
            network.
        seed: Seed of the noise of each step.
    """

    def __init__(
        self,
        explainer: Explainer,
        classifier: FrozenClassifier | Sequence[FrozenClassifier],
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        *,
        scheduler: Callable[..., LRScheduler] | None = None,
        execution: Execution | None = None,
        confidence_width: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.explainer = explainer
        # In a tuple it is not a submodule: not trained, saved, counted or converted to
        # SyncBatchNorm. _apply moves it with this module, and the perturbation too.
        if isinstance(classifier, FrozenClassifier):
            classifier = [classifier]
        self._frozen = tuple(classifier)
        self.objective = objective
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.execution = execution or Execution()
        self.confidence_width = confidence_width
        self.scores, self.agreed, self.features = CatMetric(), CatMetric(), CatMetric()
        self.seed = seed
        self._annealed_steps: int | None = None  # planned when the run was first started
        self._earlier_metrics: dict[str, float] = {}  # of the validation before resuming
        explainer.attach_classifier(self.classifiers[0])
        objective.perturbation.requires_grad_(False).eval()
        for frozen in self._frozen:
            if self.execution.channels_last:
                frozen.to(memory_format=torch.channels_last)
            if self.execution.compile:  # in place, so names in the state dict stay
                frozen.network.compile()
        self._prepare_explainer()

    def step(self, images: Tensor, temperature: float | None = None, task: int = 0) -> Step:
        """Compute Figure 1 of the paper, from left to right.

        Args:
            images: Images x in [0, 1], (B, 3, H, W).
            temperature: Temperature of the top-k; by default the final one.
            task: Index of the classifier M, if there are several.
        """
        explainer, classifier, objective = self.explainer, self.classifiers[task], self.objective
        if self.execution.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        # Beyond the paper: the classifier's signals; None for an encoder that sees only x.
        draw = partial(draw_target, output=classifier.output)
        target = draw if self.training and explainer.is_universal else None
        signals = explainer.signals(images, target, classifier=classifier)
        prior = explainer.prior(images, signals)  # p(s)
        posterior = explainer.encode(images, prior, signals)  # q(s|x) = N(mu, diag(exp(eta)))
        with torch.no_grad():
            original = classifier(images) if signals is None else signals.logits  # y = M(x)
        asked = None if signals is None else signals.target  # None: the whole prediction
        samples = objective.samples if self.training else 1
        images, original = repeated(images, samples), repeated(original, samples)
        asked = None if asked is None else repeated(asked, samples)
        with torch.autocast(images.device.type, enabled=False):
            saliency = posterior.rsample((samples,)).flatten(0, 1)  # s = mu + exp(eta / 2) * eps
        uniform = stratified(len(posterior.mean), samples, saliency.device)
        # m = topk(s), x' = m * x + (1 - m) * baseline, y' = M(x'), whose gradient reaches s
        views = objective.views(
            saliency,
            images,
            original,
            classifier,
            target=asked,
            temperature=temperature,
            uniform=uniform,
        )
        terms = objective(views, posterior, prior, classifier)
        return Step(posterior, views.first(len(posterior.mean)), terms)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Make one training step; return the mean loss and the loss of each image."""
        self._seed("train", self.current_epoch, batch_idx)
        if isinstance(self.explainer.encoder, UniversalUNet):
            self.explainer.encoder.one_copy = self.global_step % 2 == 1  # the same on all ranks
        step = self.step(batch["image"], self._temperature(), batch.get("task", 0))
        loss = step.terms.loss.mean()
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
        if (self.global_step + 1) % every == 0:
            self.log_dict(self.measure("train", batch, step))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        network = self.explainer.confidence
        if network is not None:  # own parameters, but trainer.gradient_clip_val clips all as one
            distillation = distillation_loss(network, step.posterior, step.views, self.classifier)
            loss = loss + distillation.mean()
        return {"loss": loss, "losses": step.terms.loss.detach()}

    def on_validation_start(self) -> None:
        """Reset the confidence statistics of an earlier validation."""
        for gathered in (self.scores, self.agreed, self.features):
            gathered.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Measure a validation batch, with the same noise every epoch; return its losses."""
        self._seed("val", batch_idx)
        step = self.step(batch["image"], task=batch.get("task", 0))
        measured = self.measure("val", batch, step)
        self.log_dict(measured, batch_size=len(batch["image"]), sync_dist=True)
        network = self.explainer.confidence
        if network is not None:
            scores, agreed = agreement_score(network, step.posterior, step.views, self.classifier)
            self.scores.update(scores)
            self.agreed.update(agreed.float())
            self.features.update(network.features(step.views.images))
        return step.terms.loss

    def on_validation_epoch_end(self) -> None:
        """Fit confidence calibration and out-of-depth detector to the validation images."""
        if self.explainer.confidence is None:
            return
        from saliency_vae.training.depth import fit_depth  # loads scikit-learn

        fit_depth(self.explainer.confidence.depth, self.features.compute())
        scores = self.scores.compute().flatten()
        agreed = self.agreed.compute().flatten() > 0
        calibrate(self.explainer.confidence, scores, agreed)
        confidence = self.explainer.confidence.calibrated(scores).mean()
        self.log("val/confidence", confidence, sync_dist=True)
        auroc = failure_auroc(-scores, ~agreed).float().nan_to_num(0.5)  # NaN if none or all failed
        self.log("val/confidence_auroc", auroc, sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure a test batch, against the true masks where they are known."""
        self._seed("test", batch_idx)
        step = self.step(batch["image"], task=batch.get("task", 0))
        measured = self.measure("test", batch, step)
        if self.explainer.confidence is not None:
            measured["test/confidence"] = step.posterior.confidence.mean()
        self.log_dict(measured, batch_size=len(batch["image"]), sync_dist=True)

    @torch.no_grad()
    def measure(self, stage: Stage, batch: Batch, step: Step) -> dict[str, Tensor]:
        """Compute all logged metrics of a step, by their names in the logs."""
        measured = measured_terms(self.objective, step.views, step.terms)
        measured |= measured_posterior(self.explainer, step.posterior, step.views, step.terms)
        fractions = AGREEMENT_FRACTIONS[stage]
        classifier = self.classifiers[batch.get("task", 0)]
        measured |= measured_agreement(classifier, step.posterior, step.views, fractions)
        if "mask" in batch:
            measured |= measured_localization(step.posterior, batch["mask"])
        return {f"{stage}/{name}": value.detach() for name, value in measured.items()}

    @property
    def classifiers(self) -> tuple[FrozenClassifier, ...]:
        """The frozen classifiers, in the order of the tasks."""
        return self._frozen

    @property
    def classifier(self) -> FrozenClassifier:
        """The frozen classifier M; the first of several."""
        return self.classifiers[0]

    @cached_property
    def _identity(self) -> ClassifierIdentity:
        """Identity of the classifier; its parameters are hashed only once, as they never change."""
        return self.classifier.identity()

    @cached_property
    def _further(self) -> list[str]:
        """Names and hashes of the classifiers of further tasks."""
        return [str(classifier.identity()) for classifier in self.classifiers[1:]]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for beside in (*self._frozen, self.objective.perturbation):
            beside._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        return self

    def _prepare_explainer(self) -> None:
        """Apply memory format and compilation to the explainer's networks, which may be new."""
        if self.execution.channels_last:
            self.explainer.to(memory_format=torch.channels_last)
        if self.execution.compile:
            self.explainer.encoder.compile()

    def setup(self, stage: str) -> None:
        """Check the classifiers; adapt the explainer to their feature maps and classes."""
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or data is None:
            return
        sets = [task.data.train_set for task in getattr(data, "tasks", ())]
        sets = sets or [getattr(data, "train_set", None)]
        if any(each is None for each in sets):  # such a data module has only loaders
            return
        for classifier, train_set in zip(self._frozen, sets, strict=True):
            images = _first_images(train_set).to(classifier.mean.device)
            classes = check_classifier(classifier, images)
        self.explainer.find_features(self.classifier, images)
        if self.confidence_width is not None and self.explainer.confidence is None:
            self.explainer.add_confidence(
                {
                    "_target_": f"{ConfidenceNetwork.__module__}.{ConfidenceNetwork.__name__}",
                    "classes": classes,
                    "output": self.classifier.output,
                    "width": self.confidence_width,
                }
            )
        self._prepare_explainer()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimize the explainer, never the classifier. Learned correlations do not decay."""
        named = dict(self.explainer.named_parameters())
        of_prior = [named.pop(name) for name in list(named) if name.startswith("make_prior.")]
        groups: list[dict[str, Any]] = [{"params": list(named.values())}]
        if of_prior:
            groups.append({"params": of_prior, "weight_decay": 0.0})
        optimizer = self.make_optimizer(groups)
        if self.make_scheduler is None:
            return optimizer
        scheduler = self.make_scheduler(optimizer, total_steps=planned_steps(self.trainer))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Plan the annealing; refuse a schedule whose length differs from the training's.

        Raises:
            ValueError: If a resumed run is longer or shorter than its schedule.
        """
        steps = planned_steps(self.trainer)
        self._annealed_steps = self._annealed_steps or steps
        for config in self.trainer.lr_scheduler_configs:
            planned = getattr(config.scheduler, "total_steps", steps)
            if planned != steps:
                raise ValueError(
                    f"Expected trainer.max_epochs to give the {planned} steps that this run's "
                    f"learning-rate schedule was made for. Found {steps} steps."
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record the explainer's settings, the classifiers and the latest validation metrics."""
        checkpoint["classifier"] = asdict(self._identity)
        checkpoint["further_classifiers"] = self._further
        checkpoint["explainer"] = self._settings()
        checkpoint["annealed_steps"] = self._annealed_steps
        checkpoint["metrics"] = self._earlier_metrics | {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint made for another classifier, or with other settings.

        Raises:
            ValueError: If the classifier or a setting of the explainer differs; names both.
        """
        check_resumable(checkpoint, self._identity, self._settings(), self._further)
        self._earlier_metrics = checkpoint["metrics"]
        self._annealed_steps = checkpoint.get("annealed_steps")

    def _settings(self) -> dict[str, Any]:
        """Settings of the explainer as plain values; empty if it was assembled by hand."""
        recorded = self.explainer.recorded
        return {} if recorded is None else recorded.to_plain()

    def _temperature(self) -> float:
        """Temperature of the top-k in the current training step."""
        assert self._annealed_steps is not None
        return self.objective.topk.annealed(self.global_step / (ANNEALED * self._annealed_steps))

    def _seed(self, *stream: str | int) -> None:
        """Seed this step's noise by a stream of its own.

        So a resumed run continues exactly, whatever else draws random numbers, and ranks differ.
        """
        key = repr((self.seed, self.global_rank, *stream)).encode()
        torch.manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "big", signed=True))


def _first_images(dataset: Dataset[Batch], number: int = 4) -> Tensor:
    """First images of a data set in [0, 1], (B, 3, H, W).

    Raises:
        ValueError: If their sizes differ.
    """
    size: int = len(dataset)  # type: ignore[arg-type]  # Dataset promises no length
    first = [dataset[index]["image"] for index in range(min(number, size))]
    sizes = {tuple(image.shape[-2:]) for image in first}
    if len(sizes) > 1:
        raise ValueError(
            f"Expected images of one size. Found {' and '.join(map(str, sorted(sizes)))}: "
            "classifier.resize_size and classifier.crop_size make them equal."
        )
    return torch.stack(first).float() / 255
