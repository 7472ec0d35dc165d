"""Audits of folders: from stored predictions against the arrays themselves; shadow runs and revisits of a small run."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

import falw
from falw.__main__ import main
from falw.auditors import completeness, lira, margin, rmia, told_apart, ulira
from falw.lab import shadows
from falw.lab.audits import as_many, audit_stored
from falw.lab.cells import FLOOR_SEED, Setting, digest
from falw.lab.records import read_audits, read_predictions, read_records, stored_records
from falw.lab.revisits import cell_of_record, plan_revisits
from falw.lab.run import load_setting, run
from falw.lab.tables import scores_to_markdown, table
from falw.metrics import Part, Predictions
from falw.train import Config

COUNTS = [3, 1, 12, 9, 30, 5]  # forgotten images of each class
TAIL = (0, 1)
SIZES = {"forget": COUNTS, "retain": [20] * 6, "val": [10] * 6, "test": [15] * 6}


def put(out, seed, method, config_seed=0, **setting):
    """A record and predictions that are Dirichlet noise, in a folder; its key."""
    described = {
        "setting": asdict(Setting(**setting)),
        "method": method,
        "config": asdict(Config(seed=config_seed)),
        "recipe": asdict(Config(epochs=20)),
    }
    key, draw = digest(described), np.random.default_rng(seed)
    rest = {"scores": {"fa": 50.0 + seed, "ra": 100.0, "ta": 60.0, "mia": 50.0}, "forget_counts": COUNTS}
    groups = {"forget_probabilities": {"head": {"mean": 0.5, "counts": [1]}}, "forget_groups": {"head": 50.0}}
    (out / f"{key}.json").write_text(json.dumps({"key": key, **described, **rest, **groups, "seconds": 2.0}))
    arrays = {}
    for name, sizes in SIZES.items():
        y = np.repeat(np.arange(6), sizes)
        arrays |= {f"{name}_p": draw.dirichlet(np.ones(6), len(y)).astype(np.float32), f"{name}_y": y}
    np.savez(out / f"{key}.npz", **arrays)
    return key


@pytest.fixture
def folder(tmp_path):
    """Keys of an Original, four Retrains and a method in a folder."""
    keys = [put(tmp_path, 9, "original"), *(put(tmp_path, k, "retrain", k * FLOOR_SEED) for k in range(4))]
    return tmp_path, [*keys, put(tmp_path, 8, "rl")]


def parts_of(key, out):
    with np.load(out / f"{key}.npz") as z:
        return {n: Part(*(torch.from_numpy(z[f"{n}_{k}"]) for k in "py")) for n in Predictions._fields}


def test_what_stored_predictions_say_is_what_the_arrays_say(folder):
    out, keys = folder
    audited = audit_stored(stored_records(out), out, ["iam", "rmia", "lira"])
    assert audited == read_audits(out) and audited.keys() == {*keys}
    said = {key: parts_of(key, out) for key in keys}
    original, *retrains, method = keys
    for key in (method, retrains[0]):
        others = [k for k in retrains if k != key]
        assert audited[key]["to"] == others
        p = {n: [said[k][n].p_true.double().numpy() for k in (key, *others)] for n in Predictions._fields}
        m = {n: [margin(said[k][n]) for k in (key, *others)] for n in Predictions._fields}
        y = {n: said[key][n].y.numpy() for n in Predictions._fields}
        # class by class the test images count as many as those forgotten
        weights = np.array(COUNTS)[y["test"]] / 15
        for group, chosen in {"all": range(6), "tail": TAIL}.items():
            of = {n: np.isin(y[n], chosen) for n in y}
            z = {n: lira(m[n][0], np.stack(m[n][1:]), pooled=True)[of[n]] for n in ("forget", "test")}
            expected = told_apart(z["forget"], z["test"], (None, weights[of["test"]]))
            assert audited[key]["lira"][group]["auc"] == pytest.approx(expected["auc"], abs=1e-5)
            learnt = said[original]["forget"].p_true.double().numpy()
            complete = completeness(p["forget"][0], learnt, np.stack(p["forget"][1:]))[of["forget"]]
            assert audited[key]["iam"][group]["completeness"] == pytest.approx(complete.mean(), abs=1e-5)
    draws = [[1, 2], [1, 3], [2, 3]]  # of a Retrain's three others, two at a time
    aucs = []
    for draw in draws:
        known = {n: np.stack([p[n][k] for k in draw]) for n in p}
        x = {n: rmia(p[n][0], known[n], p["val"][0], known["val"]) for n in ("forget", "test")}
        aucs.append(told_apart(x["forget"], x["test"], (None, weights))["auc"])
    found = audited[retrains[0]]["rmia"]["all"]
    assert (found["auc"], found["spread"]) == pytest.approx((np.mean(aucs), np.std(aucs, ddof=1)), abs=1e-5)


def test_under_and_over_are_what_one_in_twenty_of_the_retrains_images_are(folder):
    out, keys = folder
    audited = audit_stored(stored_records(out), out, ["iam"])
    retrains = [audited[k]["iam"]["all"] for k in keys[1:5]]
    assert np.mean([r["under"] for r in retrains]) == pytest.approx(5, abs=2)
    assert np.mean([r["over"] for r in retrains]) == pytest.approx(5, abs=2)


def test_weights_make_as_many_of_each_class():
    weights = as_many(np.array([0, 0, 0, 2]), np.array([0, 1, 2, 2, 5]))
    assert weights.tolist() == [3, 0, 0.5, 0.5, 0]


def test_audits_are_columns_and_a_table_and_stand_beside_those_of_before(folder):
    out, keys = folder
    assert falw.records(out)["rmia_auc"].isna().all()
    audit_stored(stored_records(out), out, ["lira"])
    audited = audit_stored(stored_records(out), out, ["rmia"])
    rows = falw.records(out).set_index("key")
    for key in keys:
        assert rows.at[key, "rmia_auc_tail"] == audited[key]["rmia"]["tail"]["auc"]
        assert rows.at[key, "lira_tpr"] == audited[key]["lira"]["all"]["tpr"]
    shown = scores_to_markdown(table(rows.reset_index(), "audits"))
    assert "RMIA AUC" in shown and "LiRA AUC" in shown and "IAM" not in shown and "CKA" not in shown


@pytest.mark.fault("Retrains added to a folder after its audit", "left out, with a warning")
def test_what_was_said_beside_other_retrains_is_no_answer(folder):
    out, keys = folder
    audit_stored(stored_records(out), out, ["iam", "lira"])
    assert falw.records(out)[["iam_completeness", "lira_auc"]].notna().all(axis=None)
    added = put(out, 5, "retrain", 4 * FLOOR_SEED)
    with pytest.warns(UserWarning, match=f"^{len(keys)} cells in '.*' were audited beside other Retrains than"):
        rows = falw.records(out)
    assert rows[["iam_completeness", "lira_auc"]].isna().all(axis=None)
    kept = audit_stored(stored_records(out), out, ["lira"])  # and an audit of now takes the other of then away
    assert kept.keys() == {*keys, added} and all(entry.keys() == {"to", "lira"} for entry in kept.values())
    rows = falw.records(out)
    assert rows["lira_auc"].notna().all() and rows["iam_completeness"].isna().all()


@pytest.mark.fault("an audit without three Retrains, predictions or validation images", "refused in one line")
def test_what_stored_predictions_cannot_say(tmp_path, monkeypatch):
    put(tmp_path, 9, "original")
    for k in range(2):
        put(tmp_path, k, "retrain", k * FLOOR_SEED)
    with pytest.raises(ValueError, match="has no setting with three Retrains, which the auditor needs: run --retrains"):
        audit_stored(stored_records(tmp_path), tmp_path, ["lira"])
    monkeypatch.setitem(SIZES, "val", [0] * 6)
    for k in range(3):
        put(tmp_path, k, "retrain", k * FLOOR_SEED)
    with pytest.raises(ValueError, match="no validation images: RMIA compares with a population that no model saw"):
        audit_stored(stored_records(tmp_path), tmp_path, ["rmia"])
    next(tmp_path.glob("*.npz")).unlink()
    with pytest.raises(FileNotFoundError, match="no predictions beside '.*json', and a record alone cannot be audited"):
        audit_stored(stored_records(tmp_path), tmp_path, ["lira"])


# What trains

SETTING = Setting(classes=4, per_class=12, size=8)
RUNS = 4


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A folder with three Retrains and a method, and what `audit` said of it with all audits."""
    out = tmp_path_factory.mktemp("audited")
    run(SETTING, "ft", out, retrains=3, original_epochs=1, epochs=1, device="cpu", jobs=1)
    asked = ["audit", str(out), "--runs", str(RUNS), "--device", "cpu", "--jobs", "1"]
    assert main([*asked, "--audits", "all"]) == 0
    return out, asked


