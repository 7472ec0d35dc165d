"""The search: its grids, its two criteria, what diverges, what is chosen, and where the choice goes."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy import stats

from falw.config import Config
from falw.lab import cells as lab_cells
from falw.lab import run as runs
from falw.lab import search as lab_search
from falw.lab.cells import Setting
from falw.lab.records import frame, read_records
from falw.lab.run import run
from falw.lab.search import (
    adopt,
    at_the_edge,
    bootstrap_choice,
    choices_to_markdown,
    searched,
    trials_of,
    tuned_difference,
    unseen_gap,
    write_search,
)
from falw.methods import METHODS, VARIANTS
from falw.metrics import Part, Predictions, Scores, gap

ROOT = Path(__file__).resolve().parent.parent
SETTING = Setting("textures", size=8, classes=4, per_class=12, seed=100, data_seed=100)
SERIAL = {"device": "cpu", "jobs": 1}


def without_padding(table):
    """A Markdown table with nothing but its cells between the lines."""
    return re.sub(r" *\| *", "|", table)


def with_search(name, trials):
    """The package's row, searched over other trials."""
    return replace(METHODS[name], search=tuple(trials))


# Where a search begins


def test_every_row_but_retrain_is_searched_or_runs_at_the_values_of_one_that_is():
    rows = {row.name: row for row in searched("all")}
    assert set(rows) == set(METHODS) - {"retrain"}
    for name, row in VARIANTS.items():
        if not row.fresh:
            assert row.tuned_as in rows if row.tuned_as else searched([name]) == [row]
    with pytest.raises(ValueError, match="nothing to tune in 'retrain-reweighted'"):
        searched("retrain-reweighted")


ROWS = [row for row in (*METHODS.values(), *VARIANTS.values()) if row.search]


def test_every_method_gets_as_many_trials_and_all_differ():
    assert {len(row.search) for row in ROWS} == {9}
    for row in ROWS:
        assert len({tuple(sorted(trial.items())) for trial in row.search}) == 9
        assert len({tuple(trial) for trial in row.search}) == 1  # the same names in each


def test_every_trial_is_a_configuration():
    assert all(replace(Config(), **trial) for row in ROWS for trial in row.search)


def test_a_variant_is_searched_over_the_range_of_its_base_unless_it_names_another():
    assert replace(METHODS["rl"], name="mine").search == METHODS["rl"].search
    first = {name: METHODS[name].search[0] for name in ("ft", "rl", "falw", "ga", "sfron+falw")}
    assert [first[name]["lr"] for name in first] == pytest.approx([0.01, 0.005, 0.0025, 1e-5, 0.007])


def test_a_choice_at_the_edge_is_noticed():
    for chosen, edge in (
        ({"lr": 0.1, "coefficient": 3}, ["lr"]),
        ({"lr": 0.4, "coefficient": 3}, ["lr"]),
        ({"lr": 0.2, "coefficient": 1}, ["coefficient"]),
        ({"lr": 0.4, "coefficient": 9}, ["lr", "coefficient"]),
        ({"lr": 0.2, "coefficient": 3}, []),
    ):
        grid = [{"lr": lr, "coefficient": c} for lr in (0.4, 0.1, 0.2) for c in (1, 9, 3)]
        trials = [{"method": "sfron", "changes": c} for c in grid] + [{"method": "ft", "changes": {"lr": 7}}]
        assert at_the_edge(trials, "sfron", chosen) == edge


def test_a_value_with_a_failed_trial_beyond_it_is_inside():
    trials = [{"method": "ft", "changes": {"lr": lr}} for lr in (0.1, 0.2)]
    failed = {"method": "ft", "changes": {"lr": 0.4}, "failed": "diverged"}
    assert at_the_edge(trials, "ft", {"lr": 0.2}) == ["lr"] and not at_the_edge([*trials, failed], "ft", {"lr": 0.2})


# The criterion without Retrain


def part(*rows):
    """Rows of true class and predicted class."""
    y, said = torch.tensor(rows).T
    return Part(torch.nn.functional.one_hot(said, 3).float(), y)


