"""AlexNet and ResNet18 in plain torch, named by logical layers: the networks of the model_partitioning paper.

Regenerate the shipped tables with

    edgemarl profile edgemarl.launch.dnn.examples:alexnet --input 3,224,224 --repeats 0 --csv envs/dnn/alexnet.csv
    edgemarl profile edgemarl.launch.dnn.examples:resnet18 --input 3,224,224 --repeats 0 --csv envs/dnn/resnet18.csv

Weights do not matter for a profile and are left at their random start.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


def alexnet(classes: int = 1000) -> nn.Module:
    """The one-column AlexNet (A. Krizhevsky, arXiv:1404.5997): 61 100 840 parameters at 1000 classes."""

    def conv(channels_in: int, channels: int, kernel: int, stride: int, pad: int, pool: bool) -> nn.Sequential:
        parts: list[nn.Module] = [nn.Conv2d(channels_in, channels, kernel, stride, pad), nn.ReLU()]
        return nn.Sequential(*parts, *([nn.MaxPool2d(3, 2)] if pool else []))

    layers: list[tuple[str, nn.Module]] = [
        ("conv1_pool1", conv(3, 64, 11, 4, 2, pool=True)),
        ("conv2_pool2", conv(64, 192, 5, 1, 2, pool=True)),
        ("conv3", conv(192, 384, 3, 1, 1, pool=False)),
        ("conv4", conv(384, 256, 3, 1, 1, pool=False)),
        ("conv5_pool5", nn.Sequential(conv(256, 256, 3, 1, 1, pool=True), nn.AdaptiveAvgPool2d(6), nn.Flatten())),
        ("fc6", nn.Sequential(nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU())),
        ("fc7", nn.Sequential(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU())),
        ("fc8", nn.Linear(4096, classes)),
    ]
    return nn.Sequential(OrderedDict(layers))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes (He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        out: torch.Tensor = self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
        return out


def resnet18(classes: int = 1000) -> nn.Module:
    """ResNet18 (He et al., CVPR 2016): 11 689 512 parameters at 1000 classes."""
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    layers: list[tuple[str, nn.Module]] = [("stem_pool", stem)]
    channels_in = 64
    for stage, channels in enumerate((64, 128, 256, 512), start=1):
        for i in (1, 2):
            stride = 2 if stage > 1 and i == 1 else 1
            layers.append((f"block{stage}_{i}", ResidualBlock(channels_in, channels, stride)))
            channels_in = channels
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
    return nn.Sequential(OrderedDict([*layers, ("head_pool_fc", head)]))
