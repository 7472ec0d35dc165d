"""What chapter 11 and the verdict say of audits, one test a claim, from the JSON as it is on disk.

Numbers are read off at the Retrains' FA by `stored`, not by the functions that the pages call.
"""

import functools
import json
import re
from statistics import fmean

import pytest
from scipy.stats import t
from stored import ROOT, at_retrains_fa, curves, is_retrain

from falw.lab.tables import OPEN, interval, side_of

ENSEMBLE = "ensemble"
ONCE = ("rl-fixed", "salun-fixed", "rl+falw-epoch", "falw-epoch")  # labels drawn once
WRONG = (*ONCE, "rl", "salun")
METHODS = (*WRONG, "ft")
ENDS = ("head", "tail")


@functools.cache
def audits():
    return json.loads((ROOT / "results" / ENSEMBLE / "audits.json").read_text())


def number(audit, name, group="all"):
    """What an audit says of a record, as a function of it."""
    return lambda record: audits()[record["key"]][audit][group][name]


@functools.cache
def read_off(audit, name, group="all"):
    """(method, gamma, seed): a number of an audit, or of "scores" or "audit", at the Retrains' FA and less theirs."""
    stored_there = audit in ("scores", "audit")
    return at_retrains_fa(ENSEMBLE, (lambda r: r[audit][name]) if stored_there else number(audit, name, group))


def over_seeds(method, gamma, audit, name, group="all"):
    return [v for (m, g, _), v in read_off(audit, name, group).items() if (m, g) == (method, gamma)]


def mean(*asked):
    return fmean(over_seeds(*asked))


def side(*asked):
    return side_of(interval(over_seeds(*asked)), "below", "above")


@functools.cache
def retrains(gamma):
    return [r for (g, _), records in curves(ENSEMBLE).items() if g == gamma for r in records if is_retrain(r)]


@functools.cache
def cells(page="11-auditing"):
    """Printed text and tables of each cell of a page, by the cell's name."""
    found = json.loads((ROOT / "book" / f"{page}.ipynb").read_text())["cells"]
    outputs = {c["id"]: c.get("outputs", []) for c in found}
    return {
        name: "".join("".join(o.get("text", o.get("data", {}).get("text/markdown", ""))) for o in each)
        for name, each in outputs.items()
    }


# Chapter 11: stored records


def test_chapter_11_six_seeds_with_eight_retrains_each():
    assert len(retrains(0.5)) == len(retrains(2.0)) == 48 and len({s for _, s in curves(ENSEMBLE)}) == 6
    assert {len(over_seeds(m, 0.5, "iam", "over")) for m in METHODS} == {6}


@pytest.mark.parametrize("method", METHODS)
def test_chapter_11_mia_is_retrains_at_equal_fa(method):
    assert max(map(abs, over_seeds(method, 0.5, "scores", "mia"))) < 1e-6


def test_chapter_11_the_attack_on_confidences_sees_fewer_of_fine_tunings_and_more_of_all_others():
    assert side("ft", 0.5, "audit", "confidence") == "below"
    assert {side(m, 0.5, "audit", "confidence") for m in WRONG} == {"above"}


@pytest.mark.parametrize("audit", ["rmia", "lira"])
def test_chapter_11_the_original_is_found_and_no_method(audit):
    originals = [json.loads(p.read_text()) for p in (ROOT / "results" / ENSEMBLE).glob("[0-9a-f]*.json")]
    found = [
        number(audit, "auc")(r) for r in originals if r.get("method") == "original" and r["setting"]["gamma"] == 0.5
    ]
    assert len(found) == 6 and fmean(found) > 0.75
    assert max(abs(mean(m, 0.5, audit, "auc")) for m in METHODS) < 0.05


def gaps_left(method):
    """What is left of Avg. Gap at the Retrains' FA and exponent 1/2, one value a seed."""
    scores = (over_seeds(method, 0.5, "scores", k) for k in ("ra", "ta", "mia"))
    return [fmean(map(abs, (0, *parts))) for parts in zip(*scores, strict=True)]


def gap(method):
    return fmean(gaps_left(method))


