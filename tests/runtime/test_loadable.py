"""What a file may name is what was allowed, and nothing else."""

import pytest

from saliency_vae.runtime.loadable import check_loadable


def test_check_loadable_accepts_what_is_allowed() -> None:
    node = {"_target_": "a.B", "parts": [{"_target_": "a.C", "size": 3, "name": "$x {y}"}]}
    check_loadable(node, {"a.B", "a.C"}, "here")
    check_loadable(None, {"a.B"}, "here")
    with pytest.raises(ValueError, match=r"Expected here to be one of a\.B\. Found a\.C\."):
        check_loadable(node, {"a.B"}, "here")
