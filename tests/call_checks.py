"""Checks of every call's arguments and result against their annotations, while tests run.

jaxtyping compares the shapes of one call's tensors with each other, at a cost for every call; modules without such
annotations are left to beartype alone, which is several times faster.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf
from beartype.claw import beartype_package

PACKAGE = "manifold_lab"
ROOT = Path(__file__).parent.parent
TRACED = "manifold_lab.models.fast"
"""Called with stand-ins for tensors where torch traces a network, as quantization does."""


class CallError(UserWarning, TypeError):
    """A value that its annotation does not allow: an error, as every warning is in these tests."""


def with_shapes() -> list[str]:
    """Names of the modules with annotations of shapes."""
    return [name for name, path in modules().items() if "jaxtyping import" in path.read_text("utf-8")]


def modules() -> dict[str, Path]:
    """Every module of the package by name."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path
            for path in sorted((ROOT / PACKAGE).rglob("*.py"))}  # fmt: skip


def install() -> None:
    """Before the package is imported."""
    jaxtyping.install_import_hook(with_shapes(), "beartype.beartype")
    kernels = [name for name in modules() if name.endswith("kernel")]  # which are compiled, and call each other
    skipped = (*kernels, TRACED)
    conf = BeartypeConf(claw_is_pep526=False, violation_type=CallError, claw_skip_package_names=skipped)
    beartype_package(PACKAGE, conf=conf)


@contextmanager
def switched_off() -> Generator[None]:
    """As users run it: nothing but the package's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CallError)
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