def test_chapter_11_the_order_by_over_forgetting_is_not_that_of_avg_gap():
    by_gap = sorted(METHODS, key=gap)
    assert by_gap[:2] == ["rl-fixed", "ft"] and gap("ft") - gap("rl-fixed") == pytest.approx(0.1, abs=0.03)
    over = {m: mean(m, 0.5, "iam", "over") for m in METHODS}
    assert side("ft", 0.5, "iam", "over") == OPEN and all(26.5 < over[m] < 30.5 for m in WRONG)


def test_chapter_11_never_seen_and_retained_images_have_moved_as_well():
    for method in WRONG:
        forgotten, unseen = (mean(method, 0.5, "iam", name) for name in ("completeness", "unseen"))
        assert unseen > 0.15 and abs(forgotten - unseen) < 0.02
    assert side("ft", 0.5, "iam", "unseen") == OPEN
    assert {side(m, 0.5, "lira", "retained") for m in METHODS} == {"below"}


def test_chapter_11_at_gamma_2_the_head_looks_learnt():
    assert {side(m, 2.0, "lira", "auc", "head") for m in METHODS} == {"above"}
    head = {m: mean(m, 2.0, "lira", "auc", "head") for m in METHODS}
    assert all(0.15 < head[m] < 0.2 for m in WRONG) and 0.065 < head["ft"] < 0.075
    assert all(mean(m, 2.0, "lira", "auc") > 0.14 for m in WRONG)


def test_chapter_11_at_gamma_2_the_tail_looks_less_learnt_than_what_was_never_seen():
    sides = [side(m, 2.0, "lira", "auc", "tail") for m in WRONG]
    assert sides.count("below") == 4 and sides.count(OPEN) == 2
    assert all(mean(m, 2.0, "lira", "auc", "tail") < -0.1 for m in WRONG)
    assert all(30 < mean(m, 2.0, "iam", "over", "tail") < 51 for m in WRONG)
    assert all(abs(mean(m, 2.0, "iam", "over", "head")) < 1 for m in WRONG)
    for method in WRONG:
        head, tail = (mean(method, 0.5, "lira", "auc", end) for end in ENDS)
        assert tail < head


def test_chapter_11_few_false_alarms_find_what_labels_drawn_once_leave():
    floor = 100 * fmean(map(number("lira", "tpr"), retrains(0.5)))
    assert 1.2 < floor < 1.3
    for method in METHODS:
        found = 100 * mean(method, 0.5, "lira", "tpr")
        expected = "above" if method in ONCE else OPEN
        assert side(method, 0.5, "lira", "tpr") == expected and (found > 1.4) == (method in ONCE)
    for method in ONCE:
        assert 1.4 < 100 * mean(method, 0.5, "lira", "tpr") < 2 and 100 * mean(method, 0.5, "lira", "tpr") > floor
        for group in ("mid", "tail"):
            assert 2.5 < 100 * mean(method, 0.5, "lira", "tpr", group) < 3.6
            assert mean(method, 0.5, "lira", "tpr_0.5", group) < -0.01
        assert side(method, 0.5, "lira", "tpr_0.5") == OPEN


def test_chapter_11_rmia_varies_little_with_its_references():
    spread = fmean(number("rmia", "spread")(r) for r in retrains(0.5))
    assert 0.001 < spread < 0.004


# Chapter 11: what is made on the page


def test_chapter_11_one_image_by_three_shadows():
    far = dict(re.findall(r"(\S+) +([+-][\d.]+) SD", cells()["lira-code"]))
    original, honest, ours = (float(far[k]) for k in ("Original", "honest", "rl-fixed"))
    assert abs(honest) < 0.5 and ours < 0 < original < -ours
    beaten = dict(re.findall(r"(\S+) +(\d+) %", cells()["rmia-code"]))
    assert abs(int(beaten["Original"]) - int(beaten["honest"])) < 5 and int(beaten["rl-fixed"]) < 25


