"""Cells and records: what addresses a result, what is run, what is skipped, and what lies in the folder afterwards."""

import json
import re
import shutil
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
import torch
from stored import ROOT

import falw
from falw.config import Config
from falw.files import write_atomic
from falw.lab import cells as lab_cells
from falw.lab import records as lab_records
from falw.lab import run as runs
from falw.lab.cells import FLOOR_SEED, RECIPES, UNLEARN, Cell, Setting, cells_of, check_changes, find_rows
from falw.lab.engines import find_device
from falw.lab.records import read_predictions, read_record, read_records
from falw.lab.run import load_setting, original_of, run
from falw.methods import METHODS, VARIANTS, find_method, unlearn
from falw.metrics import score
from falw.models import create

SETTING = Setting("textures", size=8, classes=5, per_class=15)
QUICK = {"original_epochs": 1, "epochs": 1, "device": "cpu", "jobs": 1}
ONLY_REFERENCES = {name: value for name, value in QUICK.items() if name != "epochs"}  # which are of the methods
ALL_FIVE = ["original", "retrain", "retrain", "ft", "rl"]
LONGEST_FIRST = ["original", "rl", "retrain", "retrain", "ft"]  # D_r is 70 % of what rl sees


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def weights(model):
    return torch.cat([v.flatten().double() for v in model.state_dict().values()])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder that no test may change, and the records that filled it."""
    folder = tmp_path_factory.mktemp("finished")
    records = run(SETTING, "ft,rl", folder, **QUICK)
    before = names(folder)
    yield folder, records
    assert names(folder) == before


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture
def computed(monkeypatch):
    """The methods that are computed from here on, in order."""
    done = []

    def count(name, method_of):
        function = getattr(runs, name)

        def counted(*args, **how):
            done.append(method_of(args))
            return function(*args, **how)

        monkeypatch.setattr(runs, name, counted)

    count("train_original", lambda args: "original")
    count("unlearn", lambda args: args[0].name)
    return done


# The key

OTHER_SETTING = {
    "dataset": "digits",
    "model": "vgg16",
    "ratio": 0.4,
    "gamma": 1.0,
    "seed": 1,
    "cap": "water-filling",
    "val": 0.3,
    "size": 9,
    "classes": 4,
    "per_class": 14,
    "data_seed": 1,
    "split_mismatch": True,
    "background": "white",
    "forget": (3, 1),
    "forget_classes": ("A1",),  # as `forget` is, in its place
    "histogram": (2, 1),  # in place of gamma
}
OTHER_CONFIG = {
    "epochs": 2,
    "lr": 0.5,
    "batch_size": 7,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "milestones": (3,),
    "crop": 1,
    "flip": False,
    "seed": 9,
    "precision": "float32",
    "coefficient": 0.5,
    "optimizer": "adamw",
}
CELL = Cell(SETTING, "rl", Config(), Config())
SETTINGS = {name: replace(CELL, setting=replace(SETTING, **{name: v})) for name, v in OTHER_SETTING.items()}
CONFIGS = {name: replace(CELL, config=replace(CELL.config, **{name: v})) for name, v in OTHER_CONFIG.items()}
TRAININGS = {name: replace(CELL, recipe=replace(CELL.recipe, **{name: v})) for name, v in OTHER_CONFIG.items()}


def test_the_key_changes_with_everything_that_decides_the_result():
    assert set(SETTINGS) == {f.name for f in fields(Setting)} and set(CONFIGS) == {f.name for f in fields(Config)}
    cells = [CELL, replace(CELL, method="ft"), *SETTINGS.values(), *CONFIGS.values(), *TRAININGS.values()]
    assert len({cell.key for cell in cells}) == len(cells)


def test_the_key_changes_with_nothing_else(finished, tmp_path):
    assert set(CELL.description) == {"setting", "method", "config", "recipe"}  # and a row of the reader's: test_rows
    assert replace(CELL, config=Config(milestones=[])).key == CELL.key
    elsewhere = tmp_path / "another" / "folder"
    again = run([SETTING], ["rl", "ft"], elsewhere, root=tmp_path, progress=True, **QUICK)
    assert names(elsewhere) == names(finished[0])
    assert {r["key"]: r["scores"] for r in again} == {r["key"]: r["scores"] for r in finished[1]}


def test_a_record_describes_its_cell_completely(finished):
    for r in finished[1]:
        assert Cell(Setting(**r["setting"]), r["method"], Config(**r["config"]), Config(**r["recipe"])).key == r["key"]
        assert re.fullmatch("[0-9a-f]{16}", r["key"])


def test_what_every_cell_once_had_is_not_said_again():
    """The optimiser came after the first records: those of SGD keep their keys."""
    assert "optimizer" not in CELL.description["config"] and "optimizer" not in CELL.description["recipe"]
    assert CONFIGS["optimizer"].description["config"]["optimizer"] == "adamw"


def test_a_whole_number_and_the_same_float_are_one_cell():
    setting, config = replace(SETTING, gamma=1, ratio=0.5, val=0), replace(CELL.config, lr=1, weight_decay=0)
    cell = Cell(setting, "rl", replace(config, coefficient=25), CELL.recipe)
    same = replace(cell, setting=replace(setting, gamma=1.0, val=0.0), config=replace(config, lr=1.0, coefficient=25.0))
    assert cell.key == same.key and cell.parent == same.parent and replace(setting, val=None).val is None


# The Original


def test_the_original_is_shared_over_what_is_forgotten_and_how():
    shared = {"ratio", "gamma", "cap", "forget_classes", "histogram"}
    assert {name for name, cell in SETTINGS.items() if cell.parent == CELL.parent} == shared
    assert all(cell.parent == CELL.parent for cell in [*CONFIGS.values(), replace(CELL, method="ft")])
    other = [SETTINGS[name] for name in SETTINGS if name not in shared] + list(TRAININGS.values())
    assert len({cell.parent for cell in [CELL, *other]}) == 1 + len(other)


def test_the_original_that_is_shared_would_have_come_out_the_same(tmp_path):
    settings = [SETTING, replace(SETTING, ratio=0.7), replace(SETTING, gamma=2.0, cap="water-filling")]
    models, splits = [], []
    for k, setting in enumerate(settings):
        (tmp_path / str(k)).mkdir()
        data, split = load_setting(setting)
        models.append(original_of(cells_of(setting, [], 2)[0], data, tmp_path / str(k))[0])
        splits.append(split)
    for model, split in zip(models[1:], splits[1:]):
        assert torch.equal(weights(model), weights(models[0]))
        assert torch.equal(split.val, splits[0].val) and not torch.equal(split.forget, splits[0].forget)


def test_the_original_is_trained_once_and_evaluated_on_every_split(computed, tmp_path):
    settings = [SETTING, replace(SETTING, ratio=0.7)]
    first, second = run(settings, [], tmp_path, **ONLY_REFERENCES)[::3]
    assert computed == ["original"] + ["retrain"] * 4
    assert first["key"] != second["key"] and first["sizes"]["forget"] != second["sizes"]["forget"]
    assert len(list(tmp_path.glob("original-*.pt"))) == 1
    assert first["seconds"] == second["seconds"] > 0


def test_a_stored_original_is_the_one_that_was_trained(computed, tmp_path):
    cell, (data, _) = cells_of(SETTING, [], 1)[0], load_setting(SETTING)
    (trained, seconds), (stored, same_seconds) = (original_of(cell, data, tmp_path) for _ in range(2))
    assert computed == ["original"] and seconds == same_seconds
    assert torch.equal(weights(trained), weights(stored)) and not trained.training and not stored.training


def test_a_mismatched_original_saw_the_split_of_another_seed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runs, "train_original", lambda model, data, split, config, **how: seen.append(split))
    for name, mismatch in (("matched", False), ("mismatched", True)):
        (tmp_path / name).mkdir()
        cell = cells_of(replace(SETTING, split_mismatch=mismatch), [], 1)[0]
        original_of(cell, load_setting(cell.setting)[0], tmp_path / name)
    own, other = load_setting(SETTING)[1], load_setting(replace(SETTING, seed=1))[1]
    assert torch.equal(seen[0].forget, own.forget) and torch.equal(seen[1].forget, other.forget)
    assert torch.isin(own.forget, other.val).any()  # asked to forget what it never saw


# Run or skip


def test_a_second_run_computes_nothing(computed, folder, finished):
    assert run(SETTING, "ft,rl", folder, **QUICK) == finished[1]
    assert computed == [] and names(folder) == names(finished[0])


def test_only_what_is_missing_is_computed(computed, folder, finished):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    key = finished[1][ALL_FIVE.index("ft")]["key"]
    (folder / f"{key}.json").unlink()
    records = run(SETTING, "ft,rl", folder, **QUICK)
    assert computed == ["ft"] and [r["scores"] for r in records] == [r["scores"] for r in finished[1]]
    written = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != before[path]}
    assert written - {f"ensemble-{records[1]['key']}.npz"} == {f"{key}.json", f"{key}.npz", "distances.json"}


def test_a_new_method_reuses_the_original_and_both_retrains(computed, folder):
    run(SETTING, "ft,ga", folder, **QUICK)
    assert computed == ["ga"]


def test_records_come_in_the_order_of_the_cells(folder):
    settings = [SETTING, replace(SETTING, seed=1)]
    records = run(settings, "ft,rl", folder, **QUICK)
    assert [(r["method"], r["setting"]["seed"]) for r in records] == [(m, s) for s in (0, 1) for m in ALL_FIVE]
    cells = [cell for setting in settings for cell in cells_of(setting, ["ft", "rl"], 1, epochs=1)]
    assert [r["key"] for r in records] == [cell.key for cell in cells]


def test_a_cell_runs_on_one_thread_and_gives_the_threads_back(monkeypatch, tmp_path):
    seen, train = [], runs.train_original

    def watched(*args, **how):
        seen.append(torch.get_num_threads())
        return train(*args, **how)

    monkeypatch.setattr(runs, "train_original", watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run(SETTING, [], tmp_path, **ONLY_REFERENCES)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


# What a record says


def test_a_record_is_the_file_of_its_key(finished):
    folder, records = finished
    for r in records:
        assert json.loads((folder / f"{r['key']}.json").read_text()) == r
    assert names(folder) == sorted(
        [f"{r['key']}.{kind}" for r in records for kind in ("json", "npz")]
        + [f"original-{cells_of(SETTING, [], 1)[0].parent}.pt", "distances.json", f"ensemble-{records[1]['key']}.npz"]
    )
    assert {r["key"] for r in read_records(folder)} == {r["key"] for r in records}


def test_a_record_carries_its_conditions(finished):
    cells = cells_of(SETTING, ["ft", "rl"], 1, epochs=1)
    for r, cell in zip(finished[1], cells, strict=True):
        assert (r["method"], r["setting"]) == (cell.method, SETTING.description)
        assert r["config"] == json.loads(json.dumps(cell.config.description))
        assert r["recipe"] == json.loads(json.dumps(replace(RECIPES["tiny"], epochs=1).description))
        assert r["versions"].keys() == {"falw", "torch", "python"} and r["versions"]["torch"] == torch.__version__
        assert r["device"].startswith("cpu: ") and r["seconds"] > 0
        assert r["commit"] == lab_records.commit() and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", r["date"])


def test_the_commit_is_that_of_the_checkout_and_none_outside(monkeypatch, tmp_path):
    assert lab_records.commit() is None or re.fullmatch(r"[0-9a-f]{12}\+?", lab_records.commit())
    monkeypatch.setattr(falw, "__file__", str(tmp_path / "__init__.py"))
    assert lab_records.commit.__wrapped__() is None


def test_sizes_and_counts_by_hand(finished):
    # 5 classes of 15, of which 3 are held out; 30 % of the 60 left are 18; textures has 50 test images a class
    for r in finished[1]:
        assert r["sizes"] == {"forget": 18, "retain": 42, "val": 15, "test": 250}
        assert sum(r["forget_counts"]) == 18 and len(r["forget_counts"]) == 5


def test_scores_and_groups_come_from_the_probabilities_beside_the_record(finished):
    folder, records = finished
    members = runs.groups(load_setting(SETTING)[1])
    for r in records:
        pred = read_predictions(r, folder)
        assert score(pred)._asdict() == r["scores"]
        for part, found in ((pred.forget, r["forget_groups"]), (pred.test, r["test_groups"])):
            for name, classes in members.items():
                right = [bool(c) for c, y in zip(part.correct, part.y) if y in classes]
                assert found[name] == pytest.approx(100 * sum(right) / len(right))


@pytest.mark.fault(
    "the probabilities beside a record are gone", "the record is read; asked for, the file that is missing is named"
)
def test_without_probabilities_a_record_is_still_read(folder, finished):
    key = finished[1][0]["key"]
    (folder / f"{key}.npz").unlink()
    assert len(read_records(folder)) == 5
    with pytest.raises(FileNotFoundError, match=key):
        read_predictions(finished[1][0], folder)


@pytest.mark.fault("a model diverges", "a record that says at which step, a warning, no scores; all others go on")
def test_a_method_that_diverges_is_a_result_and_the_rest_goes_on(computed, tmp_path):
    how = {**QUICK, "epochs": 2, "lr": 1e30}
    with pytest.warns(UserWarning, match=r"^ft, gamma 0.5, seed 0: the loss is nan at step 1 of 1 in epoch 2: "):
        diverged = run(SETTING, "ft,iu", tmp_path, **how)[3]
    assert (diverged["method"], diverged["scores"]) == ("ft", None)
    assert diverged["failed"].endswith("diverged; lower the learning rate")
    assert sorted(computed) == ["ft", "iu", "original", "retrain", "retrain"]
    assert not (tmp_path / f"{diverged['key']}.npz").exists()
    run(SETTING, "ft", tmp_path, **how)
    assert len(computed) == 5


# Damage and interruption

DAMAGED = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "of another shape": lambda text: b"[1, 2]",
    "without scores": lambda text: text.replace(b'"scores"', b'"no scores"'),
    "of another cell": lambda text: re.sub(rb'"key": "....', b'"key": "0000', text),
    "binary": lambda text: b"\xff\xfe\x00",
    "altered in one digit": lambda text: re.sub(rb'"forget_counts": \[\s*\d', lambda m: m[0][:-1] + b"0", text),
}


@pytest.mark.fault(
    "a record is cut short, empty, altered or of another cell",
    "set aside with a warning, computed again",
)
def test_a_damaged_record_is_set_aside_and_computed_again(computed, folder, finished):
    path = folder / f"{finished[1][4]['key']}.json"
    whole = path.read_bytes()
    for damage in DAMAGED.values():
        path.write_bytes(damage(whole))
        with pytest.warns(UserWarning, match=f"{path.name} cannot be used .* set aside as {path.stem}.unreadable"):
            assert read_record(path) is None
        assert path.with_suffix(".unreadable").read_bytes() == damage(whole) and not path.exists()
    path.write_bytes(whole[:-9])
    with pytest.warns(UserWarning, match=f"{path.name} cannot be used"):
        records = run(SETTING, "ft,rl", folder, **QUICK)
    assert computed == ["rl"] and records[4]["scores"] == finished[1][4]["scores"]
    assert read_record(path) == records[4]


@pytest.mark.fault("nothing of a group of classes is forgotten", "no accuracy in its place; the record is strict JSON")
def test_a_group_without_forgotten_images_has_no_accuracy_and_the_record_is_strict_json(tmp_path):
    records = run(replace(SETTING, ratio=0.2, gamma=8), "retrain", tmp_path, **ONLY_REFERENCES)
    assert records[1]["forget_groups"]["tail"] is None and records[1]["forget_groups"]["head"] is not None
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.fault(
    "a damaged or renamed record lies among others",
    "set aside with a warning, the others are read",
)
def test_a_damaged_or_renamed_record_does_not_hide_the_others(folder, finished):
    damaged, renamed = (folder / f"{finished[1][k]['key']}.json" for k in (0, 1))
    damaged.write_text("{")
    renamed.rename(folder / f"{'0' * 16}.json")
    with pytest.warns(UserWarning, match="set aside"):
        assert {r["key"] for r in read_records(folder)} == {r["key"] for r in finished[1][2:]}
    assert {damaged.with_suffix(".unreadable"), folder / f"{'0' * 16}.unreadable"} < set(folder.iterdir())


@pytest.mark.fault("other files lie among the records", "left alone")
def test_files_that_are_no_records_are_left_alone(folder):
    (folder / "search.json").write_text('{"chosen": {}}')
    (folder / "notes.txt").write_text("mine")
    before = names(folder)
    assert len(read_records(folder)) == 5 and names(folder) == before


@pytest.mark.fault("records are read from a folder that has none", "refused in one line that says how to make some")
def test_a_folder_without_records_says_how_to_make_some(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(FileNotFoundError, match=f"no records in '{folder}'; make some: python -m falw run --out"):
            read_records(folder)


@pytest.mark.fault(
    "a run is interrupted while it writes, or between two cells", "nothing half-written stays; the same command goes on"
)
def test_write_whole_leaves_nothing_half_written(tmp_path):
    def fail(f):
        f.write(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "file"
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert names(tmp_path) == []
    write_atomic(path, lambda f: f.write(b"whole"))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert names(tmp_path) == ["file"] and path.read_bytes() == b"whole"


def half_written(*args, **kwargs):
    for f in args:
        if hasattr(f, "write"):
            f.write(b"half")
    raise KeyboardInterrupt


STOPS = {
    "while storing the Original": (torch, "save", ALL_FIVE),
    "while storing probabilities": (np, "savez_compressed", ALL_FIVE[1:]),  # the Original is only to be evaluated
    "before a record": (runs, "_results", ALL_FIVE[1:]),
}


@pytest.mark.fault(
    "a run is interrupted while it writes, or between two cells", "nothing half-written stays; the same command goes on"
)
@pytest.mark.parametrize("module, function, left", STOPS.values(), ids=STOPS)
def test_an_interrupted_run_leaves_no_part_and_goes_on(
    module, function, left, tmp_path, computed, monkeypatch, finished
):
    with monkeypatch.context() as m:
        m.setattr(module, function, half_written)
        with pytest.raises(KeyboardInterrupt):
            run(SETTING, "ft,rl", tmp_path, **QUICK)
    assert [name.partition("-")[0] for name in names(tmp_path)] == ["original"] * (left != ALL_FIVE)
    computed.clear()
    records = run(SETTING, "ft,rl", tmp_path, **QUICK)
    assert sorted(computed) == sorted(left) and names(tmp_path) == names(finished[0])
    assert [r["scores"] for r in records] == [r["scores"] for r in finished[1]]


@pytest.mark.fault(
    "a run is interrupted while it writes, or between two cells", "nothing half-written stays; the same command goes on"
)
def test_a_run_stopped_between_methods_goes_on_with_the_next(tmp_path, computed, monkeypatch):
    unlearn = runs.unlearn

    def stop_at_ft(row, *args, **how):
        if row.name == "ft":
            raise KeyboardInterrupt
        return unlearn(row, *args, **how)

    with monkeypatch.context() as m:
        m.setattr(runs, "unlearn", stop_at_ft)
        with pytest.raises(KeyboardInterrupt):
            run(SETTING, "ft,rl", tmp_path, **QUICK)
    assert computed == LONGEST_FIRST[:4] and len(read_records(tmp_path)) == 4
    assert not list(tmp_path.glob(".*"))
    run(SETTING, "ft,rl", tmp_path, **QUICK)
    assert computed == LONGEST_FIRST


# Methods and their configurations


def named(methods):
    return [row.name for row in find_rows(methods)]


def test_methods_are_named_in_a_text_or_a_list():
    assert named("all") == list(METHODS)
    assert named("rl, ga") == named(["rl", "ga"]) == named([METHODS["rl"], "ga"]) == ["rl", "ga"]
    assert named("ga,all")[:2] == ["ga", "retrain"] and set(named("ga,all")) == set(METHODS)
    assert named("all,rl-fixed") == [*METHODS, "rl-fixed"]
    assert not set(named("all")) & set(VARIANTS)


def test_a_method_named_twice_or_by_its_alias_runs_once():
    assert named("rl,ga,rl") == ["rl", "ga"]
    assert named("salun+falw") == named("falw,salun+falw") == ["falw"]
    assert find_method("salun+falw") is find_method("falw")


@pytest.mark.fault(
    "a setting, method, device or engine that does not exist or fit", "refused in one line before the first file"
)
def test_an_unknown_method_is_refused_with_the_choice():
    for given in ("rl,salum", ["salum"], "salum,all"):
        with pytest.raises(ValueError, match=r"unknown method 'salum'; choose one of: retrain, ft, rl, .*salun\+falw"):
            find_rows(given)


def test_the_noise_floor_is_a_retrain_from_another_seed():
    original, retrain, floor = cells_of(replace(SETTING, seed=3), [], 2)
    assert [c.method for c in (original, retrain, floor)] == ["original", "retrain", "retrain"]
    assert [c.config.seed for c in (original, retrain, floor)] == [3, 3, 3 + FLOOR_SEED]
    assert replace(floor.config, seed=3) == retrain.config == replace(RECIPES["tiny"], seed=3, epochs=2)
    assert floor.parent == original.parent


def test_the_noise_floor_is_another_model(finished):
    first, second = (read_predictions(r, finished[0]).test.p for r in finished[1][1:3])
    assert not torch.equal(first, second)


def test_retrain_is_not_run_a_third_time():
    assert [c.method for c in cells_of(SETTING, "all")].count("retrain") == 2


def test_methods_take_their_seed_from_the_setting():
    cells = cells_of(replace(SETTING, seed=3), ["ft", "rl"])
    assert {c.config.seed for c in cells[3:]} == {3}


def test_tuned_values_are_used_and_given_ones_override_them(monkeypatch):
    monkeypatch.setattr(lab_cells, "tuned", lambda out: {"textures/tiny": {"rl": {"lr": 0.5, "coefficient": 2.0}}})

    def config(method, model="tiny", **changes):
        return cells_of(replace(SETTING, model=model), [method], **changes)[-1].config

    assert config("rl") == replace(UNLEARN["tiny"], lr=0.5, coefficient=2.0)
    assert config("rl", lr=0.25, epochs=3) == replace(UNLEARN["tiny"], lr=0.25, coefficient=2.0, epochs=3)
    assert config("ga") == UNLEARN["tiny"] and config("rl", "resnet18") == UNLEARN["resnet18"]
    assert {c.config for c in cells_of(SETTING, [], lr=0.25)} == {RECIPES["tiny"], replace(RECIPES["tiny"], seed=1000)}


def test_the_values_shipped_are_those_of_tuned_json_and_fit_a_config():
    assert lab_cells.tuned() == json.loads(lab_cells.TUNED.read_text())["chosen"]
    for key, methods in lab_cells.tuned().items():
        for method, values in methods.items():
            assert find_method(method) and replace(UNLEARN[key.split("/")[-1]], **values)


def test_a_data_set_has_its_own_values_and_borrows_those_of_textures_until_it_was_searched(monkeypatch):
    table = {"textures/tiny": {"rl": {"lr": 0.5}, "ga": {"lr": 0.4}}, "folder:a/b/tiny": {"rl": {"lr": 0.1}}}
    monkeypatch.setattr(lab_cells, "tuned", lambda out: table)

    def lr(dataset, method, model="tiny"):
        return cells_of(Setting(dataset, model), [method])[-1].config.lr

    assert (lr("textures", "rl"), lr("digits", "rl"), lr("folder:a/b", "rl")) == (0.5, 0.5, 0.1)
    assert lr("folder:a/b", "ga") == UNLEARN["tiny"].lr  # never a mixture of two searches
    assert lr("textures", "rl", "vgg16") == UNLEARN["vgg16"].lr


# Checks, before anything is written

REFUSED = {
    "ratio of too few images": ({"ratio": 0.001}, {}, "forgets nothing: raise ratio"),
    "data set": ({"dataset": "no"}, {}, "unknown data set 'no'; choose one of: textures"),
    "model": ({"model": "no"}, {}, "unknown model 'no'; choose one of: tiny, resnet18, vgg16"),
    "method": ({}, {"methods": "ft,no"}, "unknown method 'no'; choose one of: retrain"),
    "device": ({}, {"device": "no"}, "unknown device 'no'; choose one of: auto, cpu, cuda"),
    "no GPU": ({}, {"device": "cuda"}, "device cuda: PyTorch sees no GPU here; use --device cpu or auto"),
    "lr": ({}, {"lr": 0.0}, "lr 0.0 is not a positive number"),
    "original epochs": ({}, {"original_epochs": 0}, "epochs 0 is too small"),
    "no jobs": ({}, {"jobs": 0}, "jobs 0 is too small: give a whole number from 1 up"),
    "fewer than no jobs": ({}, {"jobs": -1}, "jobs -1 is too small"),
}


@pytest.mark.fault(
    "a setting, method, device or engine that does not exist or fit",
    "refused in one line before the first file",
)
def test_what_does_not_exist_or_fit_is_refused_before_the_first_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for setting, how, words in REFUSED.values():
        settings = [SETTING, replace(SETTING, **setting)]  # the fault is in the second, and the first is not run either
        with pytest.raises(ValueError, match=re.escape(words)):
            run(settings, **{"methods": "ft", "out": tmp_path / "out", **QUICK, **how})
        assert names(tmp_path) == [], words


@pytest.mark.fault("the folder for the records is a file", "refused in one line; the file is left alone")
def test_records_need_a_folder(tmp_path, computed):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"'{tmp_path / 'file'}' is a file; give another --out"):
            run(SETTING, "ft", out, **QUICK)
    assert (tmp_path / "file").read_text() == "mine" and computed == []


def test_the_device_is_the_gpu_if_there_is_one(monkeypatch):
    for there, auto in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert (find_device().type, find_device("cpu").type) == (auto, "cpu")


# Data


def test_a_setting_takes_the_data_sets_own_share_of_validation_images():
    data, split = load_setting(SETTING)
    assert len(split.val) == round(data.val * 75)
    assert len(load_setting(replace(SETTING, val=0.4))[1].val) == 30


def test_data_are_loaded_once_for_several_splits_and_again_for_another_seed():
    first = load_setting(SETTING)[0]
    assert load_setting(replace(SETTING, ratio=0.5, seed=4))[0] is first
    assert not torch.equal(load_setting(replace(SETTING, data_seed=1))[0].train.x, first.train.x)


def test_a_sweep_runs_at_the_rate_of_the_row_it_varies():
    swept, own = cells_of(Setting(), ["falw-tau0", "falw"])[-2:]
    assert swept.config == own.config and swept.config.lr == lab_cells.tuned()["textures/tiny"]["falw"]["lr"]


def test_a_row_that_starts_afresh_trains_as_retrain_does_whatever_changes():
    own, other, ft = cells_of(Setting(seed=3), ["retrain-reweighted", "ft"], original_epochs=7, retrains=1, lr=0.5)[1:]
    assert own.method == "retrain" and other.config == own.config == own.recipe and other.config.epochs == 7
    assert ft.config.lr == 0.5 and len({own.key, other.key, ft.key}) == 3
    with pytest.raises(ValueError, match="lr 0.5 changes nothing of retrain-reweighted"):
        check_changes(find_rows("retrain-reweighted"), {"lr": 0.5})


def test_a_row_that_nobody_tuned_runs_at_the_values_of_its_source(monkeypatch):
    values = {}
    monkeypatch.setattr(lab_cells, "tuned", lambda out: {"textures/tiny": {"lotus": values}})

    def config():
        return cells_of(Setting(), ["lotus"])[-1].config

    assert (config().lr, config().optimizer, config().nesterov) == (1e-4, "adamw", False)
    values["lr"] = 0.002
    assert config().lr == 0.002 and cells_of(Setting(), ["lotus"], lr=0.3)[-1].config.lr == 0.3


# What a method fixes, and what none reads

ROWS = {**METHODS, **VARIANTS}


@pytest.mark.parametrize("model", ["tiny", "resnet18"])  # whose schedule is a cosine, or steps
def test_a_cell_says_the_configuration_that_runs(model, monkeypatch):
    """The one that `unlearn` gives to the loop is the cell's: SFRon's schedule is in its record."""
    ran = []
    monkeypatch.setattr("falw.methods.fit", lambda model, data, split, objective, config, *rest: ran.append(config))
    monkeypatch.setattr("falw.methods.Method.objective", lambda row, task: None)
    data, split = load_setting(SETTING)
    network = create(model, data.num_classes, data.mean, data.std)
    for cell in cells_of(replace(SETTING, model=model), [n for n, row in METHODS.items() if row.function is None])[3:]:
        unlearn(cell.method, network, data, split, cell.config)
        assert ran.pop() == cell.config
        assert cell.config.schedule == ("cosine" if "sfron" in cell.method or model == "tiny" else "step")


def test_commands_still_find_the_stored_records():
    """`cifar10-borrowed` aside, which ran at the rates of textures, before CIFAR-10 had a search of its own.

    The port of FaLW has no search of its own: its command names the rate.
    """
    named = {"falw-port": {"lr": 0.11313708498984762}}
    for folder in ("textures", "cifar10", "tiny-imagenet"):
        for path in (ROOT / "results" / "cpu" / folder).glob("*.json"):
            record = json.loads(path.read_text())
            method = record["method"]
            cells = cells_of(Setting(**record["setting"]), [method] * (method in ROWS), **named.get(method, {}))
            assert path.stem in {cell.key for cell in cells}, path


def test_a_change_that_no_method_reads_is_refused(tmp_path):
    for methods, changes, words in (
        ([], {"epochs": 1}, "epochs 1 changes nothing of original, retrain: leave it out"),
        ("retrain", {"lr": 0.1}, "lr 0.1 changes nothing of retrain"),
        ("iu", {"momentum": 0.5}, "momentum 0.5 changes nothing of iu"),
        ("rl,falw", {"coefficient": 2.0}, "coefficient 2.0 changes nothing of rl, falw"),
        ("sfron", {"schedule": "step"}, "schedule step changes nothing of sfron"),
        ("ft", {"rate": 0.1}, "unknown change rate=0.1; choose one of: epochs, lr"),
        ("ft", {"seed": 3}, "unknown change seed=3"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(words)):
            run(SETTING, methods, tmp_path / "out", device="cpu", **changes)
        assert names(tmp_path) == [], words


def test_a_change_goes_where_one_method_reads_it():
    """A builder that reads the coefficient says so: the values that were searched are all read."""
    reading = {"iu", "l1-sparse", "sfron", "sfron+falw", "ssd", "neggrad+", "scrub", "lotus", "lotus+falw"}
    assert {n for n, row in ROWS.items() if row.reads("coefficient")} == reading
    assert all(row.reads(key) for row in ROWS.values() if row.search for key in row.search[0])


def test_a_short_original_leaves_out_the_milestones_that_it_does_not_reach():
    recipes = [cells_of(Setting(model="resnet18"), [], epochs)[0].recipe for epochs in (150, 100, 90)]
    assert [(r.epochs, r.milestones) for r in recipes] == [(150, (90, 120)), (100, (90,)), (90, ())]


def test_a_seed_that_cannot_be_is_refused():
    for seed, name in product((-1, 2**32, 1.5), ("seed", "data_seed")):
        with pytest.raises(ValueError, match=f"^{name.replace('_', ' ')} {seed} is (too|not a whole number)"):
            Setting(**{name: seed})
