"""What the documents say was found is what the committed results say."""

from pathlib import Path

import pytest

from sgdnoise.lab import read, verdicts_in
from sgdnoise.lab._verdict import row
from simulations.calibration import claims as calibration_claims

RESULTS = sorted(Path("simulations/results").glob("*.nc"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_findings_quote_every_verdict_as_it_is(path):
    text = Path("docs/findings.md").read_text(encoding="utf-8")
    found = verdicts_in(read(path))
    assert found
    for verdict in found:
        assert f"| {' | '.join(row(verdict))} |" in text


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path):
    origin = read(path).attrs
    assert {"arguments", "versions", "commit", "machine", "device", "date", "seconds"} <= set(
        origin
    )
    assert origin["dirty"] == "False"
    assert len(origin["commit"]) == 40
    assert path.stat().st_size < 1_000_000


def test_the_tables_of_estimators_are_those_of_the_committed_result():
    text = Path("docs/dimension.md").read_text(encoding="utf-8")
    tables = calibration_claims.tables(read(Path("simulations/results/calibration.nc")))
    assert len(tables) == 4
    for table in tables:
        for line in (table.headings, *table.rows):
            assert f"| {' | '.join(line)} |" in text
