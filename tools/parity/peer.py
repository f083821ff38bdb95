#!/usr/bin/python3
"""Times in PyTorch what internal/train's benchmarks time in cordon.

Usage: peer.py ARCH BATCH SIZE fp32|bf16 [--stem imagenet|small] [--evaluate]
       [--format channels_last|contiguous] [--compile] [--steps 6]
       [--warm-up 2] [--threads N]

The data set is uint8 in memory, as there; a step takes a batch by index,
normalises it, and runs forward, backward and SGD with momentum. With --evaluate
it is the forward pass and every sample's loss. bf16 is autocast, PyTorch's own
way. Prints images per second and the process's peak of memory.
"""

import argparse
import os
import resource
import time

import torch
import torch.nn.functional as F
import torchvision

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class Preact(torch.nn.Module):
    """The basic block of He et al. 2016b."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1 = torch.nn.BatchNorm2d(inputs)
        self.conv1 = torch.nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(width)
        self.conv2 = torch.nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != width:
            self.shortcut = torch.nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.bn1(x))
        residual = x if self.shortcut is None else self.shortcut(y)
        return self.conv2(F.relu(self.bn2(self.conv1(y)))) + residual


def preact_resnet18(classes):
    layers, inputs = [torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)], 64
    for stage in range(4):
        for i in range(2):
            width = 64 << stage
            layers.append(Preact(inputs, width, 2 if stage > 0 and i == 0 else 1))
            inputs = width
    layers += [torch.nn.BatchNorm2d(512), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(512, classes))


def network(arch, stem):
    if arch == "preact_resnet18":
        if stem != "small":
            raise SystemExit("preact_resnet18 is compared with the small stem")
        return preact_resnet18(10)
    model = getattr(torchvision.models, arch)(num_classes=10)
    if stem == "small":
        model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        model.maxpool = torch.nn.Identity()
    return model


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("arch", choices=["resnet18", "resnet34", "resnet50", "preact_resnet18"])
    p.add_argument("batch", type=int)
    p.add_argument("size", type=int)
    p.add_argument("precision", choices=["fp32", "bf16"])
    p.add_argument("--stem", choices=["imagenet", "small"], default="imagenet")
    p.add_argument("--evaluate", action="store_true")
    p.add_argument("--format", choices=["channels_last", "contiguous"], default="channels_last")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--warm-up", type=int, default=2)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return p.parse_args()


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if a.format == "channels_last" else torch.contiguous_format
    pixels = torch.randint(0, 256, (a.batch, 3, a.size, a.size), dtype=torch.uint8).contiguous(memory_format=layout)
    labels = torch.arange(a.batch) % 10
    model = network(a.arch, a.stem).to(memory_format=layout).train(not a.evaluate)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    forward = torch.compile(model) if a.compile else model

    def losses():
        order = torch.randperm(a.batch)
        x = ((pixels[order].float() / 255 - MEAN) / STD).contiguous(memory_format=layout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.precision == "bf16"):
            logits = forward(x)
        return F.cross_entropy(logits.float(), labels[order], reduction="none")

    def evaluate():
        with torch.no_grad():
            return losses().tolist()

    def train():
        loss = losses().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()  # as a training loop that shows its loss

    step = evaluate if a.evaluate else train
    for _ in range(a.warm_up):
        step()
    began = time.perf_counter()
    for _ in range(a.steps):
        step()
    rate = a.steps * a.batch / (time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rate:.2f} images/s {peak:.0f} MiB")


if __name__ == "__main__":
    main()