def test_chapter_11_three_shadows_are_few():
    share = dict(re.findall(r"(.+): (\d+) %", cells()["ex-few-code"]))
    own, pooled = (
        [int(share[f"{m}, an SD {k}"]) for m in ("honest", "rl-fixed")] for k in ("of its own", "one for all")
    )
    assert own[0] == pytest.approx(25, abs=3) and pooled[0] == pytest.approx(10, abs=2)
    assert own[1] == pytest.approx(2 * own[0], abs=4) and 3.5 * pooled[0] < pooled[1] < 4 * pooled[0]


def test_chapter_11_an_auditor_who_turns_around_finds_head_and_tail_alike():
    found = {
        k: (float(a), float(b))
        for k, a, b in re.findall(r"(\w+): ([\d.]+), a Retrain ([\d.]+)", cells()["ex-turn-code"])
    }
    assert abs(found["head"][0] - found["tail"][0]) < 0.05 and found["mid"][0] < found["head"][0] > 0.65
    assert found["head"][1] == pytest.approx(0.52, abs=0.01) and found["tail"][1] == pytest.approx(0.59, abs=0.01)


# Chapter 11: U-LiRA

SHADOWS = "ensemble/shadows-ratio0.3-gamma0.5"
TOLD = ("rl", "salun", "rl-fixed", "falw-epoch")  # of the methods of the shadow runs, those with wrong labels
SOFT = ("neighbour-target", "target-moving")  # and those with soft labels of their own


@functools.cache
def shadow_runs():
    """(method, seed): record and audits of a shadow run; the second Retrain is the "floor"."""
    folder = ROOT / "results" / SHADOWS
    said, found = json.loads((folder / "audits.json").read_text()), {}
    for path in folder.glob("?" * 16 + ".json"):
        record = json.loads(path.read_text())
        seed = record["setting"]["seed"]
        second = is_retrain(record) and record["config"]["seed"] != seed
        found["floor" if second else record["method"], seed] = record, said.get(record["key"])
    return found


def of_runs(method, audit="ulira", name="auc", group="all"):
    """A value a shadow run."""
    return [said[audit][group][name] for (m, _), (_, said) in sorted(shadow_runs().items()) if m == method]


def test_chapter_11_shadow_runs_are_whole_and_forget_as_many_of_each_class_of_one_pool():
    seeds = {seed for _, seed in shadow_runs()}
    assert seeds == {*range(len(seeds))} and len(seeds) == 32 and len(shadow_runs()) == 12 * len(seeds)
    records = [record for record, _ in shadow_runs().values()]
    assert len({tuple(r["forget_counts"]) for r in records}) == 1
    assert {r["sizes"]["forget"] for r in records} == {900} and len({r["sizes"]["retain"] for r in records}) == 1
    pool = {i for r in records for i in r["setting"]["forget"]}
    assert len(pool) <= 2 * 900


def over_runs(method, **asked):
    return fmean(of_runs(method, **asked))


def test_chapter_11_a_second_retrain_is_where_chance_puts_it():
    beyond = {}
    for group in ("all", "head", "mid", "tail"):
        low, high = (over_runs("floor", name=f"chance_{end}", group=group) for end in ("low", "high"))
        assert low < 0.5 < high
        beyond[group] = max(low - over_runs("floor", group=group), over_runs("floor", group=group) - high)
    assert beyond["all"] < 0 and beyond["head"] < 0 and beyond["tail"] < 0 < beyond["mid"] < 0.0035


def test_chapter_11_wrong_labels_are_told_and_fine_tuning_hardly():
    floor, original, told = over_runs("floor"), over_runs("original"), {m: over_runs(m) for m in (*TOLD, "lotus", "ft")}
    assert 0.925 < original < 0.935 and all(0.845 < told[m] < 0.895 for m in TOLD) and 0.765 < told["lotus"] < 0.775
    assert 0.045 < told["ft"] - floor < 0.055 and all(v > over_runs(m, name="chance_high") for m, v in told.items())
    assert told["rl-fixed"] < told["falw-epoch"] < told["salun"]
    hits = {m: over_runs(m, name="tpr") for m in (*TOLD, "lotus", "ft", "floor")}
    assert all(0.17 < hits[m] < 0.21 for m in TOLD)
    assert round(hits["ft"], 2) == 0.02 and round(hits["floor"], 2) == 0.01


