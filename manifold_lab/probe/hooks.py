"""The hooks: attached on entering, gone on leaving whatever happens, seeing everything and touching nothing."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.probe.layer import SAMPLE, LayerRecord, Sampling
from manifold_lab.probe.layer_types import (
    BATCH_NORMS,
    BOTTLENECK,
    CALLED,
    FUNCTIONS,
    NONLINEARITY,
    NORM,
    OPERATOR_TYPES,
    choose,
    first_tensor,
    window,
)
from manifold_lab.probe.layer_types import kinds as kinds_of
from manifold_lab.probe.measures import MEASURES, LayerRow, describe
from manifold_lab.probe.tracing import Chain, Tracer

DEFAULT_SAMPLING = Sampling()


class Probe:
    """Look inside any torch network while it runs.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU())
    >>> with Probe(model, measures=["active"]) as probe:
    ...     _ = model(torch.randn(100, 2))
    >>> probe.table()[0]["threshold"]
    2

    `layers`: `LAYER_KINDS` and patterns of module names; `measures`: names of `MEASURES`. Any number of forward
    passes, in any mode, under autocast or inference_mode, in any layout, alone or inside DistributedDataParallel (each
    process then sees its own part of the data). Outputs, weights, buffers, modes and torch's own chance stay as they
    would be. What is taken is taken at once: of an activation's input before it runs, of its output right after, so
    that activations that work in place change nothing.

    Activations called as functions are layers too, named after the module that calls them: "features.relu()".

    What it cannot see: activations made of other operations, such as x.clamp(0, 6); anything inside a compiled model,
    which is refused, or replayed by CUDA graphs; a module called outside of the model's own forward.

    Raises:
        InputError: for layers or measures that do not exist, or a compiled model.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str] = NONLINEARITY,
        measures: Sequence[str] = ("active",),
        sampling: Sampling = DEFAULT_SAMPLING,
    ):
        self.model, self.sampling = model, sampling
        self.chosen = choose(model, layers)
        self.measures = tuple(one_of("measures", name, MEASURES) for name in measures)
        self.needs = frozenset(need for name in self.measures for need in MEASURES[name].needs)
        self.layers: dict[str, LayerRecord] = {}
        self._functions: dict[str, _Watcher] = {}
        self.passes = 0
        self._state = _Pass()
        self._stack = ExitStack()
        _refuse_compiled(model)

    def __enter__(self) -> "Probe":
        with ExitStack() as attaching:
            for handle in self._attach():
                attaching.callback(handle.remove)
            attaching.enter_context(Functions(self._called))
            self._stack = attaching.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._state = _Pass()
        self._stack.close()

    def table(self) -> list[LayerRow]:
        """One line per layer in the order of execution, then those that were chosen and never reached.

        Raises:
            InputError: where the model never ran inside the context, or nothing that was asked for.
        """
        if not self.passes:
            raise InputError("probe: the model never ran inside the context (compiled code does not run its hooks)")
        missed = [LayerRecord(name, module, self.needs, self.sampling) for name, module in self._missed()]
        found = [*filter(self.wants, self.layers.values()), *missed]
        if not found:
            raise InputError(f"layers: nothing of {', '.join(self.chosen.words)} ran in this model")
        return [describe(layer, self.measures) for layer in found]

    def _missed(self) -> list[tuple[str, nn.Module]]:
        """Chosen modules without a single call."""
        reached = {id(layer.module) for layer in self.layers.values()}
        return [
            (name, module)
            for name, module in self.model.named_modules()
            if name and id(module) not in reached and (self.chosen.name(name) or self.chosen.kind(kinds_of(module)))
        ]

    def wants(self, layer: LayerRecord) -> bool:
        """Whether a call that was met is one that was asked for."""
        return self.chosen.name(layer.name) or self.chosen.kind(layer.kinds)

    def _attach(self) -> Iterator[RemovableHandle]:
        yield self.model.register_forward_pre_hook(self._begin)
        for name, module in self.model.named_modules():
            yield module.register_forward_pre_hook(functools.partial(self._open, (name, window(module) is not None)))
            looked_at = self._may_be_wanted(name, module)
            if name and (
                looked_at or isinstance(module, (*OPERATOR_TYPES, *BATCH_NORMS)) or window(module) is not None
            ):
                watcher = _Watcher(self, name, module, looked_at)
                yield module.register_forward_pre_hook(watcher.before, with_kwargs=True)
                yield module.register_forward_hook(watcher.after)
            yield module.register_forward_hook(self._close)
        yield self.model.register_forward_hook(self._end)

    def _may_be_wanted(self, name: str, module: nn.Module) -> bool:
        found = kinds_of(module)
        narrow = NORM in found and self.chosen.kind((BOTTLENECK,))
        later = any(word.startswith(f"{name}#") for word in self.chosen.words)
        return self.chosen.name(name) or self.chosen.kind(found) or narrow or later

    def _begin(self, *_: object) -> None:
        self._state = _Pass(running=True, tracing=self.passes == 0)

    def _end(self, *_: object) -> None:
        self.passes += 1
        self._state = _Pass()

    def _open(self, what: tuple[str, bool], *_: object) -> None:
        self._state.inside.append(what)

    def _close(self, *_: object) -> None:
        if self._state.inside:
            self._state.inside.pop()

    def _called(self, function: Callable[..., Any]) -> "_Watcher | None":
        """Who watches an activation called as a function; nobody where a module that is one calls it."""
        if not self._state.running or function not in FUNCTIONS or self._state.inside[-1][1]:
            return None
        name = ".".join(filter(None, (self._state.inside[-1][0], function.__name__.strip("_") + CALLED)))
        if name not in self._functions:
            like = FUNCTIONS[function]()
            self._functions[name] = _Watcher(self, name, like, self._may_be_wanted(name, like))
        return self._functions[name]


