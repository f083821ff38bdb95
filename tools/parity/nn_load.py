#!/usr/bin/python3
"""Loads a model file of cordon's (safetensors) into torchvision's resnet50 and
prints its logits of the formula's images as JSON.

Usage: /usr/bin/python3 tools/parity/nn_load.py FILE
"""

import json
import struct
import sys

import numpy as np
import torch

from nn import build, images

TYPES = {"F32": np.float32, "I64": np.int64}


def read(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {
        name: torch.from_numpy(np.frombuffer(data[slice(*t["data_offsets"])], TYPES[t["dtype"]]).reshape(t["shape"]).copy())
        for name, t in header.items()
    }


if __name__ == "__main__":
    model = build("resnet50").eval()
    model.load_state_dict(read(sys.argv[1]), strict=True)
    with torch.no_grad():
        print(json.dumps(model(images("images", 4, 32)).flatten().tolist()))
