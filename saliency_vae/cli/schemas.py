"""TODO."""

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from saliency_vae.cli.validation import Node


@dataclass
class TrainConfig:
    """Top level of ``conf/train.yaml``: no other key is accepted, in an experiment file either.

    Attributes:
        name: Of the run's directory and W&B project's run.
        data: Data module.
        classifier: Builder of the classifier to explain.
        encoder: Network of the explainer.
        prior: Distribution over saliency maps.
        posterior: ``mean_field`` or ``correlated``.
        topk: Differentiable top-k.
        perturbation: Baseline that removes information.
        beta: Weight of the KL per pixel.
        complement: Weight of what the pixels left out still say.
        sharpness: Power that the prediction to reconstruct is raised to.
        mean_penalty: Weight of the mean_penalty of the posterior's mean from the prior's.
        confidence_width: Channels of the network that gives the confidence.
        optimizer: Of the encoder's parameters.
        scheduler: Of the learning rate; null for a constant one.
        trainer: Lightning's Trainer.
        logger: Loggers by name.
        callbacks: Callbacks by name.
        compile: Compile encoder and classifier with ``torch.compile``.
        channels_last: Memory format of encoder and classifier.
        seed: Of initial weights, order and noise.
        checkpoint_every_n_steps: Steps between two checkpoints, at most lost when a run is killed.
        ckpt_path: Checkpoint to continue from: a file, or ``last`` with ``hydra.run.dir``.
    """

    name: str = MISSING
    data: Node = field(default_factory=dict)
    classifier: Node = field(default_factory=dict)
    encoder: Node = field(default_factory=dict)
    prior: Node = field(default_factory=dict)
    posterior: str = "mean_field"
    topk: Node = field(default_factory=dict)
    perturbation: Node = field(default_factory=dict)
    beta: float = MISSING
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0
    confidence_width: int = 16
    optimizer: Node = field(default_factory=dict)
    scheduler: Node | None = None
    trainer: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)
    callbacks: Node = field(default_factory=dict)
    compile: bool = False
    channels_last: bool = False
    seed: int = 0
    checkpoint_every_n_steps: int = 200
    ckpt_path: str | None = None


@dataclass
class ExplainConfig:
    """Top level of ``conf/explain.yaml``, where each key is explained."""

    explainer: str = MISSING
    images: str = MISSING
    output_dir: str = MISSING
    classifier: Node | None = None
    fraction: float = 0.1
    refine_steps: int = 0
    samples: int = 0
    batch_size: int = 32
    num_workers: int = 0
    device: str = "auto"
    overwrite: bool = False
    force: bool = False
    seed: int = 0


@dataclass
class ExportConfig:
    """Top level of ``conf/export.yaml``, where each key is explained."""

    explainer: str = MISSING
    format: str = "onnx"
    output: str | None = None
    image_size: list[int] | None = None
    classifier: Node | None = None
    force: bool = False


@dataclass
class ShardConfig:
    """Top level of ``conf/shard.yaml``, where each key is explained."""

    root: str = MISSING
    output: str = MISSING
    shard_megabytes: int = 64
    num_workers: int = 4
    seed: int = 0


@dataclass
class EvaluateConfig:
    """Top level of ``conf/evaluate.yaml``, where each key is explained."""

    explainer: str = MISSING
    data: Node = field(default_factory=dict)
    classifier: Node | None = None
    baselines: Node = field(default_factory=dict)
    methods: list[str] | None = None
    limit: int | None = None
    steps: int = 24
    removal: list[str] = field(default_factory=lambda: ["blur", "mean", "zero"])
    tolerance: float = 0.0
    annotations: str | None = None
    gallery: int = 8
    reference_images: int = 32
    reference_runs: int = 3
    reference_steps: int = 200
    ensemble: list[str] = field(default_factory=list)
    own_mask_images: int = 32
    robustness_images: int = 0
    corruption_images: int = 100
    randomised: str | None = None
    randomised_classifier: Node | None = None
    wandb: bool = False
    batch_size: int = 50
    num_workers: int = 0
    device: str = "auto"
    force: bool = False
    seed: int = 0


def register_schemas() -> None:
    """Make the schemas known to Hydra."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    ConfigStore.instance().store(name="explain_schema", node=ExplainConfig)
    ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)
    ConfigStore.instance().store(name="export_schema", node=ExportConfig)
    ConfigStore.instance().store(name="shard_schema", node=ShardConfig)
