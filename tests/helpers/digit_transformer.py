"""A small vision transformer with a class token."""

import torch
from torch import Tensor, nn

from saliency_vae.data.digit_images import NUM_CLASSES


class DigitTransformer(nn.Module):
    """Vision transformer with a class token over patches of 4x4 features of half the resolution.

    Args:
        image_size: Height and width of the images in pixels, a multiple of 8.
        width: Width of the tokens.
        depth: Number of blocks.
    """

    def __init__(self, image_size: int, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Sequential(  # convolutions first: a small transformer learns faster
            nn.Conv2d(3, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, width, 2, stride=2),
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (image_size // 8) ** 2, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W): logits (B, classes)."""
        patches = self.patches(images).flatten(2).mT + self.position
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits
