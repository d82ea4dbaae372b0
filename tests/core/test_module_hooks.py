"""Hooks see what modules give, in order, and go away whatever happens."""

import pytest
import torch
from torch import nn

from manifold_lab.core import hooks


def test_outputs_come_in_the_order_of_execution_and_the_hooks_go() -> None:
    first, second = nn.Linear(2, 3), nn.ReLU()
    x = torch.tensor([[1.0, -2.0]])
    with hooks.outputs_of([second, first]) as seen:
        second(first(x))
    assert torch.equal(seen[0], first(x)) and torch.equal(seen[1], first(x).clamp(min=0)) and len(seen) == 2
    assert not first._forward_hooks and not second._forward_hooks


def test_hooks_go_where_the_work_fails_and_where_attaching_fails() -> None:
    layer = nn.Linear(2, 3)
    with pytest.raises(RuntimeError), hooks.outputs_of([layer]):
        layer(torch.zeros(1, 5))
    assert not layer._forward_hooks

    def broken():
        yield layer.register_forward_hook(print)
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"), hooks.attached(broken()):
        pass
    assert not layer._forward_hooks
