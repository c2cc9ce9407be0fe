"""Commands answer --help without loading what only their work needs."""

import json
import subprocess
import sys

COMMANDS = ("train", "explain", "evaluate", "export", "shard", "app")
HEAVY = {"torch", "torchvision", "lightning", "wandb", "matplotlib", "numpy", "gradio"}
SCRIPT = """
import contextlib, importlib, io, json, sys

printed = {}
for name in sys.argv[1:]:
    module = "app.__main__" if name == "app" else name
    command = getattr(importlib.import_module(f"saliency_vae.{module}"), name)
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        command()
    printed[name] = output.getvalue()
print(json.dumps({"printed": printed, "loaded": sorted(sys.modules)}))
"""


def test_help_loads_nothing_heavy() -> None:
    command = [sys.executable, "-c", SCRIPT, *COMMANDS]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name in COMMANDS:
        assert f"python -m saliency_vae.{name}" in found["printed"][name]
    assert "saliency_vae.cli.command" in found["loaded"]
    assert HEAVY & set(found["loaded"]) == set()
