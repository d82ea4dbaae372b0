"""Where missing runs are run: a launcher is the function `launch` of a module here, and has the module's name.

To add one, add its module: it is found by looking into this folder.
"""

import importlib
import pkgutil

from manifold_lab.core.errors import one_of
from manifold_lab.sweeps.runner import Launcher


def names() -> list[str]:
    """The launchers there are."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def find(name: str) -> Launcher:
    """A launcher by name; its module is imported only now.

    Raises:
        InputError: for a name that no launcher has.
    """
    found: Launcher = importlib.import_module(f"{__name__}.{one_of('launcher', name, names())}").launch
    return found
