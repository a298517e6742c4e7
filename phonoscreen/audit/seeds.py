"""Random numbers that depend on what they are for, never on loop order or time."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed from the study's seed and what the numbers are for.

    Parameters
    ----------
    seed : the study's seed (config ``seed``)
    purpose : strings or integers, for example a structure id and ``"displacements"``

    Returns
    -------
    int in [0, 2**63)
    """
    text = "\x1f".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
