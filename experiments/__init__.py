"""The studies, one a file; `README.md` lists them."""

import manifold_lab  # noqa: F401 - first, so that a stop while the libraries of a study load is one line
