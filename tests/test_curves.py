"""Operating curves on records made by hand: what is read off lies on lines whose equations are known."""

import math

import pandas as pd
import pytest

from falw.lab.cells import Setting
from falw.lab.curves import WITHIN, difference, matched, next_rate
from falw.lab.records import CONFIG, SETTING


def line(method, lr, fa, ra, seed=0, **setting):
    s = {**dict.fromkeys([*SETTING, *CONFIG]), **Setting(seed=seed, data_seed=seed, **setting).__dict__}
    return {**s, "method": method, "lr": lr, "fa": fa, "ra": ra, "ta": 0.0}


def retrains(seed=0):
    return [line("retrain", 0.1, 49.0, 100.0, seed), line("noise floor", 0.1, 51.0, 99.0, seed)]


def test_a_method_is_read_off_at_the_mean_fa_of_the_retrains():
    # FA falls by 20 points for each factor of 4 in the rate, RA by 8; FA 50 lies half-way between 0.01 and 0.04
    rows = [line("rl", lr, fa, ra) for lr, fa, ra in ((0.01, 60, 98), (0.04, 40, 90), (0.16, 20, 82))]
    (match,) = matched(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert match["matched"] and match["lr"] == pytest.approx(0.02)
    assert match["fa"] == pytest.approx(0) and match["ra"] == pytest.approx(94 - 99.5)


def test_a_method_that_does_not_reach_it_stands_at_its_nearest_run():
    rows = [line("ft", 0.1, 80, 99), line("ft", 0.4, 60, 95), line("original", 0.1, 100, 100)]
    (match,) = matched(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert (match["method"], match["matched"], match["lr"]) == ("ft", False, 0.4)
    assert match["fa"] == pytest.approx(10) and match["ra"] == pytest.approx(95 - 99.5)


def test_a_diverged_run_is_no_point_and_no_retrain_is_said():
    rows = [line("rl", 0.01, 60, 98), line("rl", 0.04, math.nan, math.nan), line("rl", 0.16, 40, 90)]
    (match,) = matched(pd.DataFrame(retrains() + rows)).to_dict("records")
    assert match["lr"] == pytest.approx(0.04)
    with pytest.raises(ValueError, match="no Retrain among these records"):
        matched(pd.DataFrame(rows))


def test_runs_that_differ_in_more_than_their_rate_are_no_curve():
    rows = [{**line("rl", lr, fa, 90), "epochs": n} for lr, fa, n in ((0.01, 60, 10), (0.04, 40, 20))]
    with pytest.raises(ValueError, match="runs of rl differ in epochs, too: query for one value"):
        matched(pd.DataFrame(retrains() + rows))


def test_originals_of_other_lengths_are_other_settings():
    runs = ((20, line("rl", 0.01, 60, 90)), (80, line("rl", 0.04, 40, 90)))  # one curve of both would pass through 50
    rows = [{**row, "original_epochs": n} for n, run in runs for row in (*retrains(), run)]
    both = matched(pd.DataFrame(rows)).set_index("original_epochs")
    assert both.fa.to_dict() == pytest.approx({20: 10, 80: -10}) and not both.matched.any()


def test_the_next_rate_lies_between_or_a_little_beyond():
    assert next_rate({0.01: 60, 0.04: 40}, 50) == pytest.approx(0.02)
    assert next_rate({0.01: 60, 0.04: 40, 0.16: 20}, 30) == pytest.approx(0.08)
    assert next_rate({0.01: 80, 0.04: 70}, 65) == pytest.approx(0.08)  # along the same line
    assert next_rate({0.01: 80, 0.04: 79}, 10) == pytest.approx(0.16)  # never more than four times further
    with pytest.raises(ValueError, match="1 run gives no slope"):
        next_rate({0.01: 80}, 50)


def of_seeds(method, values):
    rows = [line(method, 0.02, 50, 0, seed=k, gamma=g) for k in range(len(values)) for g in (0.5, 2.0)]
    return pd.DataFrame(rows).assign(ra=[v for v in values for _ in range(2)], matched=True)


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
    a.loc[a.seed == 2, "matched"] = False
    found = difference(pd.concat([a, b]), "a", "b", "ra", 0.1)
    assert (found["seeds"], found["left out"]) == (2, 2) and found["mean"] == pytest.approx(1.05)
