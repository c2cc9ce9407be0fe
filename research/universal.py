"""Study of the universal explainer: train variants side by side, judge them on validation images.

python research/universal.py base coarse --photographs DIR --out DIR --steps 300

Each variant is a set of Hydra overrides of ``experiment=universal``; all are judged together by
``saliency_vae.evaluate`` on validation scenes. No test portion is looked at. The table of all that
was tried is in docs/experiments.md.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

STRIDE_4 = ["encoder.output_stride=4"]
VARIANTS: dict[str, list[str]] = {
    "base": [],
    "stride_1": ["encoder.output_stride=1"],
    "stride_4": STRIDE_4,
    "mean_field": ["posterior=mean_field"],
    "smoother": ["prior.correlation=0.97"],
    "weak_prior": ["beta=0.01"],
    "strong_prior": ["beta=0.3"],
    "complement_3": ["complement=3"],
    "complement_03": ["complement=0.3"],
    "small_fractions": ["topk.fraction=[0.02,0.5]"],
    "large_fractions": ["topk.fraction=[0.1,0.9]"],
    "middle_fractions": ["topk.fraction=[0.05,0.7]"],
    "slow": ["optimizer.lr=1e-3"],
    "wide": ["encoder.channels=[24,32,48,64,96,96]"],
    "bf16": ["trainer.precision=bf16-mixed"],
    "contiguous": ["channels_last=false"],
}


def parse() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="+", choices=VARIANTS)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seconds", type=int, help="most seconds of each training")
    parser.add_argument("--images", type=int, default=60, help="validation scenes to judge on")
    parser.add_argument("--further", nargs="*", default=[], help="overrides of all variants")
    parser.add_argument("--judge", nargs="*", default=["smoothgrad", "grad_cam"])
    return parser.parse_args()


def scenes(data: str, photographs: Path) -> list[str]:
    """Overrides that set the photographs of a data module."""
    return [f"{data}.{part}={photographs / part}" for part in ("cutouts", "backgrounds")]


def training(name: str, args: argparse.Namespace) -> list[str]:
    """Command that trains a variant."""
    command = [sys.executable, "-m", "saliency_vae.train", "experiment=universal", "logger=csv"]
    command += [*scenes("tasks.lite0.data", args.photographs), f"+trainer.max_steps={args.steps}"]
    command += ["trainer.max_epochs=-1"]
    if args.seconds:
        minutes, seconds = divmod(args.seconds, 60)
        command += [f"+trainer.max_time='00:00:{minutes:02d}:{seconds:02d}'"]
    return [*command, *args.further, *VARIANTS[name], f"hydra.run.dir={args.out / name}"]


def evaluation(names: list[str], args: argparse.Namespace) -> list[str]:
    """Command that evaluates trained variants and other methods."""
    explainers = ",".join(str(args.out / name / "explainer") for name in names)
    methods = ",".join(["explainer", *names[1:], *args.judge])
    return [
        *[sys.executable, "-m", "saliency_vae.evaluate", f"explainer='{explainers}'"],
        *["classifier=efficientnet_lite", "classifier.image_size=128", "data=cutouts"],
        *scenes("data", args.photographs),
        *[f"methods=[{methods}]", f"limit={args.images}", "steps=16", "slow_images=0"],
        *["baseline_images=[blur,mean,inpaint]", "robustness_images=0", "batch_size=25"],
        *["grid_questions=100", "two_object_images=0", "reference_images=0"],
        f"hydra.run.dir={args.out / 'evaluation'}",
    ]


def main() -> None:
    """Train all variants in parallel, then evaluate those that succeeded."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    running = {}
    for name in args.variants:
        with (args.out / f"{name}.log").open("w") as log:
            running[name] = subprocess.Popen(
                training(name, args), stdout=log, stderr=subprocess.STDOUT, env=one_thread
            )
    failed = {name: code for name, process in running.items() if (code := process.wait())}
    print(f"Failed: {failed or 'none'}", flush=True)
    made = [name for name in args.variants if (args.out / name / "explainer").is_dir()]
    subprocess.run(evaluation(made, args), check=True)
    print((args.out / "evaluation/table.md").read_text())


if __name__ == "__main__":
    main()
