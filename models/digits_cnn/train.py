"""Train and export digits_cnn: `python -m models.digits_cnn.train`, from the root of the repository."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from models import digits


def conv(inputs: int, outputs: int, kernel: int, *activation: nn.Module, stride: int = 1, groups: int = 1) -> nn.Module:
    """Conv without bias, BatchNorm and, where given, an activation."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *activation)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut: ReLU(x + f(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels, 3, nn.ReLU()), conv(channels, channels, 3))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.body(x))


class SqueezeExcite(nn.Module):
    """Scale each channel by a HardSigmoid of the pooled image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class InvertedResidual(nn.Module):
    """Expand, depthwise with HardSwish, squeeze-excite, project; with a shortcut where the shapes allow it."""

    def __init__(self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv(inputs, expanded, 1, nn.Hardswish()),
            conv(expanded, expanded, kernel, nn.Hardswish(), stride=stride, groups=expanded),
            SqueezeExcite(expanded),
            conv(expanded, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def build() -> nn.Module:
    """The network, for 32x32 images."""
    return nn.Sequential(
        conv(1, 16, 3, nn.ReLU()),
        Residual(16),
        InvertedResidual(16, 48, 32, kernel=3, stride=2),
        InvertedResidual(32, 96, 32, kernel=3),
        InvertedResidual(32, 96, 48, kernel=5, stride=2),
        InvertedResidual(48, 144, 48, kernel=5),
        conv(48, 96, 1, nn.Hardswish()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, digits.CLASSES),
    )


def main() -> None:
    """Train on the digits and write the files beside this one."""
    digits.start()
    split = digits.load(upsample=4)
    model = build()
    digits.train(model, split.train, epochs=60, rate=4e-3, decay=1e-2)
    expected = {"BatchNormalization", "Conv", "Relu", "Add", "HardSwish", "HardSigmoid", "GlobalAveragePool", "Mul"}
    digits.finish(model, split, Path(__file__).parent, expected)


if __name__ == "__main__":
    main()
