"""Train and export digits_transformer: `python -m models.digits_transformer.train`, from the root of the repository."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import digits

PATCH, TOKENS = 2, 16


class Attention(nn.Module):
    """Multi-head self-attention with a linear layer each for query, key, value and output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).view(x.shape[0], -1, self.heads, self.size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, scale=self.size**-0.5)
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], -1, self.heads * self.size))


class Block(nn.Module):
    """A pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x)) with the exact (Erf) GELU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Patches of the 8x8 image as tokens, learned positions, blocks, mean over the tokens, classifier."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, PATCH, stride=PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, digits.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


def main() -> None:
    """Train on the digits and write the files beside this one."""
    digits.start()
    split = digits.load()
    model = Transformer(width=64, heads=4, hidden=128, layers=3)
    digits.train(model, split.train, epochs=150, rate=2e-3, decay=5e-2)
    expected = {"LayerNormalization", "Erf", "MatMul", "Softmax", "Reshape", "Transpose", "Div", "Add", "Mul"}
    digits.finish(model, split, Path(__file__).parent, expected)


if __name__ == "__main__":
    main()
