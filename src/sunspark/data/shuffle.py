"""Permutations that are a pure function of what names them: the same on every machine, for ever.

Source of randomness: raw 64-bit words of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), keyed by BLAKE2b. NumPy promises the words of a bit generator for ever, but not what
`Generator.permutation` makes of them; so the permutation is the stable argsort of the words.
Cost: 8 bytes of memory an item that is permuted, 32 while the permutation is made (the 8 are among them), and about
0.06 microseconds (benchmarks/stages.py).
"""

import hashlib
import json

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


def shuffled(count: int, *name: str | int) -> Positions:
    """A permutation of `range(count)`, int64 (count,), shared by all who ask: it cannot be written to."""
    order = stable_argsort(np.random.Philox(key=_key_of(name)).random_raw(count))
    order.flags.writeable = False
    return order


def stable_argsort(words: npt.NDArray[np.uint64]) -> Positions:
    """What `np.argsort(words, kind="stable")` gives, five times faster where there are many: int64, as long as `words`.

    NumPy sorts numbers with vector instructions, but not their places; so the places lie in the low bits of what is
    sorted, and words that differ in no other bits are put in order afterwards.
    """
    place_bits = np.uint64(len(words).bit_length())
    place_mask = (np.uint64(1) << place_bits) - np.uint64(1)
    keys = words & ~place_mask
    keys |= np.arange(len(words), dtype=np.uint64)
    keys.sort()
    order = (keys & place_mask).astype(np.int64)
    keys >>= place_bits
    ties = np.flatnonzero(keys[1:] == keys[:-1])
    tied = np.union1d(ties, ties + 1)
    order[tied] = order[tied][np.argsort(words[order[tied]], kind="stable")]
    return order


def _key_of(name: tuple[str | int, ...]) -> int:
    """A 128-bit key; JSON keeps the parts apart, so that no two lists of parts look the same."""
    return int.from_bytes(hashlib.blake2b(json.dumps(name).encode(), digest_size=16).digest(), "little")