def test_chapter_11_a_method_is_told_by_other_images_as_well_and_the_original_is_not():
    for method in (*TOLD, "lotus", "ft"):
        assert over_runs(method, name="retained") > over_runs(method)
        assert over_runs(method, name="unseen") > over_runs(method) - 0.07
    assert all(over_runs("original") > over_runs("original", name=k) + 0.2 for k in ("retained", "unseen"))


def gap_of_runs(method):
    runs = [
        (r["scores"], shadow_runs()["retrain", s][0]["scores"])
        for (m, s), (r, _) in shadow_runs().items()
        if m == method
    ]
    return fmean(fmean(abs(a[k] - b[k]) for k in ("fa", "ra", "ta", "mia")) for a, b in runs)


def test_chapter_11_the_order_by_u_lira_is_not_that_of_avg_gap():
    gaps = {m: gap_of_runs(m) for m in (*TOLD, *SOFT, "ft", "lotus", "neggrad+")}
    assert 0.12 < gaps["ft"] - gaps["rl-fixed"] < 0.16 and 0.28 < over_runs("rl-fixed") - over_runs("ft") < 0.3
    closest, second, third, *_ = sorted(gaps, key=gaps.get)
    assert (closest, second, third) == ("target-moving", "neggrad+", "rl-fixed") and gaps[third] - gaps[closest] > 1
    assert 0.5 < gaps[second] - gaps[closest] < 0.65
    assert max(gaps, key=gaps.get) == "lotus" and gaps["lotus"] > 12
    assert all(gaps[m] - gaps["ft"] < 2 for m in TOLD) and 1.3 < gaps["ft"] - gaps[closest] < 1.6
    assert sorted(gaps, key=over_runs)[:5] == ["ft", "target-moving", "neggrad+", "neighbour-target", "lotus"]
    kept = [r["scores"]["ra"] for (m, _), (r, _) in shadow_runs().items() if m == "lotus"]
    assert 75 < fmean(kept) < 77
    above = {m: over_runs(m) - over_runs("floor") for m in gaps}
    rest = {"ft": 0.05, "lotus": 0.26, "target-moving": 0.09, "neighbour-target": 0.17}
    assert all(0.34 < above[m] < 0.39 for m in TOLD) and {m: round(above[m], 2) for m in rest} == rest


def test_chapter_11_soft_labels_are_told_by_what_was_forgotten_and_little():
    told = {m: over_runs(m) for m in SOFT}
    assert {m: round(v, 2) for m, v in told.items()} == {"neighbour-target": 0.68, "target-moving": 0.59}
    assert all(v > over_runs(m, name="chance_high") for m, v in told.items())
    assert all(over_runs(m, name=k) < told[m] for m in SOFT for k in ("retained", "unseen"))
    assert round(over_runs("target-moving", name="tpr"), 2) == 0.04
    row = interval([a - b for a, b in zip(of_runs("target-moving"), of_runs("ft"), strict=True)])
    assert [round(row[k], 2) for k in ("mean", "low", "high")] == [0.04, 0.03, 0.05]


def test_chapter_11_neggrad_is_told_in_the_head():
    told = {g: over_runs("neggrad+", group=g) for g in ("all", "head", "mid", "tail")}
    assert {g: round(v, 2) for g, v in told.items()} == {"all": 0.67, "head": 0.75, "mid": 0.56, "tail": 0.56}
    above = {g: round(v - over_runs("floor", group=g), 2) for g, v in told.items()}
    assert above == {"all": 0.16, "head": 0.25, "mid": 0.04, "tail": 0.07}  # the verdict
    hits = {m: over_runs(m, name="tpr") for m in ("neggrad+", "lotus")}
    assert all(0.15 <= v < 0.155 for v in hits.values())
    assert all(over_runs("neggrad+", name=k) > told["all"] for k in ("retained", "unseen"))
    assert round(told["all"] - over_runs("ft"), 2) == 0.11
    off = [shadow_runs()[m, s][0]["scores"]["fa"] for s in range(32) for m in ("neggrad+", "retrain")]
    assert -2.5 < fmean(off[::2]) - fmean(off[1::2]) < -1.5