def test_unseen_gap_by_hand():
    forget = part((0, 0), (0, 1), (1, 1))  # FA 200/3
    retain = part((0, 0), (1, 1), (2, 0))  # RA 200/3
    val = part((0, 0), (0, 1), (1, 1))  # class 0 half right, class 1 right
    pred = Predictions(forget, retain, val, test=part((0, 1)))
    # forgotten 3 of class 0 and 1 of class 1: (3 * 1/2 + 1 * 1) / 4 = 62.5 %. (66.67 - 62.5 + 100 - 66.67) / 2
    assert unseen_gap(pred, torch.tensor([3, 1, 0])) == pytest.approx((200 / 3 - 62.5 + 100 / 3) / 2)
    # forgotten 1 and 3: (1/2 + 3) / 4 = 87.5 %, which is above FA
    assert unseen_gap(pred, torch.tensor([1, 3, 0])) == pytest.approx((87.5 - 200 / 3 + 100 / 3) / 2)
    # of class 2 there is no validation image: the others decide, here class 0 alone
    assert unseen_gap(pred, torch.tensor([3, 0, 5])) == pytest.approx((200 / 3 - 50 + 100 / 3) / 2)


def test_unseen_gap_is_0_where_forgotten_images_look_unseen_and_retained_ones_known():
    pred = Predictions(part((0, 0), (0, 1)), part((0, 0), (1, 1)), part((0, 0), (0, 2), (1, 0)), part((0, 0)))
    assert unseen_gap(pred, torch.tensor([2, 0, 0])) == 0


# A search with scores made by hand


RATES = [0.1, 0.2, 0.4]
MADE = {"device": "cuda: of the cells", "versions": {"falw": "9"}, "commit": "abc", "code": "def", "date": "then"}


@pytest.fixture
def by_hand(monkeypatch):
    """A search over RATES whose trials have the gaps and unseen gaps given; None has diverged.

    gaps and unseen: of each method, on the grid. outward: of each wave beyond an edge. beside: of the trials half-way,
    of all methods one after another.
    """

    def search(gaps, unseen=None, beside=(), outward=()):
        unseen = unseen or gaps
        rows = [with_search(m, [{"lr": lr} for lr in RATES]) for m in gaps]
        grid = [(g, u) for m in gaps for g, u in zip(gaps[m], unseen[m], strict=True)]
        monkeypatch.setattr(lab_search, "OUTWARD", len(outward))
        waves = [[(0, 0), (0, 0), (-2, 0)], grid, *outward, list(beside) or [(40, 99)] * 2 * len(gaps)]
        asked.clear()

        def run_cells(cells, out, **how):
            asked.append([(c.method, c.config.lr) for c in cells])
            return [
                {"method": c.method, "forget_counts": [1], "seconds": 1.0, "failed": "diverged", "unseen": u, **MADE}
                | {"scores": None if g is None else dict.fromkeys(Scores._fields, 50 + g)}
                for c, (g, u) in zip(cells, waves[len(asked) - 1])
            ]

        monkeypatch.setattr(lab_search, "run_cells", run_cells)
        monkeypatch.setattr(lab_search, "read_predictions", lambda record, out: record["unseen"])
        monkeypatch.setattr(lab_search, "unseen_gap", lambda unseen, counts: unseen)
        return lab_search.tune(SETTING, rows, "unused", **SERIAL)

    asked = search.asked = []
    return search


def lr_of(choices):
    return {name: round(changes["lr"], 9) for name, changes in choices.items()}


def test_the_choice_is_the_trial_with_the_smallest_gap(by_hand):
    search = by_hand({"ft": [9, -2, 4], "rl": [1, 3, -5]}, {"ft": [1, 2, 3], "rl": [7, 9, 6]})
    assert [t["gap"] for t in search["trials"]] == [9, 2, 4, 1, 3, 5, 40, 40, 40, 40]
    assert [t["unseen_gap"] for t in search["trials"][:6]] == [1, 2, 3, 7, 9, 6]
    assert lr_of(search["chosen"]) == {"ft": 0.2, "rl": 0.1}
    assert lr_of(search["chosen_without_retrain"]) == {"ft": 0.1, "rl": 0.4}
    assert search["noise_floor"] == 2


def test_every_method_gets_two_more_trials_half_way_beside_its_best(by_hand):
    half = 2**0.5
    beside = [(3, 9), (1, 9), (0.5, 9), (7, 0.5)]
    search = by_hand({"ft": [9, 2, 4], "rl": [1, 3, 5]}, {"ft": [1, 2, 3], "rl": [7, 9, 6]}, beside)
    assert by_hand.asked[1] == [(m, lr) for m in ("ft", "rl") for lr in RATES]
    methods, rates = zip(*by_hand.asked[2])
    assert methods == ("ft", "ft", "rl", "rl")
    assert rates == pytest.approx((0.2 / half, 0.2 * half, 0.1 / half, 0.1 * half))
    assert lr_of(search["chosen"]) == pytest.approx({"ft": 0.2 * half, "rl": 0.1 / half})
    assert lr_of(search["chosen_without_retrain"]) == pytest.approx({"ft": 0.1, "rl": 0.1 * half})


