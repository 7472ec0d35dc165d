"""Explorers as data: what the page carries, and the live control. That they move is tested in a browser."""

import base64
import copy
import json
import math
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import falw
from falw.book import computed, explorers, own_model
from falw.lab import tables
from falw.lab.cells import Setting
from falw.lab.traces import trace
from falw.methods import unlearn
from falw.metrics import Part
from falw.models import true_probability
from falw.weights import balance_factor, class_stats, forgetting_weight, z_score

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shown(monkeypatch):
    """Every bundle that was displayed."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw=False: bundles.append(bundle))
    return bundles


def line(slope, start=0):
    ax = plt.figure(figsize=(2, 1)).add_subplot()
    ax.plot([0, 1], [start, slope])
    return ax


def content(page):
    """The data of a page, and the frames as the script puts them together."""
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.S).group(1))
    return data, ["\n".join(data["lines"][k] for k in frame) for frame in data["frames"]]


def draw(slope, offset):
    return line(slope, offset)


def show(shown, **changes):
    how = {"name": "line", "alt": lambda slope, offset: f"{slope} </script> {offset}", "start": {"slope": 2.0}}
    explorers.explore(draw, **{**how, "slope": [1.0, 2.0, 3.0], "offset": [0, 5], **changes})
    return shown[-1]


def test_one_output_has_a_control_a_page_a_picture_and_words(shown):
    bundle = show(shown)
    assert set(bundle) == {explorers.WIDGET, "text/html", "image/png", "text/plain"}
    assert bundle["text/plain"] == "2.0 </script> 0"
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"


def test_a_page_starts_with_the_frame_that_its_sliders_say(shown):
    page = show(shown)["text/html"]
    data, frames = content(page)
    assert len(frames) == len(set(frames)) == len(data["alts"]) == 6
    assert data["texts"] == [["1", "2", "3"], ["0", "5"]]
    first = page[page.index("<svg") : page.index("</svg>") + 6]
    assert first == frames[2] and data["alts"][2] == "2.0 </script> 0"  # slope 2 is place 1 of 3, offset place 0 of 2
    assert re.findall(r'max="(\d)" step="1" value="(\d)" aria-valuetext="(\d)"', page) == [
        ("2", "1", "2"),
        ("1", "0", "0"),
    ]


def test_a_page_is_the_same_whenever_it_is_made_and_small(shown):
    pages = [show(shown)["text/html"] for _ in range(2)]
    assert pages[0] == pages[1]
    data, frames = content(pages[0])
    assert len("".join(data["lines"])) < sum(map(len, frames)) / 3


def test_two_explorers_share_no_id_and_ids_lead_somewhere(shown):
    pages = [show(shown, name=name)["text/html"] for name in ("one", "two")]
    ids = [set(re.findall(r' id="([\w-]+)"', page)) for page in pages]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([\w-]+)\)|href=\"#([\w-]+)\"", pages[0])[0]) - {""} <= ids[0]


def test_a_page_asks_for_nothing_from_elsewhere(shown):
    page = show(shown)["text/html"]
    addresses = set(re.findall(r"https?://[\w./-]+", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places


def test_the_live_control_draws_what_is_chosen():
    calls = []

    def remember(slope, offset):
        calls.append((slope, offset))
        return draw(slope, offset)

    values, begin = {"slope": [1.0, 2.0], "offset": [0, 5]}, {"slope": 2.0, "offset": 0}
    box = explorers._live(remember, {"slope": "slope", "offset": "b"}, values, begin)
    slope, offset, _ = box.children
    assert (slope.description, offset.description) == ("slope", "b") and calls == [(2.0, 0)]
    offset.value = 5
    slope.index = 0
    assert calls[1:] == [(2.0, 5), (1.0, 5)]


def test_choices_that_cannot_be_shown_are_named(shown):
    for changes, message in (
        ({"start": {"slope": 4.0}}, r"slope cannot start at 4.0; choose one of: 1.0, 2.0, 3.0"),
        ({"start": {"slop": 2.0}}, "no slider 'slop' to start; choose one of: slope, offset"),
        ({"slope": [], "start": {}}, "choices that come to 0 pictures"),
        (
            {"slope": list(range(201)), "start": {}},
            "choices that come to 402 pictures: give 1 to 400, with fewer values a slider",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            show(shown, **changes)
        assert not shown


# The book's explorers


@pytest.fixture(scope="module")
def records():
    return falw.records(ROOT / "results/cpu/textures").query("cap == 'spill' and gamma == 0.5")


ALARMS = [
    {"line": line, "gamma": gamma, "group": group, "rate": rate, "low": mean - 1, "mean": mean, "high": mean + 1}
    for line, more in (("rl", 0.0), ("ft", 0.3))
    for gamma, g in ((0.5, 1.0), (2.0, 2.0))
    for group, n in (("all", 0.0), ("tail", 10.0))
    for rate, mean in ((1.0, g + n + more), (50.0, -g - n - more))
]
EXPLORERS = {
    "rest-point": lambda records: explorers.rest_point(),
    "deviations": lambda records: explorers.deviations(records, ["rl", "salun"]),
    "benchmark": lambda records: explorers.benchmark({"textures": tables.table(records)}),
    "false-alarms": lambda records: explorers.false_alarms(ALARMS),
}


@pytest.fixture(scope="module")
def explorer(records):
    """What an explorer of the book displays, drawn once for all tests that look at it."""

    @cache
    def bundle(name):
        bundles = []
        with pytest.MonkeyPatch.context() as m:
            m.setattr("IPython.display.display", lambda b, raw=False: isinstance(b, dict) and bundles.append(b))
            EXPLORERS[name](records)
        return bundles[-1]

    return bundle


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_value_of_every_slider_makes_another_picture_and_says_so(name, explorer):
    page = explorer(name)["text/html"]
    data, frames = content(page)
    assert f'id="explorer-{name}"' in page
    sizes = [len(texts) for texts in data["texts"]]
    assert len(frames) == len(data["alts"]) == torch.tensor(sizes).prod() and len(set(data["alts"])) == len(frames)
    numbers = torch.arange(len(frames)).view(sizes)
    for k, size in enumerate(sizes):
        along = numbers.movedim(k, 0).reshape(size, -1).T.tolist()  # a row: the frames that this slider runs through
        assert size == 1 or max(len({frames[i] for i in row}) for row in along) == size


Y, HALVES = torch.tensor([0, 1, 1, 1]), {"head": torch.tensor([0]), "tail": torch.tensor([1])}


def part(*of_true):
    """Four images of two classes."""
    p = torch.tensor(of_true)[:, None]
    return Part(torch.where(torch.arange(2) == Y[:, None], p, 1 - p), Y)


def two_models():
    explorers.two_models({"retrain": part(0.6, 0.2, 0.8, 0.9), "rl": part(0.3, 0.7, 0.8, 0.4)}, HALVES)


COMPUTED = {
    **{"forget-set": explorers.forget_set, "weight": explorers.weight, "balance": explorers.balance},
    "two-models": two_models,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_explorer_has_a_control_a_page_a_picture_and_words(name, shown):
    COMPUTED[name]()
    bundle = next(b for b in shown if isinstance(b, dict))
    page = bundle["text/html"]
    assert set(bundle) == {explorers.WIDGET, "text/html", "image/png", "text/plain"}
    assert f'id="explorer-{name}"' in page and f'aria-label="{bundle["text/plain"]}"' in page
    assert f"base64,{bundle['image/png']}" in page  # for where no script runs
    assert not re.findall(r"https?://", page) and len(page) < 150_000


def test_computed_explorers_say_the_numbers_of_the_equations(shown):
    explorers.forget_set()
    explorers.weight()
    explorers.balance()
    words = [b["text/plain"] for b in shown if isinstance(b, dict)]
    assert "from 450 to 73 images; 5 classes are forgotten whole, 0 not at all" in words[0]
    assert words[1] == "Weight over p for mu 0.60, sigma 0.25, eta 1.00: at p 0.90 z is 1.20 and w is 1.83."
    b = balance_factor(torch.tensor([5.0] + [13495 / 99] * 99), 0.15)[0].item()
    low, high = forgetting_weight(torch.tensor([-0.5, 0.5]), b).tolist()
    assert low < 1 < high
    assert f"5 of 13500 forgotten images in 100 classes and tau 0.15: B is {b:.2f}" in words[2]
    assert f"gives {low:.2f} and {high:.2f}; at z 0.50 w is {high:.2f}." in words[2]


def test_two_models_say_what_is_found_by_hand(shown):
    two_models()
    bundle = next(b for b in shown if isinstance(b, dict))
    # Less Retrain's: -0.3, 0.5, 0, -0.5. Sorted 0.3, 0.4, 0.7, 0.8 less 0.2, 0.6, 0.8, 0.9: 0.1, 0.2, 0.1, 0.1.
    assert bundle["text/plain"] == (
        "p of 4 forgotten images over Retrain’s, classes: all. retrain: FA 75.0 percent, Retrain’s 75.0, mean of p less"
        " Retrain’s 0.000, within 0.1 100.0 percent, W1 0.000; rl: FA 50.0 percent, Retrain’s 75.0, mean of p less"
        " Retrain’s −0.075, within 0.1 25.0 percent, W1 0.125."
    )
    assert "by <b>0.000</b> under retrain and by <b>0.325</b> under rl (lower is better)" in bundle["text/html"]
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', bundle["text/html"], re.S).group(1))
    assert data["constants"]["p"]["rl"] == [0.3, 0.7, 0.8, 0.4] and data["constants"]["known"]["rl"] == [0, 1, 1, 0]
    assert data["constants"]["members"] == {"all": [0, 1, 2, 3], "head": [0], "tail": [1, 2, 3]}


def test_two_models_are_of_the_same_images_beside_a_retrain(shown):
    one = part(0.6, 0.2, 0.8, 0.9)
    with pytest.raises(ValueError, match="no 'retrain' among rl, ft: give its part, too"):
        explorers.two_models({"rl": one, "ft": one}, HALVES)
    with pytest.raises(ValueError, match="other samples"):
        explorers.two_models({"original": one._replace(y=1 - Y), "retrain": one, "ft": one}, HALVES)


def test_the_live_control_of_a_computed_explorer_calls_python():
    calls = []

    def draw(a, kind, twice):
        calls.append((a, kind, twice))
        return line(twice)

    sliders = {"a": computed.Slider("a", 0.5), "kind": computed.Slider("kind", "x", choices=("x", "y"))}
    explorer = computed.Computed(
        "one", "one", sliders, lambda a, kind: {"twice": 2 * a}, draw, "{twice:.1f}", "{twice:.2f}", {}
    )
    a, kind, words, _ = computed._controls(explorer).children
    assert words.value == "1.00" and calls == [(0.5, "x", 1.0)]
    a.value, kind.value = -0.25, "y"
    assert calls[1:] == [(0.0, "x", 0.0), (0.0, "y", 0.0)]  # not below the least
    a.value = 0.75
    assert words.value == "1.50"


def test_words_are_filled_with_numbers_and_a_true_minus():
    assert computed.with_numbers("#eq-5 {z:.2f} = {n} - a-1", {"z": -1.5, "n": -3}) == "#eq-5 −1.50 = −3 - a-1"


def rows_of(part, p, retrain, c=0):
    return pd.DataFrame({"class": c, "p": p, "part": part, "retrain": retrain})


def test_a_model_of_ones_own_is_weighted_as_by_hand():
    unseen = rows_of("unseen", [0.4, 0.6], None)
    forget = rows_of("forget", [0.5, 0.9], [0.7, 0.4])
    found = own_model.weighted(pd.concat([unseen, forget]))
    sigma = 0.02**0.5
    assert found["z"].tolist() == pytest.approx([0, 0.4 / sigma])
    assert found["w"].tolist() == pytest.approx([1, 1 + math.tanh(0.4 / sigma)])  # one class: B is 1
    assert found["deviation"].tolist() == pytest.approx([-0.2, 0.5])
    groups = {row["group"]: row for row in own_model.group_rows(found)}
    assert groups["all"]["images"] == 2 and (groups["all"]["under"], groups["all"]["over"]) == (50, 50)
    none = own_model.weighted(pd.concat([unseen, forget]).drop(columns="retrain"))
    assert none["deviation"].isna().all() and "under" not in own_model.group_rows(none)[3]


def test_a_table_of_ones_own_that_cannot_be_read_is_refused():
    good = pd.concat([rows_of("unseen", [0.4, 0.6], None), rows_of("forget", [0.5], [0.7])], ignore_index=True)
    for changed, message in (
        (good.drop(columns="p"), "no column 'p' among class, part, retrain: give class, p, part"),
        (good.assign(part="train"), "row 0 has the part 'train'; choose one of: forget, unseen"),
        (good[:2], "no row has 'forget' as its part"),
        (good.assign(p=[0.1, 1.5, 0.2]), "row 1 has p 1.5; give a probability from 0 to 1"),
        (good.assign(retrain=float("nan")), "row 2 has retrain nan; give a probability from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            own_model.weighted(changed)


def test_a_button_plays_one_slider(shown):
    page = show(shown, play="offset")["text/html"]
    assert re.search(r'<button type="button" class="explorer-play" name="offset" value="1" hidden>Play offset<', page)
    assert "<button" not in show(shown)["text/html"]
    with pytest.raises(ValueError, match="no slider 'x' to play; choose one of: slope, offset"):
        show(shown, play="x")


def test_the_live_button_moves_its_slider():
    calls = []
    slopes = {"slope": [1.0, 2.0, 3.0]}
    box = explorers._live(
        lambda slope: (calls.append(slope), line(slope))[1], {"slope": "a"}, slopes, {"slope": 1.0}, "slope"
    )
    slider, player, _ = box.children
    player.value = 2
    assert slider.value == 3.0 and calls == [1.0, 3.0]


def test_alternative_text_says_the_numbers_of_the_picture(explorer):
    data, _ = content(explorer("rest-point")["text/html"])
    assert "Weight 1, pull 1, Retrain's p 0.8: push and pull meet at p 0.40." in data["alts"]
    assert "Weight 0, pull 1, Retrain's p 0.8: push and pull meet at p 0.80." in data["alts"]


def test_trajectory_explorer_and_trace_agree_on_every_epoch(original, data, split, config, shown):
    found = trace("rl+falw", original, data, split, config)
    assert found.p.shape == found.z.shape == found.w.shape == (config.epochs + 1, len(split.forget))
    assert found.val_p.shape == (config.epochs + 1, len(split.val)) and len(found.stats) == config.epochs + 1
    assert ((found.w > 1) == (found.z > 0)).all() and found.p[0].mean() > found.p[-1].mean()
    explorers.trajectory(found, {"head": 0, "tail": data.num_classes - 1})
    texts, frames = content(shown[-1]["text/html"])
    assert texts["texts"] == [["head", "tail"], ["0", "1", "2", "3"]] and len(set(frames)) == 8
    assert f"{found.p[0][found.y == 0].mean():.2f}" in texts["alts"][0]


def test_figures_close_with_their_explorer(shown):
    before = plt.get_fignums()
    show(shown)
    assert plt.get_fignums() == before


def test_a_trace_is_what_unlearning_does_epoch_by_epoch(original, data, split, config):
    found, models = trace("rl", original, data, split, config, tau=0.7), [original]
    unlearn("rl", original, data, split, config, on_epoch=lambda e, m: models.append(copy.deepcopy(m)))
    x, y = data.train
    assert torch.equal(found.y, y[split.forget]) and torch.equal(found.val_y, y[split.val])
    balance = balance_factor(split.forget_counts, 0.7)[found.y]
    for e, model in enumerate(models):
        p, val_p = (true_probability(model, x, y, part) for part in (split.forget, split.val))
        stats = class_stats(val_p, y[split.val], data.num_classes)
        assert torch.equal(found.p[e], p) and torch.equal(found.val_p[e], val_p)
        assert torch.equal(found.stats[e].mean, stats.mean)
        z = z_score(p, found.y, stats)
        assert torch.equal(found.z[e], z) and torch.equal(found.w[e], forgetting_weight(z, balance))
    assert torch.equal(trace("rl", original, data, split, config).w, trace("rl", original, data, split, config, 0.15).w)


def test_a_trajectory_says_the_numbers_of_its_class_and_epoch(original, data, split, config, shown):
    found = trace("rl+falw", original, data, split, config)
    explorers.trajectory(found, {"head": 0, "tail": 5})
    texts, _ = content(shown[-1]["text/html"])
    own, stats = found.y == 5, found.stats[2]
    assert f"{found.p[2][own].mean():.2f} and mean weight {found.w[2][own].mean():.2f}" in texts["alts"][6]
    assert f"unseen images {stats.mean[5]:.2f} plus or minus {stats.std[5]:.2f}." in texts["alts"][6]


def test_guesses_say_the_means_and_the_correlation_of_their_group(shown):
    of = {"a guess": torch.tensor([0.0, 0.5, 1.0, 0.3]), "another": torch.tensor([0.9, 0.1, 0.4, 0.2])}
    head = torch.tensor([True, True, True, False])
    explorers.guesses(of, torch.tensor([0.2, 0.4, 0.6, 0.1]), {"head": head, "all": torch.ones(4, dtype=torch.bool)})
    texts, frames = content(shown[-1]["text/html"])
    assert texts["texts"] == [["a guess", "another"], ["head", "all"]] and len(set(frames)) == 4
    assert "a guess of 3 forgotten images of head classes" in texts["alts"][0]
    assert "means 0.50 and 0.40, correlation 1.00." in texts["alts"][0]  # on a line


def test_explorers_say_the_numbers_of_their_records(shown):
    def part(mean):
        return {"mean": mean, "counts": [10, 0]}

    def of(method, head, seed=0, gamma=0.5):
        groups = {"head": part(head), "mid": part(0.5), "tail": part(0.4)}
        return {
            **{"key": f"{method} {head} {seed} {gamma}", "method": method, "recipe": {"epochs": 20}},
            "scores": dict.fromkeys(("fa", "ra", "ta", "mia"), 1.0),
            "forget_groups": dict.fromkeys(groups, 1.0),
            "forget_probabilities": groups,
            "setting": asdict(Setting(gamma=gamma)),
            "config": {"seed": seed},
        }

    explorers.deviations(falw.frame([of("rl", 0.2), of("retrain", 0.6), of("retrain", 0.9, seed=1000)]), ["rl"])
    data, _ = content(shown[-1]["text/html"])
    assert "of head classes at gamma 0.5: mean 0.20 under rl, 0.60 under Retrain, so 0.40 less." in data["alts"][1]
    more = [of("rl", 0.2), of("retrain", 0.6), of("retrain", 0.1, gamma=0.25), of("salun", 0.1, gamma=0.25)]
    more = falw.frame(more)
    explorers.deviations(more, ["rl"])
    assert content(shown[-1]["text/html"])[0]["alts"] == data["alts"]  # at 0.25 there is no rl
    with pytest.raises(ValueError, match="no gamma has records of retrain and all of: rl, salun"):
        explorers.deviations(more, ["rl", "salun"])
    row = {"method": "rl", **{f"{k}_mean": float(n) for n, k in enumerate(explorers.METRICS)}}
    sds = dict.fromkeys((f"{k}_sd" for k in explorers.METRICS), float("nan"))
    other, gone = {**row, "fa_mean": 9.0}, {"method": "ga"}
    explorers.benchmark({name: pd.DataFrame([first, gone]).assign(**sds) for name, first in (("A", row), ("B", other))})
    data, _ = content(shown[-1]["text/html"])
    assert data["alts"][:3] == [f"{m} on A, mean over seeds: rl {n}.0." for n, m in enumerate(("Avg. Gap", "FA", "RA"))]
    assert data["alts"][7] == "FA on B, mean over seeds: rl 9.0."


def test_the_explorer_of_false_alarms_says_what_is_found_at_which_rate(explorer):
    data, _ = content(explorer("false-alarms")["text/html"])
    assert data["alts"][0] == (
        "all images found at 1 % false alarms and gamma 0.5, in percent less Retrains': rl +1.0, ft +1.3."
    )
    last = "images of the tail found at 50 % false alarms and gamma 2, in percent less Retrains': rl -12.0, ft -12.3."
    assert data["alts"][-1] == last


def test_words_of_an_explorer_are_escaped_and_belong_to_its_first_picture(shown):
    page = show(shown, labels={"slope": "a<b"}, alt=lambda slope, offset: f'"{slope}" < {offset}')["text/html"]
    assert 'role="img" aria-label="&quot;2.0&quot; &lt; 0"' in page
    assert ">a&lt;b</span>" in page and 'aria-label="Explorer: a&lt;b, offset"' in page
    assert ' aria-hidden="true">' in page and "<metadata" not in page and "dc:date" not in page


def test_the_still_picture_is_the_first_frame(shown):
    bundle, alone = show(shown), show(shown, slope=[2.0], offset=[0])
    assert bundle["image/png"] == alone["image/png"] != show(shown, start={})["image/png"]


def test_no_slider_at_all_is_refused(shown):
    with pytest.raises(ValueError, match="choices that come to 0 pictures"):
        explorers.explore(draw, name="x", alt=lambda: "")
