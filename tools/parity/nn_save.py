#!/usr/bin/python3
"""Writes torchvision's resnet50, filled by the formula, as safetensors without
cordon's description, and prints its logits of the formula's images as JSON.

Usage: /usr/bin/python3 tools/parity/nn_save.py FILE
"""

import json
import struct
import sys

import torch

from nn import filled, images

TYPES = {torch.float32: "F32", torch.int64: "I64"}


def write(path, state):
    header, data = {}, []
    at = 0
    for name, v in state.items():
        raw = v.numpy().tobytes()
        header[name] = {"dtype": TYPES[v.dtype], "shape": list(v.shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))


if __name__ == "__main__":
    model = filled("resnet50").eval()
    write(sys.argv[1], model.state_dict())
    with torch.no_grad():
        print(json.dumps(model(images("images", 4, 32)).flatten().tolist()))
