"""Small networks and pictures that several tests share."""

import dataclasses

import torch
from torch import nn

from manifold_lab import stream
from manifold_lab.models.mobilenet import Network, build
from manifold_lab.models.specs import V2, NetworkSpec

SMALL = dataclasses.replace(V2, width=0.35, resolution=32, num_classes=10, stem_stride=1)


def small(**changes: object) -> Network:
    return lively(build(dataclasses.replace(SMALL, **changes), stream(0, "weights")))


def lively(network: Network) -> Network:
    """Norms away from the identity, so that what they do can be seen."""
    generator = stream(0, "norms")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_var, 0.5)):
                nn.init.uniform_(tensor, low, low + 1, generator=generator)
    return network.eval()


def pictures(count: int = 2, spec: NetworkSpec = SMALL) -> torch.Tensor:
    return torch.randn((count, spec.in_channels, spec.resolution, spec.resolution), generator=stream(0, "pictures"))
