"""Named, independent random generators, all made from one seed."""

import hashlib

import torch


def stream_seed(seed: int, *names: str | int) -> int:
    """Derive the 63-bit seed of one random stream from an experiment's seed and the stream's name.

    Args:
        seed: the seed of the whole experiment.
        names: parts of the stream's name, for instance `"embedding", 15`; other names give independent streams.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """Make the random generator of one named stream.

    Each purpose has its own stream, so that adding a dimension or a metric does not change the draws of another one.
    The generator is on the CPU whatever device computes, so that the numbers drawn do not depend on the device.

    Args:
        seed: the seed of the whole experiment.
        names: parts of the stream's name, as in `stream_seed`.

    >>> torch.rand(1, generator=stream(0, "embedding", 15)) == torch.rand(1, generator=stream(0, "embedding", 15))
    tensor([True])
    """
    return torch.Generator().manual_seed(stream_seed(seed, *names))
