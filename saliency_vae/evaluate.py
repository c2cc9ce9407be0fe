"""Compare an explainer with other methods on the same images and classifier.

python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits
python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits methods=[explainer,rise]
python -m saliency_vae.evaluate explainer=DIR data=imagenet annotations=BOXES tolerance=15
python -m saliency_vae.evaluate explainer=DIR data=imagenet partition=1/4 hydra.run.dir=RUN
"""

from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node


@command("evaluate", paths=("explainer", "annotations", "image_only", "randomised"))
def evaluate(config: Node, run: Path) -> None:
    """Evaluate as configured; write metrics, figures and report into the run's directory.

    Args:
        config: Resolved configuration.
        run: Directory of the run.

    Raises:
        ValueError: If a setting is wrong.
    """
    # These load torch, which --help does not need.
    from saliency_vae.evaluation import run_evaluation
    from saliency_vae.evaluation.report import print_results
    from saliency_vae.runtime.memory import suggesting

    kept = f"What is done is kept: the same command with hydra.run.dir={run} goes on."
    with suggesting(f"batch_size < {config['batch_size']}", kept):
        results = run_evaluation(config, run)
    if results is not None:
        print_results(results, run / "report.html")
        return
    print(
        f"Partition {config['partition']} is done. The last one to finish writes "
        f"{run}/report.html; the same command with partition=1/1 does all that is left."
    )


if __name__ == "__main__":
    evaluate()
