"""Importing the object that a setting names by its import path."""

import logging
from typing import Any

from hydra.utils import get_object

from saliency_vae.runtime.text import one_line


def import_object(path: str) -> Any:
    """Import an object by its path as Hydra does, without Hydra's log lines on the console.

    Args:
        path: Import path, such as ``torch.nn.Linear``.

    Raises:
        ValueError: If it cannot be imported, with the reason in one line.

    Example:
        >>> import_object("math.pi")
        3.141592653589793
        >>> import_object("no_such_module.Part")
        Traceback (most recent call last):
            ...
        ValueError: no_such_module.Part (No module named 'no_such_module')
    """
    log = logging.getLogger(get_object.__module__)
    was_disabled, log.disabled = log.disabled, True
    try:
        return get_object(path)
    except Exception as error:
        reason = one_line(error.__cause__ or error)
        raise ValueError(f"{path} ({reason})") from None
    finally:
        log.disabled = was_disabled