def shadow_plan(out):
    base = shadows.bases(read_records(out))[0]
    return base, shadows.plan_shadows(base, shadows.shadow_folder(base[0], out), None, RUNS)


def test_shadow_runs_forget_as_many_of_each_class_from_one_pool_and_train_on_as_many(audited):
    out, _ = audited
    base, plan = shadow_plan(out)
    settings = list(dict.fromkeys(cell.setting for cell in plan.cells))
    splits, audited_split = [load_setting(s)[1] for s in settings], load_setting(SETTING)[1]
    assert len(settings) == RUNS and len({s.forget for s in settings}) == RUNS
    for split in splits:
        assert split.forget_counts.tolist() == audited_split.forget_counts.tolist()
        assert len(split.retain) == len(audited_split.retain)
    pool = shadows.pool_of(load_setting(SETTING)[0].train.y.numpy(), np.array(base[0]["forget_counts"]), 0)
    assert {*np.concatenate([s.forget for s in settings])} <= {*pool.tolist()}
    sizes = np.bincount(load_setting(SETTING)[0].train.y.numpy()[pool], minlength=4)
    assert sizes.tolist() == np.minimum(2 * audited_split.forget_counts.numpy(), 12).tolist()


def test_shadow_runs_are_cells_that_are_done_once(audited):
    out, _ = audited
    base, plan = shadow_plan(out)
    assert plan.todo == [] and plan.seconds == 0 and len(plan.cells) == RUNS * 4
    fifth = shadows.plan_shadows(base, shadows.shadow_folder(base[0], out), None, RUNS + 1)
    assert [c.key for c in fifth.cells[: RUNS * 4]] == [c.key for c in plan.cells] and len(fifth.todo) == 4
    seconds = {r["method"]: r["seconds"] for r in base}
    retrains = [r["seconds"] for r in base if r["method"] == "retrain"]
    assert fifth.seconds == pytest.approx(seconds["original"] + seconds["ft"] + 2 * np.mean(retrains))


