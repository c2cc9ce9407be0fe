"""The LightningModule: Figure 1 of the paper in one readable step."""

import hashlib
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import CatMetric

from saliency_vae.classifiers import ClassifierIdentity, FrozenClassifier, probe
from saliency_vae.data import Batch
from saliency_vae.distributions import SaliencyPosterior, kl_floor
from saliency_vae.metrics import failure_auroc, mask_iou, pointing_game
from saliency_vae.models import (
    ConfidenceNetwork,
    Explainer,
    agreement_score,
    calibrate,
    distillation_loss,
)
from saliency_vae.objective import LossTerms, Objective
from saliency_vae.perturbations import perturb
from saliency_vae.topk import active_fraction
from saliency_vae.training.checkpoints import identity_of, settings_of

Stage = Literal["train", "val", "test"]
AGREEMENT_FRACTIONS = (0.05, 0.1, 0.2)
ANNEALED = 0.5  # share of the steps in which the temperature falls to its final value


class VariationalSaliency(LightningModule):
    """Trains an explainer for a frozen classifier.

    Args:
        explainer: Whose encoder is trained.
        classifier: To explain; never trained, never saved.
        objective: Loss of a posterior.
        optimizer: Makes the optimizer of the encoder's parameters.
        scheduler: Makes its schedule, called with ``total_steps``; None for a constant rate.
        channels_last: Run encoder and classifier in this memory format.
        compile: Compile encoder and classifier with ``torch.compile``.
        confidence_width: Of the network that gives the explainer's confidence; None for no such
            network.
        log_every_n_steps: Steps between two measurements of training batches.
        seed: Of the noise of each step.
    """

    def __init__(
        self,
        explainer: Explainer,
        classifier: FrozenClassifier,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        channels_last: bool = False,
        compile: bool = False,
        confidence_width: int | None = None,
        log_every_n_steps: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.explainer = explainer
        # In a tuple it is not a submodule: not trained, not saved, not counted, and untouched by
        # SyncBatchNorm conversion. _apply moves it along.
        self._frozen = (classifier,)
        self.objective = objective
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.channels_last = channels_last
        self.confidence_width = confidence_width
        self.scores, self.agreed = CatMetric(), CatMetric()
        self.log_every_n_steps = log_every_n_steps
        self.seed = seed
        self._total_steps = 1
        self._earlier_metrics: dict[str, float] = {}  # of the last validation before a resumption
        self.compiled = compile
        explainer.attach_classifier(classifier)
        if channels_last:
            classifier.to(memory_format=torch.channels_last)
        if compile:  # in place: the names in the state dict stay
            classifier.network.compile()
        self._arrange()

    def _arrange(self) -> None:
        """Bring the explainer's networks, which may be new, into their memory format and form."""
        if self.channels_last:
            self.explainer.to(memory_format=torch.channels_last)
        if self.compiled:
            self.explainer.encoder.compile()

    @property
    def classifier(self) -> FrozenClassifier:
        """The frozen classifier M."""
        return self._frozen[0]

    @cached_property
    def _identity(self) -> ClassifierIdentity:
        """Of the classifier, whose parameters are hashed once: they never change."""
        return self.classifier.identity()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.classifier._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        return self

    def setup(self, stage: str) -> None:
        """Try the classifier; fit the explainer to the features and the classes that it has."""
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or data is None:
            return
        first = [data.train_set[index]["image"] for index in range(min(4, len(data.train_set)))]
        sizes = {tuple(image.shape[-2:]) for image in first}
        if len(sizes) > 1:
            raise ValueError(
                f"Expected images of one size. Found {' and '.join(map(str, sorted(sizes)))}: "
                "classifier.resize_size and classifier.crop_size make them equal."
            )
        images = torch.stack(first).float() / 255
        classes = probe(self.classifier, images)
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
        self._arrange()

    def evaluate(self, images: Tensor) -> tuple[SaliencyPosterior, LossTerms]:
        """Explain images (B, 3, H, W) in [0, 1] and evaluate the objective there."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        signals = self.explainer.signals(images)
        prior = self.explainer.prior(images, signals)
        posterior = self.explainer.infer(images, prior, signals)
        original = None if signals is None else signals.logits  # the classifier has said it already
        return posterior, self.objective(
            images, posterior, prior, self.classifier, original=original
        )

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate the loss of a training batch: its mean, and that of each image."""
        self._seed("train", self.current_epoch, batch_idx)
        self.objective.topk.anneal(self.global_step / (ANNEALED * self._total_steps))
        posterior, terms = self.evaluate(batch["image"])
        loss = terms.loss.mean()
        if (self.global_step + 1) % self.log_every_n_steps == 0:
            self.log_dict(self.measure("train", batch, posterior, terms))
        self.log("loss", loss.detach(), prog_bar=True, logger=False)
        network = self.explainer.confidence
        if network is not None:  # of other parameters; trainer.gradient_clip_val clips both as one
            step = (batch["image"], posterior, terms, self.classifier)
            loss = loss + distillation_loss(network, *step).mean()
        return {"loss": loss, "losses": terms.loss.detach()}

    def on_validation_start(self) -> None:
        """Measure at the final temperature, the same in every epoch."""
        self.objective.topk.anneal(1.0)
        self.scores.reset()
        self.agreed.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Measure a validation batch, with the same noise every epoch; return its losses."""
        self._seed("val", batch_idx)
        posterior, terms = self.evaluate(batch["image"])
        measured = self.measure("val", batch, posterior, terms)
        self.log_dict(measured, batch_size=len(batch["image"]), sync_dist=True)
        network = self.explainer.confidence
        if network is not None:
            step = (batch["image"], posterior, terms, self.classifier)
            scores, agreed = agreement_score(network, *step)
            self.scores.update(scores)
            self.agreed.update(agreed.float())
        return terms.loss

    def on_validation_epoch_end(self) -> None:
        """Calibrate the confidence on the validation images."""
        if self.explainer.confidence is None:
            return
        scores = self.scores.compute().flatten()
        agreed = self.agreed.compute().flatten() > 0
        calibrate(self.explainer.confidence, scores, agreed)
        self.log("val/confidence", self.explainer.confidence.calibrated(scores).mean())
        auroc = failure_auroc(-scores, ~agreed).float().nan_to_num(0.5)  # none failed, or all
        self.log("val/confidence_auroc", auroc)

    def on_test_start(self) -> None:
        """Measure at the final temperature, which training may have ended before."""
        self.objective.topk.anneal(1.0)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure a test batch, against the true masks where they are known."""
        self._seed("test", batch_idx)
        posterior, terms = self.evaluate(batch["image"])
        measured = self.measure("test", batch, posterior, terms)
        if self.explainer.confidence is not None:
            measured["test/confidence"] = posterior.confidence.mean()
        self.log_dict(measured, batch_size=len(batch["image"]), sync_dist=True)

    @torch.no_grad()
    def measure(
        self, stage: Stage, batch: Batch, posterior: SaliencyPosterior, terms: LossTerms
    ) -> dict[str, Tensor]:
        """Name and compute everything that is logged of a batch."""
        images = batch["image"]
        height, width = posterior.event_shape
        floor = kl_floor(posterior, self.explainer.prior(images))
        measured = {
            "loss": terms.loss.mean(),
            "reconstruction": terms.reconstruction.mean(),
            "kl": terms.kl.mean(),
            "kl_above_floor": terms.kl.mean() - floor / (height * width),
            "stddev": posterior.stddev.mean(),
            "topk_active_fraction": active_fraction(terms.mask),
        }
        if self.objective.complement:
            measured["complement"] = terms.complement.mean()
        if self.objective.mean_penalty:
            measured["mean_penalty"] = terms.mean_penalty.mean()
        learned = self.explainer.learned_correlation
        if learned is not None:
            axes = ("",) if len(learned) == 1 else ("_vertical", "_horizontal")
            measured |= {f"correlation{a}": rho for a, rho in zip(axes, learned, strict=True)}
        # Each is one more pass of the classifier: in training one has to do.
        fractions = (0.1,) if stage == "train" else AGREEMENT_FRACTIONS
        for fraction in fractions:
            kept_view = perturb(images, posterior.topk_mask(fraction), terms.baseline)
            agrees = self.classifier.agreement(terms.original, self.classifier(kept_view))
            measured[f"agreement_{100 * fraction:.0f}"] = agrees.float().mean()
        if "mask" in batch:
            hits = pointing_game(posterior.mean, batch["mask"])
            measured["pointing_game"] = hits.float().mean()
            measured["iou"] = mask_iou(posterior.mean, batch["mask"]).mean()
        return {f"{stage}/{name}": value.detach() for name, value in measured.items()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimize the explainer: never the classifier. A learned correlation does not decay."""
        named = dict(self.explainer.named_parameters())
        of_prior = [named.pop(name) for name in list(named) if name.startswith("make_prior.")]
        groups: list[dict[str, Any]] = [{"params": list(named.values())}]
        if of_prior:
            groups.append({"params": of_prior, "weight_decay": 0.0})
        optimizer = self.make_optimizer(groups)
        if self.make_scheduler is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, total_steps=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Plan the annealing; refuse to go on with a schedule that ends before the training.

        Raises:
            ValueError: If a resumed run is longer or shorter than its schedule.
        """
        self._total_steps = steps = int(self.trainer.estimated_stepping_batches)
        for config in self.trainer.lr_scheduler_configs:
            planned = getattr(config.scheduler, "total_steps", steps)
            if planned != steps:
                raise ValueError(
                    f"Expected trainer.max_epochs to give the {planned} steps that this run's "
                    f"learning-rate schedule was made for. Found {steps} steps."
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what is trained, for which classifier, and the validation metrics of now."""
        checkpoint["classifier"] = asdict(self._identity)
        checkpoint["explainer"] = self._settings()
        checkpoint["metrics"] = self._earlier_metrics | {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/")
        }

    def _settings(self) -> dict[str, Any]:
        """Settings of the explainer as plain values; none of one that was put together by hand."""
        recorded = self.explainer.recorded
        return {} if recorded is None else recorded.to_plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint made for another classifier, or with other settings.

        Raises:
            ValueError: Naming both.
        """
        found, expected = self._identity, identity_of(checkpoint)
        differing = found.differences(expected)
        if differing:
            raise ValueError(
                "Expected ckpt_path to be a checkpoint for this run's classifier "
                f"{found}. Found one for {expected}, another {', '.join(differing)}."
            )
        changed = dict(_changes(settings_of(checkpoint), self._settings()))
        if changed:
            then, now = (
                ", ".join(f"{name}={values[i]}" for name, values in changed.items()) for i in (0, 1)
            )
            raise ValueError(
                f"Expected a run that goes on with its explainer's settings, {then}. Found {now}."
            )
        self._earlier_metrics = checkpoint["metrics"]

    def _seed(self, *stream: str | int) -> None:
        """Draw this step's noise from a stream of its own.

        So a resumed run continues exactly, whatever else drew numbers, and ranks differ.
        """
        key = repr((self.seed, self.global_rank, *stream)).encode()
        torch.manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "big", signed=True))


def _changes(then: Any, now: Any, name: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Settings that differ, each with what it was and what it is; parts by what they build."""
    if isinstance(then, dict) and isinstance(now, dict) and _built(then) == _built(now):
        for key in dict.fromkeys([*then, *now]):
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif then != now:
        yield name, (_built(then), _built(now))


def _built(setting: Any) -> str:
    """Say a setting, or what a part builds, in a few words."""
    if isinstance(setting, dict):
        return str(setting.get("type", ""))
    return textwrap.shorten(str(setting), 60, placeholder="...")
