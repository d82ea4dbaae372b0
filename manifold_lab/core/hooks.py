"""Hooks on modules that go away with their context, whatever happens in it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def attached(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks that are removed at the end, also where making one of them fails.

    Args:
        handles: what registering a hook gives; a generator registers them here.
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def outputs_of(modules: Iterable[nn.Module]) -> Iterator[list[Any]]:
    """What modules give in the forward passes inside the context, in the order in which they run."""
    seen: list[Any] = []

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        seen.append(output)

    with attached(module.register_forward_hook(note) for module in modules):
        yield seen
