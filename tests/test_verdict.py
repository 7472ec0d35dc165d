"""Verdicts on records made by hand: signs, groups, pairs, and what a few seeds can and cannot say."""

import itertools
import math
from dataclasses import asdict

import pytest

from falw.lab import claims
from falw.lab.cells import Setting
from falw.lab.claims import CLAIMS, FAILS, HOLDS, OPEN, Evidence, by_gamma, count_verdicts, detail
from falw.lab.curves import WITHIN
from falw.lab.records import frame

KEYS = map(str, itertools.count())


def record(method, seed, gamma=1.0, fa=(50.0, 50.0), p=(0.5, 0.5), ra=99.0, lr=0.1, **setting):
    """fa and p of head and tail; both groups have ten forgotten images."""
    mean = sum(fa) / 2
    return {
        **{"key": next(KEYS), "method": method, "recipe": {"epochs": 20}, "config": {"seed": seed, "lr": lr}},
        "setting": asdict(Setting(seed=seed, gamma=gamma, **setting)),
        "scores": {"fa": mean, "ra": ra, "ta": 50.0, "mia": 100 - mean},
        "forget_groups": dict(zip(("head", "tail"), fa, strict=True)),
        "forget_probabilities": {g: {"mean": m, "counts": [10]} for g, m in zip(("head", "tail"), p, strict=True)},
    }


def study(method, shift=(0.0, 0.0), p=(0.5, 0.5), ra=99.0, gamma=1.0):
    """A method and Retrain for three seeds, head and tail FA shifted against it by nearly the same each time."""
    found = []
    for seed, wobble in enumerate((-0.1, 0.0, 0.1)):
        found.append(record("retrain", seed, gamma))
        fa = tuple(50 + s + wobble for s in shift)
        found.append(record(method, seed, gamma, fa, tuple(v + wobble / 100 for v in p), ra))
    return found


def judge(records):
    return claims.judge(frame(records))


def evidence_of(text, records):
    (found,) = (evidence for claim, evidence in judge(records) if claim.text.startswith(text))
    return found


def test_a_verdict_is_where_the_interval_lies():
    for values, expected, found in (
        ((1.0, 1.1, 0.9), 1, HOLDS),
        ((1.0, 1.1, 0.9), -1, FAILS),
        ((-1.0, -1.1, -0.9), -1, HOLDS),
        ((1.0, -1.0, 0.5), 1, OPEN),
        ((0.1, 3.0, 0.2), 1, OPEN),  # all above 0, and three seeds are too few to say so
    ):
        assert Evidence("", 0.5, values, expected).verdict() == found, values


def test_confidence_and_accuracy_are_told_apart():
    records = study("salun", shift=(4.0, 4.0), p=(0.3, 0.2))
    (confidence,) = evidence_of("Unlearned models are less", records)
    (accuracy,) = evidence_of("... and that", records)
    assert confidence.values == pytest.approx([-0.251, -0.25, -0.249]) and confidence.verdict() == HOLDS
    assert accuracy.values == pytest.approx([3.9, 4.0, 4.1]) and accuracy.verdict() == FAILS


def test_head_and_tail_are_asked_for_where_classes_vanish():
    found = evidence_of("Head under", study("salun", shift=(5.0, -7.0)))
    assert [(e.what[-4:], e.values[1], e.expected, e.verdict()) for e in found] == [
        ("head", 5.0, 1, HOLDS),
        ("tail", -7.0, -1, HOLDS),
    ]
    assert evidence_of("Head under", study("salun", shift=(5.0, -7.0), gamma=0.5)) == []
    (skew,) = evidence_of("Deviations are larger", study("salun", p=(0.6, 0.2)))
    assert skew.values[1] == pytest.approx(0.2) and skew.verdict() == HOLDS  # |-0.3| - |0.1|


def both(first, second):
    return first + [r for r in second if r["method"] != "retrain"]


def test_gaps_are_paired_and_every_claim_expects_its_side():
    near, far = study("falw", ra=98.0), study("salun", ra=91.0)
    (lowest,) = evidence_of("FaLW has the lowest", both(near, far))
    (plugged,) = evidence_of("FaLW improves", both(near, far))
    assert lowest.values == plugged.values == pytest.approx((-1.75,) * 3)  # (1 - 8) / 4
    assert (lowest.what, lowest.verdict()) == ("Avg. Gap, falw − salun", HOLDS)
    (beta,) = evidence_of("The normal", both(near, study("falw-beta", ra=91.0)))
    (tau,) = evidence_of("τ is best", both(near, study("falw-tau1", ra=91.0)))
    assert beta.values == tau.values == pytest.approx((1.75,) * 3) and beta.expected == tau.expected == 1


def test_the_balance_factor_is_judged_by_the_size_of_the_tails_deviation():
    records = both(study("falw", shift=(0, 6.0), p=(0.5, 0.4)), study("falw-tau0", shift=(0, -9.0), p=(0.5, 0.7)))
    fa, p = evidence_of("The balance factor", records)
    assert fa.values == pytest.approx([5.9 - 9.1, -3.0, 6.1 - 8.9]) and fa.verdict() == HOLDS
    assert p.values[1] == pytest.approx(-0.1) and p.expected == -1


def test_only_spill_counts_and_diverged_or_lonely_seeds_do_not():
    records = study("salun", p=(0.3, 0.2))
    diverged = {**record("rl", 0), "scores": None}
    assert list(by_gamma(frame([*records, record("rl", 0, 2.0, cap="water-filling"), diverged]))) == [1.0]
    assert evidence_of("Unlearned models are less", records[:2]) == []