class _Pass:
    """What is known within one forward pass only."""

    def __init__(self, running: bool = False, tracing: bool = False):
        self.running = running
        self.tracer = Tracer() if tracing else None
        self.calls: dict[str, int] = {}
        self.fed: tuple[str, Tensor] | None = None
        self.inside: list[tuple[str, bool]] = []
        """The modules that are running, by name, innermost last, and whether each is an activation."""


@dataclass
class _Watcher:
    """The two hooks of one module."""

    probe: Probe
    name: str
    module: nn.Module
    looked_at: bool
    open: LayerRecord | None = None
    wanted: dict[str, bool] = field(default_factory=dict)

    def before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = self.probe._state
        feeds = isinstance(self.module, OPERATOR_TYPES) and SAMPLE in self.probe.needs
        if not state.running or not (self.looked_at or feeds or state.tracer):
            return
        x = first_tensor(args)
        x = first_tensor(kwargs) if x is None else x
        with untouched(x):
            chain = state.tracer.enter(self.module, x) if state.tracer else None
            if x is not None and feeds:
                state.fed = (self.name, x.detach())
            self.open = self._layer(chain) if self.looked_at else None
            if self.open is not None:
                self.open.before(None if x is None else x.detach(), self._fed(self.open.chain))

    def _layer(self, chain: Chain | None) -> LayerRecord | None:
        """The layer that this call belongs to."""
        calls = self.probe._state.calls
        number = calls[self.name] = calls.get(self.name, 0) + 1
        name = self.name if number == 1 else f"{self.name}#{number}"
        layers = self.probe.layers
        if name not in self.wanted:
            new = LayerRecord(name, self.module, self.probe.needs, self.probe.sampling, chain or Chain())
            layers.setdefault(name, new)
            self.wanted[name] = self.probe.wants(layers[name])
        return layers[name] if self.wanted[name] else None

    def _fed(self, chain: Chain) -> Tensor | None:
        """The input of the operator before the layer."""
        fed = self.probe._state.fed
        return fed[1] if fed is not None and fed[0] == chain.operator_name and chain.inputs is not None else None

    def after(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        state = self.probe._state
        if not state.running or (self.open is None and state.tracer is None):
            return
        y = first_tensor(output)
        with untouched(y):
            if state.tracer:
                state.tracer.leave(self.module, self.name, y)
            layer, self.open = self.open, None
            if layer is not None:
                layer.after(None if y is None else y.detach())


class Functions(TorchFunctionMode):
    """Every function of torch on its way: those that somebody watches are shown to their watcher."""

    def __init__(self, watcher: "Callable[[Callable[..., Any]], _Watcher | None]"):
        super().__init__()
        self.watcher = watcher

    def __torch_function__(
        self, function: Any, _types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        watcher, named = self.watcher(function), kwargs or {}
        if watcher is None:
            return function(*args, **named)
        watcher.before(watcher.module, args, named)
        output = function(*args, **named)
        watcher.after(watcher.module, args, output)
        return output


def untouched(x: Tensor | None) -> ExitStack:
    """Work that leaves no trace in gradients, and in full precision whatever the model runs under."""
    stack = ExitStack()
    stack.enter_context(torch._C.DisableTorchFunction())  # the probe's own work is not shown to `Functions`
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.no_grad())
    stack.enter_context(torch.autocast(x.device.type if x is not None else "cpu", enabled=False))
    return stack


def _refuse_compiled(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            where = f"its {name}" if name else "it"
            raise InputError(
                f"probe: {where} is compiled, and compiled code runs past hooks; give the model as it was before "
                "torch.compile (the same weights: model._orig_mod)"
            )
