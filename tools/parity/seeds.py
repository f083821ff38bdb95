"""The random streams of cordon, written from the specifications: internal/seed's
key (SHA-256), the generator chacha8rand (C2SP) and math/rand/v2's ways to draw.
"""

import hashlib
import struct

import numpy as np

CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4")
GROUP = 4  # blocks computed together, interleaved word by word
BLOCKS = 16  # of one key
KEY_WORDS = 4  # the last of a key's 64-bit words are the next key


def quarter(s, a, b, c, d):
    for x, y, z, turn in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
        s[x] += s[y]
        s[z] ^= s[x]
        s[z] = s[z] << np.uint32(turn) | s[z] >> np.uint32(32 - turn)


def blocks(key, counter):
    """Four blocks of ChaCha8 as 32 words of 64 bits; only the key is added at the end."""
    s = np.zeros((16, GROUP), np.uint32)
    s[:4] = CONSTANTS[:, None]
    s[4:12] = key.view(np.uint32)[:, None]
    s[12] = counter + np.arange(GROUP)
    for _ in range(4):
        for i in range(4):
            quarter(s, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    s[4:12] += key.view(np.uint32)[:, None]
    return s.reshape(-1).view(np.uint64)


class Stream:
    """seed.Stream(seed, purpose, indices...)."""

    def __init__(self, seed, purpose, *indices):
        text = struct.pack("<QQ", seed, len(purpose)) + purpose.encode() + struct.pack(f"<{len(indices)}Q", *indices)
        self.words = self.generate(np.frombuffer(hashlib.sha256(text).digest(), np.uint64))

    @staticmethod
    def generate(key):
        while True:
            for counter in range(0, BLOCKS, GROUP):
                words = blocks(key, counter)
                last = counter + GROUP == BLOCKS
                yield from words[:-KEY_WORDS].tolist() if last else words.tolist()
            key = words[-KEY_WORDS:].copy()

    def uint64(self):
        return next(self.words)

    def below(self, n):
        """rand.IntN: Lemire's multiplication, without bias; n of 32 bits."""
        if n & (n - 1) == 0:
            return self.uint64() & (n - 1)
        while True:
            product = (self.uint64() >> 32) * n
            if product % 2**32 >= 2**32 % n:
                return product >> 32

    def unit(self):
        """rand.Float64."""
        return self.uint64() % 2**53 / 2**53

    def perm(self, n):
        p = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            p[i], p[j] = p[j], p[i]
        return p
