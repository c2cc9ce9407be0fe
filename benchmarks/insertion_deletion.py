"""Insertion and deletion curves, at 48x48 in 48 steps, with the built-in classifier.

python benchmarks/insertion_deletion.py [--quick]
"""

import torch
from timing import Report, arguments, interleaved, milliseconds, ratio

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.metrics import insertion_deletion
from saliency_vae.perturbations import Blur

STEPS = 48


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    images, rounds = (2, 1) if options.quick else (200, 5)
    device = options.device
    torch.manual_seed(0)
    classifier = FrozenClassifier(DigitNet(), name="digits").to(device)
    pictures = torch.rand(images, 3, 48, 48, device=device)
    saliency = torch.rand(images, 48, 48, device=device)
    baseline = Blur(8.0)(pictures)

    def curves() -> None:
        insertion_deletion(classifier, pictures, saliency, baseline, step=STEPS)

    @torch.no_grad()
    def classify() -> None:
        for _ in range(2 * STEPS):
            classifier(pictures)

    name = f"classifier alone, {2 * STEPS} passes"
    times = interleaved({"both curves": curves, name: classify}, device, rounds=rounds)
    report = Report("insertion_deletion", "Insertion and deletion", device, options.quick)
    report.tables[f"{images} images"] = [
        {"": name, "ms an image": milliseconds(t) / images, "x the classifier": ratio(t, floor)}
        for floor in [times[name]]
        for name, t in times.items()
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
