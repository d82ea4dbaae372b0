"""A run's state on disk: two files taken in turns, each written whole, checked by a hash, and never run as code.

A file is the line MAGIC, a line with the SHA-256 of the rest, and the rest, in torch's format.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from manifold_lab.core.errors import InputError
from manifold_lab.core.files import binary, publish

MAGIC = b"manifold_lab checkpoint 1\n"
SLOTS = ("checkpoint-a.pt", "checkpoint-b.pt")
State = dict[str, Any]


class BrokenCheckpointError(Exception):
    """A file that is not a whole checkpoint."""


class Checkpoints:
    """The checkpoints of one run in its folder; `run` names the run, and a file of another one is refused."""

    def __init__(self, folder: Path, run: str):
        self.folder, self.run = folder, run
        self.slot = SLOTS[0]

    def save(self, step: int, state: State) -> None:
        """Write beside the newest checkpoint, which stays until this one is on the disk under its name.

        Raises:
            InputError: if the folder or the disk refuses.
        """
        payload = io.BytesIO()
        torch.save({"run": self.run, "step": step, "state": state}, payload)
        body = payload.getbuffer()
        digest = hashlib.sha256(body).hexdigest().encode() + b"\n"
        publish(self.folder, {self.slot: binary(MAGIC, digest, body)})
        self.slot = _other(self.slot)

    def load(self, device: torch.device) -> State | None:
        """The newest state of this run, its tensors on `device`; None where nothing was saved yet.

        A damaged file is passed over with a warning. The next save spares the file that was read.

        Raises:
            InputError: if the folder cannot be read, or holds checkpoints of another run only.
        """
        contents = {name: content for name in SLOTS if (content := self._content(name, device)) is not None}
        own = {name: content for name, content in contents.items() if content["run"] == self.run}
        if contents and not own:
            raise InputError(
                f"checkpoint: {self.folder} holds another run's (recipe, seed, data, network or its initial weights "
                "differ); name another folder"
            )
        if not own:
            return None
        newest = max(own, key=lambda name: own[name]["step"])
        self.slot = _other(newest)
        state: State = own[newest]["state"]
        return state

    def _content(self, name: str, device: torch.device) -> State | None:
        try:
            return read_checkpoint(self.folder / name, device)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"checkpoint: cannot read {self.folder} ({error.strerror}); name another folder") from None
        except BrokenCheckpointError as error:
            warnings.warn(f"checkpoint: {error}; it is passed over", stacklevel=4)
            return None


def read_checkpoint(path: Path, device: torch.device) -> State:
    """The content of a checkpoint file.

    Raises:
        DamagedError: for a file that is cut off, changed, or no checkpoint.
        OSError: if it cannot be read.
    """
    magic, _, rest = path.read_bytes().partition(b"\n")
    digest, _, body = rest.partition(b"\n")
    if magic + b"\n" != MAGIC or hashlib.sha256(body).hexdigest().encode() != digest:
        raise BrokenCheckpointError(f"{path} is cut off, changed or no checkpoint")
    try:
        content: State = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except Exception as error:  # a foreign pickle is refused in as many ways as there are opcodes
        raise BrokenCheckpointError(f"{path} is no checkpoint ({type(error).__name__})") from None
    if not {"run", "step", "state"} <= set(content):
        raise BrokenCheckpointError(f"{path} is no checkpoint")
    return content


def _other(slot: str) -> str:
    return SLOTS[1 - SLOTS.index(slot)]
