"""Devices of this machine, by name."""

import torch

from manifold_lab.core.errors import InputError


def find_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        InputError: where this machine does not have it.
    """
    family, _, index = name.partition(":")
    found = torch.cuda.device_count() if family == "cuda" else 1
    place = index or "0"
    if not (place.isascii() and place.isdigit()) or int(place) >= found:
        raise InputError(f"device: {name!r} is not on this machine; it has cpu and {torch.cuda.device_count()} cuda")
    return torch.device(name)
