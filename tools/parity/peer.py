#!/usr/bin/python3
"""Times the training step of internal/train's BenchmarkStep in PyTorch, eager.

Usage: peer.py ARCH BATCH SIZE fp32|bf16 [--format channels_last|contiguous]
       [--steps 6] [--warm-up 2] [--threads N]

The data set is uint8 in memory, as there; a step takes a batch by index,
normalises it, and runs forward, backward and SGD with momentum. bf16 is
autocast, PyTorch's own way. Prints images per second.
"""

import argparse
import os
import time

import torch
import torch.nn.functional as F
import torchvision

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("arch", choices=["resnet18", "resnet34", "resnet50"])
    p.add_argument("batch", type=int)
    p.add_argument("size", type=int)
    p.add_argument("precision", choices=["fp32", "bf16"])
    p.add_argument("--format", choices=["channels_last", "contiguous"], default="channels_last")
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
    model = getattr(torchvision.models, a.arch)(num_classes=10).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step():
        order = torch.randperm(a.batch)
        x = ((pixels[order].float() / 255 - MEAN) / STD).contiguous(memory_format=layout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.precision == "bf16"):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels[order])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss)  # as a training loop that shows its loss

    for _ in range(a.warm_up):
        step()
    began = time.perf_counter()
    for _ in range(a.steps):
        step()
    print(f"{a.steps * a.batch / (time.perf_counter() - began):.2f}")


if __name__ == "__main__":
    main()