def test_verdict_at_gamma_2_neggrad_knows_the_head_too_little_and_remembers_the_rest():
    found = [side("neggrad+", 2.0, "lira", "auc", k) for k in ("head", "mid", "tail")]
    assert found == ["below", "above", "above"]


def test_chapter_11_by_group_u_lira_tells_alike():
    of = {
        m: {g: over_runs(m, group=g) - over_runs("floor", group=g) for g in ("head", "mid", "tail")}
        for m in (*TOLD, "lotus", "ft")
    }
    assert max(max(g.values()) - min(g.values()) for g in of.values()) < 0.06
    higher = {m: of[m]["tail"] - of[m]["head"] for m in TOLD}
    assert (
        all(0.025 < higher[m] < 0.035 for m in ("rl-fixed", "falw-epoch"))
        and max(abs(higher["rl"]), abs(higher["salun"])) < 0.01
    )


def test_chapter_11_the_shadow_runs_are_near_the_retrains_fa_and_not_at_it():
    retrain = {seed: r["scores"]["fa"] for (m, seed), (r, _) in shadow_runs().items() if m == "retrain"}
    off = {
        name: fmean(r["scores"]["fa"] - retrain[seed] for (m, seed), (r, _) in shadow_runs().items() if m == name)
        for name in (*TOLD, *SOFT, "lotus", "ft")
    }
    assert (
        8.5 < off.pop("neighbour-target") < 9
        and 3.9 < off.pop("ft") < 4.1
        and min(off.values()) > -1.55
        and max(off.values()) < 3
    )


def test_chapter_11_hits_of_the_original_and_who_is_told_by_which_images():
    assert over_runs("original", name="tpr") == pytest.approx(0.4, abs=0.005)
    assert [over_runs("original", name=k) for k in ("retained", "unseen")] == pytest.approx([0.69, 0.69], abs=0.005)
    assert max(over_runs(m, name="tpr") for m in TOLD) < 0.55 * over_runs("original", name="tpr")


def test_chapter_11_a_third_is_over_forgotten_and_lotus_is_told_by_lira():
    floor = fmean(number("iam", "over")(r) for r in retrains(0.5))
    assert floor == pytest.approx(100 / 20, abs=0.1)
    assert floor + mean("ft", 0.5, "iam", "over") == pytest.approx(100 / 18, abs=0.15)
    assert all(32 < floor + mean(m, 0.5, "iam", "over") < 35 for m in WRONG)
    assert all(mean("lotus", 0.5, "lira", "auc", g) == pytest.approx(0.1, abs=0.01) for g in ("all", *ENDS, "mid"))


def test_chapter_11_at_half_of_false_alarms_mid_and_tail_have_turned():
    turned = [100 * mean(m, 0.5, "lira", "tpr_0.5", group) for m in ONCE for group in ("mid", "tail")]
    assert -6 < min(turned) < max(turned) < -1.5
    assert round(100 * fmean(number("lira", "tpr")(r) for r in retrains(0.5)), 1) == 1.3


# Chapter 11: hidden, or gone


@functools.cache
def relearnt(audit="relearning", name="gain", less_retrains=True):
    """{method: {seed: number}} of the models that were trained on, less the mean of the seed's Retrains."""
    found, honest = {}, {}
    for folder in ("ensemble", "target"):
        for path in (ROOT / "results" / folder).glob("?" * 16 + ".json"):
            record = json.loads(path.read_text())
            said = audits().get(record["key"], {}).get(audit)
            if said and record["setting"]["gamma"] == 0.5:
                value, seed = said["all"].get(name), record["setting"]["seed"]
                if is_retrain(record):
                    honest.setdefault(seed, []).append(value)
                else:
                    assert found.setdefault(record["method"], {}).setdefault(seed, value) is value  # one a seed
    if not less_retrains:
        return found
    return {m: {s: v - fmean(honest[s]) for s, v in of.items()} for m, of in found.items()}


