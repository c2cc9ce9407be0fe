"""Functions stay short and take few parameters, so that each can be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "saliency_vae"
MOST_LINES = 50  # decorators and docstring included
MOST_PARAMETERS = 8  # self apart
# Parameters of a data module or a builder are the settings that users type: data.image_size=128.
EXEMPT = {"data/cutouts.py:__init__", "classifiers/builders.py:custom_classifier"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}", node


def lines(function: Function) -> int:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    assert function.end_lineno is not None
    return function.end_lineno - first + 1


def parameters(function: Function) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    variable = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    return len([one for one in (*named, *variable) if one.arg not in ("self", "cls")])


@pytest.mark.parametrize(("measure", "most"), [(lines, MOST_LINES), (parameters, MOST_PARAMETERS)])
def test_functions_are_small(measure: object, most: int) -> None:
    assert callable(measure)
    found = {name: measure(node) for name, node in functions() if name not in EXEMPT}
    assert {name: size for name, size in found.items() if size > most} == {}
