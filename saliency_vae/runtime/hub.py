"""Loading from the Hugging Face Hub, without a long wait if there is no network."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # it is documented

from saliency_vae.runtime.text import described

_SECONDS = 3.0  # in which the hub must answer
_MOST_CHARACTERS = 300  # of an error of another library, which may be a page


@contextmanager
def hub_or_cache() -> Iterator[bool]:
    """Let libraries load from the hub or, if it does not answer, only from its cache.

    Without this, they retry for most of a minute before they look at the cache. Yields whether the
    hub answers.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers()
    try:
        yield not constants.HF_HUB_OFFLINE
    finally:
        constants.HF_HUB_OFFLINE = before


def why_not(error: Exception, *, answers: bool) -> str:
    """Say in a few words why nothing was loaded.

    Args:
        error: What the library raised.
        answers: Whether the hub answers.
    """
    return described(error)[:_MOST_CHARACTERS] if answers else "no answer from the Hugging Face Hub"


def _answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # of whatever HTTP library this version of the hub's client uses
        return False
    return True
