"""The arms of `experiments.ext_cause`: what is done to a bottleneck, by families."""

import dataclasses
from typing import Any

from manifold_lab import theory
from manifold_lab.models.specs import Intervention, NetworkSpec
from manifold_lab.sweeps.ablation import Arm


def intervened(activation: str = "linear", **fields: Any) -> Arm:
    """The arm with this activation in the bottleneck and this intervention."""

    def of(base: NetworkSpec) -> NetworkSpec:
        return dataclasses.replace(base, bottleneck_activation=activation, intervention=Intervention(**fields))

    return of


def noise(slope: float, **fields: Any) -> Arm:
    """The linear arm with the noise that leaves a normal channel as readable as a leaky_relu of this slope does."""
    return intervened(noise=round(theory.noise_for(theory.channel_r2(slope)), 6), **fields)


ENDS = {"linear": intervened(), "relu6": intervened("relu6")}
LEAKY = {
    "leaky_0.5": intervened("leaky_relu", slope=0.5),
    "leaky_0.1": intervened("leaky_relu", slope=0.1),
}
NOISE = {"noise_0.961": noise(0.5), "noise_0.804": noise(0.1), "noise_0.734": noise(0.0)}
CONTROLS = {
    "half_gain": intervened(gain=0.1),
    "renormed": intervened("relu6", renormed=True),
    "noise_0.734_shared": noise(0.0, noise_shared=True),
    "abs": intervened("abs"),
    "shift": intervened("relu6", shift=2.0),
    "after_sum": intervened("relu6", placement="sum"),
}
ARMS = ENDS | LEAKY | NOISE | CONTROLS
