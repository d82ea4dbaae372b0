"""What watches modules and functions while a network runs, and what is known within one forward pass."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from manifold_lab.probe.activation_types import FUNCTIONS, IDENTITY, Found, of_call
from manifold_lab.probe.channel_axes import Call, ChannelTracker
from manifold_lab.probe.layer import SAMPLE, LayerRecord, Sampling
from manifold_lab.probe.layer_types import CALLED, OPERATOR_TYPES, first_tensor
from manifold_lab.probe.names import NONLINEARITY
from manifold_lab.probe.tracing import Chain, Tracer


@runtime_checkable
class WatchedProbe(Protocol):
    """The probe, as its watchers see it."""

    needs: frozenset[str]
    sampling: Sampling
    layers: dict[str, LayerRecord]
    _state: "ForwardPass"

    def wants(self, layer: LayerRecord) -> bool:
        """Whether a layer was asked for."""

    def may_be_wanted(self, name: str, found: tuple[str, ...]) -> bool:
        """Whether a call of something of this name and of these kinds can be one that was asked for."""


class ForwardPass:
    """What is known within one forward pass only."""

    def __init__(self, running: bool = False, tracing: bool = False, channels: ChannelTracker | None = None):
        self.running = running
        self.tracer = Tracer() if tracing else None
        self.channels = channels or ChannelTracker(frozenset(), {})
        self.calls: dict[str, int] = {}
        self.fed: tuple[str, Tensor] | None = None
        self.inside: list[tuple[str, bool]] = []
        """The modules that are running, by name, innermost last, and whether each is an activation."""
        self.kept: dict[str, dict[str, Any] | None] = {}
        """The state of each layer before this pass; None where it had none."""


@dataclass
class Watcher:
    """The two hooks of one module, or of a function called from one place."""

    probe: WatchedProbe
    name: str
    module: nn.Module
    looked_at: bool
    activation: Found | None = None
    kind: str = ""
    open: LayerRecord | None = None
    wanted: dict[str, bool] = field(default_factory=dict)

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Show the input to the layer, before it can be overwritten."""
        state = self.probe._state
        feeds = isinstance(self.module, OPERATOR_TYPES) and SAMPLE in self.probe.needs
        if not state.running or not (self.looked_at or feeds or state.tracer):
            return
        x = first_tensor((args, kwargs))
        with untouched(x):
            chain = state.tracer.enter(self.module, x) if state.tracer else None
            if x is not None and feeds:
                state.fed = (self.name, x.detach())
            self.open = self._layer(chain) if self.looked_at else None
            if self.open is not None:
                axes = None if x is None else state.channels.axes(x)
                self.open.before(None if x is None else x.detach(), axes, self._fed(self.open.chain))

    def _layer(self, chain: Chain | None) -> LayerRecord | None:
        """The layer that this call belongs to."""
        state, layers = self.probe._state, self.probe.layers
        number = state.calls[self.name] = state.calls.get(self.name, 0) + 1
        name = self.name if number == 1 else f"{self.name}#{number}"
        if name not in layers and self.wanted.get(name, True):
            new = LayerRecord(name, self.module, self.probe.needs, self.probe.sampling, chain or Chain(),
                              activation=self.activation, kind=self.kind)  # fmt: skip
            self.wanted[name] = self.probe.wants(new)
            if self.wanted[name]:
                layers[name] = new
                state.kept[name] = None
        elif name in layers and name not in state.kept:
            state.kept[name] = layers[name].state()
        if name in layers and self.activation is not None:
            layers[name].applies(self.activation)
        return layers.get(name)

    def _fed(self, chain: Chain) -> Tensor | None:
        """The input of the operator before the layer."""
        fed = self.probe._state.fed
        return fed[1] if fed is not None and fed[0] == chain.operator_name and chain.inputs is not None else None

    def after(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        """Show the output to the layer."""
        state = self.probe._state
        if not state.running:
            return
        layer, self.open = self.open, None
        if layer is None and state.tracer is None:
            return
        y = first_tensor(output)
        with untouched(y):
            if state.tracer:
                state.tracer.leave(self.module, self.name, y, self.activation is not None)
            if layer is not None:
                layer.after(None if y is None else y.detach(), None if y is None else state.channels.axes(y))
                if layer.activation is not None and y is not None:
                    state.channels.passed(y, layer.name)


class Functions(TorchFunctionMode):
    """Every function of torch that a network calls: channels are followed through it, activations are shown."""

    def __init__(self, probe: WatchedProbe):
        super().__init__()
        self.probe = probe
        self.watchers: dict[str, Watcher] = {}

    def __torch_function__(
        self, function: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        state, named = self.probe._state, kwargs or {}
        if not state.running or not state.inside:
            return function(*args, **named)
        caller, activates = state.inside[-1]
        call = Call(name_of(function), function, args, named, caller, not activates)
        watcher = self._called(call)
        if watcher is not None:
            watcher.before(watcher.module, args, named)
        output = function(*args, **named)
        with torch.no_grad():
            state.channels.follow(call, output)
        if watcher is not None:
            watcher.after(watcher.module, args, output)
        elif call.watched and isinstance(output, Tensor):
            self._written_out(caller, output)
        return output

    def _written_out(self, caller: str, y: Tensor) -> None:
        """Show an activation that is written out, once its last function has run."""
        channels = self.probe._state.channels
        if not channels.may_be_whole(y):
            return
        with untouched(y):
            found = channels.whole(y)
        if found is not None:
            u, kind, activation = found
            watcher = self._watcher(caller, activation.name, kind, activation)
            watcher.before(watcher.module, (u,), {})
            watcher.after(watcher.module, (u,), y)

    def _called(self, call: Call) -> Watcher | None:
        """Who watches an activation called as a function; nobody where a module that is one calls it."""
        if call.name not in FUNCTIONS or not call.watched or not call.args:
            return None
        x = call.args[0]
        if not (isinstance(x, Tensor) and x.is_floating_point() and self.probe._state.channels.acts(call.name, x)):
            return None
        kind, found = of_call(call.name, call.args, call.kwargs)
        return None if found is IDENTITY else self._watcher(call.caller, call.name, kind, found)

    def _watcher(self, caller: str, called: str, kind: str, found: Found) -> Watcher:
        name = ".".join(filter(None, (caller, called + CALLED)))
        if name not in self.watchers:
            wanted = self.probe.may_be_wanted(name, (NONLINEARITY,))
            self.watchers[name] = Watcher(self.probe, name, nn.Identity(), wanted, found, kind)
        self.watchers[name].activation = found  # its parameters may differ from call to call
        return self.watchers[name]


def name_of(function: Any) -> str:
    """The name of a function, or of the attribute that it reads, without the underscores around it."""
    name: str = function.__name__
    return str(getattr(function.__self__, "__name__", "")) if name == "__get__" else name.strip("_")


def untouched(x: Tensor | None) -> ExitStack:
    """Work that leaves no trace in gradients, and in full precision whatever the model runs under."""
    stack = ExitStack()
    stack.enter_context(torch._C.DisableTorchFunction())  # the probe's own work is not shown to `Functions`
    kind = x.device.type if x is not None else "cpu"
    if torch.is_inference_mode_enabled():
        stack.enter_context(torch.inference_mode(False))  # which enables gradients
    if torch.is_grad_enabled():
        stack.enter_context(torch.no_grad())
    if torch.is_autocast_enabled(kind):
        stack.enter_context(torch.autocast(kind, enabled=False))
    return stack
