"""The allocator against the system's own count of page faults."""

import ctypes
import subprocess
import sys

import pytest

from manifold_lab.training.allocator import keep_memory

pytestmark = pytest.mark.slow

COUNT = """
import resource
import torch
from manifold_lab.training.allocator import keep_memory
pages = 16384
def faults():
    for _ in range(8):  # it settles
        torch.zeros(pages * 1024 + 7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros(pages * 1024 + 7)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (4 * pages)
before = faults()
assert keep_memory()
print(before, faults())
"""
"""Faults per page of a tensor of 64 MiB that is made and dropped, before and after."""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_pages_are_paid_for_once() -> None:
    message = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True).stdout
    before, after = map(float, message.split())
    assert before > 0.9 and after < 0.01


def test_an_allocator_without_the_knob_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert keep_memory() is False
