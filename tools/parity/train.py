#!/usr/bin/python3
"""Writes internal/train/testdata/schedules.json: the learning rates of
torch.optim.lr_scheduler at every step.

Usage, from the repository root: /usr/bin/python3 tools/parity/train.py [FOLDER]
"""

import json
import pathlib
import sys
import warnings

import torch
from torch.optim import lr_scheduler

warnings.filterwarnings("ignore")  # PyTorch wants optimizer.step() in between


def rates(name, rate, epochs, per_epoch, step_epochs=0, step_factor=0.0):
    total = epochs * per_epoch
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate, momentum=0.9)
    scheduler = {
        "constant": lambda: lr_scheduler.LambdaLR(optimizer, lambda _: 1),
        "step": lambda: lr_scheduler.StepLR(optimizer, step_epochs * per_epoch, step_factor),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, total),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(optimizer, rate, total, cycle_momentum=False),
    }[name]()
    out = []
    for step in range(total):
        out.append(optimizer.param_groups[0]["lr"])
        if step < total - 1:
            scheduler.step()
    return {
        "name": name, "rate": rate, "epochs": epochs, "per_epoch": per_epoch,
        "step_epochs": step_epochs, "step_factor": step_factor, "rates": out,
    }


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "internal/train/testdata")
    cases = [
        rates("constant", 0.1, 2, 3),
        rates("step", 0.1, 7, 3, 2, 0.1),
        rates("step", 0.05, 4, 5, 1, 0.5),
        rates("cosine", 0.1, 5, 7),
        rates("cosine", 0.02, 1, 10),
        rates("one-cycle", 0.1, 10, 10),
        rates("one-cycle", 0.01, 3, 7),
        rates("one-cycle", 0.01, 1, 7),
        rates("one-cycle", 0.5, 1, 13),
    ]
    (folder / "schedules.json").write_text(json.dumps(cases, indent=0) + "\n")
