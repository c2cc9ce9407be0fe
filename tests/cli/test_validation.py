"""Every configuration file builds what it names, and every mistake is one clear error."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from torch import nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.cli.schemas import (
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    ShardConfig,
    TrainConfig,
    TrainerBounds,
    register_schemas,
)
from saliency_vae.cli.targets import check_targets
from saliency_vae.cli.validation import check_bounds, config_dir, resolve
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.distributions import SaliencyPrior
from saliency_vae.models.conditional_encoder import ConditionalEncoder
from saliency_vae.topk import SoftTopK
from tests.conftest import blob_classifier

CONF = Path(config_dir())
OPTIONS = [
    (path.parent.name, path.stem)
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("experiment", "baselines")
]
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))

# Settings that an option needs, or needs in a test. {tmp} is the directory of the test.
STREAMING = "imagenet_streaming"
OVERRIDES: dict[tuple[str, str], list[str]] = {
    ("data", "imagenet"): ["data.root={tmp}"],
    ("data", "image_folder"): ["data.root={tmp}"],
    ("data", STREAMING): ["data.root={tmp}"],
    ("data", "cutouts"): ["data.cutouts={tmp}", "data.backgrounds={tmp}"],
    ("classifier", "efficientnet_lite"): ["data=cluttered_digits"],
    ("classifier", "torchvision"): ["classifier.name=resnet18", "classifier.weights=null"],
    ("classifier", "timm"): ["classifier.name=test_resnet", "classifier.pretrained=false"],
    ("classifier", "huggingface"): ["classifier.name={tmp}/model"],
    ("classifier", "custom"): [
        "classifier.module=torch.nn.Conv2d",
        "classifier.arguments={in_channels: 3, out_channels: 2, kernel_size: 3}",
        "classifier.weights={tmp}/conv.pt",
    ],
    ("classifier", "cluttered_digits"): [
        "data=cluttered_digits",
        "data.image_size=32",
        "classifier.path={tmp}/digits.safetensors",
        "classifier.train_size=64",
        "classifier.epochs=1",
    ],
    ("trainer", "default"): ["trainer.accelerator=cpu", "+trainer.logger=false"],
    ("logger", "wandb"): ["logger.wandb.offline=true"],
    ("logger", "mlflow"): ["logger.mlflow.tracking_uri=sqlite:///{tmp}/mlflow.db"],
}


@pytest.fixture(autouse=True)
def hydra_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hydra is started for the test and left as it was."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


def composed(*overrides: str, output_dir: Path = Path("/nowhere")) -> DictConfig:
    """Compose what the command would get, with Hydra's own values known to the resolver."""
    runtime = f"hydra.runtime.output_dir={output_dir}"
    config = compose("train", [*overrides, runtime], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


def is_prior(built: Any) -> bool:
    prior = built(8, 10)
    return isinstance(prior, SaliencyPrior) and tuple(prior.event_shape) == (8, 10)


def maps_images_to_two_channels(built: Any) -> bool:
    images = torch.rand(1, 3, 16, 17)
    signals = []
    if isinstance(built, ConditionalEncoder):
        signals.append(built.signals(images, blob_classifier()))
    with torch.no_grad():
        return tuple(built.eval()(images, *signals).shape) == (1, 2, 16, 17)


def keeps_the_shape(built: Any) -> bool:
    images = torch.rand(2, 3, 16, 17)
    return isinstance(built, nn.Module) and built(images).shape == images.shape


def optimises(built: Any) -> bool:
    return isinstance(built([nn.Parameter(torch.ones(1))]), torch.optim.Optimizer)


def schedules(built: Any) -> bool:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LRScheduler
    return built is None or isinstance(built(optimizer, total_steps=9), scheduler)


def all_of(kind: type) -> Callable[[Any], bool]:
    return lambda built: len(built) > 0 and all(isinstance(b, kind) for b in built.values())


FITS: dict[str, Callable[[Any], bool]] = {
    "data": lambda built: isinstance(built, SaliencyDataModule),
    "classifier": lambda built: isinstance(built, FrozenClassifier) and not built.training,
    "encoder": maps_images_to_two_channels,
    "prior": is_prior,
    "topk": lambda built: isinstance(built, SoftTopK),
    "perturbation": keeps_the_shape,
    "optimizer": optimises,
    "scheduler": schedules,
    "trainer": lambda built: isinstance(built, Trainer),
    "logger": all_of(Logger),
    "callbacks": all_of(Callback),
}


def test_every_group_is_known_here() -> None:
    assert len(OPTIONS) > 20
    assert {group for group, _ in OPTIONS} == set(FITS)
    assert "cluttered_digits" in EXPERIMENTS
    assert set(OVERRIDES) <= set(OPTIONS)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds_what_its_group_promises(
    group: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for needs, module in (
        (("classifier", "timm"), "timm"),
        (("classifier", "huggingface"), "transformers"),
        (("classifier", "efficientnet_lite"), "efficientnet_lite_pytorch"),
        (("data", STREAMING), "litdata"),
        (("logger", "tensorboard"), "tensorboard"),
        (("logger", "mlflow"), "mlflow"),
    ):
        if (group, option) == needs:
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / part / "image.png")
    torch.save(nn.Conv2d(3, 2, 3).state_dict(), tmp_path / "conv.pt")
    if option == "huggingface":
        from tests.classifiers.test_hugging_face import save_tiny_model  # needs transformers

        save_tiny_model(tmp_path / "model")
    extra = [text.replace("{tmp}", str(tmp_path)) for text in OVERRIDES.get((group, option), [])]
    config = resolve(composed(f"{group}={option}", *extra, output_dir=tmp_path / "run"))
    if option == "mixed":  # a part of experiment=universal, of no use without its tasks
        with pytest.raises(InstantiationException, match="Expected tasks"):
            instantiate(config[group], _convert_="all")
        return
    built = instantiate(config[group], _convert_="all")
    assert FITS[group](built)
    torch.set_num_threads(threads)


def test_every_baseline_builds() -> None:
    runtime = "hydra.runtime.output_dir=/nowhere"
    overrides = ["explainer=x", "data=cluttered_digits", runtime]
    config = compose("evaluate", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    baselines = resolve(config)["baselines"]
    assert len(baselines) >= 15
    for node in baselines.values():
        assert callable(instantiate(node, _convert_="all"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_resolves(experiment: str) -> None:
    extra = {
        "photographs": ["data.cutouts=x", "data.backgrounds=y"],
        "universal": ["tasks.lite0.data.cutouts=x", "tasks.lite0.data.backgrounds=y"],
        "fine_tune": ["data.root=x"],
    }.get(experiment, [])
    config = resolve(composed(f"experiment={experiment}", *extra))
    assert config["name"] not in ("", "imagenet")
    assert config["trainer"]["max_epochs"] >= 1


def test_the_defaults_are_the_papers_recipe() -> None:
    """Appendix C."""
    config = resolve(composed())
    assert config["data"]["_target_"] == "saliency_vae.data.imagenet.ImageNetData"
    assert config["data"]["batch_size"] == 128
    assert config["classifier"]["name"] == "resnet50"
    channels = [64] * 4 + [32] * 5 + [16] * 6 + [2]
    assert len(channels) == 16
    assert config["encoder"]["hidden_channels"] == channels
    assert config["optimizer"] == {
        "_target_": "torch.optim.Adam",
        "_partial_": True,
        "lr": 1e-4,
        "weight_decay": 5e-4,
        "betas": [0.9, 0.99],
    }
    assert config["scheduler"] is None
    assert config["trainer"]["max_epochs"] == 10
    assert config["posterior"] == "mean_field"
    assert (
        config["prior"]["_target_"] == "saliency_vae.distributions.learned_prior.ExponentialPrior"
    )
    assert config["prior"]["correlation"] == 0.9
    assert not config["prior"]["learn_correlation"]
    assert config["complement"] == 0
    assert config["callbacks"]["checkpoints"]["every_n_steps"] == 200


def test_the_seed_reaches_the_data() -> None:
    assert resolve(composed("seed=7"))["data"]["seed"] == 7


def test_resolve_gives_plain_values() -> None:
    def check(value: Any) -> None:
        assert type(value) in (dict, list, str, int, float, bool, type(None))
        children = value.values() if isinstance(value, dict) else value
        for child in children if isinstance(value, dict | list) else ():
            check(child)

    check(resolve(composed("experiment=cluttered_digits")))


def experiment(directory: Path, text: str) -> list[str]:
    """Overrides that run an experiment file of one's own."""
    (directory / "experiment").mkdir()
    (directory / "experiment/mine.yaml").write_text("# @package _global_\n" + text)
    return [f"hydra.searchpath=[file://{directory}]", "experiment=mine"]


def test_an_experiment_file_of_ones_own(tmp_path: Path) -> None:
    text = "name: mine\nprior: {correlation: 0.5}\ntrainer: {max_epochs: 3}\n"
    config = resolve(composed(*experiment(tmp_path, text)))
    assert (config["name"], config["prior"]["correlation"]) == ("mine", 0.5)
    assert config["trainer"]["max_epochs"] == 3


@pytest.mark.parametrize(
    "text", ["btea: 0.5\n", "priors: {correlation: 0.5}\n", "beta: much\n", "compile: 3.5\n"]
)
def test_a_wrong_top_level_key_in_an_experiment_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigCompositionException) as error:
        composed(*experiment(tmp_path, "name: mine\n" + text))
    assert text.split(":")[0] in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prior: {corelation: 0.5}", ("prior.corelation", "Did you mean correlation?")),
        ("trainer: {max_epoch: 3}", ("trainer.max_epoch.", "Did you mean max_epochs?")),
        ("data: {zzz: 3}", ("data.zzz",)),
        ("callbacks: {panels: {image: 3}}", ("callbacks.panels.image.", "mean images?")),
        ("prior: {correlation: abc}", ("prior.correlation='abc'",)),
        ("trainer: {max_epochs: three}", ("trainer.max_epochs='three'",)),
        ("topk: {fraction: [a, b]}", ("topk.fraction=['a', 'b']",)),
        ("topk: {fraction: [0.1, 0.2, 0.3]}", ("topk.fraction",)),
        ("encoder: {hidden_channels: 3}", ("encoder.hidden_channels=3",)),
        ("encoder: {hidden_channels: [8, 2.5]}", ("encoder.hidden_channels",)),
        ("optimizer: {lr: fast}", ("optimizer.lr='fast'",)),
        ("data: {num_workers: null}", ("data.num_workers=None",)),
        ("classifier: {output: tanh}", ("classifier.output='tanh'", "softmax")),
        ("prior: {_target_: saliency_vae.Nothing}", ("prior._target_", "saliency_vae.Nothing")),
        ("prior: {_target_: nowhere.Part}", ("nowhere.Part (No module named 'nowhere')",)),
        ("data: {root: '${nowhere}'}", ("nowhere",)),
    ],
)
def test_a_mistake_in_an_experiment_file_names_the_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, expected: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        resolve(composed(*experiment(tmp_path, f"name: mine\n{text}\n")))
    message = str(error.value)
    for part in expected:
        assert part in message
    assert "\n" not in message
    assert not caplog.records  # Hydra's own lines


@pytest.mark.parametrize(
    "override",
    ["prior.correlation=abc", "trainer.max_epochs=three", "topk.fraction=[a,b]"],
)
def test_a_wrong_type_on_the_command_line_names_the_setting(override: str) -> None:
    with pytest.raises(ValueError, match=override.split("=")[0].replace(".", r"\.")):
        resolve(composed(override))


@pytest.mark.parametrize(
    "override",
    [
        "prior.correlation=0",  # an integer where a number is expected
        "prior.correlation=[0.5,0.9]",
        "trainer.devices=auto",
        "trainer.devices=[0,1]",
        "+trainer.gradient_clip_val=1",
        "+trainer.limit_val_batches=0.5",
        "+trainer.fast_dev_run=true",
        "optimizer.betas=[0.8,0.9]",
        "++optimizer.fused=true",
        "data.root=/data",
        "callbacks.panels=null",
    ],
)
def test_what_is_right_passes(override: str) -> None:
    assert resolve(composed(override))


@pytest.mark.parametrize(
    "override", ["prior.correlation='0.5'", "topk.temperature='0.1'", "trainer.max_epochs='3'"]
)
def test_a_quoted_number_does_not_stay_text(override: str) -> None:
    with pytest.raises(ValueError, match=override.split("=")[0].replace(".", r"\.")):
        resolve(composed(override))


def test_a_value_that_must_be_given_is_named_in_full() -> None:
    with pytest.raises(ValueError, match=r"data\.root"):
        resolve(composed("data=image_folder"))


def test_targets_in_lists_are_checked() -> None:
    node = {
        "perturbation": {"baselines": [{"_target_": "saliency_vae.perturbations.Blur", "x": 1}]}
    }
    with pytest.raises(ValueError, match=r"perturbation\.baselines\[0\]\.x"):
        check_targets(node)


SCHEMAS = {
    "train": TrainConfig,
    "explain": ExplainConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "shard": ShardConfig,
}


@pytest.mark.parametrize("command", SCHEMAS)
def test_a_default_stands_in_the_schema_alone(command: str) -> None:
    written = OmegaConf.load(CONF / f"{command}.yaml")
    assert set(written) <= {"defaults", "hydra"}
    schema = OmegaConf.structured(SCHEMAS[command])
    required = {"train": None, "explain": "images"}.get(command, next(iter(schema)))
    assert required is None or OmegaConf.is_missing(schema, required)


@pytest.mark.parametrize(
    ("schema", "key", "inside", "outside", "expected"),
    [
        (ExplainConfig, "fraction", (0.01, 1), (0, 1.5, -1), "0 < fraction <= 1"),
        (ExplainConfig, "samples", (0, 3), (-1,), "samples >= 0"),
        (EvaluateConfig, "reference_steps", (1,), (0,), "reference_steps >= 1"),
        (ShardConfig, "shard_megabytes", (1,), (0,), "shard_megabytes >= 1"),
        (TrainerBounds, "gradient_clip_val", (0, 0.5, None), (-0.5,), "gradient_clip_val >= 0"),
        (
            TrainerBounds,
            "val_check_interval",
            (0.5, 2, "00:01:00"),
            (0,),
            "val_check_interval > 0, a share or a number",
        ),
    ],
)
def test_bounds(
    schema: type, key: str, inside: tuple[Any, ...], outside: tuple[Any, ...], expected: str
) -> None:
    check_bounds({}, schema)
    for value in inside:
        check_bounds({key: value}, schema)
    for value in outside:
        with pytest.raises(ValueError, match="Expected") as refused:
            check_bounds({key: value}, schema)
        assert str(refused.value) == f"Expected {expected}. Found {value}."
    with pytest.raises(ValueError, match=rf"here\.{key}"):
        check_bounds({key: outside[0]}, schema, "here")
