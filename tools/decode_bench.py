#!/usr/bin/env python3
"""Times decoding of the same image files, cordon against Pillow, in turn.

Both read every file of a folder on all cores and scale it to a square with a
Catmull-Rom filter: cordon with BenchmarkDecode, Pillow (libjpeg-turbo, zlib) in
one process for each core. Prints the medians of ROUNDS rounds and their ratio.

Usage: decode_bench.py [ROUNDS]      (with a Python that has Pillow and numpy)
"""

import io
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
from PIL import Image, features

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECONDS = 1  # of each measurement
# name, file format and its options, number, width, height, size
CASES = [
    ("JPEG 500×375 to 224", "jpeg", {"quality": 90}, 200, 500, 375, 224),
    ("JPEG 224×224 as is", "jpeg", {"quality": 90}, 400, 224, 224, 224),
    ("PNG 500×375 to 224", "png", {}, 60, 500, 375, 224),
    ("PNG 64×64 as is", "png", {}, 1000, 64, 64, 64),
]


def picture(rng, width, height):
    """Smooth structure and a little noise, as in a photograph."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=numpy.uint8))
    smooth = numpy.asarray(coarse.resize((width, height), Image.BICUBIC), dtype=numpy.int16)
    noisy = smooth + rng.integers(-6, 7, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8))


def make(folder, fmt, options, n, width, height):
    rng = numpy.random.default_rng(0)
    total = 0
    for i in range(n):
        os.makedirs(f"{folder}/c{i % 4}", exist_ok=True)
        path = f"{folder}/c{i % 4}/{i:04d}.{fmt}"
        picture(rng, width, height).save(path, fmt, **options)
        total += os.path.getsize(path)
    return total / n


def decode(job):
    path, size = job
    with open(path, "rb") as f:
        image = Image.open(io.BytesIO(f.read())).convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.BICUBIC)
    return len(image.tobytes())


def pillow(pool, folder, size):
    jobs = [(os.path.join(d, name), size) for d, _, names in os.walk(folder) for name in names]
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        done += len(pool.map(decode, jobs, chunksize=8))
    return done / (time.perf_counter() - start)


def cordon(program, folder, size):
    out = subprocess.run(
        [program, "-test.run", "^$", "-test.bench", "^BenchmarkDecode$", "-test.benchtime", f"{SECONDS}s",
         "-images", folder, "-size", str(size)],
        check=True, capture_output=True, text=True, cwd=os.path.join(ROOT, "dataset")).stdout
    return float(re.search(r"([\d.]+) images/s", out).group(1))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"Pillow {Image.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}, "
          f"{multiprocessing.cpu_count()} cores, medians of {rounds} rounds")
    print(f"{'files':22} {'bytes each':>10} {'cordon/s':>9} {'MB/s':>6} {'Pillow/s':>9} {'MB/s':>6} {'ratio':>6}  spread of the ratio")
    with tempfile.TemporaryDirectory() as work, multiprocessing.Pool() as pool:
        program = os.path.join(work, "dataset.test")
        subprocess.run(["go", "test", "-c", "-o", program, "./dataset"], check=True, cwd=ROOT)
        for name, fmt, options, n, width, height, size in CASES:
            folder = tempfile.mkdtemp(dir=work)
            each = make(folder, fmt, options, n, width, height)
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(cordon(program, folder, size))
                theirs.append(pillow(pool, folder, size))
            a, b = statistics.median(ours), statistics.median(theirs)
            ratios = [x / y for x, y in zip(ours, theirs)]
            mb = width * height * 3 / 1e6
            print(f"{name:22} {each:10.0f} {a:9.0f} {a * mb:6.0f} {b:9.0f} {b * mb:6.0f} {a / b:6.2f}"
                  f"  {min(ratios):.2f} … {max(ratios):.2f}", flush=True)


if __name__ == "__main__":
    main()
