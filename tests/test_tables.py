"""Tables from records made by hand, in the shape that `run_cell` writes: no training here."""

import io
import itertools
import json
import math
import random
import re
from dataclasses import asdict

import pandas as pd
import pytest

from falw.config import Config
from falw.lab import paper, tables
from falw.lab.cells import FLOOR_SEED, Setting
from falw.lab.records import SETTING, frame
from falw.lab.tables import (
    COLUMNS,
    FORMATS,
    describe,
    formulation_to_markdown,
    markdown,
    methods_to_markdown,
    paired_gap,
    scores_to_markdown,
)
from falw.methods import METHODS, VARIANTS
from falw.split import power_law_counts

KEYS = map(str, itertools.count())


def record(method, scores, seconds=1.0, seed=0, config_seed=None, lr=0.01, original_epochs=20, **setting):
    """A record, as far as a table reads it; scores None for a model that diverged."""
    config = Config(lr=lr, seed=seed if config_seed is None else config_seed)
    return {
        "key": next(KEYS),
        "method": method,
        "setting": asdict(Setting(seed=seed, **setting)),
        "config": json.loads(json.dumps(asdict(config))),
        "recipe": {"epochs": original_epochs},
        "scores": scores and dict(zip(("fa", "ra", "ta", "mia"), scores, strict=True)),
        "audit": scores and {"confidence": scores[3] * 0.7 + 10},
        "forget_groups": scores and {"head": scores[0]},
        "forget_probabilities": scores and {"head": {"mean": 0.5, "counts": [1]}},
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


def table(records):
    return tables.table(frame(records))


def by_method(rows):
    """{method: row}, NaN as None, by the name of its column."""
    return {row["method"]: row for row in rows.astype(object).where(rows.notna(), None).to_dict("records")}


def of(row, score):
    """{"mean", "sd", "gap"} of a score, as far as it has them."""
    return {k: row[f"{score}_{k}"] for k in ("mean", "sd", "gap") if f"{score}_{k}" in row}


ROWS = by_method(table(RECORDS))


def test_several_retrains_of_one_seed_are_one_seed():
    more = [record("retrain", (44, 98, 66, 56), config_seed=k * FLOOR_SEED) for k in (2, 3)]
    floor = by_method(table([*RECORDS, *more, record("retrain", None, config_seed=4 * FLOOR_SEED)]))["noise floor"]
    assert (floor["seeds"], floor["diverged"]) == (1, 1) and floor["fa_mean"] == pytest.approx((42 + 44 + 44) / 3)
    assert "(3 seeds)" in scores_to_markdown(table([*RECORDS, *more]))  # those of SalUn


def test_rows_come_in_order():
    # what is compared with, then the methods as in METHODS, then what is not known
    assert list(ROWS) == ["retrain", "noise floor", "original", "ft", "salun", "mine"]
    assert list(table(RECORDS[::-1])["method"]) == list(ROWS)


def test_a_row_by_hand():
    row = ROWS["salun"]
    assert row["seeds"] == 3
    # 60, 50, 10 have mean 40 and squared distances 400, 100, 900: sd is the root of 1400/2. Gaps |60 - 40|, |50 - 52|
    assert of(row, "fa") == pytest.approx({"mean": 40, "sd": 700**0.5, "gap": 11})
    assert of(row, "ra") == pytest.approx({"mean": 66, "sd": 2368**0.5, "gap": 4.5})  # 98, 90, 10; gaps 1, 8
    assert (row["ta_gap"], row["mia_gap"]) == (2, 11)  # 2, 2; 20, 2
    # seed by seed (20 + 1 + 2 + 20)/4 = 10.75 and (2 + 8 + 2 + 2)/4 = 3.5
    assert of(row, "gap") == pytest.approx({"mean": 7.125, "sd": 7.25 / 2**0.5})
    assert of(row, "seconds") == pytest.approx({"mean": 5, "sd": 13**0.5})


def test_one_seed_has_no_deviation():
    assert of(ROWS["ft"], "fa") == {"mean": 90, "sd": None, "gap": 50}
    assert of(ROWS["ft"], "gap") == {"mean": (50 + 1 + 7 + 50) / 4, "sd": None}


def test_the_noise_floor_is_a_second_retrain_against_the_first():
    assert (ROWS["retrain"]["seeds"], ROWS["noise floor"]["seeds"]) == (2, 1)
    assert of(ROWS["retrain"], "gap") == {"mean": 0, "sd": 0}
    assert of(ROWS["noise floor"], "gap") == {"mean": (2 + 1 + 2 + 2) / 4, "sd": None}


def test_seeds_of_the_data_are_paired_too():
    both = [("retrain", 40, 0), ("ft", 50, 0), ("retrain", 45, 1), ("ft", 60, 1)]
    ft = by_method(table([record(method, (fa, 99, 70, 50), data_seed=d) for method, fa, d in both]))["ft"]
    assert (ft["seeds"], of(ft, "fa")) == (2, pytest.approx({"mean": 55, "sd": 50**0.5, "gap": 12.5}))


def test_without_retrain_there_is_no_gap():
    rows = table(SALUN[:2])
    assert rows[["fa_gap", "gap_mean", "gap_sd"]].isna().all(axis=None) and len(rows) == 1
    assert shown(rows)[-1][-5:] == ["45.00 ± 7.07", "41.50 ± 4.95", "–", "3.0 ± 1.4", "0.01"]


def shown(rows):
    """The lines of a table in Markdown, cell by cell, without heading and rule."""
    lines = [cells_of_a_line(line) for line in scores_to_markdown(rows).splitlines() if line.startswith("|")]
    return [line for line in lines if line[0] != "method" and not line[0].startswith(":-")]


BOTH = table([*RECORDS, record("retrain", (1, 2, 3, 4), ratio=0.4, cap="water-filling", per_class=9)])


def test_two_settings_give_two_tables():
    assert list(BOTH["ratio"]) == [0.3] * 6 + [0.4] and not {"seed", "data_seed"} & set(BOTH)
    titles = sorted((line for line in scores_to_markdown(BOTH).splitlines() if line.startswith("**")), key=len)
    assert [title.count("ratio") for title in titles] == [1, 1]
    assert [title.partition("** ")[2] for title in titles] == ["(3 seeds)", "(1 seed)"]
    named = {"textures", "tiny", "ratio 0.4", "gamma 0.5", "cap water-filling", "per class 9", "original epochs 20"}
    assert set(describe(BOTH.iloc[-1][SETTING].to_dict()).split(", ")) == named
    assert titles[-1].startswith(f"**{describe(BOTH.iloc[-1][SETTING].to_dict())}**")


def test_a_method_with_two_configurations_has_two_rows_that_say_how_they_differ():
    twice = [record("ft", (80, 99, 70, 20), lr=0.1), record("ft", (70, 99, 70, 30), lr=0.2, seed=1)]
    rows = by_method(table([*RECORDS, *twice]))
    assert {name for name in rows if name.startswith("ft")} == {"ft (lr 0.01)", "ft (lr 0.1)", "ft (lr 0.2)"}
    assert of(rows["ft (lr 0.2)"], "fa") == {"mean": 70, "sd": None, "gap": 18}
    assert list(rows)[3:6] == ["ft (lr 0.01)", "ft (lr 0.1)", "ft (lr 0.2)"]


def test_another_length_of_the_original_is_another_table():
    longer = [
        record("retrain", (30, 99, 70, 70), original_epochs=40),
        record("ft", (33, 99, 70, 67), original_epochs=40),
    ]
    rows = table([*RECORDS, *longer]).query("method == 'ft'")
    assert dict(zip(rows["original_epochs"], rows["gap_mean"], strict=True)) == {20: 27, 40: 1.5}


def test_what_diverged_is_counted_and_left_out_of_the_means():
    rows = table([*RECORDS, record("ft", None, seed=1), record("ga", None)])
    ft, ga = (by_method(rows)[name] for name in ("ft", "ga"))
    assert (ft["seeds"], ft["diverged"], ft["fa_mean"]) == (1, 1, 90)
    assert (ga["seeds"], ga["diverged"], ga["fa_mean"], ga["gap_mean"]) == (0, 1, None, None)
    lines = shown(rows)
    assert next(line for line in lines if "diverged" in line[0])[:2] == ["ft (2 seeds, 1 diverged)", "27.00"]
    assert ["ga (1 seed, 1 diverged)", *["–"] * 7, "1.0", "0.01"] in lines


def test_a_grid_by_hand():
    assert markdown(["a", "b"], [["x", 1.234], ["y", 2], [3, None]], ".1f").splitlines() == [
        *["| a   |   b |", "|:----|----:|"],
        *["| x   | 1.2 |", "| y   |   2 |", "| 3   |   – |"],
    ]
    assert cells_of_a_line(markdown(["a", "b"], []).splitlines()[0]) == ["a", "b"]


# Pairs


def pairs(*differences):
    """Retrain at 50 everywhere, a base 4 points away from it, and a method that many further, a seed each."""
    for seed, d in enumerate(differences):
        for name, distance in (("retrain", 0), ("rl", 4), ("rl+falw", 4 + d)):
            yield record(name, (50 + distance,) * 4, seed=seed)


def test_a_paired_difference_by_hand():
    row = paired_gap(frame(pairs(1, -2, 4)), "rl+falw", "rl")
    assert row["differences"] == pytest.approx([1, -2, 4]) and row["seeds"] == 3
    assert row["mean"] == pytest.approx(1) and row["low"] < 1 < row["high"]


def test_an_interval_covers_the_true_difference_about_as_often_as_it_says():
    g = random.Random(0)
    found = [paired_gap(frame(pairs(*(g.gauss(0.5, 1) for _ in range(20)))), "rl+falw", "rl") for _ in range(20)]
    covered = sum(row["low"] <= 0.5 <= row["high"] for row in found)
    assert 16 <= covered <= 20  # 19 of 20 expected of an exact interval; a bootstrap of 20 falls a little short
    assert len({row["low"] for row in found}) == 20


def test_several_settings_of_a_seed_are_one_value_and_an_incomplete_seed_is_none():
    of_gamma = {0.5: (1, -2, 4, 8), 2.0: (3, 0, 2)}  # the fourth seed ran on one setting only
    records = [{**r, "setting": {**r["setting"], "gamma": g}} for g, found in of_gamma.items() for r in pairs(*found)]
    row = paired_gap(frame(records), "rl+falw", "rl")
    assert row["differences"] == pytest.approx([2, -1, 3]) and row["seeds"] == 3


def test_only_complete_pairs_count_and_one_is_too_few():
    records = [r for r in pairs(1, 2, 3) if (r["method"], r["setting"]["seed"]) not in {("rl", 1), ("retrain", 2)}]
    with pytest.raises(ValueError, match="1 pairs of rl.falw and rl: run both with at least two seeds"):
        paired_gap(frame(records), "rl+falw", "rl")


def test_a_method_with_two_configurations_is_paired_by_its_label_and_never_mixed():
    again = [record("rl+falw", (50 + far,) * 4, seed=seed, lr=0.1) for seed, far in enumerate((9, 8, 7))]
    records = frame([*pairs(1, 2, 3), *again])
    assert paired_gap(records, "rl+falw (lr 0.1)", "rl")["differences"] == pytest.approx([5, 4, 3])
    assert paired_gap(records, "rl+falw (lr 0.01)", "rl")["mean"] == pytest.approx(2)
    words = r"rl\+falw has several configurations; choose one of: rl\+falw \(lr 0.01\), rl\+falw \(lr 0.1\)"
    with pytest.raises(ValueError, match=words):
        paired_gap(records, "rl+falw", "rl")
    one = records.query("method != 'rl+falw' or lr == 0.1")
    assert paired_gap(one, "rl+falw", "rl")["differences"] == pytest.approx([5, 4, 3])


def test_values_by_seed_of_a_method_with_two_configurations_are_refused():
    records = frame([*pairs(1, 2), record("rl", (60,) * 4, lr=0.1)])
    with pytest.raises(ValueError, match=r"several configurations .* query for one of rl \(lr 0.01\), rl \(lr 0.1\)"):
        tables.by_seed(records, "gap")
    assert list(tables.by_seed(records.query("lr < 0.1"), "gap")["rl"]) == [4, 4]


def test_two_retrains_of_a_seed_are_refused_and_a_record_given_twice_counts_once():
    twice = list(pairs(1, 2))
    assert len(frame([*twice, *twice])) == len(twice)
    with pytest.raises(ValueError, match="two Retrains of one setting and seed"):
        frame([*twice, record("retrain", (50,) * 4, lr=0.5)])


def test_a_record_from_before_there_was_another_optimizer_ran_sgd():
    before, adam = record("ft", (90, 100, 75, 10)), record("ft", (80, 100, 75, 10))
    del before["config"]["optimizer"]
    adam["config"]["optimizer"] = "adam"
    labels = list(frame([before, adam])["label"])
    assert labels == ["ft (optimizer sgd)", "ft (optimizer adam)"]


# The methods themselves


def test_the_rows_of_formulation_1_have_a_0_for_the_term_that_is_not_there():
    rows = {name: cells for name, *cells in map(cells_of_a_line, formulation_to_markdown(METHODS).splitlines()[2:])}
    assert list(rows) == list(METHODS)
    assert rows["ft"] == ["0", "–", "1", "label loss", "0", "–"]
    assert rows["l1-sparse"][4:] == ["λ", "fading l1"] and rows["ga"][2:4] == ["0", "–"]
    once = "falw weight · cross entropy to random labels, once"
    assert rows["falw"] == ["1", once, "1", "label loss", "0", "saliency mask"]
    assert rows["sfron"][:2] == ["fading alpha", "inverse loss · negative cross entropy to own labels"]
    assert rows["ssd"] == ["–", "one step: dampening", "–", "–", "–", "–"]


def test_the_table_of_methods_names_the_parts_of_each():
    rows = {name: cells for name, *cells in map(cells_of_a_line, methods_to_markdown().splitlines()[2:])}
    assert list(rows) == list(METHODS)
    falw = ["union", "cross entropy", "random labels, once", "label loss", "falw weight", "–", "saliency mask"]
    assert rows["falw"] == falw and rows["lotus"][2:4] == ["smoothed, as D_f is known", "target loss"]
    assert (rows["rl"][2], rows["rl+falw"][2]) == ("random labels, redrawn", "random labels, once")
    assert rows["ft"] == ["retain", "–", "–", "label loss", "–", "–", "–"] and rows["iu"] == ["influence", *"––––––"]
    assert rows["ssd"] == ["dampening", *"––––––"] and rows["amun"][0] == "union, nearest examples"
    assert "| retain, class shares " in methods_to_markdown({"x": VARIANTS["ft-reweighted"]})
    sfron = ["alternate", "negative cross entropy", "own labels", "label loss", "inverse loss", "–", "fisher mask"]
    assert rows["sfron"] == sfron and rows["ga"][3] == "–"


def test_markdown_by_hand():
    rows = table(RECORDS)
    assert cells_of_a_line(scores_to_markdown(rows).splitlines()[2]) == [
        *["method", "Avg. Gap", "FA", "RA", "TA", "MIA", "MIA (confidence)", "ToW", "seconds", "lr"],
    ]
    ft, salun = shown(rows)[3:5]
    scores = ["90.00 (50.00)", "100.00 (1.00)", "75.00 (7.00)", "10.00 (50.00)", "17.00 (35.00)"]
    assert ft == ["ft (1 seed)", "27.00", *scores, "0.46", "1.0", "0.01"]
    assert salun[0] == "salun" and salun[2:4] == ["40.00 ± 26.46 (11.00)", "66.00 ± 48.66 (4.50)"]


def test_formats_agree():
    flat = pd.read_csv(io.StringIO(FORMATS["csv"](BOTH)))
    same = pd.DataFrame(json.loads(FORMATS["json"](BOTH)))
    for again in (flat, same):
        assert list(again) == list(BOTH) and next(iter(again)) == "method"
        assert again.isna().equals(BOTH.isna())
        pd.testing.assert_frame_equal(again.fillna(-1), BOTH.fillna(-1), check_dtype=False, check_exact=False)
    for row, (method, *texts, lr) in zip(BOTH.to_dict("records"), shown(BOTH), strict=True):
        assert method.split(" (")[0] == row["method"] and float(lr) == row["lr"]
        for column, text in zip(COLUMNS, texts, strict=True):
            assert float(text.split()[0]) == pytest.approx(row[f"{column}_mean"], abs=0.05)


def test_a_table_says_at_which_rate_or_coefficient_each_method_ran():
    rows = [record("iu", (60, 98, 70, 40)), record("sfron", (60, 98, 70, 40), lr=0.02), record("rl", (60, 98, 70, 40))]
    for row, coefficient in zip(rows, (0.5, 25.0, 25.0)):
        row["config"]["coefficient"] = coefficient
    ran = by_method(table(rows))
    assert {name: (row["lr"], row["coefficient"]) for name, row in ran.items()} == {
        **{"iu": (None, 0.5), "sfron": (0.02, 25.0), "rl": (0.01, None)},  # IU takes no steps, RL has no coefficient
    }
    assert [line[-1] for line in shown(table(rows))] == ["0.01", "coefficient 0.5", "0.02, coefficient 25"]


# Groups and probabilities over gamma


def with_probabilities(method, seed, gamma, fa, means, config_seed=None, counts=(0, 10)):
    groups_ = {g: {"mean": m, "counts": list(counts)} for g, m in zip(("head", "mid", "tail"), means, strict=True)}
    groups_["tail"] = groups_["tail"] if means[2] is not None else {"mean": None, "counts": [0, 0]}
    return {
        **record(method, (fa, 100.0, 50.0, 100.0 - fa), seed=seed, gamma=gamma, config_seed=config_seed),
        "forget_probabilities": groups_,
        "forget_groups": {"head": fa, "mid": fa + 3, "tail": None if means[2] is None else fa + 6},
    }


def test_group_gaps_are_signed_paired_by_seed_and_leave_empty_groups_out():
    records = [
        with_probabilities("retrain", 0, 2, 40.0, (0.5, 0.5, None)),
        with_probabilities("retrain", 1, 2, 44.0, (0.6, 0.5, None)),
        with_probabilities("retrain", 0, 2, 41.0, (0.5, 0.6, None), config_seed=1000),
        with_probabilities("rl", 0, 2, 42.0, (0.3, 0.4, None)),
        with_probabilities("rl", 1, 2, 42.0, (0.2, 0.5, None)),
        with_probabilities("rl", 7, 2, 90.0, (0.9, 0.9, None)),  # no Retrain of its seed
    ]
    rows = tables.group_gaps(frame(records))
    assert list(rows[["method", "group", "seeds"]].itertuples(index=False, name=None)) == [
        *[("noise floor", g, 1) for g in ("all", "head", "mid")],
        *[("rl", g, 2) for g in ("all", "head", "mid")],
    ]
    floor, overall, head = (rows.loc[i] for i in (0, 3, 4))
    assert (floor["fa_mean"], math.isnan(floor["fa_sd"]), floor["p_mean"]) == (1, True, pytest.approx(0.05))
    assert overall["fa_mean"] == 0 and overall["fa_sd"] == pytest.approx(math.sqrt(8))
    assert head["p_mean"] == pytest.approx(-0.3) and overall["p_mean"] == pytest.approx((-0.15 - 0.2) / 2)


def test_probabilities_pool_seeds_and_weight_groups_by_their_images():
    records = [
        with_probabilities("rl", 0, 2, 42.0, (0.3, 0.4, None), counts=(1, 2)),
        with_probabilities("rl", 1, 2, 42.0, (0.5, 0.4, None), counts=(3, 6)),
        record("rl", None, seed=2, gamma=2),
    ]
    pooled = tables.pooled_probabilities(frame(records))
    assert list(pooled.index) == [("rl", 2.0, g) for g in ("all", "head", "mid")]
    assert pooled.at[("rl", 2.0, "head"), "counts"] == [4, 8]
    assert pooled.at[("rl", 2.0, "head"), "mean"] == pytest.approx((3 * 0.3 + 9 * 0.5) / 12)
    assert pooled.at[("rl", 2.0, "all"), "counts"] == [8, 16]


def test_group_gaps_stay_within_a_gamma_and_weight_groups_by_their_images():
    def made(method, gamma, fa, head):
        found = with_probabilities(method, 0, gamma, fa, (head, 0.5, 0.5))
        found["forget_probabilities"]["mid"]["counts"] = [30, 0]  # head 10, mid 30, tail 10
        found["forget_groups"]["mid"] = fa / 2
        return found

    records = [made("falw", 2, 24.0, 0.6), made("falw", 0.5, 50.0, 0.7), made("ft", 0.5, 44.0, 0.5)]
    records += [made("retrain", 2, 20.0, 0.5), made("retrain", 0.5, 40.0, 0.5), record("ft", None, gamma=2)]
    rows = tables.group_gaps(frame(records))
    mid = rows.query("group == 'mid'")[["method", "gamma", "fa_mean"]]
    assert list(mid.itertuples(index=False, name=None)) == [
        ("ft", 0.5, 2.0),
        ("falw", 0.5, 5.0),
        ("falw", 2.0, 2.0),
    ]
    assert rows.at[4, "group"] == "all" and rows.at[4, "p_mean"] == pytest.approx(0.04)  # 0.2 on 10 of 50 images


def test_probabilities_keep_gammas_and_the_noise_floor_apart():
    records = [with_probabilities("retrain", 0, g, 40.0, (0.5, 0.5, 0.5), config_seed=s) for g, s in ((1, 0), (2, 9))]
    assert {(m, g) for m, g, _ in tables.pooled_probabilities(frame(records)).index} == {
        ("retrain", 1.0),
        ("noise floor", 2.0),
    }


def test_mean_ranks_by_hand():
    # ranks a 1, 1, 2, 1; b 2, 2, 1, 2; c 3 everywhere: means 1.25, 1.75, 3
    blocks = [{"a": 1, "b": 2, "c": 9}, {"a": 3, "b": 4, "c": 5}, {"a": 2, "b": 1, "c": 3}, {"a": 0, "b": 1, "c": 2}]
    found = tables.mean_ranks(pd.DataFrame(blocks))
    assert found["ranks"] == {"a": 1.25, "b": 1.75, "c": 3} and list(found["ranks"]) == ["a", "b", "c"]
    # Demšar's table 5 has q = 2.343 for three methods at 0.05
    assert found["critical difference"] == pytest.approx(2.343 * (3 * 4 / (6 * 4)) ** 0.5, abs=1e-3)
    # Friedman: 12 n / (k (k + 1)) * (sum of squared means - k (k + 1)^2 / 4) = 4 * (1.25^2 + 1.75^2 + 9 - 12) = 6.5
    assert found["p"] == pytest.approx(math.exp(-6.5 / 2)) and found["blocks"] == 4
    ties = tables.mean_ranks(pd.DataFrame([{"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}]))
    assert ties["ranks"] == {"a": 1.25, "b": 1.75, "c": 3}


def test_too_few_to_rank_is_refused():
    for blocks in ([], [{"a": 1, "b": 2, "c": 3}], [{"a": 1, "b": 2}] * 3):
        with pytest.raises(ValueError, match=f"{len(blocks)} settings of .* methods: ranks need"):
            tables.mean_ranks(pd.DataFrame(blocks))


def test_blocks_are_settings_with_every_method_and_means_over_their_seeds():
    records = [
        record(m, (fa, 99, 60, 100 - fa), seed=s, gamma=g)
        for g in (0.0, 1.0)
        for s, shift in ((0, 0.0), (1, 8.0))
        for m, fa in (("retrain", 50.0), ("rl", 54.0 + shift), ("ga", 58.0))
    ]
    # FA and MIA differ by 4 (or 12) and 8 points: the gaps of rl are 2 and 6 over four scores, that of ga 4

    def blocks(records):
        return tables.gap_blocks(frame(records), ["ga", "rl"]).to_dict("records")

    assert blocks(records) == [{"ga": 4.0, "rl": 4.0}] * 2
    assert blocks(records[:-1]) == blocks(records)  # a seed less, and it is still there
    gone = [r for r in records if (r["method"], r["setting"]["gamma"]) != ("ga", 1.0)]
    assert blocks(gone) == blocks(records)[:1]


# Which side of 0 an interval lies on


def test_an_interval_is_on_a_side_of_0_only_if_all_of_it_is():
    for low, high, place in ((-2, -1, 0), (1, 2, 1), (-1, 1, 2), (-1, 0, 2), (0, 1, 2), (0, 0, 2)):
        found = {"low": low, "high": high}
        assert tables.side_of(found) == ("closer", "further", "cannot be told")[place], found
        assert tables.side_of(found, "first", "second") == ("first", "second", tables.OPEN)[place], found


# What a table in Markdown refuses or escapes


def cells_of_a_line(line):
    """As GFM splits it: at bars without a backslash before them, which then loses the backslash."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_row_has_as_many_values_as_there_are_headings():
    for row in ([], ["x"], ["x", 1, 2]):
        words = rf"^a row of {len(row)} values under 2 headings, \[.*\]: give one a heading$"
        with pytest.raises(ValueError, match=words):
            markdown(["a", "b"], [["y", 1.0], row])


def test_what_markdown_would_split_stays_in_its_cell():
    texts = ["|z|", "two\nlines", "two\r\nlines", "|", r"set already: \|"]
    lines = markdown(texts, [texts[::-1], [None, 1.0, 2, "", "x"]]).split("\n")
    whole = ["|z|", "two lines", "two lines", "|", "set already: |"]
    head, _, *cells = map(cells_of_a_line, lines)
    assert [head, *cells] == [whole, whole[::-1], ["–", "1.00", "2", "", "x"]]


# What `split.groups` and the page of ambiguities say of the paper's Table 3


def test_thirds_fit_three_rows_of_table_3_and_not_the_fourth():
    found = {}
    for row in paper.ablation():
        counts = power_law_counts(13_500, [450] * 100, row["gamma"]).tolist()  # 30 % of 45,000 images
        parts = {"head": counts[:33], "mid": counts[33:67], "tail": counts[67:]}
        weighted = sum(row[group] * sum(part) for group, part in parts.items()) / sum(counts)
        found[row["gamma"], row["balance_factor"]] = row["all"], weighted
    printed, wrong = found.pop((1.5, False))
    assert (printed, wrong) == (0.18, pytest.approx(-0.165, abs=0.005))
    assert len(found) == 3 and all(abs(weighted - printed) < 0.07 for printed, weighted in found.values())
