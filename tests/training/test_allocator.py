"""The allocator against the system's own count of page faults."""

import ctypes
import subprocess
import sys

import pytest

from manifold_lab.training.allocator import keep_memory

COUNT = """
import resource
import torch
from manifold_lab.training.allocator import keep_memory
{first}
def touch():
    torch.zeros(pages * 1024 + 7)
pages = 16384
for _ in range(8):  # it settles
    touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    touch()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (4 * pages))
"""
"""Faults per page of a tensor of 64 MiB that is made and dropped."""


def faults(first: str) -> float:
    script = COUNT.format(first=first)
    return float(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_pages_are_paid_for_once() -> None:
    assert faults("") > 0.9
    assert faults("assert keep_memory()") < 0.01


def test_an_allocator_without_the_knob_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert keep_memory() is False
