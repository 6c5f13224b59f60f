"""The benchmarks run, and what they check holds: how fast it was is nobody's concern here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.run import BENCHMARKS, main, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["transfer", "control", "techniques", "judging", "combining"])
def test_what_a_quick_run_checks_holds(name: str, tmp_path: Path) -> None:
    result = run(name, quick=True)
    assert result.checks
    assert all(result.checks.values()), [what for what, held in result.checks.items() if not held]
    written = json.loads(result.write(tmp_path).read_text())
    assert written["figures"].keys() == result.figures.keys()
    assert {"cores", "memory_gb", "python", "libraries"} <= written["machine"].keys()
    assert str(Path.home()) not in (tmp_path / f"{name}.json").read_text()


def test_a_run_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--only", "policy", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "policy.md").read_text().rstrip()
    assert page in capsys.readouterr().out
    assert "200 fields" in page


def test_a_check_that_does_not_hold_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path, *, quick: bool) -> results.Result:
        assert folder.is_dir()
        assert quick
        return results.Result("broken", "Broken", {}, {}, [], {"two and two are five": False})

    monkeypatch.setitem(BENCHMARKS, "policy", broken)
    assert main(["--quick", "--only", "policy", "--out", str(tmp_path)]) == 1
    assert "DOES NOT HOLD: two and two are five" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert results.percentile([4, 1, 3, 2], share) == expected


def test_ratios_are_within_a_round() -> None:
    assert results.ratio([2.0, 30.0, 5.0], [1.0, 10.0, 5.0]) == 2.0
