"""The studies, one a file; `README.md` lists them.

Help and refused options are answered here, before an experiment loads what it runs with; `manifold_lab` comes first, so
that a stop while the libraries of a study load is one line.
"""

from pathlib import Path

from manifold_lab.sweeps.command_line import answer_early

answer_early(Path(__file__).parent)
