"""Seconds for insertion and deletion curves: python benchmarks/insertion_deletion.py [images].

The built-in classifier's architecture with random weights, 48x48, 48 steps, both curves.
"""

import json
import sys
import time

import torch

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.digit_classifier import DigitNet
from saliency_vae.metrics.insertion_deletion import insertion_deletion
from saliency_vae.perturbations import Blur


def main() -> None:
    """Print one line of JSON."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    classifier = FrozenClassifier(DigitNet(), name="digits")
    pictures = torch.rand(images, 3, 48, 48)
    saliency = torch.rand(images, 48, 48)
    start = time.perf_counter()
    insertion_deletion(classifier, pictures, saliency, Blur(8.0)(pictures), step=48)
    seconds = time.perf_counter() - start
    print(json.dumps({"images": images, "seconds": seconds, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
