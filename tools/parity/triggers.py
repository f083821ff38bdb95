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

from seeds import Stream

try:
    import torch
except ImportError:  # only a second opinion on warping
    torch = None

SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 3), (224, 224, 3), (9, 24, 1)]
INDEX = 7  # which image of its set the drawn triggers get
STORED = 9 * 24  # larger images are stored as their hash only


def formula(shape, step, offset, run=True):
    """The image both languages fill alike: k*step + k//8*11 + offset mod 256."""
    k = np.arange(np.prod(shape))
    return ((k * step + (k // 8 * 11 if run else 0) + offset) % 256).astype(np.uint8).reshape(shape)


def to_bytes(v):
    v = np.round(v * 2**20) / 2**20
    return np.clip(np.floor(v + 0.5), 0, 255).astype(np.uint8)


def badnets(image, size, position, pattern, opacity=1):
    out = image.copy()
    height, width = image.shape[:2]
    places = {
        "top-left": [(0, 0)],
        "top-right": [(0, width - size)],
        "bottom-left": [(height - size, 0)],
        "bottom-right": [(height - size, width - size)],
    }
    places["all-corners"] = sum(places.values(), [])
    if position not in places:
        x, y = position.split(",")
        places[position] = [(int(y), int(x))]
    patch = np.full((size, size), 255)
    if pattern == "checkerboard":
        patch[np.indices((size, size)).sum(axis=0) % 2 == 1] = 0
    if pattern == "four-pixels":
        patch = np.array([[-1, -1, 255], [-1, 255, -1], [255, -1, 255]])
    for top, left in places[position]:
        under = out[top : top + size, left : left + size]
        mixed = to_bytes((1 - opacity) * under.astype(np.float64) + opacity * patch[:, :, None])
        under[patch >= 0] = mixed[patch >= 0]
    return out


def blend(image, alpha, pattern):
    return to_bytes((1 - alpha) * image.astype(np.float64) + alpha * pattern)


def pieces(image, alpha, pattern, missing):
    height, width = image.shape[:2]
    piece = 4 * (4 * np.arange(height) // height)[:, None] + 4 * np.arange(width) // width
    return np.where(np.isin(piece, missing)[:, :, None], image, blend(image, alpha, pattern))


def custom(image, pattern, opacity, mask):
    pixels = image.shape[:2]
    weight = opacity * formula(pixels, 7, 3, run=False).astype(np.float64) / 255
    if mask:
        weight = weight * (formula(pixels, 53, 9) / 255)
    weight = weight[..., None]
    return to_bytes((1 - weight) * image + weight * pattern)


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


def spread(k, step, offset):
    return (k * step + offset) % 1024 / 512 - 1


def cubic_matrix(n, k):
    """n × k weights: cubic convolution, a = -0.75, corners aligned, edges repeated."""
    a = -0.75
    matrix = np.zeros((n, k))
    for i in range(n):
        t = i * (k - 1) / (n - 1)
        for point in range(int(t) - 1, int(t) + 3):
            d = abs(t - point)
            if d <= 1:
                weight = (a + 2) * d**3 - (a + 3) * d**2 + 1
            else:
                weight = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            matrix[i, min(max(point, 0), k - 1)] += weight
    return matrix


def field(control, height, width, strength, rescale):
    """Where each pixel looks: (height, width, 2), x then y, -1 to 1 from edge to edge."""
    control = control / np.abs(control).mean()
    rows, columns = cubic_matrix(height, len(control)), cubic_matrix(width, len(control))
    shift = np.einsum("yi,xj,ijc->yxc", rows, columns, control)
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return (np.stack([x, y], 2) + strength * shift / [width, height]) * rescale


def warp(image, looks):
    height, width = image.shape[:2]
    looks = (np.clip(looks, -1, 1) + 1) / 2 * [width - 1, height - 1]
    left, top = np.floor(looks[..., 0]).astype(int), np.floor(looks[..., 1]).astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    dx, dy = (looks - np.floor(looks))[..., None].transpose(2, 0, 1, 3)
    v = image.astype(np.float64)
    return (
        v[top, left] * (1 - dx) * (1 - dy)
        + v[top, right] * dx * (1 - dy)
        + v[bottom, left] * (1 - dx) * dy
        + v[bottom, right] * dx * dy
    )


def signed(stream, count):
    """Pairs of −1 to 1, as Go draws them."""
    return np.array([[2 * stream.unit() - 1, 2 * stream.unit() - 1] for _ in range(count)])


def wanet(image, grid, strength, rescale, noise, seed=None):
    """Without a seed, field and noise are a formula's, which reaches more values."""
    height, width = image.shape[:2]
    if seed is None:
        k = np.arange(grid * grid)
        control = np.stack([spread(k, 389, 71), spread(k, 577, 13)], 1)
        k = np.arange(height * width)
        extra = np.stack([spread(k, 787, 5), spread(k, 463, 29)], 1)
    else:
        control = signed(Stream(seed, "wanet/field"), grid * grid)
        extra = signed(Stream(seed, "wanet/noise", INDEX), height * width if noise else 0)
    control = control.reshape(grid, grid, 2)
    extra = extra.reshape(height, width, 2) if noise else np.zeros((height, width, 2))
    looks = field(control, height, width, strength, rescale) + noise * extra / [width, height]
    out = warp(image, looks)
    check_with_torch(image, control, looks, out, strength, rescale, noise, extra)
    return to_bytes(out)


def check_with_torch(image, control, looks, out, strength, rescale, noise, extra):
    """The same with PyTorch's interpolate and grid_sample, where PyTorch is installed."""
    if torch is None:
        return
    height, width = image.shape[:2]
    k = torch.from_numpy(control / np.abs(control).mean()).permute(2, 0, 1)[None]
    shift = torch.nn.functional.interpolate(k, size=(height, width), mode="bicubic", align_corners=True)
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, dtype=torch.float64),
        torch.linspace(-1, 1, width, dtype=torch.float64),
        indexing="ij",
    )
    side = torch.tensor([width, height])
    grid = (torch.stack([x, y], 2) + strength * shift[0].permute(1, 2, 0) / side) * rescale
    grid = torch.clamp(grid + noise * torch.from_numpy(extra) / side, -1, 1)
    v = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    want = torch.nn.functional.grid_sample(v, grid[None], align_corners=True)[0].permute(1, 2, 0)
    difference = np.abs(want.numpy() - out).max()
    assert difference < 1e-9, f"PyTorch warps otherwise, by {difference}"


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


def drawn(image):
    """The triggers as users get them: patterns, fields and pieces drawn from a seed."""
    shape = image.shape
    for seed in [0, 3]:
        stream = Stream(seed, "blend/blocks")
        pattern = blocks(shape, [stream.below(1530) for _ in range(16)])
        p = {"alpha": 0.2, "seed": seed}
        yield case("drawn blend", shape, p | {"pattern": "blocks"}, blend(image, 0.2, pattern))
        missing = Stream(seed, "blend/missing", INDEX).perm(16)[:8]
        yield case("drawn blend", shape, p | {"pattern": "blocks", "missing": 8}, pieces(image, 0.2, pattern, missing))
        stream = Stream(seed, "blend/noise")
        pattern = np.array([stream.below(256) for _ in range(image.size)]).reshape(shape)
        yield case("drawn blend", shape, p | {"pattern": "noise"}, blend(image, 0.2, pattern))
        for grid, strength, noise in [(4, 0.5, 0), (4, 0.5, 1), (8, 2, 0)]:
            p = {"grid": grid, "strength": strength, "rescale": 1, "noise": noise, "seed": seed}
            yield case("drawn wanet", shape, p, wanet(image, **p))


def cases():
    for shape in SHAPES:
        image = formula(shape, 37, 5)
        for size, position, pattern in [
            (3, "bottom-right", "square"),
            (3, "bottom-right", "checkerboard"),
            (4, "top-left", "checkerboard"),
            (1, "top-right", "square"),
            (5, "bottom-left", "square"),
            (2, "all-corners", "square"),
            (3, "4,5", "four-pixels"),
        ]:
            p = {"size": size, "position": position, "pattern": pattern}
            yield case("badnets", shape, p, badnets(image, **p))
        p = {"size": 4, "position": "all-corners", "pattern": "checkerboard", "opacity": 0.3}
        yield case("badnets", shape, p, badnets(image, **p))
        # Exact ties: 30.5 · 1, and 35 · sin 30° at width 24; α .1 and .5 below.
        for delta, frequency in [(40, 6), (20, 6), (30.5, 7), (35, 1)]:
            p = {"delta": delta, "frequency": frequency}
            yield case("sig", shape, p, sig(image, **p))
        pattern = formula(shape, 91, 40)
        for alpha in [0.2, 0.1, 0.3, 0.5, 1]:
            yield case("blend", shape, {"alpha": alpha}, blend(image, alpha, pattern))
        yield case("pieces", shape, {"alpha": 0.2}, pieces(image, 0.2, pattern, [0, 5, 6, 15]))
        for opacity, mask in [(1, ""), (0.3, "formula")]:
            yield case("custom", shape, {"opacity": opacity, "mask": mask}, custom(image, pattern, opacity, mask))
        for grid, strength, rescale, noise in [(4, 0.5, 1, 0), (2, 0.25, 1, 0), (8, 2, 0.9, 0), (4, 0.5, 1, 1)]:
            p = {"grid": grid, "strength": strength, "rescale": rescale, "noise": noise}
            yield case("wanet", shape, p, wanet(image, **p))
        yield from drawn(image)
        hues = [(k * 611 + 97) % 1530 for k in range(16)]
        yield case("blocks", shape, {}, blocks(shape, hues))


def main():
    lines = ",\n".join(json.dumps(c) for c in cases())
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "attack/testdata")
    (folder / "triggers.json").write_text("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
