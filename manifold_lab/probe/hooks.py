"""The hooks: attached on entering, gone on leaving whatever happens, seeing everything and touching nothing."""

import functools
import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from manifold_lab.core.errors import InputError, one_of
from manifold_lab.core.hooks import attached
from manifold_lab.core.lazy import lazy_function
from manifold_lab.core.shown import Axes, DataFrame, frame
from manifold_lab.probe.activation_types import of_module
from manifold_lab.probe.channel_axes import ChannelTracker
from manifold_lab.probe.layer import LayerRecord, Sampling
from manifold_lab.probe.layer_types import CALLED, NORM_TYPES, OPERATOR_TYPES, choose, is_batch_norm
from manifold_lab.probe.layer_types import kinds as kinds_of
from manifold_lab.probe.measures import MEASURES, LayerRow, describe
from manifold_lab.probe.names import BOTTLENECK, NONLINEARITY, NORM
from manifold_lab.probe.watchers import ForwardPass, Functions, Watcher

DEFAULT_SAMPLING = Sampling()
PART = "a part of another function of its input (as the sigmoid of x * sigmoid(x)): no activation by itself"
REPLACED = "a part of the activation written out behind it: no activation by itself"
UNLISTED = "not counted: no activation that is known"
_plot_layers = lazy_function("manifold_lab.report.interactive.plot_layers")


