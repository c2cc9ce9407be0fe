"""Tests, benchmarks and training on a machine with a GPU: make gpu, or python3 scripts/gpu.py.

python3 scripts/gpu.py [PART...] [--seconds 570]; make gpu PARTS="tests training"

It takes the machine's own Python and torch, and what make gpu-bundle collected in .gpu, and needs
no network. The results go to $OUT, or to outputs/gpu: summary.md, a log of each part, the
benchmarks' JSON, and training/, a run of each network with its explainer. A part that fails, or
takes too long, does not keep the next from running. The last part trains networks of the universal
explainer side by side, on the bundle's photographs, for what is left of the seconds.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / ".gpu"
CLASSIFIERS = ROOT / "outputs/classifiers"
MACHINE = """
import platform, torch
print("Python", platform.python_version(), "torch", torch.__version__, "CUDA", torch.version.cuda)
for index in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(index)
    print(f"{card.name}, {card.total_memory / 2**30:.0f} GiB, capability {card.major}.{card.minor}")
"""


STEPS_A_SECOND = 3.0  # of each network, when all train in parallel
STARTING = 60.0  # seconds of a training before its first step and after its last one
# EfficientNet-Lite1 is held out, to be explained as a classifier that no training saw.
RECIPE = ["samples=4", "data.batch_size=24", "data.num_workers=2"]
RECIPE += ["~tasks.lite1", "~tasks.lite1_224"]
BOUNDED = "distance=total_variation beta=0.0125 mean_penalty=0.025"
NETWORKS = {
    "0.03": "seed=21 topk.temperature=0.03",
    "0.01": "seed=22 topk.temperature=0.01",
    "0.03-bounded": f"seed=23 topk.temperature=0.03 {BOUNDED}",
    "0.01-bounded": f"seed=24 topk.temperature=0.01 {BOUNDED}",
}


@dataclass(frozen=True)
class Part:
    """A command and its time limit in seconds."""

    name: str
    command: list[str]
    seconds: float


def parts(output: Path) -> list[Part]:
    """Parts to run before the training, in this order."""
    python = sys.executable
    tests = ["-m", "pytest", "tests/gpu", "-m", "gpu", "-q", "-ra", "-p", "no:cacheprovider"]
    tests += ["--tb=short", "--show-capture=stderr"]
    tests += ["-W", "default"]  # another machine's packages give other warnings
    tests += ["--timeout=60"] if find_spec("pytest_timeout") else []
    tests += ["--numprocesses=4", "--dist=worksteal"] if find_spec("xdist") else []
    rate = ["benchmarks/training_rate.py", "--device", "cuda", "--output", str(output)]
    universal = ["benchmarks/universal.py", "--device", "cuda", "--output", str(output)]
    data = ["benchmarks/data.py", "--device", "cuda", "--output", str(output)]
    photographs = BUNDLE / "photographs"
    data += ["--photographs", str(photographs)] if photographs.is_dir() else []
    return [
        Part("machine", [python, "-c", MACHINE], 60),
        Part("universal", [python, *universal], 90),
        Part("tests", [python, *tests], 110),
        Part("training_rate", [python, *rate, "--profile", "--seconds", "60"], 150),
        Part("data", [python, *data], 75),
    ]


def training(output: Path, seconds: float) -> list[Part]:
    """Parts that train the universal explainer's networks on the bundle's photographs."""
    photographs = BUNDLE / "photographs"
    steps = max(int((seconds - STARTING) * STEPS_A_SECOND), 1)
    most = time.strftime("00:%H:%M:%S", time.gmtime(max(seconds - STARTING / 2, 1)))
    command = [sys.executable, "-m", "saliency_vae.train", "experiment=universal", "logger=csv"]
    command += [f"tasks.lite0.data.cutouts={photographs / 'cutouts'}"]
    command += [f"tasks.lite0.data.backgrounds={photographs / 'backgrounds'}"]
    command += ["trainer.max_epochs=-1", f"+trainer.max_steps={steps}", *RECIPE]
    command += [f"+trainer.max_time='{most}'"]  # ends properly even if it is slower
    return [
        Part(
            f"network {name}",
            [*command, *settings.split(), f"hydra.run.dir={output / 'training' / name}"],
            seconds,
        )
        for name, settings in NETWORKS.items()
    ]


def run(parts: Sequence[Part], output: Path, environment: Mapping[str, str]) -> list[str]:
    """Run parts in parallel, print the output of each, and return lines of the table."""
    start = time.monotonic()
    logs = [output / f"{part.name.replace(' ', '-')}.log" for part in parts]
    processes = [begun(part, log, environment) for part, log in zip(parts, logs, strict=True)]
    lines = []
    for part, log, process in zip(parts, logs, processes, strict=True):
        try:
            status = process.wait(max(part.seconds - (time.monotonic() - start), 0))
            ended = "passed" if status == 0 else f"failed, status {status}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {part.seconds:.0f} s"
        finally:
            stop(process)
        lines.append(f"| {part.name} | {time.monotonic() - start:.0f} | {ended} |")
        print(f"\n== {part.name}\n{log.read_text(errors='replace')}", flush=True)
    return lines


def begun(part: Part, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a part in a new process session."""
    with log.open("w") as file:
        return subprocess.Popen(
            part.command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, if any are left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def main() -> None:
    """Run all parts, or those that are named."""
    start = time.monotonic()
    output = Path(os.environ.get("OUT") or ROOT / "outputs/gpu").resolve()
    fixed = parts(output)
    names = [*(part.name for part in fixed), "training"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=570, help="of all parts; default: 570")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(names):
        parser.error(f"Expected parts of {', '.join(names)}. Found {', '.join(sorted(unknown))}.")
    wanted = options.parts or names
    output.mkdir(parents=True, exist_ok=True)
    CLASSIFIERS.mkdir(parents=True, exist_ok=True)
    for path in (BUNDLE / "classifiers").glob("*.safetensors"):
        shutil.copy(path, CLASSIFIERS)
    search = [str(BUNDLE / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "4"),
    }
    lines = ["| part | seconds | result |", "| ---- | ------- | ------ |"]

    def do(*parts: Part) -> None:
        lines.extend(run(parts, output, environment))
        (output / "summary.md").write_text("\n".join(lines) + "\n")

    for part in fixed:
        if part.name in wanted:
            do(part)
    if "training" in wanted:
        do(*training(output, options.seconds - (time.monotonic() - start)))
    print("\n".join(["", *lines, "", str(output)]))
    if not all(line.endswith("passed |") for line in lines[2:]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
