"""Explain images: maps and predictions, a panel for each, and a gallery of all.

python -m saliency_vae.explain explainer=DIR images=photo.jpg output_dir=OUT
python -m saliency_vae.explain explainer=DIR images=photos output_dir=OUT batch_size=64
python -m saliency_vae.explain explainer=DIR images='photos/*.jpg' output_dir=OUT refine_steps=100
python -m saliency_vae.explain explainer=DIR images=photos output_dir=OUT devices=4 num_workers=8
"""

import os
import signal
import sys
from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.cli.validation import Node
from saliency_vae.runtime.text import same_command


@command("explain", paths=("explainer", "images", "output_dir", "labels"))
def explain(config: Node, run: Path) -> None:
    """Explain images as configured, and print a summary.

    Raises:
        ValueError: If a setting is wrong.
        SystemExit: With status 1, if all images are finished but some could not be explained;
            with 130 after Ctrl-C.
    """
    if config["num_workers"] or config["devices"] > 1:
        # Set before torch is loaded: its idle threads would busy-wait on other processes' cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from saliency_vae.inference import explain_images  # loads torch, which --help does not need

    try:
        summary = explain_images(ExplainConfig(**config))
    except KeyboardInterrupt:
        again = same_command(overwrite=config["overwrite"])
        print(f"Stopped by Ctrl-C: {again} goes on.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    print(summary)
    if summary.broken and not summary.left:
        raise SystemExit(1)


if __name__ == "__main__":
    explain()
