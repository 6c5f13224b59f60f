"""What the page on operating says of setting up by hand is run as it stands: an exchange, a department with its
gateway and a company, each with a home, keys and processes of its own, by the command line alone."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from tests.docs.pages import DOCS, commands, parse
from tests.docs.test_tutorial import MARK, run, script, steps

PAGE = DOCS / "operating.md"


@pytest.mark.slow
@pytest.mark.xdist_group("pages")
def test_a_department_is_set_up_by_hand(tmp_path: Path) -> None:
    wanted = steps(PAGE)
    code, printed = run(script(wanted), tmp_path)
    outputs = re.split(rf"^{MARK} \d+\n", printed, flags=re.MULTILINE)[1:]
    assert code == 0, f"the block on line {wanted[len(outputs) - 1][0].line} failed with {code}:\n{outputs[-1]}"
    assert len(outputs) == len(wanted) + 1
    assert re.search(r"it stands: (\d+) of \1 steps hold", outputs[-2])
    assert pl.read_parquet(tmp_path / "visits.parquet").columns == ["home_postcode", "visit_ts", "hospital_code"]

    # Nothing of the department is in another's home, and no secret was handed over.
    homes = {name: {path.name for path in (tmp_path / name).rglob("*")} for name in ("office", "bureau", "lines")}
    assert "master.key" in homes["bureau"]
    assert "exchange.db" in homes["office"]
    assert not {"gateway.toml", "master.key"} & (homes["office"] | homes["lines"])
    assert not {"exchange.db", "exchange.toml"} & (homes["bureau"] | homes["lines"])
    assert all('"d"' not in path.read_text() for path in (tmp_path / "handed").iterdir())
    # The gateway knows the steward before its first agreement.
    assert list((tmp_path / "bureau" / "gateways" / "health-bureau-1" / "statements").glob("*.json"))


def test_nothing_but_the_command_line_is_needed() -> None:
    text = "".join(block.text for block, _ in steps(PAGE))
    assert {"exchange.app", "openssl"} & set(re.findall(r"exchange\.app|openssl", text)) == set()
    names = [parse(words) for words in commands(text)]
    order = ["init", "party add", "gateway new", "gateway register", "source bind", "gateway run", "publish", "pull"]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
