"""Save a view of a W&B project: curves, explanations, and its sweeps as parallel coordinates.

python docs/wandb_view.py ENTITY PROJECT [--setting beta --setting topk.temperature]

Needs ``pip install wandb-workspaces``, a key (``wandb login``) and the network. It changes no run,
and adds one saved view to the project.
"""

import argparse
from collections.abc import Sequence

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as views

METRICS = ("loss", "agreement_5", "agreement_10", "agreement_20", "reconstruction", "kl")
CURVES = {
    "Loss": ["train/loss", "val/loss"],
    "Reconstruction": ["train/reconstruction", "val/reconstruction"],
    "KL divergence": ["train/kl", "val/kl"],
    "Agreement of the decision": ["val/agreement_5", "val/agreement_10", "val/agreement_20"],
    "Posterior stddev": ["train/stddev", "val/stddev"],
    "Images a second": ["train/images_per_second"],
}


def build(entity: str, project: str, settings: Sequence[str]) -> views.Workspace:
    """Lay out the view.

    Args:
        entity: User or team.
        project: Project of the runs.
        settings: Settings of the sweep, such as ``prior.correlation``, on the first axes.
    """
    axes = [panels.ParallelCoordinatesPlotColumn(panels.Config(name)) for name in settings]
    axes += [
        panels.ParallelCoordinatesPlotColumn(panels.SummaryMetric(f"best/{name}"), name)
        for name in METRICS
    ]
    step = "trainer/global_step"
    curves = [panels.LinePlot(title=title, x=step, y=list(y)) for title, y in CURVES.items()]
    pictures = panels.MediaBrowser(title="Explanations", media_keys=["explanations"], num_columns=1)
    figures = panels.MediaBrowser(title="Evaluation", media_keys=["report"], num_columns=1)
    sweep = panels.ParallelCoordinatesPlot(columns=axes, title="Settings and the best explainer")
    return views.Workspace(
        entity,
        project,
        name="Explainers",
        sections=[
            views.Section("Explanations", [pictures], is_open=True),
            views.Section("Sweep", [sweep, panels.RunComparer(diff_only="split")], is_open=True),
            views.Section("Curves", curves, is_open=True),
            views.Section("Evaluation", [figures]),
        ],
    )


def main() -> None:
    """Save the view, and print its address."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("entity")
    parser.add_argument("project")
    parser.add_argument("--setting", action="append", help="default: prior.correlation")
    given = parser.parse_args()
    view = build(given.entity, given.project, given.setting or ["prior.correlation"])
    print(view.save().url)


if __name__ == "__main__":
    main()
