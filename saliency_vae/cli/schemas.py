"""Schemas of the commands: the only place that defines defaults and bounds of their settings.

Hydra refuses settings that are not in a schema, also in an experiment file. The groups of ``conf/``
define what a node such as ``encoder`` contains. Bounds are annotations, which
:func:`saliency_vae.cli.validation.check_bounds` reads.
"""

from dataclasses import dataclass, field
from typing import Annotated, TypedDict

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING
from pydantic import Field

from saliency_vae.cli.validation import Node

_AT_LEAST_0 = Field(ge=0)
_AT_LEAST_1 = Field(ge=1)
_SHARE_OR_NUMBER = Field(gt=0, description="a share or a number")


@dataclass
class TrainConfig:
    """Settings of ``saliency_vae.train``, which ``conf/train.yaml`` explains."""

    name: str | None = None
    data: Node = field(default_factory=dict)
    classifier: Node = field(default_factory=dict)
    tasks: Node = field(default_factory=dict)
    encoder: Node = field(default_factory=dict)
    init: str | None = None
    prior: Node = field(default_factory=dict)
    posterior: str = "mean_field"
    topk: Node = field(default_factory=dict)
    perturbation: Node = field(default_factory=dict)
    beta: float = 0.1
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0
    samples: int = 1
    distance: str = "kl"
    confidence_width: int | None = 16
    randomise_classifier: bool = False
    optimizer: Node = field(default_factory=dict)
    scheduler: Node | None = None
    trainer: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)
    callbacks: Node = field(default_factory=dict)
    compile: bool = False
    channels_last: bool = True
    seed: int = 0
    checkpoint_every_n_steps: int = 200
    ckpt_path: str | None = None


class TrainerBounds(TypedDict, total=False):
    """Bounds of Trainer settings; outside them a run would fail late or yield no explainer."""

    num_nodes: Annotated[int, _AT_LEAST_1]
    accumulate_grad_batches: Annotated[int, _AT_LEAST_1]
    log_every_n_steps: Annotated[int, _AT_LEAST_1]
    gradient_clip_val: Annotated[float, _AT_LEAST_0]
    limit_train_batches: Annotated[float, _SHARE_OR_NUMBER]
    limit_val_batches: Annotated[float, _SHARE_OR_NUMBER]
    val_check_interval: Annotated[float, _SHARE_OR_NUMBER]


@dataclass
class ExplainConfig:
    """Settings of ``saliency_vae.explain``, which ``conf/explain.yaml`` explains."""

    explainer: str = "universal"
    images: str = MISSING
    output_dir: str = MISSING
    classifier: Node | None = None
    target: str | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    refine_steps: Annotated[int, _AT_LEAST_0] = 0
    samples: Annotated[int, _AT_LEAST_0] = 0
    maps: str = "store"
    panels: str = "all"
    gallery: bool = True
    labels: str | None = None
    batch_size: Annotated[int, _AT_LEAST_1] = 32
    num_workers: Annotated[int, _AT_LEAST_0] = 0
    device: str = "auto"
    devices: Annotated[int, _AT_LEAST_1] = 1
    partition: str | None = None
    overwrite: bool = False
    force: bool = False
    seed: int = 0


@dataclass
class AppConfig:
    """Settings of ``saliency_vae.app``, which ``conf/app.yaml`` explains."""

    explainer: str = "universal"
    classifier: Node | None = None
    examples: str | None = None
    samples: Annotated[int, _AT_LEAST_1] = 4
    host: str = "127.0.0.1"
    port: Annotated[int | None, Field(ge=1, le=65535)] = 7860
    share: bool = False
    max_megabytes: Annotated[int, _AT_LEAST_1] = 20
    device: str = "auto"
    force: bool = False


@dataclass
class ExportConfig:
    """Settings of ``saliency_vae.export``, which ``conf/export.yaml`` explains."""

    explainer: str = MISSING
    format: str = "onnx"
    output: str | None = None
    image_size: list[int] | None = None
    target: str | None = None
    classifier: Node | None = None
    force: bool = False


@dataclass
class ShardConfig:
    """Settings of ``saliency_vae.shard``, which ``conf/shard.yaml`` explains."""

    root: str = MISSING
    output: str = MISSING
    shard_megabytes: Annotated[int, _AT_LEAST_1] = 64
    num_workers: Annotated[int, _AT_LEAST_0] = 4
    seed: int = 0


@dataclass
class EvaluateConfig:
    """Settings of ``saliency_vae.evaluate``, which ``conf/evaluate.yaml`` explains."""

    explainer: str = MISSING
    data: Node = field(default_factory=dict)
    classifier: Node | None = None
    baselines: Node = field(default_factory=dict)
    methods: list[str] | None = None
    image_only: str | None = None
    refine_steps: Annotated[int, _AT_LEAST_0] = 0
    quick: bool = False
    limit: int | None = None
    slow_images: Annotated[int | None, _AT_LEAST_0] = 50
    slow_passes: Annotated[int, _AT_LEAST_1] = 200
    steps: int = 24
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1
    baseline_images: list[str] = field(default_factory=lambda: ["blur", "mean", "inpaint"])
    tolerance: float = 0.0
    annotations: str | None = None
    gallery: Annotated[int, _AT_LEAST_0] = 8
    reference_images: Annotated[int, _AT_LEAST_0] = 32
    reference_runs: Annotated[int, _AT_LEAST_0] = 3
    reference_steps: Annotated[int, _AT_LEAST_1] = 200
    ensemble: list[str] = field(default_factory=list)
    posterior_images: Annotated[int, _AT_LEAST_0] = 16
    own_mask_images: Annotated[int, _AT_LEAST_0] = 32
    robustness_images: Annotated[int, _AT_LEAST_0] = 4
    grid_questions: Annotated[int, _AT_LEAST_0] = 200
    two_object_images: Annotated[int, _AT_LEAST_0] = 50
    eval_x_steps: Annotated[int, _AT_LEAST_0] = 0
    corruption_images: Annotated[int, _AT_LEAST_0] = 100
    randomised: str | None = None
    randomised_classifier: Node | None = None
    wandb: bool = False
    batch_size: Annotated[int, _AT_LEAST_1] = 50
    num_workers: Annotated[int, _AT_LEAST_0] = 0
    device: str = "auto"
    partition: str | None = None
    force: bool = False
    seed: int = 0


def register_schemas() -> None:
    """Make the schemas known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="explain_schema", node=ExplainConfig)
    store.store(name="evaluate_schema", node=EvaluateConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="app_schema", node=AppConfig)
    store.store(name="shard_schema", node=ShardConfig)
