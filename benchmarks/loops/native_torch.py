"""The same network in hand-written PyTorch: channels_last, autocast to bfloat16, fused AdamW.

On a GPU also with torch.compile, CUDA graphs and timed convolutions.
"""

from __future__ import annotations

import time
from itertools import chain, pairwise

import torch
import torchvision
from torch import nn

from benchmarks.loops import Task, answer, wait

_STAGE_ENDS = {"vgg16": [5, 10, 17, 24, 31]}
"""Index after the last layer of each stage in torchvision's `features`."""

WARM_UP = 4
"""Number of untimed steps: CUDA graphs are recorded after two."""


class Network(nn.Module):
    """A torchvision backbone, split into stages, with our head."""

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__()
        self.size = size
        if backbone == "vgg16":
            layers = torchvision.models.vgg16().features
            starts = [0, *_STAGE_ENDS["vgg16"]]
            self.stages = nn.ModuleList(layers[a:b] for a, b in pairwise(starts))
            width = 512
        else:
            net = torchvision.models.resnet50()
            for layer in (net.layer2, net.layer3, net.layer4):  # as Keras has it, not v1.5
                layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
            stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
            self.stages = nn.ModuleList([stem, net.layer1, net.layer2, net.layer3, net.layer4])
            width = 2048
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(0.4), nn.Linear(width, 7))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Compute the logits (B, 7) of grey faces (B, 1, 48, 48)."""
        x = nn.functional.interpolate(faces, self.size, mode="bilinear")
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


def main() -> None:
    """Train on the same batch again and again."""
    task = Task.read()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = (
        Network(task.backbone, task.image_size)
        .to(device, memory_format=torch.channels_last)
        .train()
    )
    for stage in network.stages[: 5 - task.depth]:
        stage.requires_grad_(False).eval()
    training = chain(network.head.parameters(), *(
        stage.parameters() for stage in network.stages[5 - task.depth :]
    ))  # fmt: skip
    optimizer = torch.optim.AdamW(list(training), lr=1e-4, fused=True)
    torch.backends.cudnn.benchmark = True
    compiled = torch.compile(network, mode="reduce-overhead") if device == "cuda" else network
    loss, n = nn.CrossEntropyLoss(), task.batch_size
    faces = torch.rand(n, 1, 48, 48, device=device)
    labels = torch.randint(0, 7, (n,), device=device)

    def step() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            value = loss(compiled(faces), labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    wait()
    for _ in range(WARM_UP):
        step().item()
    steps = task.limit // n
    while True:
        began = time.perf_counter()
        for _ in range(steps):
            value = step()
        value.item()  # only here: on a GPU, it would block every step
        answer(steps * n / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
