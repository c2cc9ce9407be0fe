"""Imports run down the floors of the house, package by package."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "saliency_vae"

# From the ground up. A package may import from its own floor's packages named before it and from
# all floors below; modules at the top level stand by themselves.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("topk", "runtime", "perturbations", "data"),
    ("distributions", "classifiers", "cli"),
    ("objective", "metrics", "visualization"),
    ("models",),
    ("training", "inference", "exporting", "adapters", "baselines"),
    ("evaluation",),
    ("train", "explain", "evaluate", "export", "shard", "app"),
    ("__main__",),
)
# Training may not use the rival methods, nor one command another.
APART = {"training": {"baselines", "inference", "exporting", "adapters"}}
MATHEMATICS = ("topk", "distributions")
MOST_MODULES_AT_THE_TOP = 8
COMMANDS = {"train", "explain", "evaluate", "export", "shard", "app"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ORDER = [package for floor in FLOORS for package in floor]


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


def room_of(dotted: str) -> str | None:
    """Package or top-level module of a dotted name; None for another package's."""
    first, *rest = dotted.split(".")
    if first != PACKAGE.name:
        return None
    return rest[0] if rest and rest[0] in ORDER else "__init__"


def test_the_reader_finds_imports() -> None:
    assert {room_of(name) for name in imports("distributions.posterior")} == {
        None,
        "distributions",
        "topk",
    }
    assert room_of("saliency_vae.distributions.KroneckerNormal") == "distributions"
    assert room_of("saliency_vae.__version__") == "__init__"


def test_every_room_stands_on_a_floor() -> None:
    rooms = {module.partition(".")[0] for module in MODULES} - {"__init__"}
    assert rooms == set(ORDER)
    at_the_top = {name for name in MODULES if "." not in name and MODULES[name].stem == name}
    assert len(at_the_top - COMMANDS - {"__main__"}) <= MOST_MODULES_AT_THE_TOP


def test_imports_run_down_the_floors() -> None:
    forbidden = {}
    for module in MODULES.keys() - {"__init__"}:
        room = module.partition(".")[0]
        allowed = {room, "__init__", *ORDER[: ORDER.index(room)]} - APART.get(room, set())
        if room in COMMANDS:
            allowed -= COMMANDS - {room}
        found = {room_of(name) for name in imports(module)} - {None}
        if not found <= allowed:
            forbidden[module] = found - allowed
    assert forbidden == {}


def test_the_mathematics_loads_torch_and_nothing_else() -> None:
    script = "import sys, torch; before = set(sys.modules)\n" + "\n".join(
        f"import saliency_vae.{module}" for module in MATHEMATICS
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"{script}\nprint(*(set(sys.modules) - before))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    foreign = {name.partition(".")[0] for name in loaded} - {"torch"} - sys.stdlib_module_names
    assert foreign == {"saliency_vae"}
    services = {"saliency_vae.runtime", "saliency_vae.runtime.autograd"}  # of torch alone
    rooms = {room_of(name) for name in set(loaded) - services}
    assert rooms <= {None, "__init__", *MATHEMATICS}
