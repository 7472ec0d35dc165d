"""Several Retrains as the reference: distances of a folder, by hand-made predictions; what they survive; tables."""

import json
import os
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.stats import entropy, wasserstein_distance

import falw
from falw.__main__ import main
from falw.config import Config
from falw.lab.cells import FLOOR_SEED, Setting, cells_of, digest
from falw.lab.ensemble import groups_of, write_distances
from falw.lab.records import frame, read_distances, read_predictions, read_records
from falw.lab.run import run
from falw.lab.tables import paired_gap, scores_to_markdown, table

COUNTS = [3, 1, 12, 9, 30, 5]  # forgotten images of each class
HEAD, MID, TAIL = (4, 2), (3, 5), (0, 1)
Y = np.repeat(np.arange(6), COUNTS)


def probabilities(seed):
    """Softmax probabilities of 60 images, float32 (60, 6)."""
    return np.random.default_rng(seed).dirichlet(np.ones(6), 60).astype(np.float32)


def put(out, p, method, config_seed=0, epochs=20, counts=COUNTS, y=Y, **setting):
    """A record and its predictions of the forget set in a folder; its key."""
    described = {
        "setting": asdict(Setting(**setting)),
        "method": method,
        "config": asdict(Config(seed=config_seed)),
        "recipe": asdict(Config(epochs=epochs)),
    }
    key = digest(described)
    rest = {"scores": {"fa": 50.0, "ra": 100.0, "ta": 60.0, "mia": 50.0}, "forget_counts": counts}
    groups = {"forget_probabilities": {"head": {"mean": 0.5, "counts": [1]}}, "forget_groups": {"head": 50.0}}
    (out / f"{key}.json").write_text(json.dumps({"key": key, **described, **rest, **groups, "seconds": 1.0}))
    np.savez(out / f"{key}.npz", forget_p=p, forget_y=y)
    return key


def three_retrains(out, **setting):
    """The keys of three Retrains and of a method, `P` their probabilities."""
    retrains = [put(out, probabilities(k), "retrain", k * FLOOR_SEED, **setting) for k in range(3)]
    return retrains, put(out, probabilities(3), "rl", **setting)


def expected(p, theirs, chosen):
    """Five distances over some images, by numpy and scipy."""
    p_true, *each = (q[chosen, Y[chosen]].astype(float) for q in (p, *theirs))
    off = p_true - np.mean(each, 0)
    mean = np.mean([q[chosen].astype(float) for q in theirs], 0)
    return {
        "deviation": off.mean(),
        "abs_deviation": np.abs(off).mean(),
        "w1": wasserstein_distance(p_true, np.concatenate(each)),
        "kl": np.mean([entropy(m, q) for m, q in zip(mean, p[chosen].astype(float), strict=True)]),
        "outside": 100 * np.mean(np.abs(off) > 2 * np.maximum(np.std(each, 0, ddof=1), 0.01)),
    }


def test_distances_to_all_retrains_but_oneself_by_group(tmp_path):
    retrains, method = three_retrains(tmp_path)
    write_distances(tmp_path)
    far, p = read_distances(tmp_path), dict(zip([*retrains, method], map(probabilities, range(4)), strict=True))
    assert far.keys() == p.keys()
    for key in p:
        assert far[key]["to"] == [k for k in retrains if k != key]
        theirs = [p[k] for k in far[key]["to"]]
        for group, classes in {"all": range(6), "head": HEAD, "mid": MID, "tail": TAIL}.items():
            assert far[key][group] == pytest.approx(expected(p[key], theirs, np.isin(Y, classes)), rel=1e-5), group


def test_two_retrains_have_no_floor_and_one_is_no_reference(tmp_path):
    first, method = put(tmp_path, probabilities(0), "retrain"), put(tmp_path, probabilities(3), "rl")
    write_distances(tmp_path)
    assert read_distances(tmp_path) == {}
    second = put(tmp_path, probabilities(1), "retrain", FLOOR_SEED)
    write_distances(tmp_path)
    assert {key: entry["to"] for key, entry in read_distances(tmp_path).items()} == {method: [first, second]}


@pytest.mark.parametrize("other", [{"seed": 1}, {"gamma": 2.0}, {"epochs": 30}, {"dataset": "digits"}])
def test_settings_seeds_and_recipes_are_not_mixed(tmp_path, other):
    retrains, method = three_retrains(tmp_path)
    others, their = three_retrains(tmp_path, **other)
    write_distances(tmp_path)
    far = read_distances(tmp_path)
    assert far[method]["to"] == retrains and far[their]["to"] == others and len(far) == 8


