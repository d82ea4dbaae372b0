"""A study from Python: run it, and have its tables, figure and claims as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifold_lab.core.files import publish, text
from manifold_lab.core.provenance import Made
from manifold_lab.core.shown import Axes, DataFrame, frame
from manifold_lab.report.interactive import adopted
from manifold_lab.report.styles import DEFAULT_STYLE
from manifold_lab.report.tables import ClaimResult, claim_sentence, read_csv, to_csv
from manifold_lab.sweeps import study_commands
from manifold_lab.sweeps.options import GridOptions, RunOptions
from manifold_lab.sweeps.publishing import gathered, named_claims, published_files
from manifold_lab.sweeps.study import MAIN, Published, Study, by_part, file_stem


@dataclass(frozen=True, eq=False, repr=False)
class StudyResult:
    """What a study's runs say.

    Args:
        study: the study.
        published: the table of its csv file, or of each of them by the part of their names.
        contents: of each csv file, by the part of its name.
        claims: each with the number that decides it.
        counts: how many runs of the grid stand how.
        made: what made the runs: commits, versions, devices.
    """

    study: Study
    published: Published
    contents: Mapping[str, str]
    claims: Sequence[ClaimResult]
    counts: str
    made: Made | None = None

    def frame(self, part: str = MAIN) -> DataFrame:
        """A csv file of the study.

        Args:
            part: of its name, where the study has several.
        """
        return by_part(self.published)[part].copy()

    def verdicts(self) -> DataFrame:
        """A row per claim: what it says, the measured number with interval and n, and the verdict."""
        return frame(claim.record() for claim in self.claims)

    def table(self) -> DataFrame:
        """The table for readers; the verdicts of a study without one."""
        if self.study.table is None:
            return self.verdicts()
        shown = next(iter(by_part(self.study.table(self.published)).values()))
        return read_csv(to_csv(shown.rows[list(shown.head)].rename(columns=shown.head)))

    def plot(self) -> list[Axes]:
        """Draw the study's figure; its axes, none where it has no figure."""
        return adopted(self.study.figure(self.published)) if self.study.figure else []

    def sentences(self) -> list[str]:
        """One for each claim, with its number."""
        return [claim_sentence(claim) for claim in self.claims]

    def save(self, out: Path | str, style: str = DEFAULT_STYLE) -> list[Path]:
        """Write csv files, figure, tables and claims into a folder, as `publish` does; their paths.

        Args:
            out: the folder.
            style: whose column width and fonts the figure has.

        Raises:
            InputError: for an unknown style, or where the folder cannot be written.
        """
        files = {f"{file_stem(self.study.name, part)}.csv": text(one) for part, one in self.contents.items()}
        return publish(Path(out), files | published_files(self.study, self.published, self.claims, style, self.made))

    def __repr__(self) -> str:
        verdicts = "; ".join(f"{claim.verdict}: {claim.says}" for claim in self.claims)
        return f"<StudyResult of {self.study.name} ({self.counts}): {verdicts}>"

    def _repr_html_(self) -> str:
        return "".join(f"<p>{line}</p>" for line in self.sentences()) + self.table()._repr_html_()


def run_study(study: Study, options: RunOptions) -> StudyResult:
    """Run what is missing of a study's grid, and have the result.

    Raises:
        InputError: where no run is done.
    """
    if study.stored:
        study_commands.run_missing(study, options)
    return study_result(study, options)


def study_result(study: Study, options: GridOptions) -> StudyResult:
    """The result of the runs that are done; of a study that keeps none, of runs that are made now.

    Raises:
        InputError: where no run is done.
    """
    found = gathered(study, options)
    published = study.published(found.contents)
    return StudyResult(study, published, found.contents, named_claims(study, published), found.says, found.made)
