"""Operating curves on records made by hand: what is read off lies on lines whose equations are known."""

import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from falw.lab import curves
from falw.lab.cells import FLOOR_SEED, RETRAIN, Setting
from falw.lab.curves import (
    WITHIN,
    at_equal_fa,
    coarse_rates,
    curve,
    difference,
    equal_fa_to_markdown,
    knob,
    next_rate,
    rate_after,
    retrain_spread,
)
from falw.lab.records import CONFIG, SETTING
from falw.methods import METHODS, VARIANTS, find_method


def line(method, lr, fa, ra, seed=0, **setting):
    s = {**dict.fromkeys([*SETTING, *CONFIG]), **Setting(seed=seed, data_seed=seed, **setting).__dict__}
    return {**s, "method": method, "lr": lr, "fa": fa, "ra": ra, "ta": 0.0, "original_epochs": 20}


def retrains(seed=0):
    return [line("retrain", 0.1, 49.0, 100.0, seed), line("noise floor", 0.1, 51.0, 99.0, seed)]


def test_a_method_is_read_off_at_the_mean_fa_of_the_retrains():
    # FA falls by 20 points for each factor of 4 in the rate, RA by 8; FA 50 lies half-way between 0.01 and 0.04
    rows = [line("rl", lr, fa, ra) for lr, fa, ra in ((0.01, 60, 98), (0.04, 40, 90), (0.16, 20, 82))]
    (match,) = at_equal_fa(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert match["reached"] and match["lr"] == pytest.approx(0.02)
    assert match["d_fa"] == pytest.approx(0) and match["ra"] == pytest.approx(94 - 99.5)


@pytest.mark.parametrize("aim", [62.0, 55.5, 41.0, 23.0])
def test_every_column_is_interpolated_as_numpy_does_it_over_fa(aim):
    fa, rates = [70.0, 60.0, 45.0, 20.0], [0.005, 0.01, 0.03, 0.2]
    columns = {"ra": [99.0, 98.5, 90.0, 60.0], "ta": [55.0, 56.0, 54.0, 40.0], "w1": [0.2, 0.1, 0.05, 0.3]}
    made = {name: iter(values) for name, values in columns.items()}
    rows = [{**line("rl", lr, f, 0), **{k: next(v) for k, v in made.items()}} for f, lr in zip(fa, rates)]
    base = [{**line("retrain", 0.1, aim, 99.0), "ta": 50.0, "w1": 0.02}]
    (match,) = at_equal_fa(pd.DataFrame(base + rows[::-1]), ["ra", "ta", "w1"]).to_dict("records")
    for name, of_retrain in (("ra", 99.0), ("ta", 50.0), ("w1", 0.02)):
        assert match[name] == pytest.approx(np.interp(aim, fa[::-1], columns[name][::-1]) - of_retrain)
    assert match["lr"] == pytest.approx(np.exp(np.interp(aim, fa[::-1], np.log(rates[::-1])))) and match["reached"]
    assert np.isnan(match["coefficient"]) and match["d_fa"] == pytest.approx(0)


def test_a_method_without_a_rate_is_read_off_over_its_coefficient():
    rows = [{**line("iu", 0.1, fa, 90), "coefficient": c} for c, fa in ((0.1, 60), (10.0, 40))]
    (match,) = at_equal_fa(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert match["coefficient"] == pytest.approx(1.0) and math.isnan(match["lr"])
    both = [{**line("sfron", lr, fa, 90), "coefficient": c} for lr, c, fa in ((0.1, 5, 60), (0.2, 25, 40))]
    with pytest.raises(ValueError, match="runs of sfron differ in coefficient, too"):
        at_equal_fa(pd.DataFrame(retrains() + both))


def test_a_measure_that_the_records_do_not_have_is_named():
    with pytest.raises(ValueError, match="these records have no 'w1'; choose measures that are columns"):
        at_equal_fa(pd.DataFrame(retrains()), ["w1"])


def test_a_method_that_does_not_reach_it_stands_at_its_nearest_run():
    rows = [line("ft", 0.1, 80, 99), line("ft", 0.4, 60, 95), line("original", 0.1, 100, 100)]
    (match,) = at_equal_fa(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert (match["method"], match["reached"], match["lr"]) == ("ft", False, 0.4)
    assert match["d_fa"] == pytest.approx(10) and match["ra"] == pytest.approx(95 - 99.5)


def test_a_diverged_run_is_no_point_and_no_retrain_is_said():
    rows = [line("rl", 0.01, 60, 98), line("rl", 0.04, math.nan, math.nan), line("rl", 0.16, 40, 90)]
    (match,) = at_equal_fa(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert match["lr"] == pytest.approx(0.04)
    with pytest.raises(ValueError, match="no Retrain among these records"):
        at_equal_fa(pd.DataFrame(rows))


def test_runs_that_differ_in_more_than_their_rate_are_no_curve():
    rows = [{**line("rl", lr, fa, 90), "epochs": n} for lr, fa, n in ((0.01, 60, 10), (0.04, 40, 20))]
    with pytest.raises(ValueError, match="runs of rl differ in epochs, too: query for one value"):
        at_equal_fa(pd.DataFrame(retrains() + rows))


def test_originals_of_other_lengths_are_other_settings():
    runs = ((20, line("rl", 0.01, 60, 90)), (80, line("rl", 0.04, 40, 90)))  # one curve of both would pass through 50
    rows = [{**row, "original_epochs": n} for n, run in runs for row in (*retrains(), run)]
    both = at_equal_fa(pd.DataFrame(rows)).set_index("original_epochs")
    assert both.d_fa.to_dict() == pytest.approx({20: 10, 80: -10}) and not both.reached.any()


def test_the_next_rate_lies_between_or_a_little_beyond():
    assert next_rate({0.01: 60, 0.04: 40}, 50) == pytest.approx(0.02)
    assert next_rate({0.01: 60, 0.04: 40, 0.16: 20}, 30) == pytest.approx(0.08)
    assert next_rate({0.01: 80, 0.04: 70}, 65) == pytest.approx(0.08)  # along the same line
    assert next_rate({0.01: 80, 0.04: 79}, 10) == pytest.approx(0.16)  # never more than four times further
    with pytest.raises(ValueError, match="1 run gives no slope"):
        next_rate({0.01: 80}, 50)


def test_the_first_rates_come_first_and_what_diverged_is_a_bound():
    first = (0.04, 0.16)
    assert rate_after({}, first, 50) == 0.04 and rate_after({0.04: 60}, first, 50) == 0.16
    assert rate_after({0.04: 60, 0.16: 40}, first, 50) == pytest.approx(0.08)
    assert rate_after({0.04: 60, 0.16: 40, 0.08: 50}, first, 50) is None  # it was tried
    assert rate_after({0.04: None, 0.16: None}, first, 50) == pytest.approx(0.01)  # lower, until two have finished
    assert rate_after({0.04: 60, 0.16: None}, first, 50) == pytest.approx(0.01)
    known = {0.01: 70, 0.04: 60, 0.16: None}
    assert rate_after(known, first, 50) == pytest.approx(0.08)  # half-way, as the line leads to what diverged
    assert rate_after(known, first, 65) == pytest.approx(0.02)
    assert rate_after({0.1: 60}, (0.1,), 50) == pytest.approx(0.025)  # one rate gives no slope
    uneven = {0.04: 20, 0.16: 9, 0.2137: 8.4, 0.2111: 7}  # the line through the two nearest leads to 0.2137 again
    assert next_rate(uneven, 6.91) == 0.2137
    assert rate_after(uneven, first, 6.91) == pytest.approx(0.2137 * 2**0.5, rel=1e-3)
    assert rate_after({**uneven, 0.3: None}, first, 6.91) == pytest.approx((0.2137 * 0.3) ** 0.5, rel=1e-3)
    rising = {0.196: 22, 0.2: 21, 0.204: 20, 0.4: 60}  # and leads up again, to what has run; below is nearer to 19
    assert rate_after({**rising, next_rate(rising, 19): 20.5}, first, 19) == pytest.approx(0.196 / 2**0.5, rel=1e-3)


def test_a_curve_begins_beside_the_middle_of_what_a_search_tries():
    rates = {name: coarse_rates(find_method(name)) for name in ("rl", "rl-fixed", "falw-epoch", "sfron+falw", "iu")}
    assert rates["rl"] == pytest.approx((0.04, 0.16)) and rates["rl-fixed"] == pytest.approx((0.02, 0.08))
    assert rates["falw-epoch"] == coarse_rates(find_method("falw"))  # at whose tuned values it runs
    assert rates["sfron+falw"] == pytest.approx((0.007, 0.06)) and rates["iu"] == pytest.approx((10**-1.5, 10**-0.5))
    with pytest.raises(ValueError, match="mine names no range to search: say at which rates its curve begins"):
        coarse_rates(replace(find_method("rl"), name="mine", search=()))


def test_every_method_has_a_knob_and_a_row_without_one_is_refused():
    assert {name for name in {**METHODS, **VARIANTS} if knob(find_method(name)) == "coefficient"} == {"iu", "ssd"}
    stiff = replace(find_method("rl"), name="stiff", config={"lr": 0.1})
    with pytest.raises(ValueError, match="stiff reads neither a learning rate nor a coefficient"):
        knob(stiff)


# A curve that runs


@pytest.fixture
def ran(monkeypatch):
    """`curve` on runs that are not made: FA falls by 10 for every doubling of the rate, from 90 at 0.01."""

    def run_cells(cells, out, **how):
        return [fake(cell) for cell in asked.append(cells) or cells]

    def fake(cell):
        rate = getattr(cell.config, knob(find_method(cell.method))) if cell.method not in ("original", RETRAIN) else 0
        fa = (
            50.0 + cell.config.seed // FLOOR_SEED
            if cell.method == RETRAIN
            else 90 - 10 * math.log2(max(rate, 0.01) / 0.01)
        )
        scores = None if rate >= limit[0] else {"fa": fa}
        return {"method": cell.method, "scores": scores, "failed": "diverged", "rate": rate}

    asked, limit = [], [math.inf]
    monkeypatch.setattr(curves, "run_cells", run_cells)
    return asked, limit


def rates_of(records, method):
    return [record["rate"] for record in records if record["method"] == method]


def test_a_curve_comes_to_the_mean_fa_of_all_retrains(ran):
    records = curve(Setting(), "rl", "unused", retrains=4, rates=4, first_rates=(0.02, 0.04))
    assert [r["method"] for r in records[:6]] == ["original", *[RETRAIN] * 4, "rl"]
    # their mean is 51.5, on the line at 0.01 * 2**3.85; the third is short of it by its rounding, the fourth beyond
    there = 0.01 * 2**3.85
    assert rates_of(records, "rl") == pytest.approx([0.02, 0.04, there, there * 2**0.5], rel=1e-3)


def test_a_curve_of_several_methods_and_seeds_runs_a_rate_of_all_before_the_next(ran):
    settings = [Setting(seed=s, data_seed=s) for s in (0, 1)]
    first = {"rl": (0.02, 0.04), "iu": (0.1, 0.3, 0.5)}
    records = curve(settings, "rl,iu", "unused", retrains=2, rates=3, first_rates=first)
    asked, _ = ran
    assert [len(cells) for cells in asked] == [2 * 3, 4, 4, 4] and len(records) == 6 + 12
    assert [(c.method, c.setting.seed) for c in asked[1]] == [("rl", 0), ("iu", 0), ("rl", 1), ("iu", 1)]
    assert rates_of(records, "iu") == [0.1, 0.1, 0.3, 0.3, 0.5, 0.5]
    assert len({cell.key for cells in asked for cell in cells}) == 18


def test_a_curve_keeps_below_what_diverged(ran):
    ran[1][0] = 0.06
    records = curve(Setting(), "rl", "unused", retrains=1, rates=5, first_rates=(0.02, 0.08))
    assert rates_of(records, "rl") == pytest.approx([0.02, 0.08, 0.005, 0.04, 0.0566], rel=1e-2)


def test_rates_and_retrains_that_cannot_be(ran):
    for options, words in (
        ({"first_rates": (0.1, 0.1)}, r"first rates \[0.1, 0.1\] of rl: give at least one, each once and above 0"),
        ({"first_rates": (0.0, 0.1)}, "each once and above 0"),
        ({"first_rates": {"rl": ()}}, "give at least one"),
        ({"lr": 0.1}, "lr 0.1 is what the curve of rl turns: give first rates instead"),
        ({"rates": 0}, "rates"),
        ({"retrains": 0}, "retrains"),
    ):
        with pytest.raises(ValueError, match=words):
            curve(Setting(), "rl", "unused", **options)
    assert not ran[0]


def test_without_a_retrain_there_is_no_curve(ran):
    ran[1][0] = 0
    with pytest.raises(FloatingPointError, match="original, seed 0: diverged"):
        curve(Setting(), "rl", "unused")


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize(
    "folder, rates, at_least", [("cifar10", "FIRST_RATES", 25), ("cifar10-rivals", "RIVAL_RATES", 8)]
)
def test_the_stored_curves_are_what_is_asked_for_again(monkeypatch, gamma, folder, rates, at_least):
    folder = Path(__file__).resolve().parent.parent / "results" / "memorising" / folder
    monkeypatch.syspath_prepend(str(folder.parents[2] / "benchmarks"))
    study = importlib.import_module("memorising")
    stored = {path.stem: json.loads(path.read_text()) for path in folder.glob("?" * 16 + ".json")}
    monkeypatch.setattr(curves, "run_cells", lambda cells, out, **how: [stored[cell.key] for cell in cells])
    first = getattr(study, rates)
    how = {"original_epochs": study.TRAINING_EPOCHS, "retrains": study.RETRAINS, "first_rates": first}
    setting = replace(study.KNOWN_BY_HEART["cifar10"], gamma=gamma, seed=1, data_seed=1)
    records = curve(setting, [*first], "unused", **how)
    there = [r for r in stored.values() if (r["setting"]["gamma"], r["setting"]["seed"]) == (gamma, 1)]
    asked = {r["key"] for r in records}
    assert asked >= {r["key"] for r in there if r["method"] != "original"} and len(there) > at_least


# The table


def test_means_are_of_the_seeds_that_reach_the_fa():
    runs = {0: ((0.01, 60, 98), (0.04, 40, 90)), 1: ((0.01, 80, 90), (0.04, 70, 80))}
    rows = [line("rl", *run, seed) for seed, each in runs.items() for run in each]
    table = equal_fa_to_markdown(pd.DataFrame([*retrains(0), *retrains(1), *rows]))
    (row,) = [line for line in table.splitlines() if line.startswith("| rl")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["rl", "0.02", "+0.00", "-5.50", "+0.00", "1 of 2"]


def test_the_table_says_who_did_not_reach_the_fa_and_how_far_retrains_lie_apart():
    reach = [line("rl", lr, fa, ra, seed) for seed in (0, 1) for lr, fa, ra in ((0.01, 60, 98), (0.04, 40, 90))]
    short = [line("ft", lr, fa, 95, seed) for seed in (0, 1) for lr, fa in ((0.1, 80), (0.4, 60))]
    frame = pd.DataFrame([*retrains(0), *retrains(1), *short, *reach])
    text = equal_fa_to_markdown(frame)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]
    assert rows[0] == ["method", "lr", "FA", "RA", "TA", "seeds that reach it"]
    assert rows[2:] == [
        ["ft*", "0.4", "+10.00 ± 0.00", "-4.50 ± 0.00", "+0.00 ± 0.00", "0 of 2"],
        ["rl", "0.02", "+0.00 ± 0.00", "-5.50 ± 0.00", "+0.00 ± 0.00", "2 of 2"],
        ["one Retrain, sd", "", "± 1.41", "± 0.71", "± 0.00", ""],
    ]
    assert "RA: higher is better; TA: higher is better." in text and "W1" not in text
    assert "W1: lower is better" in equal_fa_to_markdown(frame.assign(w1=0.1))
    assert retrain_spread(frame)["fa"] == pytest.approx(np.std([49, 51], ddof=1))


def of_seeds(method, values):
    rows = [line(method, 0.02, 50, 0, seed=k, gamma=g) for k in range(len(values)) for g in (0.5, 2.0)]
    return pd.DataFrame(rows).assign(ra=[v for v in values for _ in range(2)], reached=True)


@pytest.mark.parametrize(
    "values, floor, verdict",
    [
        ((1.0, 1.2, 0.9, 1.1), 0.5, "higher"),
        ((-1.0, -1.2, -0.9, -1.1), 0.5, "lower"),
        ((0.1, -0.1, 0.05, -0.05), 0.5, WITHIN),
        ((0.3, 0.31, 0.29, 0.3), 0.5, WITHIN),  # away from 0 and still within the floor
        ((2.0, -2.0, 1.0, -1.0), 0.5, "cannot be told"),
    ],
)
def test_a_difference_counts_every_seed_once(values, floor, verdict):
    frame = pd.concat([of_seeds("a", values), of_seeds("b", [0.0] * len(values))])
    found = difference(frame, "a", "b", "ra", floor)
    assert (found["verdict"], found["seeds"], found["left out"]) == (verdict, len(values), 0)


def test_a_seed_that_did_not_reach_the_fa_is_left_out_and_counted():
    a, b = of_seeds("a", (1.0, 1.1, 0.9)), of_seeds("b", (0.0,) * 3)
    a.loc[a.seed == 2, "reached"] = False
    found = difference(pd.concat([a, b]), "a", "b", "ra", 0.1)
    assert (found["seeds"], found["left out"]) == (2, 2) and found["mean"] == pytest.approx(1.05)