def test_what_the_retrains_say_of_each_sample_is_stored(tmp_path):
    retrains, _ = three_retrains(tmp_path)
    write_distances(tmp_path)
    p_true = [probabilities(k)[np.arange(60), Y] for k in range(3)]
    with np.load(tmp_path / f"ensemble-{retrains[0]}.npz") as said:
        assert said["mean"] == pytest.approx(np.mean(p_true, 0), abs=1e-3) and said["mean"].dtype == np.float16
        assert said["sd"] == pytest.approx(np.std(p_true, 0, ddof=1), abs=1e-3) and said["sd"].dtype == np.float16
        assert said["retrains"].tolist() == retrains


def test_groups_have_the_sizes_that_records_give():
    for folder in ("cpu/textures", "cpu/tiny-imagenet", "memorising/cifar10", "gpu/nvidia-h200"):
        for record in read_records(f"results/{folder}"):
            counts = np.array(record["forget_counts"])
            sizes = {name: counts[classes.numpy()].sum() for name, classes in groups_of(record).items()}
            assert sizes == {name: sum(d["counts"]) for name, d in record["forget_probabilities"].items()}


@pytest.mark.parametrize("asked", [{"gamma": 0.0}, {"gamma": 2.0, "seed": 3}, {"forget": (50, 3, 20, 4)}])
def test_groups_are_those_of_the_split_where_classes_lose_equally_many(asked):
    split = falw.load_setting(Setting(classes=6, per_class=12, size=8, **asked))[1]
    ours, theirs = groups_of({"forget_counts": split.forget_counts.tolist()}), falw.groups(split)
    assert {name: c.tolist() for name, c in ours.items()} == {name: c.tolist() for name, c in theirs.items()}


# What distances survive


def without_predictions(out):
    for path in out.glob("*.npz"):
        path.unlink()


def test_distances_stand_without_predictions_while_the_retrains_are_the_same(tmp_path):
    retrains, method = three_retrains(tmp_path)
    write_distances(tmp_path)
    before = read_distances(tmp_path)
    without_predictions(tmp_path)
    write_distances(tmp_path)
    assert read_distances(tmp_path) == before
    (tmp_path / f"{method}.json").unlink()
    write_distances(tmp_path)
    assert read_distances(tmp_path).keys() == {*retrains}
    fourth = put(tmp_path, probabilities(4), "retrain", 3 * FLOOR_SEED)
    write_distances(tmp_path)
    assert read_distances(tmp_path) == {} and fourth


def test_a_further_retrain_is_compared_with(tmp_path):
    retrains, method = three_retrains(tmp_path)
    write_distances(tmp_path)
    fourth = put(tmp_path, probabilities(4), "retrain", 3 * FLOOR_SEED)
    write_distances(tmp_path)
    far = read_distances(tmp_path)
    assert far[method]["to"] == [*retrains, fourth] and far[fourth]["to"] == retrains


def test_new_predictions_are_compared_and_nothing_is_written_where_nothing_is_new(tmp_path, monkeypatch):
    _, method = three_retrains(tmp_path)
    write_distances(tmp_path)
    before, written = read_distances(tmp_path), tmp_path / "distances.json"
    os.utime(written, ns=(written.stat().st_mtime_ns + 10**9,) * 2)
    with monkeypatch.context() as patched:
        patched.setattr("falw.lab.ensemble.write_atomic", None)  # to write would raise
        write_distances(tmp_path)
    put(tmp_path, probabilities(5), "rl")
    os.utime(tmp_path / f"{method}.npz", ns=(written.stat().st_mtime_ns + 10**9,) * 2)
    write_distances(tmp_path)
    after = read_distances(tmp_path)
    assert after[method] != before[method] and {k for k in before if before[k] != after[k]} == {method}


@pytest.mark.parametrize("content", ["{", "[1]", ""])
@pytest.mark.fault("distances.json is damaged", "it is set aside and computed again from the predictions")
def test_damaged_distances_are_set_aside_and_computed_again(tmp_path, content):
    three_retrains(tmp_path)
    write_distances(tmp_path)
    before = read_distances(tmp_path)
    (tmp_path / "distances.json").write_text(content)
    with pytest.warns(UserWarning, match="distances.json cannot be used .*set aside as distances.unreadable"):
        write_distances(tmp_path)
    assert read_distances(tmp_path) == before


