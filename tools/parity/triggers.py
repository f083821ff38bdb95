#!/usr/bin/python3
"""Writes attack/testdata/triggers.json: what each trigger makes of images
filled by a formula, computed with numpy from the published definitions.

Usage, from the repository root: /usr/bin/python3 tools/parity/triggers.py

Rounding, as in the package comment of attack: to a multiple of 2^-20, then to
the nearest integer, halves up, clipped to 0..255.
"""

import base64
import colorsys
import hashlib
import json
import pathlib
import sys

import numpy as np

SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 3), (9, 24, 1)]
STORED = 28 * 28 * 3  # larger images are stored as their hash only


def formula(shape, step, offset):
    """The image both languages fill alike: k*step + k//8*11 + offset mod 256."""
    k = np.arange(np.prod(shape))
    return ((k * step + k // 8 * 11 + offset) % 256).astype(np.uint8).reshape(shape)


def to_bytes(v):
    v = np.round(v * 2**20) / 2**20
    return np.clip(np.floor(v + 0.5), 0, 255).astype(np.uint8)


def badnets(image, size, corner, pattern):
    out = image.copy()
    patch = np.full((size, size, 1), 255, np.uint8)
    if pattern == "checkerboard":
        patch[np.indices((size, size)).sum(axis=0) % 2 == 1] = 0
    vertical, horizontal = corner.split("-")
    rows = slice(0, size) if vertical == "top" else slice(-size, None)
    columns = slice(0, size) if horizontal == "left" else slice(-size, None)
    out[rows, columns] = patch
    return out


def blend(image, alpha, pattern):
    return to_bytes((1 - alpha) * image.astype(np.float64) + alpha * pattern)


def sig(image, delta, frequency):
    j = np.arange(image.shape[1])
    wave = delta * np.sin(2 * np.pi * j * frequency / image.shape[1])
    return to_bytes(image + wave[None, :, None])


def blocks(shape, hues):
    """The 4x4 grid of saturated colours; a hue is a 1530th of the circle."""
    rgb = np.array([[255 * c for c in colorsys.hsv_to_rgb(h / 1530, 1, 1)] for h in hues])
    rgb = np.round(rgb).astype(np.uint8)
    if shape[2] == 1:
        rgb = np.where(np.array(hues) < 765, 255, 0).astype(np.uint8)[:, None]
    y = np.arange(shape[0]) * 4 // shape[0]
    x = np.arange(shape[1]) * 4 // shape[1]
    return rgb[y[:, None] * 4 + x[None, :]]


def case(trigger, shape, params, out):
    assert out.shape == shape and out.dtype == np.uint8
    record = {
        "trigger": trigger,
        "height": shape[0],
        "width": shape[1],
        "channels": shape[2],
        "params": {k: str(v) for k, v in params.items()},
        "sha256": hashlib.sha256(out.tobytes()).hexdigest(),
    }
    if out.size <= STORED:
        record["bytes"] = base64.b64encode(out.tobytes()).decode()
    return record


def cases():
    for shape in SHAPES:
        image = formula(shape, 37, 5)
        for size, corner, pattern in [
            (3, "bottom-right", "square"),
            (3, "bottom-right", "checkerboard"),
            (4, "top-left", "checkerboard"),
            (1, "top-right", "square"),
            (5, "bottom-left", "square"),
        ]:
            p = {"size": size, "corner": corner, "pattern": pattern}
            yield case("badnets", shape, p, badnets(image, **p))
        # Exact ties: 30.5 · 1, and 35 · sin 30° at width 24; α .1 and .5 below.
        for delta, frequency in [(40, 6), (20, 6), (30.5, 7), (35, 1)]:
            p = {"delta": delta, "frequency": frequency}
            yield case("sig", shape, p, sig(image, **p))
        pattern = formula(shape, 91, 40)
        for alpha in [0.2, 0.1, 0.3, 0.5, 1]:
            yield case("blend", shape, {"alpha": alpha}, blend(image, alpha, pattern))
        hues = [(k * 611 + 97) % 1530 for k in range(16)]
        yield case("blocks", shape, {}, blocks(shape, hues))


def main():
    lines = ",\n".join(json.dumps(c) for c in cases())
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "attack/testdata")
    (folder / "triggers.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
