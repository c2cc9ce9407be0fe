"""Seconds until each command has answered --help, against those of importing torch.

python benchmarks/startup.py [--quick]
"""

import statistics
import subprocess
import sys
from functools import partial

from timing import Report, Target, arguments, interleaved, ratio, seconds

COMMANDS = ("train", "explain", "evaluate", "export", "shard")
TORCH = "import torch"
AT_MOST = 2.0  # times as long as importing torch


def run(*given: str) -> None:
    """Run Python in a separate process."""
    subprocess.run([sys.executable, *given], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    commands = COMMANDS[-1:] if options.quick else COMMANDS
    functions = {TORCH: partial(run, "-c", TORCH)}
    for command in commands:
        functions[f"{command} --help"] = partial(run, "-m", f"saliency_vae.{command}", "--help")
    if options.quick:
        times = {name: [seconds(functions[name], options.device)] for name in functions}
    else:
        times = interleaved(functions, options.device, rounds=7)
    report = Report("startup", "Start-up of the commands", options.device, options.quick)
    report.tables["Each in a process of its own"] = [
        {
            "": name,
            "seconds": statistics.median(times[name]),
            f"x {TORCH}": ratio(times[name], times[TORCH]),
        }
        for name in functions
    ]
    report.targets = [
        Target(f"{name} / {TORCH}", ratio(times[name], times[TORCH]), at_most=AT_MOST)
        for name in functions
        if name != TORCH
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