# A run


SETTING = Setting(classes=4, per_class=12, size=8)
SHORT = {"original_epochs": 1, "epochs": 1, "device": "cpu", "jobs": 1}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with three Retrains, and its records."""
    out = tmp_path_factory.mktemp("three")
    return out, run(SETTING, "ft,rl", out, retrains=3, **SHORT)


def test_further_retrains_come_from_further_seeds_and_no_key_changes():
    cells = cells_of(SETTING, "ft,rl", 1, retrains=4)
    assert [c.config.seed for c in cells] == [0, 0, 1000, 2000, 3000, 0, 0]
    assert [c.method for c in cells] == ["original", *["retrain"] * 4, "ft", "rl"]
    usual = [c.key for c in cells_of(SETTING, "ft,rl", 1)]
    assert usual == [c.key for c in (*cells[:3], *cells[5:])] == [c.key for c in cells_of(SETTING, "ft,rl", 1, None, 2)]
    assert [c.key for c in cells_of(SETTING, [], 1, retrains=1)] == usual[:2]
    assert replace(cells[4].config, seed=0) == cells[1].config


@pytest.mark.parametrize("retrains, why", [(0, "too small"), (-1, "too small"), (1.5, "not a whole number")])
def test_a_setting_has_a_retrain(retrains, why, tmp_path):
    with pytest.raises(ValueError, match=f"retrains {retrains} is {why}"):
        run(SETTING, "ft", tmp_path / "out", retrains=retrains, **SHORT)
    assert not (tmp_path / "out").exists()


def test_a_run_leaves_distances_and_a_run_of_one_retrain_does_not(ran, tmp_path):
    out, records = ran
    far, p = read_distances(out), {r["key"]: read_predictions(r, out).forget.p_true.numpy() for r in records}
    retrains = [r["key"] for r in records if r["method"] == "retrain"]
    assert len(retrains) == 3 and far.keys() == p.keys()
    for key, entry in far.items():
        assert entry["to"] == [k for k in retrains if k != key]
        off = p[key].mean(dtype=float) - np.mean([p[k].mean(dtype=float) for k in entry["to"]])
        assert entry["all"]["deviation"] == pytest.approx(off, abs=1e-6)
    run(SETTING, "ft", tmp_path, retrains=1, **SHORT)
    assert not (tmp_path / "distances.json").exists()


def test_gap_and_deviations_of_accuracy_stay_those_to_the_settings_own_retrain(ran):
    out, records = ran
    rows, two = falw.records(out).set_index("key"), [r for r in records if r["config"]["seed"] < 2000]
    assert (rows["method"] == "noise floor").sum() == 2 and len(two) == 5
    for row in frame(two).to_dict("records"):
        assert rows.at[row["key"], "gap"] == row["gap"] and rows.at[row["key"], "d_p_all"] == row["d_p_all"]


def test_distances_are_columns_and_nan_where_there_are_none(ran):
    out, records = ran
    rows, far = falw.records(out), read_distances(out)
    for row in rows.to_dict("records"):
        assert (row["w1"], row["kl_tail"]) == (far[row["key"]]["all"]["w1"], far[row["key"]]["tail"]["kl"])
    bare = frame(records)
    names = [f"{name}{g}" for name in far[records[0]["key"]]["all"] for g in ("", "_head", "_mid", "_tail")]
    assert len(names) == 20 and bare[names].isna().all().all() and set(bare) == set(rows)


def test_committed_distances_are_those_of_the_committed_records():
    """A deviation is a difference of means, which the records tell without any predictions."""
    rows = falw.records("results/gpu/nvidia-h200")
    mean, far = rows.set_index("key")["p_all"], read_distances("results/gpu/nvidia-h200")
    assert rows["deviation"].notna().sum() == len(far) > 10
    for key, entry in far.items():
        assert entry["all"]["deviation"] == pytest.approx(mean[key] - mean[entry["to"]].mean(), abs=1e-5)


# Tables


def test_a_paired_difference_to_several_retrains_takes_their_mean(ran, tmp_path):
    out, _ = ran
    shutil.copytree(out, tmp_path / "seeds")
    run([SETTING, replace(SETTING, seed=1)], "ft,rl", tmp_path / "seeds", retrains=3, **SHORT)
    rows = falw.records(tmp_path / "seeds")
    gaps = rows.groupby(["seed", "method"])["gap"].mean()
    by_hand = [gaps[seed, "ft"] - gaps[seed, "noise floor"] for seed in (0, 1)]
    assert sorted(paired_gap(rows, "ft", "noise floor")["differences"]) == pytest.approx(sorted(by_hand))


def test_a_table_of_distances_means_over_seeds(tmp_path):
    for seed in (0, 1):
        three_retrains(tmp_path, seed=seed)
    write_distances(tmp_path)
    far, rows = read_distances(tmp_path), falw.records(tmp_path)
    shown = table(rows, "distribution").set_index("method")
    of_rl = [far[key]["tail"]["w1"] for key in rows.query("method == 'rl'")["key"]]
    assert shown.at["rl", "w1_tail_mean"] == pytest.approx(np.mean(of_rl)) and "fa_mean" not in shown
    assert shown.at["rl", "w1_tail_sd"] == pytest.approx(np.std(of_rl, ddof=1), abs=1e-12)
    both = table(rows, "all")
    assert {"fa_mean", "fa_gap", "seconds_sd", "kl_mean"} <= set(both)
    assert list(table(rows)) == [name for name in both if name in set(table(rows))]


@pytest.fixture
def command(capsys):
    def ask(*args):
        status = main([*map(str, args)])
        return (status, *capsys.readouterr())

    return ask


def test_the_table_of_a_folder_shows_the_scores_asked_for(ran, command, monkeypatch):
    out, records = ran
    monkeypatch.chdir(out.parent)
    paper, distribution, both = (
        command("table", out.name, *more)[1] for more in ([], ["--scores", "distribution"], ["--scores", "all"])
    )
    assert command("table", out.name, "--scores", "paper")[1] == paper and "closer to 0" not in paper
    heads = [text.split("\n")[2] for text in (paper, distribution, both)]
    assert [" FA " in head for head in heads] == [True, False, True]
    assert [" W1 head " in head and " outside (%) " in head for head in heads] == [False, True, True]
    notes = [
        text.count("closer to 0 is better, down to the floor: each Retrain") for text in (paper, distribution, both)
    ]
    assert notes == [0, 1, 1]
    status, text, _ = command("table", out.name, "--scores", "distribution", "--format", "json")
    (retrain,) = (r["key"] for r in records if (r["method"], r["config"]["seed"]) == ("retrain", 0))
    w1 = json.loads(text)[0]["w1_mean"]
    assert status == 0 and w1 == pytest.approx(read_distances(out)[retrain]["all"]["w1"], rel=1e-12)
    status, text, err = command("table", out.name, "--scores", "tail")
    assert (status, text) == (2, "") and "unknown scores 'tail'; choose one of: paper, distribution, audits, all" in err


def test_two_retrains_show_no_floor_and_a_folder_without_distances_says_so(ran):
    records = [r for r in ran[1] if r["config"]["seed"] < 2000]
    far = {key: entry for key, entry in read_distances(ran[0]).items() if len(entry["to"]) == 3}
    assert "floor: takes --retrains 3" in scores_to_markdown(table(frame(records, far), "distribution"))
    assert "Not measured: distances take the predictions of two" in scores_to_markdown(
        table(frame(records), "distribution")
    )


def test_the_command_line_trains_as_many_retrains(command, tmp_path):
    small = ["--classes", 4, "--per-class", 12, "--size", 8, "--jobs", 1, "--device", "cpu", "--original-epochs", 1]
    asked = ["run", *small, "--methods", "ft", "--epochs", 1, "--out", tmp_path, "--retrains", 3]
    status, out, _ = command(*asked, "--scores", "distribution")
    assert status == 0 and "each Retrain from the others" in out and "| ft" in out
    assert [r["config"]["seed"] for r in read_records(tmp_path) if r["method"] == "retrain"].count(2000) == 1
    assert len(read_distances(tmp_path)) == 5
    assert command(*asked[:-1], 0)[0] == 2
    dry = ["bench", "table3", "--seeds", 2, "--out", tmp_path / "b", "--dry-run", "--device", "cpu", "--retrains", 4]
    assert "   16 retrain" in command(*dry)[1]
