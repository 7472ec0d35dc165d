"""Tables from records made by hand, in the shape that `bench.run_cell` writes: no training here."""

import csv
import io
import json
from dataclasses import asdict

import pytest

from falw.bench import FLOOR_SEED, Setting
from falw.report import COLUMNS, describe, table, to_csv, to_json, to_markdown
from falw.train import Config


def record(method, scores, seconds=1.0, seed=0, config_seed=None, **setting):
    """A record, as far as a table reads it."""
    return {
        "method": method,
        "setting": asdict(Setting(seed=seed, **setting)),
        "config": json.loads(json.dumps(asdict(Config(seed=seed if config_seed is None else config_seed)))),
        "scores": dict(zip(("fa", "ra", "ta", "mia"), scores, strict=True)),
        "seconds": seconds,
    }


# Two seeds; the second Retrain and the Original of seed 0 only; SalUn of a third seed that has no Retrain
SALUN = [
    record("salun", (60, 98, 70, 40), 2.0),
    record("salun", (50, 90, 60, 50), 4.0, seed=1),
    record("salun", (10, 10, 10, 10), 9.0, seed=2),
]
RECORDS = [
    *SALUN,
    record("ft", (90, 100, 75, 10)),
    record("mine", (90, 100, 75, 10)),
    record("original", (100, 100, 71, 0), 30.0),
    record("retrain", (42, 98, 66, 58), 20.0, config_seed=FLOOR_SEED),
    record("retrain", (52, 98, 62, 48), 20.0, seed=1),
    record("retrain", (40, 99, 68, 60), 20.0),
]
ROWS = {row["method"]: row for row in table(RECORDS)}


def test_rows_come_in_order():
    # what is compared with, then the methods as in METHODS, then what is not known
    assert list(ROWS) == ["retrain", "noise floor", "original", "ft", "salun", "mine"]
    assert [row["method"] for row in table(RECORDS[::-1])] == list(ROWS)


def test_a_row_by_hand():
    row = ROWS["salun"]
    assert row["seeds"] == 3
    # 60, 50, 10 have mean 40 and squared distances 400, 100, 900: sd is the root of 1400/2. Gaps |60 - 40|, |50 - 52|
    assert row["fa"] == pytest.approx({"mean": 40, "sd": 700**0.5, "gap": 11})
    assert row["ra"] == pytest.approx({"mean": 66, "sd": 2368**0.5, "gap": 4.5})  # 98, 90, 10; gaps 1, 8
    assert (row["ta"]["gap"], row["mia"]["gap"]) == (2, 11)  # 2, 2; 20, 2
    # seed by seed (20 + 1 + 2 + 20)/4 = 10.75 and (2 + 8 + 2 + 2)/4 = 3.5
    assert row["gap"] == pytest.approx({"mean": 7.125, "sd": 7.25 / 2**0.5})
    assert row["seconds"] == pytest.approx({"mean": 5, "sd": 13**0.5})


def test_one_seed_has_no_deviation():
    assert ROWS["ft"]["fa"] == {"mean": 90, "sd": None, "gap": 50}
    assert ROWS["ft"]["gap"] == {"mean": (50 + 1 + 7 + 50) / 4, "sd": None}


def test_the_noise_floor_is_a_second_retrain_against_the_first():
    assert (ROWS["retrain"]["seeds"], ROWS["noise floor"]["seeds"]) == (2, 1)
    assert ROWS["retrain"]["gap"] == {"mean": 0, "sd": 0}
    assert ROWS["noise floor"]["gap"] == {"mean": (2 + 1 + 2 + 2) / 4, "sd": None}


def test_seeds_of_the_data_are_paired_too():
    both = [("retrain", 40, 0), ("ft", 50, 0), ("retrain", 45, 1), ("ft", 60, 1)]
    _, ft = table([record(method, (fa, 99, 70, 50), data_seed=d) for method, fa, d in both])
    assert (ft["seeds"], ft["fa"]) == (2, pytest.approx({"mean": 55, "sd": 50**0.5, "gap": 12.5}))


def test_without_retrain_there_is_no_gap():
    (row,) = table(SALUN[:2])
    assert (row["fa"]["gap"], row["gap"]) == (None, {"mean": None, "sd": None})
    assert to_markdown([row]).splitlines()[-1].endswith("| 45.00 ± 7.07 | – | 3.0 ± 1.4 |")


BOTH = table([*RECORDS, record("retrain", (1, 2, 3, 4), ratio=0.4, cap="water-filling", per_class=9)])


def test_two_settings_give_two_tables():
    assert sorted(row["setting"]["ratio"] for row in BOTH) == [0.3] * 6 + [0.4]
    assert not {"seed", "data_seed"} & BOTH[0]["setting"].keys()
    titles = sorted((line for line in to_markdown(BOTH).splitlines() if line.startswith("**")), key=len)
    assert [title.count("ratio") for title in titles] == [1, 1]
    assert [title.partition("** ")[2] for title in titles] == ["(3 seeds)", "(1 seed)"]
    named = {"textures", "tiny", "ratio 0.4", "gamma 0.5", "cap water-filling", "per class 9"}
    assert [set(describe(row["setting"]).split(", ")) for row in BOTH if row["setting"]["ratio"] == 0.4] == [named]


def test_markdown_by_hand():
    lines = to_markdown(list(ROWS.values())).splitlines()
    assert lines[1:4] == [
        "",
        "| method | FA | RA | TA | MIA | Avg. Gap | seconds |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    assert lines[7] == "| ft | 90.00 (50.00) | 100.00 (1.00) | 75.00 (7.00) | 10.00 (50.00) | 27.00 | 1.0 |"
    assert lines[8].startswith("| salun | 40.00 ± 26.46 (11.00) | 66.00 ± 48.66 (4.50) |")


def test_formats_agree():
    assert json.loads(to_json(BOTH)) == BOTH
    flat = list(csv.DictReader(io.StringIO(to_csv(BOTH))))
    assert next(iter(flat[0])) == "method"
    table_rows = [line[2:-2].split(" | ") for line in to_markdown(BOTH).splitlines() if line.startswith("| ")]
    shown = [cells for cells in table_rows if cells[0] not in ("method", ":--")]
    for row, cells, (method, *texts) in zip(BOTH, flat, shown, strict=True):
        assert method == cells["method"] == row["method"]
        assert (cells["seeds"], cells["ratio"]) == (str(row["seeds"]), str(row["setting"]["ratio"]))
        for column, text in zip(COLUMNS, texts, strict=True):
            expected = {f"{column}_{k}": "" if v is None else str(v) for k, v in row[column].items()}
            assert expected.items() <= cells.items()
            assert float(text.split()[0]) == pytest.approx(row[column]["mean"], abs=0.05)
