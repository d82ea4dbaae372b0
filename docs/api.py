"""The API page, made from the docstrings: python docs/api.py FOLDER."""

import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import manifold_lab

if __name__ == "__main__":
    inner = pkgutil.walk_packages(manifold_lab.__path__, "manifold_lab.")
    names = [module.name for module in inner if not module.name.endswith("__main__")]
    warnings.filterwarnings("ignore", "The module specification")  # a module that its package shows too, is shown once
    pdoc.pdoc("manifold_lab", *names, output_directory=Path(sys.argv[1]))