def test_ulira_of_a_run_is_that_of_its_predictions(audited):
    out, _ = audited
    base, plan = shadow_plan(out)
    folder = shadows.shadow_folder(base[0], out)
    found, records = read_audits(folder), {r["key"]: r for r in read_records(folder)}
    sides, n = np.full((2, RUNS, 48), np.nan), range(RUNS)
    first = [cell for cell in plan.cells if cell.method == "retrain" and cell.config.seed < FLOOR_SEED]
    for k, cells in enumerate(([c for c in plan.cells if c.method == "ft"], first)):
        for j in n:
            forget = list(cells[j].setting.forget)
            sides[k, j, forget] = margin(read_predictions(records[cells[j].key], folder).forget)
    forgotten = ~np.isnan(sides[0])
    judged = ulira(*np.nan_to_num(sides), forgotten)
    for j, cell in zip(n, (c for c in plan.cells if c.method == "ft"), strict=True):
        seen = ~np.isnan(judged[0][j])
        expected = told_apart(judged[0][j, seen], judged[1][j, seen])["auc"]
        assert found[cell.key]["ulira"]["all"]["auc"] == pytest.approx(expected, abs=1e-5)
    assert {records[key]["method"] for key in found} == {"original", "retrain", "ft"}
    assert {records[k]["config"]["seed"] for k in found if records[k]["method"] == "retrain"} == {
        FLOOR_SEED + j for j in n
    }


