#!/usr/bin/python3
"""Writes the fixtures of internal/nn from PyTorch and torchvision.

Usage, from the repository root: /usr/bin/python3 tools/parity/nn.py [FOLDER]
(default internal/nn/testdata). With CORDON_FIXTURES=FOLDER the tests of
internal/nn read fresh fixtures from there.

Weights, images and labels come from a formula that Go repeats, so that no
weights are stored. References are computed in float64; beside each stands how
far PyTorch's own float32 is from it, which is what the tests allow.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

MEAN, STD, CLASSES = 0.5, 0.25, 10
ARCHS = ["resnet18", "resnet34", "resnet50", "preact_resnet18"]
STEMS = ["imagenet", "small"]
SIZES = {"resnet18": [32, 28], "resnet34": [32], "resnet50": [32], "preact_resnet18": [32, 28]}


def bits(name, n):
    """n random-looking 32-bit numbers that depend on the name (FNV-1a) and the index."""
    h = 2166136261
    for c in name.encode():
        h = (h ^ c) * 16777619 % 2**32
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(h)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def values(name, shape):
    """The tensor of that name: uniform, scaled so that activations stay near 1."""
    u = bits(name, int(np.prod(shape))).astype(np.float64) / 2**31 - 1
    if len(shape) == 4:
        u *= np.sqrt(6 / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2:
        u *= np.sqrt(1 / shape[1])
    elif name.endswith("running_var"):
        u = 1 + u / 2
    elif name.endswith("weight"):
        u = 1 + u / 4
        if ".bn3." in name:  # calms ResNet-50, in which rounding would grow a thousandfold
            u /= 4
    else:
        u /= 8
    return torch.from_numpy(u.astype(np.float32).reshape(shape))


def images(name, n, size):
    pixels = (bits(name, n * size * size * 3) & 255).astype(np.float32).reshape(n, size, size, 3)
    x = (torch.from_numpy(pixels) / 255 - MEAN) / STD
    return x.permute(0, 3, 1, 2).contiguous()


def labels(n):
    return torch.arange(n) * 7 % CLASSES


class PreActBlock(nn.Module):
    """He et al. 2016b, figure 4 (e), as commonly written for CIFAR: the
    projection takes the activated input and has no batch norm."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.relu = nn.ReLU()
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False))

    def forward(self, x):
        a = self.relu(self.bn1(x))
        shortcut = self.downsample(a) if hasattr(self, "downsample") else x
        return self.conv2(self.relu(self.bn2(self.conv1(a)))) + shortcut


