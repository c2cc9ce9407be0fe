"""Compare an explainer with other methods on the same images and classifier.

python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits
python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits methods=[ours,rise] limit=100
python -m saliency_vae.evaluate explainer=DIR data=imagenet annotations=BOXES tolerance=15
"""

from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.pipeline import compare
from saliency_vae.runtime.memory import suggesting


@command("evaluate", paths=("explainer", "annotations", "randomised"))
def evaluate(config: Node, run: Path) -> None:
    """Evaluate as configured; write metrics, figures and report into the run's directory.

    Raises:
        ValueError: If a setting is wrong.
    """
    with suggesting(f"batch_size < {config['batch_size']}"):
        compare(config, run)


if __name__ == "__main__":
    evaluate()