def test_revisits_make_the_same_model_again(audited):
    out, _ = audited
    rows, base = falw.records(out).set_index("key"), shadows.bases(read_records(out))[0]
    plan = plan_revisits(base, out / "revisited")
    assert plan.todo == [] and {v.cell.key for v in plan.cells} == {r["key"] for r in base}
    for visit in plan.cells:
        with np.load(out / "revisited" / f"{visit.key}.npz") as z:
            assert 100 * z["right"][0].mean() == pytest.approx(rows.at[visit.cell.key, "fa"])
            gain = 100 * (z["right"].mean(1).max() - z["right"][0].mean())
        assert rows.at[visit.cell.key, "relearning_gain"] == pytest.approx(gain, abs=1e-4)
        assert 0 < rows.at[visit.cell.key, "features_cka"] <= 1


def test_a_dry_run_says_what_it_costs_and_trains_nothing(audited, capsys, monkeypatch):
    _, asked = audited
    monkeypatch.setattr("falw.lab.run.run_cells", None)
    capsys.readouterr()
    again = [*asked[:2], "--runs", str(RUNS + 2), *asked[4:], "--audits", "ulira,features", "--dry-run"]
    assert main(again) == 0
    text = capsys.readouterr().err
    assert "ulira: 8 trainings in" in text and f"{RUNS * 4} done; about" in text
    assert "relearning and features: 0 trainings" in text


def test_a_record_names_its_cell(audited):
    out, _ = audited
    folder = shadows.shadow_folder(read_records(out)[0], out)
    for record in [*read_records(out), *read_records(folder)]:
        assert cell_of_record(record).key == record["key"]


@pytest.mark.parametrize(
    "more, words",
    [
        (["--audits", "iam,x"], "unknown audit 'x'; choose of: iam, rmia, lira, ulira, relearning, features, or all"),
        (["--gamma", "3"], "no records of gamma 3 in"),
        (["--audits", "ulira", "--methods", "rl"], "no records of rl in the folder: run them first, or leave them out"),
        (["--audits", "ulira", "--runs", "0"], "runs 0 is too small"),
        (["--audits", "ulira", "--runs", "2"], "no image is forgotten in 3 of 2 runs: give more runs"),
    ],
)
@pytest.mark.fault("audits of what is not there", "refused in one line")
def test_what_cannot_be_asked_on_the_command_line(audited, capsys, more, words):
    _, asked = audited
    assert main([*asked, *more]) == 2
    assert words in capsys.readouterr().err


def test_the_configuration_audited_forgets_as_much_as_the_retrains(tmp_path):
    for k in range(3):
        put(tmp_path, k, "retrain", k * FLOOR_SEED)  # FA of 50, 51 and 52
    put(tmp_path, 4, "rl", gamma=0.5)
    records = read_records(tmp_path)
    mine = next(r for r in records if r["method"] == "rl")
    further = {
        **mine,
        "key": "f" * 16,
        "scores": {**mine["scores"], "fa": 40.0},
        "config": {**mine["config"], "lr": 0.5},
    }
    (chosen,) = shadows.configurations([*records, further])["rl"]
    assert chosen["key"] == mine["key"]
    assert replace(shadows.setting_of_record(mine), seed=0) == Setting()


def test_revisits_take_of_each_seed_the_run_that_forgets_as_much_as_the_retrains(tmp_path):
    put(tmp_path, 0, "retrain")  # FA of 50
    put(tmp_path, 1, "rl", gamma=0.5)
    (retrain, mine) = sorted(read_records(tmp_path), key=lambda r: r["method"])
    runs = []
    for seed in (0, 1):
        runs.append({**retrain, "key": f"retrain {seed}", "setting": {**retrain["setting"], "seed": seed}})
        for lr, fa in ((0.1, 40.0 + 9 * seed), (0.2, 51.0 + 9 * seed)):
            fields = {"setting": {**retrain["setting"], "seed": seed}, "config": {**mine["config"], "lr": lr}}
            runs.append({**mine, **fields, "key": f"{seed} at {lr}", "scores": {**mine["scores"], "fa": fa}})
    assert [r["key"] for r in shadows.nearest(runs)["rl"]] == ["0 at 0.2", "1 at 0.1"]
