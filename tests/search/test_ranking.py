"""What a ranking says goes into JSON, whatever became of the outputs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from qcompiler.numerics import SqnrMeter
from qcompiler.search.damage import Damage
from qcompiler.search.groups import Group
from qcompiler.search.ranking import RUINED, ranked
from qcompiler.search.sensitivity import Sensitivity


def test_ruined_outputs_come_first_and_have_numbers() -> None:
    meters = {
        "fine": SqnrMeter(4.0, 1.0, 10), "exact": SqnrMeter(4.0, 0.0, 10), "from_silence": SqnrMeter(0.0, 1.0, 10),
        "no_number": SqnrMeter(4.0, math.nan, 10),
    }  # fmt: skip
    found = [
        Sensitivity(Group(name, "Conv", "int8", (name,), (name,), ("y",), False), Damage({"y": meter}, math.inf))
        for name, meter in meters.items()
    ]
    lines = ranked(found, None)
    assert [line.name for line in lines][2:] == ["fine", "exact"]
    assert [line.damage for line in lines] == [RUINED, RUINED, 0.25, 0.0]
    assert [line.sqnr_db for line in lines][:2] == [-300.0, -300.0] and lines[3].sqnr_db is None
    assert all(line.divergence == RUINED for line in lines)
    json.dumps([asdict(line) for line in lines], allow_nan=False)