def test_chapter_11_labels_drawn_once_hide_and_labels_drawn_anew_do_not():
    gain = {m: fmean(of.values()) for m, of in relearnt().items()}
    assert all(len(of) == 6 for of in relearnt().values())
    rounded = {"rl-fixed": 27, "falw-epoch": 23, "lotus": 39, "rl": 2, "salun": 4, "target-moving": 3, "ft": 0}
    rounded |= {"neggrad+": 3}
    assert {m: round(gain[m]) for m in rounded} == rounded
    assert side_of(interval([*relearnt()["ft"].values()]), "below", "above") == OPEN
    back = {
        m: sum(v is not None for v in of.values()) for m, of in relearnt(name="epochs", less_retrains=False).items()
    }
    assert {m: n for m, n in back.items() if n and m != "original"} == {"rl-fixed": 6, "lotus": 6, "falw-epoch": 4}


def test_chapter_11_lotus_is_back_and_redrawn_labels_need_a_rate_that_costs_ra():
    runs = {}
    for place, records in curves(ENSEMBLE).items():
        for r in (r for r in records if place[0] == 0.5 and "relearning" in audits()[r["key"]] and not is_retrain(r)):
            runs.setdefault(r["method"], []).append(r)
    gain = relearnt(less_retrains=False)["lotus"]
    assert round(fmean(r["scores"]["fa"] + gain[r["setting"]["seed"]] for r in runs["lotus"])) == 98
    rate = {m: fmean(r["config"]["lr"] for r in runs[m]) for m in ("rl", "rl-fixed")}
    assert rate["rl"] / rate["rl-fixed"] == pytest.approx(20, abs=1.5)
    assert 9.5 < fmean(r["scores"]["ra"] for r in retrains(0.5)) - fmean(r["scores"]["ra"] for r in runs["rl"]) < 10.5


def test_chapter_11_the_probe_finds_what_was_hidden_and_cka_that_features_are_bent():
    probe, alike = ({m: fmean(of.values()) for m, of in relearnt("features", n).items()} for n in ("probe", "cka"))
    assert 7 < probe["falw-epoch"] < 7.5 and 9 < probe["rl-fixed"] < 9.5 and round(probe["lotus"]) == 20
    assert round(probe["rl"], 1) == -0.1 and round(probe["neggrad+"]) == 2
    assert {*sorted(alike, key=alike.get)[:4]} == {"neggrad+", "rl-fixed", "lotus", "falw-epoch"}


# The verdict


def test_verdict_an_auditor_who_does_not_know_the_method():
    found = {
        (m, g, k): mean(m, g, "lira", "auc", k) for m in METHODS for g in (0.5, 2.0) for k in ("all", *ENDS, "mid")
    }
    assert max(abs(v) for (_, g, _), v in found.items() if g == 0.5) < 0.07
    for gamma in (0.5, 2.0):
        for ours, base in (("falw-epoch", "salun-fixed"), ("rl+falw-epoch", "rl-fixed")):
            assert all(abs(found[ours, gamma, k] - found[base, gamma, k]) < 0.05 for k in ("all", *ENDS, "mid"))


def test_chapter_11_neggrad_over_forgets_in_the_head_alone():
    over = {k: mean("neggrad+", 0.5, "iam", "over", k) for k in ("all", "head", "mid", "tail")}
    assert {k: round(v) for k, v in over.items()} == {"all": 8, "head": 18, "mid": 0, "tail": 0}
    of_one = fmean(number("iam", "over")(r) for r in retrains(0.5))
    assert 1 / 8.5 < (over["all"] + of_one) / 100 < 1 / 7.5
    lira = {k: round(mean("neggrad+", 2.0, "lira", "auc", k), 2) for k in ("head", "mid", "tail")}
    assert lira == {"head": -0.11, "mid": 0.16, "tail": 0.12}


