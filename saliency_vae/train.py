"""Train an explainer for a classifier.

python -m saliency_vae.train                                  the paper's: ImageNet, ResNet-50
python -m saliency_vae.train experiment=cluttered_digits      built-in data, minutes on a CPU
python -m saliency_vae.train trainer.devices=4
python -m saliency_vae.train -m prior.correlation=0.5,0.9,0.99
python -m saliency_vae.train ckpt_path=last hydra.run.dir=RUN resume the run in directory RUN
"""

import sys
from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.cli.validation import Node


@command("train")
def train(config: Node, run: Path) -> float:
    """Train an explainer, and write all files of the run's directory.

    Args:
        config: Resolved configuration.
        run: The run's directory.

    Returns:
        Lowest validation loss.

    Raises:
        ValueError: If a setting is wrong, before anything is downloaded or trained.
        SystemExit: With status 143 at SIGTERM, once the step is saved; with 130 at Ctrl-C.
    """
    from saliency_vae.training.run import run_training  # loads torch, which --help does not need

    return run_training(config, run)


if __name__ == "__main__":
    sys.argv[1:] = with_overrides_of_run(sys.argv[1:])
    train()