def test_a_search_goes_on_beyond_the_edge_where_it_is_best(by_hand):
    outward = [[(1, 9), (0, 9)], [(3, 9), (None, 9)], []]
    search = by_hand({"ft": [2, 3, 9], "rl": [9, 5, 4], "ga": [9, 1, 9]}, outward=outward)
    # ft is better below 0.1 and not below that; rl is better above 0.4, and then diverges; ga stays inside
    asked = [[(m, round(lr, 9)) for m, lr in wave] for wave in by_hand.asked[2:5]]
    assert asked == [[("ft", 0.05), ("rl", 0.8)], [("ft", 0.025), ("rl", 1.6)], []]
    assert lr_of(search["chosen"]) == {"ft": 0.05, "rl": 0.8, "ga": 0.2}
    assert [lr for m, lr in by_hand.asked[5] if m == "ft"] == pytest.approx([0.05 / 2**0.5, 0.05 * 2**0.5])
    assert not any("*" in line for line in choices_to_markdown({**search, "chosen_without_retrain": {}}).splitlines())


def test_each_of_two_values_at_an_edge_gets_its_own_trial_beyond():
    trials = [
        {"method": "sfron", "changes": {"lr": lr, "coefficient": c}, "gap": abs(lr - 0.1) + c}
        for lr in (0.1, 0.2, 0.6)
        for c in (1, 4, 16)
    ]
    beyond = lab_search._outward(trials, "sfron")
    assert beyond == [{"lr": pytest.approx(0.05), "coefficient": 1}, {"lr": 0.1, "coefficient": 0.25}]


def test_the_search_stops_after_four_trials_beyond(by_hand, monkeypatch):
    assert lab_search.OUTWARD == 4
    search = by_hand({"ft": [1, 2, 3]}, outward=[[(1 - k / 8, 9)] for k in (1, 2, 3, 4)])
    assert [lr for wave in by_hand.asked[2:6] for _, lr in wave] == pytest.approx([0.05, 0.025, 0.0125, 0.00625])
    assert lr_of(search["chosen"]) == {"ft": 0.00625}


def test_half_way_moves_the_first_value_and_keeps_the_other():
    grid = [{"lr": lr, "coefficient": c} for lr in (0.1, 0.4, 1.6) for c in (1, 9, 3)]
    down, up = lab_search._halfway(with_search("sfron", grid), {"lr": 0.4, "coefficient": 9})
    assert down == pytest.approx({"lr": 0.2, "coefficient": 9}) and up == pytest.approx({"lr": 0.8, "coefficient": 9})


def test_a_trial_that_diverged_is_never_chosen(by_hand):
    gaps = {"ft": [None, 80, 90], "rl": [3, None, None]}
    search = by_hand(gaps, {"ft": [0, 99, 98], "rl": [5, 0, 0]}, [(None, 0), (None, 0), (4, 6), (None, 0)])
    assert lr_of(search["chosen"]) == {"ft": 0.2, "rl": 0.1}
    assert lr_of(search["chosen_without_retrain"]) == {"ft": 0.4, "rl": 0.1}
    failed = ["failed" in t for t in search["trials"]]
    assert failed == [True, False, False, False, True, True, True, True, False, True]


def test_a_method_that_always_diverged_has_no_choice_and_the_table_says_so(by_hand, own_file):
    search = by_hand({"ft": [None] * 3, "rl": [3, 4, 5]}, beside=[(9, 9)] * 2)
    assert set(search["chosen"]) == set(search["chosen_without_retrain"]) == {"rl"}
    assert [m for m, _ in by_hand.asked[2]] == ["rl", "rl"]
    assert (
        "|ft|every trial diverged|–|every trial diverged|–|"
        in without_padding(choices_to_markdown(search)).splitlines()
    )
    own_file.write_text('{"chosen": {"textures/tiny": {"ft": {"lr": 0.07}}}}')
    adopt(search, own_file.parent / "out")
    assert lr_of(json.loads(own_file.read_text())["chosen"]["textures/tiny"]) == {"ft": 0.07, "rl": 0.1}