class Probe:
    """Look inside any torch network while it runs.

    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU())
    >>> with Probe(model, measures=["active"]) as probe:
    ...     _ = model(torch.randn(100, 2))
    >>> probe.table()[0]["threshold"]
    2

    `layers`: `LAYER_KINDS` and patterns of module names; `measures`: names of `MEASURES`. Any number of forward
    passes, in any mode, under autocast or inference_mode, in any layout, alone or inside DistributedDataParallel (each
    process then sees its own part of the data). Outputs, weights, buffers, modes and torch's random generators stay as
    they would be. What is taken is taken at once: of an activation's input before it runs, of its output right after,
    so that activations that work in place change nothing. A pass that raises leaves nothing behind.

    Activations called as functions are layers too, named after the module that calls them: "features.relu()".

    Where the channels of a layer are follows from the operators and norms before it (see `channel_axes`); where that
    is not known, the note says so and the numbers are empty. The same holds for functions that are no known
    activation. An activation that is written out, such as x * relu6(x + 3) / 6, is known by what it does to the numbers
    (`compositions`); one that is not known is a note on its parts.

    What it cannot see: anything inside a compiled or scripted model, which is refused, or replayed by CUDA graphs; a
    module called outside of the model's own forward; a nonlinear product of two different maps.

    Raises:
        InputError: for layers or measures that do not exist, or a compiled or scripted model.
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
        self.passes = 0
        self._moves: dict[Any, Any] = {}
        self._modules: tuple[nn.Module, ...] = ()
        self._state = ForwardPass()
        self._stack = ExitStack()
        _refuse_compiled(model)

    def __enter__(self) -> "Probe":
        with ExitStack() as attaching:
            attaching.enter_context(attached(self._attach()))
            attaching.enter_context(Functions(self))
            self._stack = attaching.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo()
        self._stack.close()

    def table(self, measured: Callable[[int], None] = lambda _: None) -> list[LayerRow]:
        """One line per layer in the order of execution, then those that were chosen and never reached.

        Args:
            measured: called with 1 after each layer, for those who wait.

        Raises:
            InputError: where the model never ran inside the context, or nothing that was asked for.
        """
        self._undo()
        if not self.passes:
            raise InputError("probe: the model never ran inside the context (compiled code does not run its hooks)")
        missed = [LayerRecord(name, module, self.needs, self.sampling) for name, module in self._missed()]
        found = [*filter(self.shows, self.layers.values()), *missed]
        if not found:
            raise InputError(f"layers: nothing of {', '.join(self.chosen.patterns)} ran in this model")
        rows = []
        for layer in found:
            rows.append(describe(layer, self.measures))
            measured(1)
        return rows

    def frame(self) -> DataFrame:
        """The table as a pandas DataFrame: a row per layer, a column per number; what is not known is NaN.

        Raises:
            InputError: as `table`.
        """
        return frame(self.table())

    def plot(self) -> list[Axes]:
        """Draw what was measured over depth; the axes of its panels, one for each kind of number.

        `axes[0].figure.savefig("probe.pdf")` keeps the figure.

        Raises:
            InputError: as `table`.
        """
        return _plot_layers(self.table(), type(self.model).__name__, f"{self._shown}; bands are over all positions")

    @property
    def _shown(self) -> str:
        return f"{self.passes} forward {'pass' if self.passes == 1 else 'passes'}"

    def __repr__(self) -> str:
        chosen = f"layers={list(self.chosen.patterns)}, measures={list(self.measures)}"
        return f"<Probe of {type(self.model).__name__}, {chosen}: {len(self.layers)} layers, {self._shown}>"

    def _repr_html_(self) -> str:
        return self.frame()._repr_html_() if self.passes else f"<code>{html.escape(repr(self))}</code>"

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

    def shows(self, layer: LayerRecord) -> bool:
        """Whether the table has a layer; a part of an activation that is written out only if asked for by name."""
        return self.wants(layer) and (REPLACED not in layer.notes or self.chosen.name(layer.name))

    def _attach(self) -> Iterator[RemovableHandle]:
        self._modules = tuple(self.model.modules())
        yield self.model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for name, module in self.model.named_modules():
            activates = of_module(module) is not None
            yield module.register_forward_pre_hook(functools.partial(self._open, (name, activates)))
            looked_at = self.may_be_wanted(name, kinds_of(module))
            traced = isinstance(module, (*OPERATOR_TYPES, *NORM_TYPES)) or is_batch_norm(module) or activates
            if name and (looked_at or traced):
                watcher = Watcher(self, name, module, looked_at)
                yield module.register_forward_pre_hook(watcher.before, with_kwargs=True)
                yield module.register_forward_hook(watcher.after)
            yield module.register_forward_hook(self._close, always_call=bool(name))
        yield self.model.register_forward_hook(self._end, always_call=True)

    def may_be_wanted(self, name: str, found: tuple[str, ...]) -> bool:
        """Whether a call of something of this name and of these kinds can be one that was asked for."""
        narrow = NORM in found and self.chosen.kind((BOTTLENECK,))
        later = any(pattern.startswith(f"{name}#") for pattern in self.chosen.patterns)
        return self.chosen.name(name) or self.chosen.kind(found) or narrow or later

    def _begin(self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._undo()
        held = (part for module in self._modules for part in (*module._parameters.values(), *module._buffers.values()))
        constants = frozenset(map(id, held))
        self._state = ForwardPass(True, self.passes == 0, ChannelTracker(constants, self._moves))
        self._state.channels.begin((args, kwargs))

    def _end(self, _model: nn.Module, _args: object, output: object) -> None:
        """Keep what a pass has left, unless it raised, which leaves the network itself open."""
        state = self._state
        if state.inside or not state.running:
            self._undo()
            return
        state.channels.end(output)
        for note, names in ((PART, state.channels.parts), (REPLACED, state.channels.replaced)):
            for name in names & self.layers.keys():
                self.layers[name].part = True
                self.layers[name].note(note)
        if self.chosen.kind((NONLINEARITY,)):
            self._list(state.channels.unlisted)
        self.passes += 1
        self._state = ForwardPass()

    def _list(self, unlisted: dict[str, None]) -> None:
        """Lines for functions that may be activations and are not known."""
        for name in unlisted:
            if name not in self.layers:
                kind = name.rpartition(".")[2].removesuffix(CALLED)
                self.layers[name] = LayerRecord(name, nn.Identity(), frozenset(), self.sampling, activation=UNLISTED,
                                                kind=kind)  # fmt: skip
            self.layers[name].calls += 1
            self.layers[name].batches.append(0)

    def _undo(self) -> None:
        """Take back what a pass that did not end has counted."""
        state, self._state = self._state, ForwardPass()
        for name, kept in state.kept.items():
            if kept is None:
                del self.layers[name]
            else:
                self.layers[name].restore(kept)

    def _open(self, what: tuple[str, bool], *_: object) -> None:
        self._state.inside.append(what)

    def _close(self, *_: object) -> None:
        """Leave a module, also by an error that the network may catch; an error leaves the network itself open."""
        if self._state.inside:
            self._state.inside.pop()


def _refuse_compiled(model: nn.Module) -> None:
    for name, module in model.named_modules():
        where, remedy = f"its {name}" if name else "it", ""
        if isinstance(module, torch.jit.ScriptModule):
            remedy = "scripted or traced, and such code runs past hooks; give the eager model"
        elif hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            remedy = ("compiled, and compiled code runs past hooks; give the model as it was before torch.compile (the "
                      "same weights: model._orig_mod)")  # fmt: skip
        if remedy:
            raise InputError(f"probe: {where} is {remedy}")
