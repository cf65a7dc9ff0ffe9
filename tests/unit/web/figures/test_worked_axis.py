"""The axis that CONTRIBUTING.md adds is one: its row is taken from the page and drawn."""

import json
import re

import pytest
from sqlalchemy import select

from app.settings import ROOT, Settings
from app.store.tables import RunRow
from app.web.figures.drawing import axes, render
from app.web.figures.studies.study import StudyData
from app.web.figures.studies.trade_off import trade_off
from tests.support.rows.factories import empty_database, plain, seed_study


def test_the_row_of_the_worked_axis_is_offered_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = re.findall(r'```python\n("reserved": Axis\(.*?\),)\n```', (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    monkeypatch.setitem(axes.AXES, "reserved", eval(f"{{{row}}}", vars(axes))["reserved"])
    with empty_database() as session:
        study = seed_study(session)
        assert "reserved" not in axes.known(StudyData(session, Settings(), study).comparison)
        for run in session.scalars(select(RunRow)):
            result = run.result_json or {}
            memory = result["memory"] | {"reserved_bytes": 2 * result["memory"]["peak_bytes"]}
            run.result_json = result | {"memory": memory}
        found = StudyData(session, Settings(), study).comparison
    assert "reserved" in axes.known(found)
    figure = trade_off(found, "reserved", "score")
    assert plain(figure.title) == "LoRA r=8 is enough with 300 MiB instead of 806 MiB"
    assert "reserved_bytes" in [column.name for column in figure.table.columns]
    assert "Reserved memory, MiB" in json.dumps(figure.chart().configure(**render.CONFIG).to_dict(validate=True))
