"""The table of aims: which line of a csv decides, and on which side of the limit its interval lies."""

import itertools
import subprocess
from pathlib import Path

import pytest

from benchmarks import before, suite
from manifold_lab.core.errors import InputError
from manifold_lab.report import speed_table
from manifold_lab.report.speed_bounds import BOUNDS, speed_bounds
from manifold_lab.report.speed_table import (
    AIMS,
    MET,
    NOT_MET,
    NOT_RUN,
    NOT_SHOWN,
    Aim,
    Measured,
    measured,
    speed_aims,
)  # fmt: skip

ROOT = Path(__file__).parent.parent.parent

LIMIT = 1.5
AT_MOST = Aim("work", "some work", "a peer", "file", {"kind": ("one", "other")}, LIMIT)
AT_LEAST = Aim("work", "some work", "a peer", "file", {"kind": ("one", "other")}, LIMIT, at_least=True)


def line(value: float, low: float, high: float, **more: str) -> dict[str, str]:
    return {"kind": "one", "ratio": str(value), "low": str(low), "high": str(high), **more}


@pytest.mark.parametrize("ends", [*itertools.combinations_with_replacement((1.0, 1.4, 1.5, 1.6, 2.0), 2)])
def test_the_verdict_is_that_of_every_number_of_the_interval(ends: tuple[float, float]) -> None:
    low, high = ends
    inside = [low + share * (high - low) for share in (0, 0.5, 1)]
    for aim, holds in ((AT_MOST, [x <= LIMIT for x in inside]), (AT_LEAST, [x >= LIMIT for x in inside])):
        expected = MET if all(holds) else NOT_MET if not any(holds) else NOT_SHOWN
        assert Measured(aim, line(sum(ends) / 2, low, high), {}).verdict == expected


def test_without_an_interval_the_number_decides_and_without_one_nothing_does() -> None:
    for aim, better in ((AT_MOST, 1.4), (AT_LEAST, 1.6)):
        assert Measured(aim, {"kind": "one", "ratio": str(better)}, {}).verdict == MET
        assert Measured(aim, {"kind": "one", "ratio": str(3 - better)}, {}).verdict == NOT_MET
        assert Measured(aim, line(better, float("nan"), float("nan")), {}).verdict == NOT_SHOWN
        assert Measured(aim, {}, {}).verdict == NOT_SHOWN


def test_the_worst_line_counts() -> None:
    lines = [line(1.2, 1.1, 1.3), line(1.9, 1.8, 2.0) | {"kind": "other"}, line(9, 8, 10) | {"kind": "third"}]
    assert AT_MOST.line(lines) is lines[1] and AT_LEAST.line(lines) is lines[0]
    assert AT_MOST.line(lines[2:]) == AT_MOST.line([]) == {}


def test_a_row_has_the_ratio_the_change_and_the_worst_case() -> None:
    aim = Aim("work", "some work", "a peer", "file", {}, 1, ("s", "s_low", "s_high"), " s", named=("dim", "kind"))
    now = line(2.9, 2.8, 3.0, s="0.5", s_low="0.4", s_high="0.6", dim="15")
    message = ["some work; worst: dim 15, one", "a peer", "2.9 (2.8 to 3.0)", "≤ 1 s", "2 → 0.5 s", f"**{MET}**"]
    assert Measured(aim, now, {"aim": "work", "value": "2", "commit": "abc"}).cells() == message
    assert Measured(aim, now, {}).cells()[4] == "– → 0.5 s" and Measured(aim, {}, {}).cells()[4] == "–"


def test_without_any_csv_every_row_says_so(tmp_path: Path) -> None:
    table = speed_aims(tmp_path).splitlines()
    assert sum(NOT_RUN in row and NOT_SHOWN in row for row in table) == len(AIMS)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "probe.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"probe\.csv cannot be read"):
        speed_aims(tmp_path)


def test_an_aim_that_is_not_met_says_what_bounds_it_and_one_that_is_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    file = tmp_path / "benchmarks" / "start_up.csv"
    head = "work,peer,seconds,seconds_low,seconds_high,peer_seconds,beyond,beyond_low,beyond_high,ratio,low,high\n"
    bound = "its libraries,import torch,3.25,,,2.5,,,,,,\n"
    for beyond, message in ((5, "of 7.5 s of CPU time, loading its libraries takes 3.25 (torch alone 2.5)"), (3, "")):
        spent = f"default command,import torch,7.5,7,8,2.5,{beyond},{beyond - 0.5},{beyond + 0.5},3,2.9,3.1\n"
        file.write_text(head + spent + bound)
        said = speed_bounds(tmp_path)
        assert (
            (message in said and "takes (not run)" in said)
            if message
            else said == "Every aim that was measured is met."
        )


def test_every_sentence_is_of_an_aim_and_no_measured_one_lacks_it() -> None:
    lacking = [one.aim.name for one in measured(ROOT) if one.now and one.verdict != MET]
    assert set(lacking) <= set(BOUNDS) <= {aim.name for aim in AIMS}
    assert speed_bounds(ROOT).count("\n") == len(lacking) - 1 and "(not run)" not in speed_bounds(ROOT)


def test_names_of_aims_are_not_given_twice() -> None:
    assert len({aim.name for aim in AIMS}) == len(AIMS)


def test_values_before_come_from_the_commit_and_do_not_replace_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    heads = "contestant,ratio,low,high\n"
    (folder / "probe.csv").write_text(f"{heads}active and covariance,2.5,2.4,2.6\n")
    (folder / "before.csv").write_text("aim,value,low,high,commit\nimport,0.9,0.8,1,1234567\n")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], check=True)
    (folder / "probe.csv").write_text(f"{heads}active and covariance,1.2,1.1,1.3\n")
    before.run(before.Run("HEAD"))
    message = {one["aim"]: one for one in speed_table.lines(folder / "before.csv")}
    assert message.keys() == {"import", "covariance"} and message["import"]["commit"] == "1234567"
    assert [message["covariance"][name] for name in ("value", "low", "high")] == ["2.5", "2.4", "2.6"]
    with pytest.raises(InputError, match="commit: 'nowhere' is none"):
        before.run(before.Run("nowhere"))


def junit(failures: int) -> str:
    times = {"tests.report.test_html": 90, "tests.test_spiral": 30.0, "tests.report.test_plots": 60}
    cases = "".join(f'<testcase classname="{name}" name="test" time="{value}"/>' for name, value in times.items())
    return f'<testsuites><testsuite time="120" errors="0" failures="{failures}">{cases}</testsuite></testsuites>'


def test_what_tests_cost_by_a_report_written_by_hand() -> None:
    costs = {"minutes": "2", "test_minutes": "3", "costliest": "tests/report", "costliest_minutes": "2.5"}
    assert suite.costs(junit(0)) == {"tests": "3"} | costs
    others = ("passed", "<page/>", "<testsuite time='1'/>", junit(0).replace("tests.", ""))
    for report, reason in ((junit(2), "2 tests failed"), *((other, "it is no JUnit report") for other in others)):
        with pytest.raises(InputError, match=reason):
            suite.costs(report)