def test_the_table_by_hand(by_hand):
    search = by_hand({"ft": [9, -2, 4]}, {"ft": [1, 2, 3]})
    assert without_padding(choices_to_markdown(search)).splitlines()[2:] == ["|ft|lr 0.2|2.00|lr 0.1*|9.00|"]


# A search that runs

TWO = [
    with_search("ft", [{"lr": lr} for lr in (0.01, 0.02, 1e30)]),
    with_search("iu", [{"coefficient": c} for c in (0.1, 0.2)]),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A real search of which one trial diverges, and its folder."""
    folder = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(lab_search, "OUTWARD", 0)
        return lab_search.tune(SETTING, TWO, folder, **SERIAL), folder


def test_a_search_survives_what_diverges(found):
    failed = [t for t in found[0]["trials"] if "failed" in t]
    assert [t["changes"] for t in failed] == [{"lr": 1e30}] and len(found[0]["trials"]) == 3 + 2 + 2 * 2
    assert failed[0]["failed"].endswith("lower the learning rate") and "gap" not in failed[0]
    assert found[0]["chosen"]["ft"]["lr"] < 0.1


def test_a_search_agrees_with_its_records(found):
    search, folder = found
    records = [r for r in read_records(folder) if r["scores"]]
    (retrain,) = (Scores(**r["scores"]) for r in records if r["method"] == "retrain" and r["config"]["seed"] == 100)
    gaps = {r["config"]["lr"]: gap(Scores(**r["scores"]), retrain) for r in records if r["method"] == "ft"}
    ft = {t["changes"]["lr"]: t["gap"] for t in search["trials"] if t["method"] == "ft" and "gap" in t}
    assert ft == pytest.approx(gaps, abs=1e-3) and len(ft) == 4
    assert gaps[search["chosen"]["ft"]["lr"]] == pytest.approx(min(gaps.values()), abs=1e-3)
    assert search["setting"] == SETTING.description and search["device"].startswith("cpu")


def test_a_second_search_computes_nothing(found, monkeypatch):
    monkeypatch.setattr(lab_search, "OUTWARD", 0)
    for name in ("train_original", "unlearn"):
        monkeypatch.setattr(runs, name, lambda *args, **how: pytest.fail("something is computed"))
    assert lab_search.tune(SETTING, TWO, found[1], **SERIAL)["trials"] == found[0]["trials"]


def test_without_a_retrain_to_compare_with_a_search_says_why(monkeypatch, tmp_path):
    monkeypatch.setitem(lab_cells.RECIPES, "tiny", Config(epochs=2, lr=1e30))
    with pytest.raises(FloatingPointError, match="original: .* diverged; lower the learning rate"):
        lab_search.tune(SETTING, "ft", tmp_path, **SERIAL)


@pytest.mark.parametrize("methods, named", {"retrain": "retrain", "ft,falw-tau1": "falw-tau1"}.items())
def test_a_search_without_a_range_is_refused(tmp_path, methods, named):
    with pytest.raises(ValueError, match=f"nothing to tune in '{named}'; choose from: ft, rl"):
        lab_search.tune(SETTING, methods, tmp_path / "out", **SERIAL)
    assert not (tmp_path / "out").exists()


def test_a_search_has_the_conditions_of_its_cells(by_hand):
    assert MADE.items() <= by_hand({"ft": [1, 2, 3]}).items()  # on a cluster not those of the process that asks


# Over several seeds

SEEDS = (100, 101, 105)
GAPS = {0.1: (1, 9, 8), 0.2: (6, 5, 4), 0.4: (5, 4, 12)}  # 0.1 is best on the first seed, 0.4 on the second


@pytest.fixture
def over_seeds(monkeypatch):
    """A search of ft over SEEDS in which the gaps are GAPS, and those asked for elsewhere 50."""
    asked = []

    def run_cells(cells, out, **how):
        return [scored(cell) for cell in asked.append(cells) or cells]

    def scored(cell):
        k = SEEDS.index(cell.setting.seed)
        far = GAPS.get(cell.config.lr, (50,) * 3)[k] if cell.method == "ft" else 2 * k * (cell.config.seed > 1000)
        at = 10.0 * k + far  # every seed has a Retrain of its own, at 0, 10, 20
        failed = cell.setting.seed in diverged.get(cell.config.lr, ()) and cell.method == "ft"
        record = {"method": cell.method, "forget_counts": [1], "seconds": 1.0 + k, "failed": "diverged", **MADE}
        return {**record, "scores": None if failed else dict.fromkeys(Scores._fields, at)}

    diverged = {}
    monkeypatch.setattr(lab_search, "run_cells", run_cells)
    monkeypatch.setattr(lab_search, "read_predictions", lambda record, out: None)
    monkeypatch.setattr(lab_search, "unseen_gap", lambda pred, counts: 3.0)
    monkeypatch.setattr(lab_search, "OUTWARD", 0)
    rows = [with_search("ft", [{"lr": lr} for lr in RATES])]
    return lambda: lab_search.tune(SETTING, rows, "unused", seeds=SEEDS, **SERIAL), asked, diverged


def test_the_choice_is_the_trial_with_the_smallest_mean_over_the_seeds(over_seeds):
    search, asked, _ = over_seeds[0](), *over_seeds[1:]
    assert [(c.setting.seed, c.setting.data_seed) for c in asked[1]] == [(s, s) for s in SEEDS] * 3
    assert search["seeds"] == [*SEEDS] and search["noise_floor"] == pytest.approx((0 + 2 + 4) / 3)
    trials = {t["changes"]["lr"]: t for t in search["trials"]}
    assert {lr: tuple(trials[lr]["gaps"]) for lr in GAPS} == GAPS
    assert [trials[lr]["gap"] for lr in RATES] == [6, 5, 7] and lr_of(search["chosen"]) == {"ft": 0.2}
    assert trials[0.1]["fa"] == pytest.approx((1 + 19 + 28) / 3, abs=1e-3) and trials[0.1]["seconds"] == 2


def test_a_trial_that_diverged_at_one_seed_is_never_chosen(over_seeds):
    over_seeds[2][0.2] = (101,)
    search = over_seeds[0]()
    assert [t["changes"]["lr"] for t in search["trials"] if "failed" in t] == [0.2]
    assert lr_of(search["chosen"]) == {"ft": 0.1}


def test_a_choice_is_drawn_again_as_often_as_all_draws_say(over_seeds):
    trials = over_seeds[0]()["trials"]
    wins = dict.fromkeys(RATES, 0)
    for draw in itertools.product(range(3), repeat=3):  # all 27, equally likely; no two trials tie in any
        means = {lr: sum(GAPS[lr][k] for k in draw) for lr in RATES}
        wins[min(means, key=means.get)] += 1 / 27
    shares = bootstrap_choice(trials, draws=20_000, seed=1)
    assert dict(zip(shares.lr, shares.share)) == pytest.approx({k: v for k, v in wins.items() if v}, abs=0.015)
    assert list(shares.share) == sorted(shares.share, reverse=True) and set(shares.method) == {"ft"}
    pd.testing.assert_frame_equal(bootstrap_choice(trials, 50, 3), bootstrap_choice(trials, 50, 3))


def reported(**gaps):
    """Runs of five seeds: Avg. Gap by method and rate, plus what each seed adds to all."""
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "lr": lr, "gap": mean + wobble * (1 if method == "b" else -1)}
            for method, of in gaps.items()
            for lr, mean in of.items()
            for seed, wobble in enumerate((-0.2, -0.1, 0.0, 0.1, 0.2))
        ]
    )


def trials_by_rate(method, **gaps):
    return [{"method": method, "changes": {"lr": float(lr[1:]) / 10}, "gaps": list(g)} for lr, g in gaps.items()]


def test_a_sure_search_adds_nothing_to_the_interval_of_a_difference():
    trials = trials_by_rate("a", r1=(1, 1, 1), r2=(5, 5, 5)) + trials_by_rate("b", r1=(4, 4, 4), r2=(2, 2, 2))
    runs = reported(a={0.1: 3.0, 0.2: 9.0, 0.11: 0.0}, b={0.1: 9.0, 0.2: 2.0})
    runs = runs[(runs.lr != 0.11) | (runs.seed == 0)]  # at which one seed ran, and so not this comparison
    row = tuned_difference(trials, runs, "a", "b", 40_000)
    values = [1 - 2 * wobble for wobble in (-0.2, -0.1, 0.0, 0.1, 0.2)]
    usual = stats.ttest_1samp(values, 0).confidence_interval()
    assert (row["mean"], row["seeds"], row["moved"]) == (pytest.approx(1), 5, 0)
    assert (row["low"], row["high"]) == pytest.approx((usual.low, usual.high), abs=0.03)


def test_a_search_that_could_have_chosen_another_rate_widens_the_interval_to_it():
    trials = trials_by_rate("a", r1=(0, 3, 2), r2=(3, 0, 3)) + trials_by_rate("b", r1=(1, 1, 1))
    runs = reported(a={0.1: 3.0, 0.2: 9.0}, b={0.1: 2.0})
    row = tuned_difference(trials, runs, "a", "b")
    assert row["mean"] == pytest.approx(1) and 0 < row["low"] < 1 and 6.5 < row["high"] < 8
    other = tuned_difference(trials, runs[~((runs.method == "a") & (runs.lr == 0.2))], "a", "b")
    draws = [*itertools.product(range(3), repeat=3)]
    wins = sum(sum((3, 0, 3)[k] for k in draw) < sum((0, 3, 2)[k] for k in draw) for draw in draws) / 27
    assert other["moved"] == pytest.approx(wins, abs=0.03) and other["high"] < 2


@pytest.mark.parametrize(
    "trials, runs, said",
    [
        ({"a": (1, 1)}, reported(a={0.1: 1.0}, b={0.1: 1.0}), "b: 0 rates searched on 2 seeds, 1 that all"),
        ({"a": (1,), "b": (1,)}, reported(a={0.1: 1.0}, b={0.1: 1.0}), "a: 1 rates searched on 1 seeds"),
        ({"a": (1, 1), "b": (1, 1)}, reported(a={0.1: 1.0}), "b: 1 rates searched on 2 seeds, 0 that all"),
        ({"a": (1, 1), "b": (1, 1)}, reported(a={0.1: 1.0}, b={0.1: 1.0}).query("seed == 0"), "a and b share 1 seeds"),
    ],
)
def test_a_difference_of_what_was_not_searched_or_not_run_is_refused(trials, runs, said):
    with pytest.raises(ValueError, match=said):
        tuned_difference([t for name, gaps in trials.items() for t in trials_by_rate(name, r1=gaps)], runs, "a", "b")


def test_a_trial_that_diverged_has_no_part_in_a_difference():
    trials = trials_by_rate("a", r1=(1, 1), r2=(2, 2)) + trials_by_rate("b", r1=(1, 1))
    broken = {"method": "a", "changes": {"lr": 0.4}, "failed": "the loss is nan"}
    runs = reported(a={0.1: 3.0, 0.2: 9.0}, b={0.1: 2.0})
    assert tuned_difference([*trials, broken], runs, "a", "b") == tuned_difference(trials, runs, "a", "b")


def test_one_seed_has_none_to_draw_again():
    trial = {"method": "ft", "changes": {"lr": 0.1}, "gap": 1.0}
    for trials, n in (([{**trial, "gaps": [1.0]}], 1), ([trial], 0), ([], 0)):
        with pytest.raises(ValueError, match=f"trials of {n} seeds have none to draw again: tune --seeds"):
            bootstrap_choice(trials)


def test_records_of_a_study_are_trials_where_every_seed_ran():
    every = [json.loads(path.read_text()) for path in (ROOT / "results" / "tuning").glob("*.json")]
    missing = ("rl", 2.0, 0.08, 101)
    stored = [
        r for r in every if (r["method"], r["setting"]["gamma"], r["config"]["lr"], r["setting"]["seed"]) != missing
    ]
    assert len(stored) == len(every) - 1
    with pytest.warns(UserWarning, match="left out, as not all 3 seeds ran them: 1 of rl; run the others first"):
        trials = trials_of(frame(stored).query("gamma == 2.0"))
    left = {t["changes"]["lr"] for t in trials_of(frame(every).query("gamma == 2.0")) if t["method"] == "rl"}
    assert left - {t["changes"]["lr"] for t in trials if t["method"] == "rl"} == {0.08}
    retrains = {
        r["setting"]["seed"]: Scores(**r["scores"])
        for r in stored
        if (r["method"], r["setting"]["gamma"], r["config"]["seed"]) == ("retrain", 2.0, r["setting"]["seed"])
    }
    for trial in trials:
        of = [r for r in stored if r["setting"]["gamma"] == 2.0 and r["method"] == trial["method"]]
        ((turned, value),) = trial["changes"].items()
        of = {r["setting"]["seed"]: r for r in of if r["config"][turned] == value}
        gaps = [gap(Scores(**of[seed]["scores"]), retrains[seed]) for seed in (100, 101, 102)]
        assert trial["gaps"] == pytest.approx(gaps) and trial["gap"] == pytest.approx(sum(gaps) / 3)
    assert {*bootstrap_choice(trials, 20).method} == {trial["method"] for trial in trials}
    with pytest.raises(ValueError, match="records of 2 settings: query for one, as gamma == 0.5"):
        trials_of(frame(stored))


# Where the choice goes


def test_a_stored_search_is_read_back_as_it_was(found, tmp_path):
    path = tmp_path / "new" / "search.json"
    write_search(found[0], path)
    assert json.loads(path.read_text()) == found[0]
    one_a_line = [line for line in path.read_text().splitlines() if line.startswith('  {"method"')]
    assert len(one_a_line) == len(found[0]["trials"])
    assert [p.name for p in path.parent.iterdir()] == ["search.json"]


@pytest.fixture
def own_file(monkeypatch, tmp_path):
    """Where values go that are adopted from a search in tmp_path/out; the package's file has to stay as it is."""
    monkeypatch.delenv("FALW_TUNED")
    before = lab_cells.TUNED.read_bytes()
    yield tmp_path / "falw-tuned.json"
    assert lab_cells.TUNED.read_bytes() == before


def test_adopting_keeps_other_methods_and_other_networks(found, own_file):
    others = {"textures/vgg16": {"ft": {"lr": 5.0}}, "digits/tiny": {"ft": {"lr": 6.0}}}
    chosen = {"textures/tiny": {"ga": {"lr": 3.0}, "ft": {"lr": 4.0, "coefficient": 1.0}}, **others}
    own_file.write_text(json.dumps({"chosen": chosen}))
    assert adopt(found[0], own_file.parent / "out") == own_file
    expected = {"textures/tiny": {"ga": {"lr": 3.0}, **found[0]["chosen"]}, **others}
    assert json.loads(own_file.read_text()) == {"chosen": expected}
    adopt({**found[0], "setting": {"dataset": "cifar10", "model": "resnet18"}}, own_file.parent / "out")
    assert json.loads(own_file.read_text())["chosen"] == {**expected, "cifar10/resnet18": found[0]["chosen"]}


def iu_config(out):
    return lab_cells.cells_of(SETTING, ["iu"], out=out)[-1].config


def test_what_is_adopted_is_what_runs_beside_it_use_from_then_on(found, own_file, tmp_path):
    before = iu_config(tmp_path / "other")
    adopt(found[0], tmp_path / "out")
    after = iu_config(tmp_path / "other")
    assert after == replace(before, **found[0]["chosen"]["iu"]) != before
    assert iu_config(tmp_path / "elsewhere" / "out") == iu_config(None) == before
    (record,) = run(SETTING, "iu", tmp_path / "other", original_epochs=1, **SERIAL)[3:]
    assert record["config"]["coefficient"] == found[0]["chosen"]["iu"]["coefficient"]


def test_falw_tuned_names_another_file_or_none(found, own_file, tmp_path, monkeypatch):
    before, path = iu_config(None), tmp_path / "new" / "mine.json"
    path.parent.mkdir()
    monkeypatch.setenv("FALW_TUNED", str(path))
    assert iu_config(None) == before  # as long as nothing was adopted
    assert adopt(found[0], tmp_path / "out") == path and not own_file.exists()
    assert iu_config(None) == replace(before, **found[0]["chosen"]["iu"])
    monkeypatch.setenv("FALW_TUNED", "")
    assert iu_config(tmp_path / "new" / "out") == before
    with pytest.raises(ValueError, match="FALW_TUNED is empty, .*: unset it, or name a file"):
        adopt(found[0], tmp_path / "out")


@pytest.mark.fault("a file of tuned values that holds something else", "refused in one line")
@pytest.mark.parametrize("text", ["", "[]", '{"chosen": 3}', '{"chosen": {"textures/tiny": {"rl": {"rate": 1}}}}'])
def test_a_file_of_tuned_values_that_is_none_is_refused(own_file, text):
    own_file.write_text(text)
    with pytest.raises(ValueError, match="falw-tuned.json' has no tuned values in it: remove it, or name another"):
        iu_config(own_file.parent / "out")