def test_the_table_counts_and_the_detail_says_why():
    judged = judge(study("salun", shift=(4.0, 4.0), p=(0.3, 0.2)))
    table = {line[0]: line[2:] for line in count_verdicts(judged)}
    assert table["Unlearned models are less confident than Retrain"] == [1, 0, 0]
    assert table["... and that is over-forgetting in accuracy too"] == [0, 1, 0] and len(table) == len(CLAIMS)
    claim, evidence = judged[1]
    assert detail(claim, evidence) == [
        ["FA of salun − Retrain's", "1", 3, "+4.00", "+3.75 to +4.25", "below 0", FAILS]  # t: 0.1 * 4.303 / sqrt(3)
    ]


def test_what_would_count_twice_or_be_dropped_is_refused():
    records = study("salun")
    with pytest.raises(ValueError, match="query for one of salun .lr 0.1., salun .lr 0.2."):
        judge([*records, record("salun", 0, lr=0.2)])
    with pytest.raises(ValueError, match="several settings of one gamma: query for one value of ratio"):
        judge([*records, record("salun", 0, ratio=0.5)])


def curves(method, ra, fa_of_rate=None, tail=0.0):
    """Four seeds with two Retrains each, whose mean FA is 50, and a method with RA around `ra`.

    Its p of the tail is its FA in percent and `tail`, so that it is read off with FA.
    """
    found = []
    for seed, wobble in enumerate((-0.2, -0.1, 0.1, 0.2)):
        second = record("retrain", seed, fa=(51.0, 51.0))
        second["config"]["seed"] += 1000
        found += [record("retrain", seed, fa=(49.0, 49.0)), second]
        for lr, fa in (fa_of_rate or {0.01: 60.0, 0.04: 40.0}).items():
            found.append(record(method, seed, fa=(fa, fa), p=(0.5, fa / 100 + tail), ra=ra + wobble, lr=lr))
    return found


def test_several_rates_are_read_off_at_the_fa_of_the_retrains():
    rows = claims.rows_at_equal_fa(frame(curves("rl+falw-epoch", 97.0, tail=-0.3)))
    assert rows["method"].tolist() == ["rl+falw"] * 4 and rows["lr"].tolist() == pytest.approx([0.02] * 4)
    assert rows["d_p_tail"].tolist() == pytest.approx([-0.3] * 4) and rows["d_fa"].tolist() == pytest.approx([0.0] * 4)
    assert rows["gap"].tolist() == pytest.approx([2.2 / 4, 2.1 / 4, 1.9 / 4, 1.8 / 4])  # RA alone differs
    assert rows["d_fa_all"].isna().all()  # no question where FA is set equal
    assert claims.rows_at_equal_fa(frame(curves("rl", 97.0, {0.01: 80.0, 0.04: 60.0}))).empty  # and none reaches 50


def test_what_is_read_off_is_judged_but_for_fa():
    judged = claims.judge(claims.rows_at_equal_fa(frame(curves("salun", 97.0, tail=-0.3))))
    told = {claim.text: [e.verdict() for e in evidence] for claim, evidence in judged if evidence}
    assert told["Unlearned models are less confident than Retrain"] == [HOLDS]
    assert told["Deviations are larger in the tail"] == [HOLDS]
    assert "... and that is over-forgetting in accuracy too" not in told


@pytest.mark.parametrize("fixed, floor, word", [(97.5, 1.0, WITHIN), (96.5, 0.1, "higher"), (98.5, 0.1, "lower")])
def test_a_method_is_taken_apart_and_equal_within_the_floor(fixed, floor, word):
    records = curves("rl", 90.0) + methods_of(curves("rl-fixed", fixed)) + methods_of(curves("rl+falw-epoch", 97.6))
    rows = claims.take_apart(claims.rows_at_equal_fa(frame(records)), "d_ra", {1.0: floor})
    assert {row["part"]: (row["method"], row["base"], round(row["mean"], 3), row["verdict"]) for row in rows} == {
        "as described": ("rl+falw", "rl", 7.6, "higher"),
        "labels alone": ("rl-fixed", "rl", round(fixed - 90, 3), "higher"),
        "weight alone": ("rl+falw", "rl-fixed", round(97.6 - fixed, 3), word),
    }


def methods_of(records):
    return [r for r in records if r["method"] != "retrain"]


@pytest.mark.parametrize("seeds", [3, 2, 1])
def test_below_three_seeds_nothing_is_told(seeds):
    few = [r for r in curves("rl", 90.0) + methods_of(curves("rl-fixed", 99.0)) if r["setting"]["seed"] < seeds]
    (row,) = claims.take_apart(claims.rows_at_equal_fa(frame(few)), "d_ra", {1.0: 0.1})
    assert (row["seeds"], round(row["mean"], 6)) == (seeds, 9.0)
    assert row["verdict"] == (OPEN if seeds < 3 else "higher") and math.isnan(row["low"]) == (seeds == 1)
    assert Evidence("", 0.5, (1.0, 1.1), 1).verdict() == OPEN


def test_the_floor_is_how_far_a_second_retrain_is_on_average():
    records = frame(curves("rl", 90.0))
    assert claims.noise_floor(records, "d_fa") == {1.0: 2.0} and claims.noise_floor(records, "d_ra") == {1.0: 0.0}
