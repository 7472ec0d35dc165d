"""A reader's own row: what tells it from others, and that adding it in one place is enough."""

import functools
import json
import pickle
import re
from dataclasses import fields, replace

import matplotlib
import pytest

matplotlib.use("Agg")

import torch
from conftest import answer
from joblib.externals.loky.backend.reduction import dumps
from matplotlib.colors import to_hex
from stored import ROOT

import falw
from falw.__main__ import main
from falw.book import plots
from falw.config import Config
from falw.lab import search, tables
from falw.lab.cells import Cell, Setting, cells_of
from falw.lab.fingerprint import fingerprint
from falw.lab.records import read_record
from falw.lab.run import run, run_cell
from falw.methods import ABOUT, METHODS, SHIPPED
from falw.parts import falw_weight, saliency_mask

SETTING = Setting("textures", size=8, classes=4, per_class=12)
QUICK = {"original_epochs": 1, "device": "cpu", "jobs": 1}


def soft(strength):
    return lambda task: lambda progress: strength


def row(**parts):
    return replace(METHODS["rl"], name="mine", summary="of the reader's own", **parts)


# What a row is


def compiled(text):
    """The `part` that a reader's file with this text would have."""
    names = {"__name__": "mine"}
    exec(text, names)  # noqa: S102 - a reader's file, made here
    return names["part"]


def digest_of(text):
    return fingerprint(row(alpha=compiled(text)))


CLOSURE = """
def soften(strength):
    def build(task):
        return lambda progress: strength * (1 - progress)
    return build
part = soften(0.5)
"""
HELPER = """
STRENGTH = 0.5
def fall(progress):
    return STRENGTH * (1 - progress)
def part(task):
    return fall
"""
OBJECT = """
class Soften:
    power = 1
    def __init__(self, strength):
        self.strength = strength
    def __call__(self, task):
        return lambda progress: self.strength ** self.power
part = Soften(0.5)
"""
DATA_CLASS = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Soften:
    strength: float = 0.5
    def __call__(self, task):
        return lambda progress: self.strength
part = Soften()
"""
PARTIAL = """
import functools
def soften(task, strength=0.1, *, power=1):
    return lambda progress: strength ** power
part = functools.partial(soften, strength=0.5)
"""
LIBRARY = """
import torch
def part(task):
    return lambda progress: torch.exp(torch.tensor(-progress)).item()
"""
TENSOR = """
import torch
values = torch.tensor([0.5, 0.1])
def part(task):
    return lambda progress: values[0].item()
