"""The universal explainer on networks whose architecture its training never saw.

python research/unseen_families.py --out DIR

Trains a transformer, a depthwise convolutional network with layer norm and a plain one with SiLU
and group norm on the built-in digits, with strides of their own, and evaluates the universal
explainer on them beside other methods: docs/results.md.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.models.convnext import CNBlock, LayerNorm2d
from tqdm import tqdm

from saliency_vae.classifiers.digits import accuracy
from saliency_vae.data.digit_images import NUM_CLASSES, ClutteredDigits

SIZE = 48
_LEARNED = 0.8  # accuracy; a network that confuses digits has nothing to explain
METHODS = ["explainer", "smoothgrad", "grad_cam", "gradient_shap", "integrated_gradients", "rise"]


class DigitTransformer(nn.Module):
    """Vision transformer without a class token; each token stands for 6x6 pixels.

    Args:
        width: Width of the tokens.
        depth: Number of blocks.
    """

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(  # convolutions first: a small transformer learns faster
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(32, width, 3, stride=3),
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, (SIZE // 6) ** 2, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, 48, 48): logits (B, classes)."""
        tokens = self.stem(images).flatten(2).mT + self.position
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens).amax(1))
        return logits


class DepthwiseNet(nn.Sequential):
    """ConvNeXt blocks with layer norm, at a third and a sixth of the resolution."""

    def __init__(self) -> None:
        def block(width: int) -> nn.Module:
            return CNBlock(width, layer_scale=1.0, stochastic_depth_prob=0.0)

        super().__init__(
            nn.Conv2d(3, 32, 3, stride=3),
            LayerNorm2d(32),
            *(block(32) for _ in range(2)),
            nn.Conv2d(32, 64, 2, stride=2),
            *(block(64) for _ in range(3)),
            nn.AdaptiveMaxPool2d(1),  # a mean would hardly see a digit among the clutter
            nn.Flatten(),
            nn.LayerNorm(64),
            nn.Linear(64, NUM_CLASSES),
        )


class GroupNormNet(nn.Sequential):
    """Convolutions with group norm and SiLU, at total strides of 2, 4 and 12."""

    def __init__(self) -> None:
        def block(inputs: int, width: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            return [convolution, nn.GroupNorm(8, width), nn.SiLU()]

        scales = [(3, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 96, 3), (96, 96, 1)]
        super().__init__(
            *(layer for scale in scales for layer in block(*scale)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(96, NUM_CLASSES),
        )


FAMILIES = {
    "transformer": DigitTransformer,
    "depthwise": DepthwiseNet,
    "group_norm": GroupNormNet,
}


def train(network: nn.Module, data: ClutteredDigits, epochs: int, lr: float) -> None:
    """Train a network on digits."""
    loader = DataLoader(data, batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=epochs * len(loader)
    )
    network.train()
    for _ in tqdm(range(epochs), desc="epochs"):
        for batch in loader:
            loss = F.cross_entropy(network(batch["image"].float() / 255), batch["label"])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    network.eval()


def evaluation(name: str, out: Path, limit: int) -> list[str]:
    """Command that evaluates the universal explainer on a trained network."""
    module = f"research.unseen_families.{FAMILIES[name].__name__}"
    return [
        *[sys.executable, "-m", "saliency_vae.evaluate", "explainer=universal"],
        *["classifier=custom", f"classifier.module={module}", "data=cluttered_digits"],
        *[f"classifier.weights={out / name}.safetensors", "classifier.mean=[0,0,0]"],
        *["classifier.std=[1,1,1]", f"methods=[{','.join(METHODS)}]", f"limit={limit}"],
        *["baseline_images=[blur,mean,inpaint]", "steps=24", "robustness_images=0"],
        *["reference_images=0", "corruption_images=0", "grid_questions=0", "own_mask_images=0"],
        *["slow_images=null", f"hydra.run.dir={out / name}"],
    ]


def main() -> None:
    """Train the networks that do not exist yet, then evaluate all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=list(FAMILIES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--train-size", type=int, default=16_000)
    parser.add_argument("--images", type=int, default=100)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.families:
        weights = args.out / f"{name}.safetensors"
        if not weights.is_file():
            torch.manual_seed(0)
            network = FAMILIES[name]()
            data = ClutteredDigits("train", args.train_size, image_size=SIZE, progress=True)
            train(network, data, args.epochs, args.lr)
            test = ClutteredDigits("test", 1000, image_size=SIZE)
            right = accuracy(network, test)
            print(f"{name}: test accuracy {right:.1%}", flush=True)
            if right < _LEARNED:
                sys.exit(f"Expected at least {_LEARNED:.0%} right: train {name} for longer.")
            save_file(network.state_dict(), weights)
        subprocess.run(evaluation(name, args.out, args.images), check=True)


if __name__ == "__main__":
    main()