def test_verdict_the_weight_brings_the_mid_three_hundredths_nearer_by_lira_at_2():
    moved = {}
    for weighted, plain in (("falw-epoch", "salun-fixed"), ("rl+falw-epoch", "rl-fixed")):
        for gamma in (0.5, 2.0):
            for group in ("all", "head", "mid", "tail"):
                found = read_off("lira", "auc", group)
                seeds = [s for m, g, s in found if (m, g) == (weighted, gamma) and (plain, gamma, s) in found]
                values = [found[weighted, gamma, s] - found[plain, gamma, s] for s in seeds]
                moved[weighted, gamma, group] = fmean(values), side_of(interval(values), "below", "above")
    for weighted in ("falw-epoch", "rl+falw-epoch"):
        mean_of, word = moved[weighted, 2.0, "mid"]
        assert 0.025 < mean_of < 0.036 and word == "above"  # the mid is told for forgotten: below chance
        assert all(abs(moved[weighted, g, "all"][0]) < 0.0105 for g in (0.5, 2.0))
    assert mean("rl-fixed", 2.0, "lira", "auc", "mid") < 0


def test_chapter_11_a_fourth_draw_is_as_far_off_as_the_method_one_time_in_five():
    far = float(re.search(r"rl-fixed +([+-][\d.]+) SD", cells()["lira-code"])[1])
    assert 2 * t.sf(abs(far) / (1 + 1 / 3) ** 0.5, df=2) == pytest.approx(0.2, abs=0.02)


def test_chapter_11_labels_drawn_once_and_fine_tuning_are_alike_in_avg_gap_and_not_in_over_forgetting():
    gaps = [a - b for a, b in zip(gaps_left("rl-fixed"), gaps_left("ft"), strict=True)]
    assert len(gaps) == 6 and side_of(interval(gaps)) == OPEN
    over = [over_seeds(m, 0.5, "iam", "over") for m in ("rl-fixed", "ft")]
    assert 25 < fmean(a - b for a, b in zip(*over, strict=True)) < 28


def test_chapter_11_lira_at_few_false_alarms_has_a_glimpse_of_what_is_hidden():
    hits = {m: 100 * mean(m, 0.5, "lira", "tpr") for m in ("lotus", *ONCE, "rl", "salun", "ft", "neggrad+")}
    assert hits["lotus"] == pytest.approx(4.2, abs=0.3) and side("lotus", 0.5, "lira", "tpr") == "above"
    assert max(hits[m] for m in ("rl", "salun", "ft", "neggrad+")) < 0.5 < 1.4 < min(hits[m] for m in ONCE)


def test_chapter_11_the_tail_of_redrawn_labels_is_told_by_over_forgetting_with_saluns_mask_alone():
    assert side("salun", 2.0, "iam", "over", "tail") == "above" and side("rl", 2.0, "iam", "over", "tail") == OPEN
    assert [side(m, 2.0, "lira", "auc", "tail") for m in ("rl", "salun")] == [OPEN, OPEN]


def test_verdict_which_methods_lira_tells_at_one_half():
    found = {m: mean(m, 0.5, "lira", "auc") for m in ("ssd", "lotus", "lotus+falw", "delete", "scrub")}
    assert all(side(m, 0.5, "lira", "auc") == "above" for m in found)
    expected = {"ssd": 0.12, "lotus": 0.1, "lotus+falw": 0.1, "delete": 0.05, "scrub": 0.04}
    assert found == pytest.approx(expected, abs=0.006)
    groups = ("head", "mid", "tail")
    below = {m: mean(m, 0.5, "lira", "auc") for m in ("rl", "salun", "bad-teacher")}
    assert below == pytest.approx({"rl": -0.04, "salun": -0.02, "bad-teacher": -0.01}, abs=0.006)
    assert all(side(m, 0.5, "lira", "auc") == "below" for m in below)
    assert [mean("ssd", 0.5, "lira", "auc", g) for g in groups] == pytest.approx([0.1, 0.15, 0.16], abs=0.006)
    assert all(0.085 < mean(m, 0.5, "lira", "auc", g) < 0.115 for m in ("lotus", "lotus+falw") for g in groups)
    assert [side("scrub", 2.0, "lira", "auc", g) for g in ("head", "mid")] == ["below", "above"]
