"""What is said where an optional package is missing."""

import pickle
from importlib import import_module

import pytest

from saliency_vae.runtime.extras import MissingExtraError, importing, require


def test_the_missing_packages_alone_are_named() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("torch", "no_such_package", "nor_this", extra="fast", wanted_by="format=it")
    assert str(caught.value) == (
        "Expected the optional extra fast for format=it. "
        "Not found: no_such_package, nor_this: pip install 'saliency-vae[fast]'."
    )
    assert caught.value.extra == "fast"
    require("torch", extra="fast", wanted_by="this method")
    require(extra="fast", wanted_by="what needs nothing")


def test_an_import_that_fails_is_a_missing_extra() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"for it\. Not found: pack: pip install") as caught,
        importing("pack", extra="some", wanted_by="it"),
    ):
        import_module("no_such_package")
    assert caught.value.extra == "some"
    with pytest.raises(ZeroDivisionError), importing("pack", extra="some", wanted_by="it"):
        _ = 1 / 0


def test_the_error_survives_another_process() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package", extra="fast", wanted_by="it")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.extra) == (str(caught.value), "fast")
