"""Text for messages."""

from saliency_vae.runtime.text import described, did_you_mean, printable


def test_an_error_is_described_in_one_line() -> None:
    assert described(ValueError("two\nlines.")) == "ValueError: two lines"


def test_what_is_not_printable_is_replaced() -> None:
    assert printable("a\tb\x1b[2J") == "a\ufffdb\ufffd[2J"
    assert printable("Größe 3") == "Größe 3"


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("corelation", ["kernel", "correlation"]) == " Did you mean correlation?"
    assert did_you_mean("zzz", ["kernel", "correlation"]) == ""
    assert did_you_mean("zzz", []) == ""