"""
SET = "part = lambda task: (lambda progress: 0.5 if 'rl' in {'rl', 'ga', 'ft'} else 0.1)"
CHANGES = [
    *[(CLOSURE, "0.5", "0.6"), (CLOSURE, "1 - progress", "1 + progress")],
    *[(HELPER, "0.5", "0.6"), (HELPER, "1 - progress", "2 - progress")],
    *[(OBJECT, "0.5", "0.6"), (OBJECT, "power = 1", "power = 2"), (OBJECT, "**", "*")],
    *[(DATA_CLASS, "0.5", "0.6"), (DATA_CLASS, "self.strength\n", "-self.strength\n")],
    *[(PARTIAL, "0.5", "0.6"), (PARTIAL, "power=1", "power=2"), (PARTIAL, "strength=0.5", "power=0.5")],
    *[(LIBRARY, "torch.exp", "torch.sin"), (TENSOR, "0.1]", "0.2]"), (SET, "'ft'", "'be'")],
]


@pytest.mark.parametrize("text, old, new", CHANGES)
def test_a_change_of_a_part_is_seen_wherever_it_is(text, old, new):
    assert old in text and digest_of(text) != digest_of(text.replace(old, new, 1))
    assert digest_of(text) == digest_of(text)


@pytest.mark.parametrize("text", [CLOSURE, HELPER, OBJECT, DATA_CLASS, PARTIAL])
def test_a_comment_and_a_line_moved_are_no_change(text):
    assert digest_of("\n\n# a comment" + text.replace("\n", "  # why\n", 1)) == digest_of(text)


def test_parts_of_the_package_are_told_apart_by_their_numbers():
    other = [row(weight=falw_weight()), row(weight=falw_weight(tau=0.2)), row(mask=saliency_mask(0.3)), row(clip=1.0)]
    other += [row(), row(alpha=soft(0.1)), row(alpha=soft(0.2)), row(forget_loss=torch.nn.functional.cross_entropy)]
    assert len({fingerprint(r) for r in other}) == len(other)
    assert fingerprint(row(weight=falw_weight(tau=0.2))) == fingerprint(row(weight=falw_weight(tau=0.2)))
    assert len({fingerprint(r) for r in SHIPPED.values()}) == len(SHIPPED)


def test_a_field_that_came_later_is_part_of_what_a_row_is_only_where_it_is_set(monkeypatch):
    described = []
    monkeypatch.setattr("falw.lab.fingerprint._described", lambda value, outer: described.append(value) or repr(value))
    names = [f.name for f in fields(METHODS["rl"]) if f.name not in (*ABOUT, "sampling", "enlarge")]
    fingerprint(row())
    assert len(described) == len(names)
    fingerprint(row(sampling=soft))
    assert len(described) == 2 * len(names) + 1


def test_what_a_row_is_called_and_how_it_looks_and_is_searched_is_not_what_it_does():
    same = replace(row(alpha=soft(0.1)), name="other", summary="-", colour="#123456", search=(), tuned_as="rl")
    assert fingerprint(same) == fingerprint(row(alpha=soft(0.1)))


@pytest.mark.fault("a row of the reader's own with a part that cannot be told from another", "refused in one line")
def test_what_cannot_be_described_is_refused(tmp_path):
    generator = torch.Generator()
    drawn = row(alpha=lambda task: lambda progress: torch.rand((), generator=generator).item())
    with pytest.raises(ValueError, match="^alpha of row 'mine' holds a Generator, which cannot be told from another: "):
        run(SETTING, [drawn], tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


# Keys


def test_cells_of_the_packages_rows_have_the_keys_that_are_stored():
    for folder in ("textures", "cifar10", "tiny-imagenet"):
        for path in sorted((ROOT / "results" / "cpu" / folder).glob("*.json"))[::9]:
            record = json.loads(path.read_text())
            configs = [
                Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in record[of].items()})
                for of in ("config", "recipe")
            ]
            assert Cell(Setting(**record["setting"]), record["method"], *configs).key == path.stem


def test_a_row_of_the_package_goes_by_its_name_however_it_is_given():
    by_name = cells_of(SETTING, ["rl"])[-1]
    for given in (METHODS["rl"], replace(METHODS["rl"], summary="RL", search=())):
        cell = cells_of(SETTING, [given])[-1]
        assert cell.key == by_name.key and cell.row is None and "row" not in cell.description


def test_another_row_of_the_same_name_is_another_cell():
    cells = [cells_of(SETTING, [row(alpha=soft(s))])[-1] for s in (0.1, 0.2, 0.1)]
    assert cells[0].key == cells[2].key != cells[1].key
    assert {**cells[0].description, "row": ""} == {**cells[1].description, "row": ""}
    assert cells[0].description["row"] == fingerprint(row(alpha=soft(0.1)))


@pytest.mark.fault("a row under a name that is taken, or that none can have", "refused in one line")
@pytest.mark.parametrize(
    "given, words",
    [
        (replace(METHODS["rl"], beta=2.0), "row 'rl' is not the package's row of that name: call it otherwise"),
        (replace(METHODS["retrain"], beta=2.0), "row 'retrain' is not the package's row of that name"),
        *[
            (replace(row(), name=name), f"a row cannot be called '{name}': letters, digits")
            for name in ("original", "all", "salun+falw", "noise floor", "a,b", "")
        ],
    ],
)
def test_a_name_that_is_taken_is_refused(given, words, tmp_path):
    with pytest.raises(ValueError, match="^" + re.escape(words)):
        run(SETTING, [given], tmp_path / "out", **QUICK)
    assert not (tmp_path / "out").exists()


def test_two_rows_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="^two rows are called 'mine': call one of them otherwise"):
        run(SETTING, [row(), row(beta=2.0)], tmp_path / "out", **QUICK)


# Run and read


def test_a_row_runs_beside_names_and_its_record_says_what_it_is(tmp_path):
    mine = row(alpha=soft(0.0))
    records = run(SETTING, [mine, "rl"], tmp_path, epochs=1, **QUICK)
    assert [r["method"] for r in records] == ["original", "retrain", "retrain", "mine", "rl"]
    assert records[3]["row"] == fingerprint(mine) and not any("row" in r for r in records if r is not records[3])
    assert read_record(tmp_path / f"{records[3]['key']}.json") == records[3]
    data, split = falw.load_setting(SETTING)
    original = falw.original(SETTING, tmp_path, original_epochs=1)
    config = cells_of(SETTING, [mine], epochs=1)[-1].config
    unlearned = falw.predict(falw.unlearn(mine, original, data, split, config), data, split)
    assert torch.equal(falw.read_predictions(records[3], tmp_path).forget.p, unlearned.forget.p)
    assert not torch.equal(falw.read_predictions(records[4], tmp_path).forget.p, unlearned.forget.p)


def worker(pickled, folder, pipe):
    pipe.send(run_cell(pickle.loads(pickled), folder))


def test_a_row_runs_in_another_process_and_its_changed_namesake_beside_it(tmp_path):
    first, second = (row(alpha=functools.partial(lambda task, s: lambda progress: s, s=s)) for s in (0.1, 0.3))
    here = run(SETTING, [first], tmp_path / "here", epochs=1, **QUICK)
    (tmp_path / "there").mkdir()
    cell = cells_of(SETTING, [first], 1, epochs=1)[-1]
    there = answer(worker, bytes(dumps(cell)), tmp_path / "there")
    assert (there["key"], there["row"], there["scores"]) == tuple(here[3][k] for k in ("key", "row", "scores"))
    changed = run(SETTING, [second], tmp_path / "here", epochs=1, **QUICK)
    assert changed[3]["key"] != here[3]["key"] and changed[3]["row"] != here[3]["row"]
    assert len(falw.read_records(tmp_path / "here")) == 5
    labels = [f"mine (row {records[3]['row']})" for records in (here, changed)]
    assert sorted(falw.records(tmp_path / "here")["label"])[:2] == sorted(labels)


def test_the_original_of_a_setting_is_that_of_its_records(tmp_path, monkeypatch):
    record = run(SETTING, [], tmp_path, **QUICK)[0]
    data, split = falw.load_setting(SETTING)
    first = falw.predict(falw.original(SETTING, tmp_path / "new", original_epochs=1), data, split)
    monkeypatch.setattr("falw.lab.run.train_original", lambda *args, **how: pytest.fail("trained again"))
    for folder in (tmp_path, tmp_path / "new"):
        model = falw.original(SETTING, folder, original_epochs=1)
        assert not model.training
        assert torch.equal(falw.predict(model, data, split).test.p, first.test.p)
    assert torch.equal(falw.read_predictions(record, tmp_path).test.p, first.test.p)


# One edit


def test_a_new_method_is_one_edit(tmp_path, monkeypatch, capsys):
    mine = row(alpha=soft(0.5), search=({"lr": 0.01}, {"lr": 0.02}, {"lr": 0.04}), colour="#123456")

    monkeypatch.setitem(METHODS, "mine", mine)  # the edit

    records = run(SETTING, "rl,mine", tmp_path / "run", epochs=1, **QUICK)
    assert "mine" in [r.name for r in search.searched("all")]
    monkeypatch.setattr(search, "OUTWARD", 0)
    searched = search.tune(SETTING, "mine", tmp_path / "run", device="cpu", jobs=1)
    assert set(searched["chosen"]) == {"mine"} and "| mine  " in search.choices_to_markdown(searched)

    shown = tables.table(falw.frame(records))
    assert list(shown["method"]) == ["retrain", "noise floor", "original", "rl", "mine"]
    bars = plots.metric_bars(shown, "gap", "Avg. Gap")
    colours = {t.get_text(): to_hex(b.get_facecolor()) for t, b in zip(bars.get_yticklabels(), bars.patches)}
    assert colours == {"original": "#999999", "rl": "#e69f00", "mine": "#123456"}

    assert re.search(r"^\| mine +\| union ", tables.methods_to_markdown(), re.MULTILINE)
    assert main(["methods"]) == 0 and re.search("^mine +of the reader's own$", capsys.readouterr().out, re.MULTILINE)
