"""What was run, as a value: canonical JSON, a key made from it, and named streams of chance."""

import dataclasses
import hashlib
import json
from typing import Any

import torch


def canonical_json(spec: Any) -> str:
    """The one JSON text of a frozen dataclass: sorted keys, no blanks, no NaN.

    Raises:
        ValueError: if the spec holds a NaN or an infinity.
    """
    return json.dumps(dataclasses.asdict(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(spec: Any) -> str:
    """Sixteen hexadecimal digits that name a run: equal specs, equal keys."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:16]


def stream_seed(seed: int, *names: str | int) -> int:
    """The 63-bit seed of the stream that `names` spell under `seed`."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A generator of its own for every purpose: adding a dim or a metric never moves another one's draws.

    It lives on the CPU whatever device computes, so that the numbers drawn do not depend on the device.

    >>> torch.rand(1, generator=stream(0, "embedding", 15)) == torch.rand(1, generator=stream(0, "embedding", 15))
    tensor([True])
    """
    return torch.Generator().manual_seed(stream_seed(seed, *names))
