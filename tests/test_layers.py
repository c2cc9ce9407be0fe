"""Imports within the package go only downward."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "saliency_vae"

# These may not import one another either.
ALONE = ("loggers", "resume", "sweep", "configuration", "device", "run_directory")
# From the bottom up. "name.*" is the package and all of its modules.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("topk", "distributions.*"),
    (
        *("losses", "preprocessing", "perturbations", "encoders", "priors"),
        *("atomic_file", "out_of_memory", "loadable", "errors"),
    ),
    ("classifiers", "confidence"),
    ("classifier_probe", "clues"),
    ("informed_encoder",),
    ("data.*",),
    ("objective", "digit_classifier"),
    ("refinement", "model_card", "imitation", "explained_classifier"),
    ("explainer_directory",),
    ("metrics.*", "explainer", "__init__"),
    ("adapters.*", "baselines.*", "overlay", "panel", "content_policy", "gallery"),
    ("held_out", "results", "findings", "provenance", "graph"),
    (
        *("contenders", "evaluation", "sanity_checks", "robustness"),
        *("pixel_uncertainty", "image_confidence", "corruption"),
    ),
    ("evaluation_figures", "ranking_table", "report", "wandb_report", "publish"),
    ("module", "figures", "callbacks", "checkpoints", "non_finite"),
    ALONE,
    ("explanations", "training_settings"),
    ("command",),
    ("train", "explain", "export", "evaluate", "shard"),
)
MATHEMATICS_IMPORTS = {"torch", "saliency_vae"} | sys.stdlib_module_names


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layers_of(module: str) -> list[int]:
    names = {module, f"{module}.*", f"{module.partition('.')[0]}.*"}
    return [level for level, layer in enumerate(LAYERS) if names & set(layer)]


def imports(module: str) -> Iterator[str]:
    """Full dotted names that a module imports anywhere in its text."""
    path = MODULES[module]
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join((*above, node.module) if node.module else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own_module(dotted: str) -> str | None:
    """The package's module that a dotted name is or lies in; None for another package's."""
    first, *rest = dotted.split(".")
    if first != PACKAGE.name:
        return None
    while rest and ".".join(rest) not in MODULES:
        rest.pop()
    return ".".join(rest) or "__init__"


def test_the_reader_finds_imports() -> None:
    assert {own_module(name) for name in imports("distributions.posterior")} == {
        None,
        "distributions.prior",
        "topk",
    }
    assert own_module("saliency_vae.distributions.KroneckerNormal") == "distributions"
    assert own_module("saliency_vae.__version__") == "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_module_has_one_layer(module: str) -> None:
    assert len(layers_of(module)) == 1, f"List {module} once in LAYERS."


def test_every_listed_module_exists() -> None:
    listed = {name.removesuffix(".*") for layer in LAYERS for name in layer}
    assert listed <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    (level,) = layers_of(module)
    for imported in {own_module(name) for name in imports(module)} - {None, module}:
        assert imported is not None
        (below,) = layers_of(imported)
        limit = level - 1 if module in ALONE else level
        assert below <= limit, f"{module} must not import {imported}."


@pytest.mark.parametrize("module", [name for name in MODULES if layers_of(name) == [0]])
def test_mathematics_needs_torch_alone(module: str) -> None:
    assert {name.partition(".")[0] for name in imports(module)} <= MATHEMATICS_IMPORTS
