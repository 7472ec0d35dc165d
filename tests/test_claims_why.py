"""What the chapter on why says, from the JSON files alone: not by the functions that the page calls."""

import functools
import json
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest, ttest_1samp
from stored import ROOT, at_retrains_fa, curves, fa_of, is_retrain
from test_claims_problem import printed_tables

from falw.weights import beta_fit

FOLDER = ROOT / "results" / "mechanism"
WRONG = ("rl", "rl-fixed", "rl+falw-epoch", "falw-epoch")
HALF, TWO = 0.5, 2.0


@functools.cache
def file(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def inner(found, *path):
    """A number some way down, None where there is none."""
    for name in path:
        found = found.get(name, {})
    return found if found != {} else None


@functools.cache
def found(*path):
    """(method, gamma, seed): a number of deviations.json at the Retrains' FA; those of a Retrain are about 0."""
    kept = {(g, s): [r for r in records if s < 5] for (g, s), records in curves("ensemble").items()}
    values = at_retrains_fa("ensemble", lambda r: inner(file("deviations").get(r["key"], {}), *path) or 0.0)
    return {place: value for place, value in values.items() if kept.get(place[1:])}


def by_seed(method, gamma, *path):
    return [v for (m, g, _), v in sorted(found(*path).items()) if (m, g) == (method, gamma)]


def span(values):
    """The interval of the mean by Student's t."""
    return ttest_1samp(values, 0.0).confidence_interval(0.95)


def lines(name, gamma):
    """What yardstick.json or fits.json has at an exponent, one entry a seed."""
    return [entry for place, entry in sorted(file(name).items()) if place.startswith(f"{gamma:g},")]


# 1. The wrong attractor


@pytest.mark.parametrize("gamma", [HALF, TWO])
@pytest.mark.parametrize("method", WRONG)
def test_forgotten_and_unseen_images_lie_below_the_retrains(method, gamma):
    for kind in ("forgotten", "unseen", "retained"):
        values = by_seed(method, gamma, "part", kind)
        assert 3 <= len(values) <= 5 and span(values).high < 0, kind


def test_unseen_images_lose_a_fifth_to_a_quarter_and_nearly_as_much_as_forgotten_ones():
    for method in WRONG:
        for gamma, low, high in ((HALF, 0.18, 0.21), (TWO, 0.23, 0.28)):
            unseen, forgotten = (fmean(by_seed(method, gamma, "part", kind)) for kind in ("unseen", "forgotten"))
            assert low < -unseen < high and 0.65 < unseen / forgotten < 0.9


def test_retained_images_lose_more_than_forgotten_ones_at_one_half():
    for method in WRONG:
        pairs = zip(*(by_seed(method, HALF, "part", kind) for kind in ("retained", "forgotten")), strict=True)
        assert span([a - b for a, b in pairs]).high < 0


def test_the_weight_does_not_lessen_the_deviation_of_forgotten_images():
    for gamma, low, high in ((HALF, -0.03, -0.01), (TWO, -0.03, 0.06)):
        pairs = zip(*(by_seed(m, gamma, "part", "forgotten") for m in ("rl+falw-epoch", "rl-fixed")), strict=True)
        ends = span([a - b for a, b in pairs])
        assert low < ends.low < ends.high < high
        assert (ends.high < 0) == (gamma == HALF)  # at two it cannot be told


def test_fine_tuning_has_both_where_the_retrains_have_them_and_pays_in_ra():
    for gamma in (HALF, TWO):
        assert all(abs(fmean(by_seed("ft", gamma, "part", kind))) < 0.025 for kind in ("forgotten", "unseen"))
        assert fmean(by_seed("ft", gamma, "part", "retained")) == pytest.approx(-0.12, abs=0.01)
    ra = at_retrains_fa("ensemble", lambda r: r["scores"]["ra"])
    for gamma in (HALF, TWO):
        assert -10 < fmean(v for (m, g, s), v in ra.items() if (m, g) == ("ft", gamma) and s < 5) < -6.5


# 2 and 3. Statistics that do not sink, and a full stop


@functools.cache
def far():
    return {
        k: v
        for d in ("ensemble", "mechanism")
        for k, v in json.loads((ROOT / "results" / d / "distances.json").read_text()).items()
    }


def w1_of(record):
    return far()[record["key"]]["all"]["w1"]


def floor_at(gamma):
    """W1 of one Retrain to the others, mean."""
    return fmean(w1_of(r) for (g, _), rs in curves("ensemble").items() if g == gamma for r in rs if is_retrain(r))


def forgotten_of(record):
    return inner(file("deviations").get(record["key"], {}), "part", "forgotten") or 0.0


def unseen_of(record):
    return inner(file("deviations").get(record["key"], {}), "part", "unseen") or 0.0


@functools.cache
def told(method, value, gamma):
    """{seed: a value at the Retrains' FA} of a row of the study, as it is."""
    found = {}
    for (at, seed), records in curves("mechanism").items():
        aim = fmean(fa_of(r) for r in curves("ensemble")[at, seed] if is_retrain(r))
        runs = [r for r in records if r["method"] == method and r["key"] in far()]  # by rate
        around = [(a, b) for a, b in pairwise(runs) if (fa_of(a) - aim) * (fa_of(b) - aim) <= 0]
        if around and at == gamma:
            a, b = min(around, key=lambda pair: abs(fa_of(pair[0]) - fa_of(pair[1])))
            found[seed] = value(a) + (aim - fa_of(a)) / (fa_of(b) - fa_of(a)) * (value(b) - value(a))
    return found


@functools.cache
def of_ensemble(method, value, gamma):
    """{seed: the same} of a method of the ensemble study."""
    less, found = at_retrains_fa("ensemble", value), {}
    for seed in range(5):
        if (method, gamma, seed) in less:
            retrains = [value(r) for r in curves("ensemble")[gamma, seed] if is_retrain(r)]
            found[seed] = less[method, gamma, seed] + fmean(retrains)
    return found


def more(method, value, gamma, base="rl+falw-epoch", share=1.0):
    """A value under a row of the study less a share of that under a method, one a seed at which both reach the FA."""
    ours, theirs = told(method, value, gamma), of_ensemble(base, value, gamma)
    return [v - share * theirs[seed] for seed, v in ours.items() if seed in theirs]


def ra_of(record):
    return record["scores"]["ra"]


def ta_of(record):
    return record["scores"]["ta"]


def lr_of(record):
    return record["config"]["lr"]


STAY, STOPS = ("stats-retrain", "stats-original", "stats-frozen"), ("stop-retrain", "stop")


@pytest.mark.parametrize("gamma", [HALF, TWO])
@pytest.mark.parametrize("method", [*STAY, *STOPS])
def test_no_statistics_that_stay_and_no_full_stop_halve_the_distance(method, gamma):
    values = more(method, w1_of, gamma, share=0.5)
    assert len(values) >= 4 and span(values).low > 0


def test_what_the_two_oracles_of_the_class_take_off_w1():
    for gamma, statistics in ((HALF, (0.07, 0.1)), (TWO, (0.19, 0.25))):
        base = fmean(of_ensemble("rl+falw-epoch", w1_of, gamma).values())
        assert statistics[0] < -fmean(more("stats-retrain", w1_of, gamma)) / base < statistics[1]
        assert 0.27 < -fmean(more("stop-retrain", w1_of, gamma)) / base < 0.32
    ends = span(more("stats-retrain", w1_of, HALF, "rl-fixed"))
    assert ends.low < 0 < ends.high  # no more than leaving the weight out


def test_a_full_stop_at_the_moving_mean_keeps_more_and_is_nearer_than_falws_weight():
    for gamma in (HALF, TWO):
        assert span(more("stop", w1_of, gamma)).high < 0 and fmean(more("stop", unseen_of, gamma)) > 0.05
        assert fmean(more("stop", ra_of, gamma)) > 0.5 and fmean(more("stop", ta_of, gamma)) > 2
    found = [fmean(more("stop", value, HALF)) for value in (ra_of, ta_of)]
    assert found == pytest.approx([2, 3.5], abs=0.15)
    assert span(more("stats-original", w1_of, HALF)).high < 0
    assert span(more("stats-original", w1_of, TWO)).low < 0 < span(more("stats-original", w1_of, TWO)).high
    assert all(fmean(more("stats-original", value, gamma)) > 0.8 for value in (ra_of, ta_of) for gamma in (HALF, TWO))


def test_beside_no_weight_a_full_stop_keeps_more_and_is_nearer_at_2_alone():
    for gamma in (HALF, TWO):
        ends = span(more("stop", w1_of, gamma, "rl-fixed"))
        assert (ends.high < 0) == (gamma == TWO) and ends.low < 0
        for value in (ra_of, ta_of):
            assert span(more("stop", value, gamma, "rl-fixed")).low > 0 and span(more("stop", value, gamma)).low > 0
    others = ("stats-original", "stats-frozen", "cross-fitted", "sliced", "augmented")
    for gamma in (HALF, TWO):
        nearest = min(others, key=lambda method, gamma=gamma: fmean(told(method, w1_of, gamma).values()))
        assert fmean(told("stop", w1_of, gamma).values()) < fmean(told(nearest, w1_of, gamma).values())


def test_statistics_frozen_after_one_epoch_take_off_nothing_at_one_half_and_a_floor_at_2():
    ends = span(more("stats-frozen", w1_of, HALF))
    assert ends.low < 0 < ends.high
    floor = floor_at(TWO)
    assert span(more("stats-frozen", w1_of, TWO)).high < 0
    assert -fmean(more("stats-frozen", w1_of, TWO)) / floor == pytest.approx(1, abs=0.15)


def test_the_retrains_own_statistics_cost_four_points_of_ra_and_two_of_ta_at_2():
    assert len(more("stats-retrain", ra_of, TWO)) == 4
    found = [fmean(more("stats-retrain", value, TWO)) for value in (ra_of, ta_of)]
    assert found == pytest.approx([-4, -2], abs=0.3)


def test_what_is_left_under_a_full_stop_at_one_half():
    for method, forgotten, unseen in (("stop-retrain", 0.18, 0.10), ("stop", 0.21, 0.13)):
        left = fmean(told(method, forgotten_of, HALF).values()), fmean(told(method, unseen_of, HALF).values())
        assert left == pytest.approx((-forgotten, -unseen), abs=0.006)


def test_stand_ins_for_unseen_images_are_the_same_or_a_hundredth_further_and_no_weight_is_as_near():
    found = {}
    for gamma in (HALF, TWO):
        floor = floor_at(gamma)
        for method in ("cross-fitted", "augmented", "sliced"):
            values = more(method, w1_of, gamma)
            ends = span(values)
            inside = -floor < ends.low and ends.high < floor
            found[method, gamma] = "the same" if inside else "higher" if ends.low > 0 else len(values)
            assert fmean(values) < 0.011
    assert found == {
        ("sliced", HALF): "the same",
        ("sliced", TWO): "the same",
        ("cross-fitted", HALF): 4,
        ("augmented", HALF): 2,
        ("cross-fitted", TWO): "higher",
        ("augmented", TWO): "higher",
    }
    for method in ("cross-fitted", "augmented", "sliced"):
        assert -5.5 < fmean(more(method, ra_of, HALF)) < -2.9
        assert all(fmean(more(method, w1_of, gamma, "rl-fixed")) > -0.0005 for gamma in (HALF, TWO))
    assert fmean(more("sliced", ra_of, TWO)) == pytest.approx(-3.4, abs=0.1)


def compared(method, gamma):
    """Seeds, what the plan's section 8 calls W1 of a row beside FaLW's own weight, and the difference in floors."""
    floor = floor_at(gamma)
    values = more(method, w1_of, gamma)
    ends = span(values)
    inside = -floor < ends.low and ends.high < floor
    told = "the same" if inside else "lower" if ends.high < 0 else "higher" if ends.low > 0 else "open"
    return len(values), told, fmean(values) / floor


def test_fewer_unseen_images_do_as_well():
    found = {(method, gamma): compared(method, gamma) for method in ("val-10", "val-5") for gamma in (HALF, TWO)}
    assert {where: found[where][:2] for where in found} == {
        **{("val-10", HALF): (5, "the same"), ("val-10", TWO): (5, "the same")},
        **{("val-5", HALF): (5, "lower"), ("val-5", TWO): (5, "open")},
    }
    assert -1 < found["val-5", HALF][2] < -0.5
    assert all(-0.65 < fmean(more(method, ra_of, gamma)) < 0 for method, gamma in found)


def test_the_brake_alone_is_nearer_the_push_costs_ra_and_the_curve_does_not_matter():
    found = {(m, gamma): compared(m, gamma) for m in ("brake", "push", "linear", "stop") for gamma in (HALF, TWO)}
    assert {where: found[where][:2] for where in found} == {
        **{("brake", HALF): (5, "lower"), ("brake", TWO): (5, "the same")},
        **{("push", HALF): (5, "the same"), ("push", TWO): (5, "higher")},
        **{("linear", HALF): (5, "the same"), ("linear", TWO): (5, "the same")},
        **{("stop", HALF): (5, "lower"), ("stop", TWO): (5, "lower")},
    }
    assert found["brake", HALF][2] == pytest.approx(-1.75, abs=0.1) and found["push", TWO][2] == pytest.approx(
        1, abs=0.2
    )
    for gamma in (HALF, TWO):
        assert span(more("brake", ra_of, gamma)).low > 0 > span(more("push", ra_of, gamma)).high
        assert span(more("brake", ra_of, gamma, "rl-fixed")).low > 0 > span(more("push", ra_of, gamma, "rl-fixed")).high
        soft, hard = told("brake", w1_of, gamma), told("stop", w1_of, gamma)
        assert span([hard[seed] - soft[seed] for seed in soft]).high < 0
    assert span(more("brake", ta_of, HALF)).low > 0 > span(more("brake", ta_of, TWO)).low


def pairs_of(method, other, value, gamma):
    """A value under one row less that under another, one a seed at which both reach the Retrains' FA."""
    ours, theirs = told(method, value, gamma), told(other, value, gamma)
    return [ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()]


def test_it_is_the_amount_and_not_the_half():
    for gamma, seeds, floors in ((HALF, 5, 3.5), (TWO, 3, 2)):
        floor = floor_at(gamma)
        nearer = pairs_of("weight-0.5", "brake", w1_of, gamma)
        assert len(nearer) == seeds and span(nearer).high < 0
        assert -fmean(nearer) / floor == pytest.approx(floors, abs=0.2)
        assert span(pairs_of("weight-0.5", "brake", ra_of, gamma)).high > 0
        assert span(more("weight-1.5", ra_of, gamma, "rl-fixed")).high < 0
        assert span(pairs_of("weight-1.5", "push", ra_of, gamma)).high < 0
    kept = pairs_of("weight-0.5", "brake", ra_of, HALF)
    assert span(kept).low > 0 and fmean(kept) == pytest.approx(1, abs=0.1)


def test_a_constant_half_is_nearer_than_every_weight_that_needs_no_retrain_at_one_half():
    asked = ("stop", "stats-original", "stats-frozen", "brake", "push", "linear", "val-5", "val-10", "sliced")
    for method in (*asked, "cross-fitted", "augmented"):
        less = span(pairs_of("weight-0.5", method, w1_of, HALF))
        assert less.high < 0, method
    for base in ("rl-fixed", "rl+falw-epoch"):
        assert span(more("weight-0.5", w1_of, HALF, base)).high < 0
    base = fmean(of_ensemble("rl+falw-epoch", w1_of, HALF).values())
    assert -fmean(more("weight-0.5", w1_of, HALF)) / base == pytest.approx(0.2, abs=0.01)
    bare = fmean(of_ensemble("rl-fixed", w1_of, HALF).values())
    assert -fmean(more("weight-0.5", w1_of, HALF, "rl-fixed")) / bare == pytest.approx(1 / 8, abs=0.01)
    kl = pairs_of("weight-0.5", "stop", lambda r: far()[r["key"]]["all"]["kl"], HALF)
    ta = pairs_of("weight-0.5", "stop", ta_of, HALF)
    assert span(kl).low > 0 > span(ta).high and fmean(ta) == pytest.approx(-1, abs=0.1)


def test_a_smaller_amount_goes_with_a_higher_rate():
    rates = [fmean(told(method, lr_of, HALF).values()) for method in ("weight-0.5", "weight-1.5")]
    assert rates == pytest.approx([0.050, 0.009], abs=6e-4)


def test_a_straight_line_costs_some_ra():
    for gamma, points in ((HALF, -0.33), (TWO, -0.41)):
        assert fmean(more("linear", ra_of, gamma)) == pytest.approx(points, abs=0.05)
        assert span(more("linear", ra_of, gamma)).high < 0


def test_the_push_runs_at_a_lower_rate_than_no_weight_and_the_brake_at_a_higher_one():
    rates = [fmean(told(method, lr_of, HALF).values()) for method in ("push", "brake")]
    assert [*rates, fmean(of_ensemble("rl-fixed", lr_of, HALF).values())] == pytest.approx(
        [0.012, 0.024, 0.016], abs=6e-4
    )


def test_the_page_has_some_seventy_intervals():
    tables = [t for t in printed_tables("12-why.ipynb") if {"95 % interval", "interval"} & {*t[0]}]
    assert 68 <= sum(len(table) - 2 for table in tables) < 75


def test_beside_no_weight_the_brake_keeps_more_and_is_no_nearer():
    floor = floor_at(HALF)
    half, two = (more("brake", w1_of, gamma, "rl-fixed") for gamma in (HALF, TWO))
    assert span(half).low > 0 and fmean(half) / floor == pytest.approx(2 / 3, abs=0.05)
    assert span(two).low < 0 < span(two).high and abs(fmean(two)) < 0.001
    found = [fmean(more("brake", value, HALF, "rl-fixed")) for value in (ra_of, ta_of)]
    assert found == pytest.approx([1, 1], abs=0.15)


def test_the_hours_that_the_runs_took():
    files = (ROOT / "results" / "mechanism").glob("?" * 16 + ".json")
    assert 2.5 < sum(json.loads(path.read_text())["seconds"] for path in files) / 3600 < 3


# 4. The yardstick


def explained(name, gamma):
    return [entry[name] for entry in lines("yardstick", gamma)]


def differences(gamma, first, second):
    return [entry[first] - entry[second] for entry in lines("yardstick", gamma)]


def test_what_of_a_retrain_is_explained_at_one_half():
    means = {name: fmean(explained(name, HALF)) for name in lines("yardstick", HALF)[0]}
    expected = {"mu": 0.033, "own class mean": 0.194, "neighbours": 0.332, "another retrain": 0.522}
    assert {name: means[name] for name in expected} == pytest.approx(expected, abs=0.001)
    assert means["seven retrains"] == pytest.approx(0.685, abs=0.001)  # so that a third is the draw
    assert 0.6 < means["neighbours"] / means["another retrain"] < 0.67


def test_the_four_claims_of_the_yardstick():
    for gamma in (HALF, TWO):
        assert len(lines("yardstick", gamma)) == 5 and span([v - 0.1 for v in explained("mu", gamma)]).high < 0
        assert span(differences(gamma, "neighbours", "mu and share")).low > 0
        assert span(differences(gamma, "another retrain", "neighbours")).low > 0
    assert span(differences(HALF, "neighbours", "own class mean")).low > 0
    at_two = span(differences(TWO, "neighbours", "own class mean"))
    assert at_two.low < 0 < at_two.high


def test_the_images_that_are_drawn_are_all_forgotten_ones_of_a_seed():
    images = file("samples")["0.5, 0"]
    record = next(r for r in curves("ensemble")[HALF, 0] if is_retrain(r))
    assert {len(values) for values in images.values()} == {record["sizes"]["forget"]}
    assert [images["class"].count(c) for c in range(30)] == record["forget_counts"]
    first = next(r for r in curves("ensemble")[HALF, 0] if is_retrain(r) and r["config"]["seed"] == 0)
    parts = first["forget_probabilities"].values()
    mean = sum(part["mean"] * sum(part["counts"]) for part in parts) / len(images["class"])
    assert fmean(images["retrain"]) == pytest.approx(mean, abs=0.001)


# 5 and 6. Which way it points, and where the target is right


def test_the_weight_calls_the_side_hardly_better_than_a_coin():
    for gamma, right, pushed, held in ((HALF, 0.549, 0.369, 0.533), (TWO, 0.609, 0.211, 0.570)):
        values = by_seed("rl+falw-epoch", gamma, "way", "right")
        assert fmean(values) == pytest.approx(right, abs=0.002) and span([v - 0.5 for v in values]).low > 0
        assert fmean(by_seed("rl+falw-epoch", gamma, "way", "pushed")) == pytest.approx(pushed, abs=0.002)
        assert fmean(by_seed("rl+falw-epoch", gamma, "way", "held")) == pytest.approx(held, abs=0.002)


def test_classes_that_are_gone_whole_deviate_eight_times_less_and_the_other_way():
    whole, part = (by_seed("rl+falw-epoch", TWO, which, "forgotten") for which in ("whole", "part"))
    assert fmean(whole) == pytest.approx(0.041, abs=0.001) and fmean(part) == pytest.approx(-0.342, abs=0.001)
    assert 8 < -fmean(part) / fmean(whole) < 9 and span([abs(a) - abs(b) for a, b in zip(whole, part)]).high < 0
    assert not any("whole" in file("deviations")[r["key"]] for r in curves("ensemble")[HALF, 0] if is_retrain(r))


def test_whole_classes_are_most_of_what_is_forgotten_at_two():
    for seed in range(5):
        key = next(r["key"] for r in curves("ensemble")[TWO, seed] if is_retrain(r))
        entry = file("deviations")[key]
        assert entry["whole"]["images"] > 0.85 * (entry["whole"]["images"] + entry["part"]["images"])


# 7. Normal or Beta


def test_a_normal_is_refused_far_more_often_than_a_beta():
    for gamma, model in ((HALF, "original"), (HALF, "retrain"), (TWO, "retrain")):
        of = {
            name: [entry[model][name] for entry in lines("fits", gamma)] for name in ("normal", "beta", "two samples")
        }
        assert span([a - b for a, b in zip(of["normal"], of["beta"], strict=True)]).low > 0
        assert 0.7 < fmean(of["normal"]) < 0.95 and 0.25 < fmean(of["beta"]) < 0.31
        assert fmean(of["beta"]) < 0.4 * fmean(of["normal"]) and fmean(of["two samples"]) < 0.04


def test_a_true_beta_fitted_to_25_images_is_refused_in_about_a_quarter_of_classes():
    rng, classes = np.random.default_rng(0), 300
    for shape in ((0.3, 0.15), (0.6, 0.3), (1, 0.5), (2, 1)):
        p = torch.tensor(rng.beta(*shape, (classes, 25))).flatten()
        fit = beta_fit(p, torch.arange(classes).repeat_interleave(25), classes)
        drawn = rng.beta(*shape, (classes, 50))
        laws = (beta(*ends) for ends in zip(fit.alpha.tolist(), fit.beta.tolist(), strict=True))
        refused = [kstest(others, law.cdf).pvalue < 0.05 for others, law in zip(drawn, laws, strict=True)]
        assert 0.15 < fmean(refused) < 0.35


def test_the_two_weights_order_images_alike_after_unlearning_and_not_at_the_start():
    for gamma in (HALF, TWO):
        assert span([entry["alike"] - 0.9 for entry in lines("fits", gamma)]).high < 0
        assert span([v - 0.9 for v in by_seed("rl+falw-epoch", gamma, "alike")]).low > 0


# 8. Stand-ins for unseen images


def test_stand_ins_are_off_by_more_than_a_third_of_the_axis_and_few_images_by_less():
    off = {
        name: fmean(entry[name]["off"] for entry in lines("stand_ins", HALF))
        for name in lines("stand_ins", HALF)[0]
        if name != "test"
    }
    assert off["val-5"] == pytest.approx(0.15, abs=0.005) and off["val-25"] == pytest.approx(0.07, abs=0.005)
    assert all(off[name] > 0.3 for name in ("sliced", "augmented", "cross-fitted"))
    means = {name: fmean(entry[name]["mean"] for entry in lines("stand_ins", HALF)) for name in [*off, "test"]}
    assert means["sliced"] > 0.9 > means["test"] > max(means["augmented"], means["cross-fitted"])
    assert len(lines("stand_ins", HALF)) == 5


# Where the numbers come from


def test_deviations_of_a_retrain_are_to_the_seven_others():
    for gamma, seed in curves("ensemble"):
        if seed < 5:
            keys = [r["key"] for r in curves("ensemble")[gamma, seed] if is_retrain(r)]
            values = [file("deviations")[key]["part"]["forgotten"] for key in keys]
            assert len(values) == 8 and sum(values) == pytest.approx(0, abs=1e-3)  # p_i - mean of the others adds to 0


def test_mean_deviation_over_all_classes_is_that_of_the_distances():
    far = json.loads((ROOT / "results" / "ensemble" / "distances.json").read_text())
    for place, records in curves("ensemble").items():
        for record in records if place == (HALF, 0) else ():
            if record["key"] in file("deviations"):
                ours = file("deviations")[record["key"]]["part"]["forgotten"]
                assert ours == pytest.approx(far[record["key"]]["all"]["deviation"], abs=1e-4), record["method"]


def test_methods_are_read_off_at_the_same_fa():
    assert all(abs(v) < 1e-6 for v in at_retrains_fa("ensemble", fa_of).values())
