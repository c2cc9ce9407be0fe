"""Finds and reads the checkpoint to resume from, and compares it with the run."""

import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from saliency_vae.classifiers import ClassifierIdentity
from saliency_vae.cli.resumed_overrides import LAST
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.models import BEFORE_NAMES, ExplainerConfig
from saliency_vae.models.part_names import has_own_parts

_log = logging.getLogger(__name__)
_WRITTEN = {"state_dict", "classifier", "explainer", "overrides"}


def checkpoint_path(ckpt_path: str | None, run: Path) -> Path | None:
    """File to resume from, if any.

    Args:
        ckpt_path: None, ``last`` for the last checkpoint of the run itself, or a file.
        run: Directory of the run.

    Raises:
        ValueError: If there is no such file.
    """
    if ckpt_path is None:
        return None
    path = run / LAST if ckpt_path == "last" else Path(ckpt_path)
    if not path.is_file():
        hint = "hydra.run.dir=DIR names the run to resume." if ckpt_path == "last" else ""
        raise ValueError(
            f"Expected ckpt_path={ckpt_path} to be a checkpoint. Not found: {path}. {hint}"
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run, without the values of its tensors; no code in it is run.

    Raises:
        ValueError: If the file is not a checkpoint of a run.
    """
    try:
        found = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's errors have no common base
        found = type(error).__name__
    if not isinstance(found, dict) or not found.keys() >= _WRITTEN:
        what = found if isinstance(found, str) else "another file, or one of an earlier version"
        raise ValueError(f"Expected ckpt_path={path} to be a checkpoint of a run. Found {what}.")
    return found


def how_to_resume(run: Path) -> str:
    """Sentence with the command to resume a run; relative paths need the same directory."""
    return (
        "To go on, from the same directory: "
        f"python -m saliency_vae.train ckpt_path=last hydra.run.dir={run}"
    )


def check_resumable(
    checkpoint: Mapping[str, Any],
    found: ClassifierIdentity,
    settings: Mapping[str, Any],
    further: Sequence[str] = (),
) -> None:
    """Refuse a checkpoint made for another classifier, or with other settings of the explainer.

    Args:
        checkpoint: Checkpoint of this version or an earlier one.
        found: Identity of the run's classifier.
        settings: Settings of the run's explainer, as plain values.
        further: Classifiers of the run's further tasks.

    Raises:
        ValueError: If the classifier or a setting differs; names both.
    """
    expected = _identity_in(checkpoint)
    differing = found.differences(expected)
    if differing:
        raise ValueError(
            "Expected ckpt_path to be a checkpoint for this run's classifier "
            f"{found}. Found one for {expected}, another {', '.join(differing)}."
        )
    earlier = checkpoint.get("further_classifiers", [])
    if list(further) != earlier:
        raise ValueError(
            f"Expected a run that goes on with its tasks, whose further classifiers are {earlier}. "
            f"Found {list(further)}."
        )
    then, now = _then_and_now(_settings_in(checkpoint), settings)
    if then:
        raise ValueError(
            f"Expected a run that goes on with its explainer's settings, {then}. Found {now}."
        )


def recorded_data(trainer: Trainer) -> dict[str, Any]:
    """Settings that determine the order of the training images; empty for other data modules."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, SaliencyDataModule) or not hasattr(data, "train_set"):
        return {}
    return data.recorded()


def check_data(checkpoint: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse to resume within an epoch if the training images or their order have changed.

    After an epoch the run may go on with other data, which is logged. Checkpoints before version
    0.2.0 do not record the data.

    Args:
        checkpoint: Checkpoint that is being loaded.
        found: Result of :func:`recorded_data` for this run.

    Raises:
        ValueError: If images of the epoch would be seen twice or never; names what differs.
    """
    recorded = checkpoint.get("data", {})
    known = [name for name in found if name in recorded]
    then, now = _then_and_now({n: recorded[n] for n in known}, {n: found[n] for n in known})
    if not then:
        return
    if checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        _log.warning("The run goes on with other data: %s, after %s in the last epoch.", now, then)
        return
    raise ValueError(
        f"Expected a run that goes on within its epoch with its data, {then}. Found {now}, with "
        "which some images would come twice: go on with the former."
    )


def _then_and_now(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Describe the settings that differ, as recorded and as in the run; both empty if none do."""
    changed = dict(_changes(then, now))
    before, after = (
        ", ".join(f"{name}={values[i]}" for name, values in changed.items()) for i in (0, 1)
    )
    return before, after


def _identity_in(checkpoint: Mapping[str, Any]) -> ClassifierIdentity:
    """Identity of the classifier that a checkpoint was made for."""
    recorded = checkpoint["classifier"]
    per_channel = {name: tuple(recorded[name]) for name in ("mean", "std")}
    return ClassifierIdentity(**recorded | per_channel)


def _settings_in(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the explainer in a checkpoint, as plain values; empty if it has none."""
    recorded = checkpoint["explainer"]
    if not recorded:
        return {}
    plain = {"format": BEFORE_NAMES, **recorded}  # none in checkpoints with import paths
    settings = ExplainerConfig.from_plain(plain, "the checkpoint").to_plain()
    perturbation = recorded.get("perturbation")  # from_plain drops a user's own one
    return settings | ({"perturbation": perturbation} if has_own_parts(perturbation) else {})


def _changes(then: Any, now: Any, name: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield settings that differ, with old and new value; for another part only its name."""
    if isinstance(then, Mapping) and isinstance(now, Mapping) and _short(then) == _short(now):
        for key in dict.fromkeys([*then, *now]):
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif then != now:
        yield name, (_short(then), _short(now))


def _short(setting: Any) -> str:
    """Write a setting, or the name of a part, in a few words."""
    if isinstance(setting, Mapping):
        return str(setting.get("type", ""))
    return textwrap.shorten(str(setting), 60, placeholder="...")