class PreActResNet18(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        cin = 64
        for i, cout in enumerate([64, 128, 256, 512]):
            first = PreActBlock(cin, cout, 1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", nn.Sequential(first, PreActBlock(cout, cout, 1)))
            cin = cout
        self.bn1 = nn.BatchNorm2d(512)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.relu(self.bn1(x)).mean((2, 3)))


def build(arch, stem="imagenet", classes=CLASSES):
    if arch == "preact_resnet18":
        m = PreActResNet18(classes)
    else:
        m = getattr(torchvision.models, arch)(num_classes=classes)
    if stem == "small":
        m.conv1, m.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return m


def filled(arch, stem="imagenet", dtype=torch.float32):
    m = build(arch, stem)
    state = {k: v if v.dim() == 0 else values(k, v.shape) for k, v in m.state_dict().items()}
    m.load_state_dict(state, strict=True)
    return m.to(dtype)


def lifted(m):
    """Moves every ReLU's input away from 0, by the shifts of batch norm, every second
    channel up and the others down: in a deep network rounding pushes one of a million
    across whatever the images are."""
    with torch.no_grad():
        for k, p in m.named_parameters():
            if k.endswith("bias") and not k.startswith("fc"):
                p[0::2] += 4
                p[1::2] -= 4
    return m


def distance(a, b):
    """Relative distance of a from the reference b."""
    return float((a.double() - b).norm() / b.norm())


def rounded(x, digits=10):
    return [float(f"{v:.{digits}g}") for v in x.flatten().tolist()]


def forward(arch):
    out = []
    for stem in STEMS:
        for size in SIZES[arch]:
            x = images("images", 4, size)
            for mode in ["train", "eval"]:
                ref, own = (filled(arch, stem, t).train(mode == "train") for t in [torch.float64, torch.float32])
                with torch.no_grad():
                    r, o = ref(x.double()), own(x)
                # After the pass: what the batch did to the running statistics.
                moved = {k: v for k, v in ref.state_dict().items() if "running" in k}
                out.append({
                    "arch": arch, "stem": stem, "size": size, "mode": mode, "logits": rounded(r),
                    "error": distance(o, r), "statistics": float(sum(v.norm() for v in moved.values())),
                })
    return out


def margin(model, x):
    """The distance of the nearest ReLU input from 0 in a forward pass."""
    least = [float("inf")]
    hooks = [
        m.register_forward_pre_hook(lambda _, x: least.append(float(x[0].abs().min())))
        for m in model.modules() if isinstance(m, nn.ReLU)
    ]
    with torch.no_grad():
        model(x)
    for h in hooks:
        h.remove()
    return min(least)


def gradients(arch, stem, size, lift=False):
    make = (lambda *a: lifted(filled(*a))) if lift else filled
    # Rounding may push a ReLU's input across 0, which changes gradients far
    # more than rounding itself: of 40 inputs take the one that stays clearest.
    names = [f"images/{i}" for i in range(40)]
    ref = make(arch, stem, torch.float64).train()
    name = max(names, key=lambda n: margin(ref, images(n, 4, size).double()))
    x, y, sampled = images(name, 4, size), labels(4), 12
    own = []  # float32 in PyTorch's two memory formats; the engine uses the second
    for fmt in [torch.contiguous_format, torch.channels_last]:
        m = make(arch, stem).to(memory_format=fmt).train()
        F.cross_entropy(m(x.to(memory_format=fmt)), y).backward()
        own.append({k: p.grad.double() for k, p in m.named_parameters()})
    ref = make(arch, stem, torch.float64).train()
    F.cross_entropy(ref(x.double()), y).backward()
    out = []
    for k, p in ref.named_parameters():
        at = torch.from_numpy(bits("sample/" + k, sampled).astype(np.int64) % p.numel())
        out.append({
            "name": k, "sum": float(p.grad.sum()), "norm": float(p.grad.norm()),
            "values": rounded(p.grad.flatten()[at], 8), "error": max(distance(g[k], p.grad) for g in own),
            "sample_error": max(float((g[k] - p.grad).flatten()[at].norm()) for g in own),
        })
    return {"arch": arch, "stem": stem, "size": size, "lifted": lift, "images": name, "parameters": out}


def bf16(arch, stem, size):
    """How far autocast's bfloat16 is from float64, logits and gradients."""
    n, sampled = 16, 12
    x, y = images("images", n, size), labels(n)
    half = filled(arch, stem).to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = half(x.to(memory_format=torch.channels_last))
    F.cross_entropy(logits.float(), y).backward()
    ref = filled(arch, stem, torch.float64).train()
    exact = ref(x.double())
    F.cross_entropy(exact, y).backward()
    gradients, got, want = {}, [], []
    for (k, p), q in zip(ref.named_parameters(), half.parameters()):
        at = torch.from_numpy(bits("sample/" + k, sampled).astype(np.int64) % p.numel())
        got.append(q.grad.flatten()[at])
        want.append(p.grad.flatten()[at])
        gradients[k] = rounded(want[-1], 8)
    return {
        "arch": arch, "stem": stem, "size": size, "logits": rounded(exact), "logits_error": distance(logits, exact),
        "gradients": gradients, "error": distance(torch.cat(got), torch.cat(want)),
    }


def steps(arch, nesterov, rate, batch):
    # The small stem keeps 2 x 2 positions to the end: batch norm over the few
    # values of a 1 x 1 map would make any rounding grow from step to step. Lifted, for a
    # single ReLU that switches changes the gradients before it by 5e-3.
    x, y, losses = images("images", batch, 16), labels(batch), []
    for dtype in [torch.float64, torch.float32]:
        m = lifted(filled(arch, "small", dtype)).train()
        o = torch.optim.SGD(m.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=nesterov)
        losses.append([])
        for _ in range(10):
            o.zero_grad()
            loss = F.cross_entropy(m(x.to(dtype)), y)
            loss.backward()
            o.step()
            losses[-1].append(float(loss))
    return {"arch": arch, "nesterov": nesterov, "rate": rate, "batch": batch, "losses": losses[0], "float32": losses[1]}


def cross_entropy():
    n, classes = 6, 7
    logits = values("logits", (n * classes,)).reshape(n, classes).double() * 100
    y = torch.arange(n) % classes
    loss = F.cross_entropy(logits, y, reduction="none")
    return {"samples": n, "classes": classes, "losses": rounded(loss, 12)}


def listing(m):
    """Names and shapes in the order of the state dictionary, without counters."""
    return "".join(f"{k} {list(v.shape)}\n" for k, v in m.state_dict().items() if v.dim() > 0)


def structure():
    out = []
    for arch in ARCHS:
        for stem in STEMS:
            m = build(arch, stem, 1000)
            text = listing(m).replace(",", "")
            out.append({
                "arch": arch, "stem": stem, "count": sum(p.numel() for p in m.parameters()),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            })
    return out


def initial(arch):
    torch.manual_seed(0)
    m = build(arch)
    return {"arch": arch, "tensors": [
        {"name": k, "mean": float(v.mean()), "std": float(v.std(unbiased=False)), "max": float(v.abs().max())}
        for k, v in m.state_dict().items() if v.dim() > 0
    ]}


def position(name, arch, convs):
    """The weight layer and the stage a parameter belongs to, from its name."""
    stage = int(name[5]) if name.startswith("layer") else 5 if name.startswith("fc") else 0
    if name == "bn1.weight" or name == "bn1.bias":
        return (len(convs), 5) if arch.startswith("preact") else (0, 0)
    if name.startswith("fc"):
        return len(convs), 5
    layer, part = name.rsplit(".", 1)[0], name.split(".")
    if "downsample" in name:  # ends with its block
        block = ".".join(part[:2])
        return max(i for i, c in enumerate(convs) if c.startswith(block + ".")), stage
    return convs.index(layer.replace("bn", "conv")), stage


def frozen(arch):
    m = build(arch)
    convs = [k for k, v in m.named_modules() if isinstance(v, nn.Conv2d) and "downsample" not in k]
    parameters = [(k, v.numel()) for k, v in m.named_parameters()]
    places = [position(k, arch, convs) for k, _ in parameters]
    out = []
    for fraction in [0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99]:
        row = {"arch": arch, "fraction": fraction}
        for unit, total, at in [
            ("layers", len(convs) + 1, [p[0] for p in places]),
            ("stages", 6, [p[1] for p in places]),
            ("tensors", len(parameters), range(len(parameters))),
        ]:
            first = 0 if fraction == 0 else min(max(1, int(np.floor(fraction * total + 0.5))), total - 1)
            row[unit] = sum(n for (_, n), i in zip(parameters, at) if i >= first)
        out.append(row)
    return out


def write(folder, name, content):
    path = pathlib.Path(folder) / (name + ".json")
    path.write_text(json.dumps(content, indent=0) + "\n")
    print(path, path.stat().st_size, "bytes")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "internal/nn/testdata"
    write(folder, "forward", [c for arch in ARCHS for c in forward(arch)])
    write(folder, "gradients", [
        gradients("resnet18", "imagenet", 32), gradients("resnet18", "small", 16),
        gradients("preact_resnet18", "small", 16, lift=True), gradients("resnet50", "small", 16, lift=True),
    ])
    write(folder, "bf16", [
        bf16("resnet18", "small", 16), bf16("resnet50", "small", 16), bf16("preact_resnet18", "small", 16),
        bf16("resnet50", "imagenet", 64),
    ])
    write(folder, "steps", [
        steps("resnet18", False, 1e-4, 16), steps("resnet18", True, 1e-4, 16), steps("resnet50", False, 5e-6, 8),
    ])
    write(folder, "cross_entropy", cross_entropy())
    write(folder, "structure", structure())
    write(folder, "initial", [initial("resnet18"), initial("resnet50")])
    write(folder, "frozen", [row for arch in ARCHS for row in frozen(arch)])


if __name__ == "__main__":
    main()
