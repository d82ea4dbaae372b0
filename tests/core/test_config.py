import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from call_checks import switched_off
from hypothesis import given
from hypothesis import strategies as st

from manifold_lab import MonteCarlo
from manifold_lab.core.config import canonical_json, disagreement, key
from manifold_lab.core.errors import InputError, at_least, one_of
from manifold_lab.data import Augmentation, DataOptions, ManifoldTask
from manifold_lab.models.specs import CIFAR, V2, NetworkSpec
from manifold_lab.random_layer.manifolds import ManifoldSpec
from manifold_lab.sweeps.training_run import TrainingRun
from manifold_lab.training import Recipe


@dataclass(frozen=True)
class Spec:
    dims: tuple[int, ...] = (2, 3)
    rate: float = 0.5


def test_equal_specs_have_equal_keys_and_different_ones_do_not() -> None:
    assert key(Spec()) == key(Spec((2, 3), 0.5))
    assert len({key(Spec()), key(Spec((3, 2))), key(Spec(rate=0.25))}) == 3


def test_a_spec_with_nan_has_no_canonical_text() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(Spec(rate=float("nan")))


@dataclass(frozen=True)
class Outer:
    network: NetworkSpec = CIFAR
    note: str = field(default="", compare=False)


def test_another_process_gives_the_same_key() -> None:
    code = "from manifold_lab.models.specs import CIFAR; from manifold_lab.core.config import key; print(key(CIFAR))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == key(dataclasses.replace(CIFAR, width=1))


def test_specs_that_are_equal_in_python_have_equal_keys() -> None:
    for one, other in (
        (Spec(rate=2), Spec(rate=2.0)),
        (Spec(rate=0.0), Spec(rate=-0.0)),
        (Spec(rate=1), Spec(rate=True)),
    ):
        assert one == other and key(one) == key(other)
    assert key(Outer(note="a")) == key(Outer(note="b"))
    assert key(Outer()) == key(Outer(NetworkSpec(resolution=32, num_classes=10, stem_stride=1))) != key(Outer(V2))


def later(name: str = "Spec", **defaults: Any) -> Any:
    """The class Spec as later code may have it."""
    old = [("dims", tuple, (2, 3)), ("rate", float, defaults.pop("rate", 0.5))]
    return dataclasses.make_dataclass(
        name, old + [(key, type(value), value) for key, value in defaults.items()], frozen=True
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.floats(-2, 2))
def test_a_field_added_with_a_default_keeps_every_key(dims: list[int], rate: float) -> None:
    grown = later(extra=3, more=(1, 2))
    assert key(grown(tuple(dims), rate)) == key(Spec(tuple(dims), rate)) != key(grown(tuple(dims), rate, extra=4))


def test_a_changed_default_keeps_the_keys_of_both_values_when_the_first_is_said() -> None:
    output = later(rate=field(default=0.25, metadata={"first_default": 0.5}))
    assert key(output(rate=0.5)) == key(Spec())
    assert key(output()) == key(Spec(rate=0.25))
    assert key(later(rate=0.25)()) == key(Spec())  # where it is not told, which `disagreement` is for


def test_classes_of_one_grid_are_set_apart() -> None:
    assert key(later("Other")()) != key(Spec())


def test_disagreement_names_the_field_and_overlooks_what_one_side_lacks() -> None:
    stored = dataclasses.asdict(Outer()) | {"old": 1}
    stored["network"] = {
        name: list(map(list, value)) if name == "rows" else value for name, value in stored["network"].items()
    }
    assert disagreement(Outer(), stored) is None
    stored["network"]["rows"][1][2] = 5
    assert disagreement(Outer(), stored) == "network.rows.1.2"
    del stored["network"]["rows"]
    assert disagreement(Outer(), stored) is None
    assert disagreement(Outer(V2), stored) == "network.resolution"
    assert [disagreement(Spec(), {"dims": dims}) for dims in ([2, 3], [2], "2", None)] == [None, *["dims"] * 3]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_whole_list() -> None:
    with pytest.raises(InputError, match=r"activation: 'rellu' is unknown; did you mean 'relu'\? allowed: relu, tanh"):
        one_of("activation", "rellu", ("relu", "tanh"))


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf")])
def test_a_number_out_of_range_is_named_with_its_bound(value: float) -> None:
    with pytest.raises(InputError, match=rf"draws: {value} is not allowed; .*at least 1"):
        at_least("draws", value, 1)


@pytest.fixture
def unhooked() -> Iterator[None]:
    """As users have it: without the test suite's own check of every call, which would come first."""
    with switched_off():
        yield


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 10.5}, "num_classes: 10.5 is not allowed; it must be a whole number"),
        ({"num_classes": True}, "num_classes: True is not allowed; it must be a whole number"),
        ({"num_classes": "10"}, "num_classes: '10' is not allowed; it must be a whole number"),
        ({"width": "1"}, "width: '1' is not allowed; it must be a number"),
        ({"width": True}, "width: True is not allowed; it must be a number"),
        ({"resolution": 224.5}, "resolution: 224.5 is not allowed; it must be a whole number"),
        ({"expansion_activation": None}, "expansion_activation: None is not allowed; it must be a word"),
        ({"rows": 5}, "rows: 5 is not allowed; it must be a tuple of any length, each a tuple of (a number, "),
        ({"rows": [(6, 24, 2, 1)]}, "rows: [(6, 24, 2, 1)] is not allowed; it must be a tuple of any length"),
        ({"rows": ([6, 24, 2, 1],)}, "rows: [6, 24, 2, 1] is not allowed; it must be a tuple of (a number, "),
        ({"rows": ((1, 16, 1, 1), (6, 24, 2))}, "rows: (6, 24, 2) is not allowed; it must be a tuple of (a number, "),
        ({"rows": ((6, 24, 1.5, 1),)}, "rows: 1.5 is not allowed; it must be a whole number"),
        ({"rows": ((6, 16.5, 2, 1),)}, "rows: 16.5 is not allowed; it must be a whole number"),
        ({"rows": ((True, 16, 2, 1),)}, "rows: True is not allowed; it must be a number"),
    ],
)
def test_a_part_of_another_type_is_refused_with_its_field_and_what_is_allowed(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        dataclasses.replace(V2, **changes)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


@pytest.mark.usefixtures("unhooked")
@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (Recipe, {"decay_norms_and_biases": 1}, "decay_norms_and_biases: 1 .* True or False"),
        (Recipe, {"clip_norm": "1"}, "clip_norm: '1' .* a number or None"),
        (Recipe, {"augmentation": None}, "augmentation: None .* be Augmentation"),
        (Augmentation, {"flip": "yes"}, "flip: 'yes' .* True or False"),
        (DataOptions, {"workers": 1.5}, r"workers: 1\.5 .* a whole number"),
        (ManifoldTask, {"classes": 2.5}, r"classes: 2\.5 .* a whole number"),
        (ManifoldSpec, {"radius": None}, "radius: None .* a number"),
        (MonteCarlo, {"dims": [2, 3]}, r"dims: \[2, 3\] .* a tuple of any length, each a whole number"),
        (TrainingRun, {"network": CIFAR, "recipe": Recipe(), "seed": "0"}, "seed: '0' .* a whole number"),
    ],
)
def test_every_spec_refuses_what_its_annotations_do_not_allow(kind: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**changes)


@pytest.mark.usefixtures("unhooked")
def test_a_whole_number_is_a_number() -> None:
    assert MonteCarlo(sigma=1) == MonteCarlo(sigma=1.0) and dataclasses.replace(V2, width=1) == V2
