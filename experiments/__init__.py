"""One file a claim; help and refused options are answered here, before an experiment loads what it runs with."""

from pathlib import Path

from manifold_lab.sweeps.command_line import answer_early

answer_early(Path(__file__).parent)
