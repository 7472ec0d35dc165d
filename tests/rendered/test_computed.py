"""What pages compute: equal to Python on random points, moved by keyboard and mouse, in the dark, on a phone.

The output of a cell is opened alone, so nothing has to be built.
"""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from falw.book import explorers, own_model
from falw.book.computed import Computed, page_file, with_numbers
from falw.metrics import Part
from falw.split import CAPS, power_law_counts

POINTS = 1000


def two_models():
    """Four made-up models of 90 images, 15 a class; their probabilities are sixty-fourths, so nothing is rounded."""
    y, generator, parts = torch.arange(90) % 6, torch.Generator().manual_seed(0), {}
    for name in ("original", "retrain", "ft", "salun"):
        of_true = torch.randint(0, 65, (90,), generator=generator) / 64
        p = torch.zeros(90, 6).scatter(1, (y[:, None] + 1) % 6, 1 - of_true[:, None])
        parts[name] = Part(p.scatter(1, y[:, None], of_true[:, None]), y)
    explorers.two_models(parts, dict(zip(("head", "mid", "tail"), torch.arange(6).chunk(3), strict=True)))


@pytest.fixture(scope="module")
def shown():
    """The explorers of the book that compute, as the chapters show them, by name, with their bundles."""
    found = {}
    with pytest.MonkeyPatch.context() as m:
        show = Computed.show

        def keep(explorer):
            bundles = []
            m.setattr("IPython.display.display", lambda b, raw=False: isinstance(b, dict) and bundles.append(b))
            show(explorer)
            found[explorer.name] = explorer, bundles[-1]["text/html"]

        m.setattr(Computed, "show", keep)
        for of in (explorers.weight, explorers.balance, explorers.forget_set, two_models):
            of()
    return found


NAMES = ["weight", "balance", "forget-set", "two-models"]


@pytest.fixture
def window(browser):
    """Open the output of a cell; what goes wrong in it is in `page.trouble`."""
    contexts = []

    def window(html, width=1000, dark=False, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.trouble = []
        page.on("console", lambda m: m.type == "error" and page.trouble.append(m.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        colours = "color:rgb(206, 214, 221);background:rgb(20, 24, 30)" if dark else ""
        page.set_content(f'<!doctype html><meta charset="utf-8"><body style="{colours}">{html}')
        return page

    yield window
    for context in contexts:
        context.close()


def points(explorer, n=POINTS):
    """Random values of every slider, on its steps."""
    generator = np.random.default_rng(0)
    found = {}
    for key, slider in explorer.sliders.items():
        if slider.choices:
            found[key] = generator.choice(slider.choices, n).tolist()
        else:
            steps = generator.integers(0, round((slider.high - slider.low) / slider.step), n, endpoint=True)
            values = [round(slider.low + int(k) * slider.step, 10) for k in steps]
            found[key] = values if slider.step < 1 else [round(v) for v in values]
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_finds_what_python_finds(name, shown, window):
    explorer, _ = shown[name]
    page = window("")
    page.add_script_tag(content=page_file("formulas.js") + page_file("explorers.js"))
    given = points(explorer)
    each = f"([constants, all]) => all.map(v => EXPLORERS.{explorer.script}.numbers({{...constants, ...v}}))"
    theirs = page.evaluate(each, [explorer.constants, given])
    assert len(theirs) == POINTS
    for values, found in zip(given, theirs, strict=True):
        ours = explorer.found(**values)
        for key, value in found.items():
            expected = ours[key] if isinstance(ours[key], str) else np.asarray(ours[key], float)
            if isinstance(value, str):
                assert value == expected, (values, key)
            else:
                np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12, err_msg=f"{values} {key}")
        assert found.keys() <= ours.keys() and {*ours} - {*values} == {*explorer.constants, *found}


def test_counts_of_classes_of_any_sizes_are_those_of_python(window):
    page, generator = window(""), np.random.default_rng(0)
    page.add_script_tag(content=page_file("formulas.js"))
    given = []
    for _ in range(200):
        caps = generator.integers(0, 30, generator.integers(2, 12)).tolist()
        total, cap = int(generator.integers(0, sum(caps), endpoint=True)), CAPS[generator.integers(2)]
        given.append([total, caps, generator.integers(0, 40) / 20, cap])
    theirs = page.evaluate("all => all.map(values => formulas.powerLawCounts(...values))", given)
    assert theirs == [power_law_counts(total, torch.tensor(caps), *how).tolist() for total, caps, *how in given]


def table(seed, n=120, classes=7, retrain=True):
    """Probabilities of a made-up model: unseen images of every class, forgotten ones of most."""
    generator = np.random.default_rng(seed)
    y, part = generator.integers(0, classes, n), np.where(np.arange(n) < n // 2, "unseen", "forget")
    y[: n // 2] = np.arange(n // 2) % classes
    rows = pd.DataFrame({"class": y, "p": generator.random(n), "part": part, "retrain": generator.random(n)})
    return rows if retrain else rows.drop(columns="retrain")


@pytest.mark.parametrize("retrain", [True, False])
def test_a_table_of_ones_own_comes_out_as_in_python(retrain, window):
    page = window("")
    page.add_script_tag(content=page_file("formulas.js") + page_file("panels.js") + page_file("own.js"))
    of = """([csv, tau]) => { const found = weighted(parse(csv), tau).images;
    return { images: found.map(i => [i.z, i.w, i.deviation]), names: found.map(i => i.group),
    groups: byGroup(found) } }"""
    for seed in range(20):
        rows, tau = table(seed, retrain=retrain), seed / 20
        theirs = page.evaluate(of, [rows.to_csv(index=False), tau])
        ours = own_model.weighted(rows, tau)
        assert theirs["names"] == ours["group"].tolist()
        expected = ours[["z", "w", "deviation"]].to_numpy(float)
        np.testing.assert_allclose(np.array(theirs["images"], float), expected, rtol=1e-10, atol=1e-12)
        for mine, other in zip(own_model.group_rows(ours), theirs["groups"], strict=True):
            assert mine.pop("group") == other["group"]
            np.testing.assert_allclose([other[key] for key in mine], [*mine.values()], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_control_moves_picture_words_and_formula_by_keyboard_and_mouse(name, shown, window):
    explorer, html = shown[name]
    page = window(html)
    picture, formula = page.locator(".explorer-picture"), page.locator(".explorer-formula")
    values = {key: slider.start for key, slider in explorer.sliders.items()}

    def holds():
        found = explorer.found(**values)
        assert picture.get_attribute("aria-label") == with_numbers(explorer.alt, found)
        words = re.sub("<[^>]+>", "", with_numbers(explorer.formula, found))
        assert formula.evaluate("e => e.textContent") == words
        return picture.inner_html()

    before = holds()
    for key, slider in explorer.sliders.items():
        control = page.locator(f"[name={key}]")
        control.focus()
        if slider.choices:
            place = slider.choices.index(slider.start)
            way = -1 if place == len(slider.choices) - 1 else 1
            page.keyboard.press("ArrowDown" if way == 1 else "ArrowUp")
            values[key] = slider.choices[place + way]
        else:
            back = slider.start == slider.high
            page.keyboard.press("ArrowLeft" if back else "ArrowRight")
            by_key = control.input_value()
            assert float(by_key) == pytest.approx(slider.start + slider.step * (-1 if back else 1))
            values[key] = float(by_key) if slider.step < 1 else int(by_key)
            assert holds() != before
            box = control.bounding_box()
            control.click(position={"x": 0.3 * box["width"], "y": box["height"] / 2})
            by_mouse = control.input_value()
            assert by_mouse != by_key
            values[key] = float(by_mouse) if slider.step < 1 else int(by_mouse)
            assert control.get_attribute("aria-valuetext") == control.locator("+ output").inner_text()
        assert holds() != before
        values[key] = slider.start
        control.select_option(slider.start) if slider.choices else control.fill(str(slider.start))
    assert page.trouble == []


@pytest.mark.parametrize("name", [*NAMES, "own"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_figure_has_the_theme_of_the_page(name, dark, shown, own, window):
    page = window(own if name == "own" else shown[name][1], dark=dark)
    ink = page.evaluate("getComputedStyle(document.body).color")
    text = page.locator(".explorer-picture svg text").first
    assert text.evaluate("e => getComputedStyle(e).fill") == ink
    boxes = page.locator(".explorer, .explorer :is(div, p, label, table, td, th)")
    grounds = boxes.evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
    assert set(grounds) == {"rgba(0, 0, 0, 0)"}


@pytest.mark.parametrize("name", ["balance", "forget-set", "two-models", "own"])
def test_anybody_can_read_it(name, shown, own, window):
    page = window(own if name == "own" else shown[name][1])
    page.locator(".explorer-panel svg text").first.wait_for()
    found = Axe().run(page, context=".explorer").response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]][:3]) for v in serious]


@pytest.mark.parametrize("name", [*NAMES, "own"])
def test_on_a_phone_panels_stand_one_under_the_other_and_can_be_read(name, shown, own, window):
    page = window(own if name == "own" else shown[name][1], width=390)
    page.locator(".explorer-panel svg text").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [panel.bounding_box() for panel in page.locator(".explorer-panel").all()]
    assert all(a["y"] + a["height"] <= b["y"] + 1 for a, b in pairwise(boxes))
    heights = page.locator(".explorer-panel svg text").evaluate_all(
        "all => all.map(t => t.getBoundingClientRect()).map(b => Math.max(b.height, b.width))"
    )
    assert min(heights) >= 6 and page.locator(".explorer-panel svg[font-size='12']").count() == len(boxes)
    page.set_viewport_size({"width": 1000, "height": 900})
    wide = page.locator(".explorer-panel > div > svg")
    expect(wide.first).not_to_have_attribute("width", str(round(boxes[0]["width"])))


@pytest.mark.parametrize("name", [*NAMES, "own"])
def test_without_scripts_there_is_a_figure(name, shown, own, window):
    page = window(own if name == "own" else shown[name][1], java_script_enabled=False)
    image = page.locator(".explorer-picture img")
    assert image.is_visible() and len(image.get_attribute("alt")) > 40


def test_two_models_stand_side_by_side_with_their_numbers_beneath(shown, window):
    explorer, html = shown["two-models"]
    page = window(html)
    panels = page.locator(".explorer-panel")

    def holds(**values):
        found = explorer.found(**values)
        assert panels.locator(".explorer-title").all_inner_texts() == [values["left"], values["right"]]
        notes = [re.sub("<[^>]+>", "", with_numbers(found["notes"][side], found)) for side in ("left", "right")]
        assert panels.locator(".explorer-note").evaluate_all("all => all.map(e => e.textContent)") == notes
        assert [panel.locator("div circle").count() for panel in panels.all()] == [found["images"]] * 2
        return found

    holds(left="ft", right="salun", group="all")
    boxes = [panel.bounding_box() for panel in panels.all()]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    page.locator("[name=left]").focus()
    page.keyboard.press("ArrowUp")
    page.locator("[name=group]").select_option("tail")
    retrain = holds(left="retrain", right="salun", group="tail")
    assert (retrain["images"], retrain["left_w1"], retrain["left_faithful"]) == (30, 0, 100)
    assert page.trouble == []


# A model of one's own


@pytest.fixture(scope="module")
def own():
    """The page of `own_model.show` with a table of seven classes."""
    bundles = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr("IPython.display.display", lambda bundle, raw=False: bundles.append(bundle))
        own_model.show(table(0))
    return bundles[0]["text/html"]


def give(page, text, name="mine.csv"):
    content = text if isinstance(text, bytes) else text.encode()
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})


def said(page):
    return page.locator(".explorer-formula")


def cells(page):
    rows = page.locator(".explorer-table tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_a_file_is_shown_with_its_weights_groups_and_deviations(own, window):
    page = window(own)
    expect(said(page)).to_have_text("the example: 60 forgotten and 60 unseen images of 7 classes.")
    rows = table(5)
    give(page, rows.to_csv(index=False))
    expect(said(page)).to_contain_text("mine.csv: 60 forgotten")
    head, *body = cells(page)
    assert head[:2] == ["group", "images"] and "faithful %" in head
    for row, found in zip(body, own_model.group_rows(own_model.weighted(rows)), strict=True):
        assert row[0] == found["group"] and row[1] == str(found["images"])
        expected = [f"{found[key]:.2f}".replace("-", "−") for key in ("p", "z", "w")]
        assert row[2:5] == expected and row[8] == f"{found['faithful']:.0f}"
    assert page.locator(".explorer-panel").first.locator("circle").count() == 60 + 3  # and three in the legend
    before = cells(page)
    page.locator("[name=tau]").focus()
    page.keyboard.press("End")
    assert cells(page) != before and page.trouble == []


def test_a_file_can_be_dropped(own, window):
    page = window(own)
    page.evaluate(
        """csv => { const data = new DataTransfer(); data.items.add(new File([csv], "dropped.csv"));
        document.querySelector(".explorer-drop").dispatchEvent(
            new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })) }""",
        table(2, retrain=False).to_csv(index=False),
    )
    expect(said(page)).to_contain_text("dropped.csv: 60 forgotten")
    assert cells(page)[0][-1] == "w below 1, %"  # nothing of a Retrain that is not there


def other_forms():
    rows = table(3)
    named = rows.assign(**{"class": [f'"{"cat, small" if c else "dog"}"' for c in rows["class"] % 2]})
    lines = ["class,p,part,retrain", *(",".join(map(str, row)) for row in named.itertuples(index=False))]
    return {
        "semicolons, another order, a mark of bytes": "\ufeff" + rows[[*rows][::-1]].to_csv(index=False, sep=";"),
        "tabs, ends of Windows, an empty line": rows.to_csv(index=False, sep="\t", lineterminator="\r\n") + "\r\n",
        "names in quotes with a comma": "\n".join(lines),
        "a column more, capital letters": rows.assign(note="x").to_csv(index=False).replace("part", "Part", 1),
    }


@pytest.mark.parametrize("form", other_forms())
def test_files_come_in_other_forms(form, own, window):
    page = window(own)
    give(page, other_forms()[form])
    expect(said(page)).to_contain_text("mine.csv: 60 forgotten and 60 unseen images of")
    z = own_model.group_rows(own_model.weighted(table(3)))[3]["z"]
    assert cells(page)[4][3] == f"{z:.2f}".replace("-", "−") or "names" in form


HEAD = "class,p,part\n"
BAD = {
    "": "the file is empty: give a first line 'class,p,part' and then a line for each image",
    "class,prob,part\n": "no column 'p' in the first line 'class,prob,part': it names class, p, part, and retrain"
    " if you have it",
    "class,p,part,p\n": "column 'p' stands twice in the first line: leave one of them out",
    f"{HEAD}1,0.3\n": "row 2 has 2 fields, and the first line 3: give one for each column",
    f"{HEAD}1,0.3,forget\n\n1,1.3,unseen\n": "row 4: p is '1.3'; give a probability from 0 to 1, with a point",
    f"{HEAD}1,nan,forget\n": "row 2: p is 'nan'; give a probability from 0 to 1, with a point",
    "class;p;part\n1;0,3;forget\n": "row 2: p is '0,3'; give a probability from 0 to 1, with a point",
    f"{HEAD}1,0.3,train\n": "row 2: part is 'train'; write forget or unseen",
    f"{HEAD},0.3,forget\n": "row 2: class is empty; give its name or number",
    f"{HEAD}1,0.3,forget\n": "no row has 'unseen' as its part: give forgotten images, and unseen ones to compare them"
    " with",
    "class,p,part,retrain\n1,0.3,forget,\n": "row 2: retrain is ''; give a probability from 0 to 1, with a point, or"
    " leave the column out",
}


def test_a_bad_file_is_refused_in_one_line_that_names_the_row_and_the_way_out(own, window):
    page = window(own)
    before = cells(page)
    for text, message in BAD.items():
        give(page, text)
        expect(said(page)).to_have_text(f"mine.csv is not shown: {message}.")
        assert cells(page) == before and said(page).evaluate("e => e.matches('.explorer-error[role=status]')")
    give(page, table(1).to_csv(index=False), "good.csv")
    expect(said(page)).to_contain_text("good.csv: 60 forgotten")
    assert not said(page).evaluate("e => e.matches('.explorer-error')") and page.trouble == []


def test_a_name_in_a_file_is_text_and_a_class_without_unseen_images_is_said(own, window):
    page = window(own)
    rows = table(1).assign(**{"class": lambda t: [f"<b>{c}</b>" for c in t["class"]]})
    lone = pd.DataFrame({"class": ["<img src=x>"], "p": [0.5], "part": ["forget"], "retrain": [0.5]})
    give(page, pd.concat([rows, lone]).to_csv(index=False))
    expect(said(page)).to_contain_text("of 8 classes. Fewer than two unseen images: class <img src=x>.")
    assert page.locator(".explorer b, .explorer img").count() == 0 and page.trouble == []


def test_nothing_of_a_file_leaves_the_page(own, window):
    page = window(own)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    give(page, table(1).to_csv(index=False))
    expect(said(page)).to_contain_text("mine.csv: 60 forgotten")
    assert asked == [] and not re.search(r"fetch\(|XMLHttpRequest|sendBeacon|WebSocket|localStorage", own)


# Frames with a button


@pytest.fixture(scope="module")
def played():
    """Four frames, one a value of t, under a button."""
    import matplotlib.pyplot as plt

    def draw(t):
        ax = plt.figure(figsize=(3, 2)).add_subplot()
        ax.plot([0, t], [0, 1])
        return ax

    bundles = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr("IPython.display.display", lambda b, raw=False: isinstance(b, dict) and bundles.append(b))
        explorers.explore(draw, name="line", alt=lambda t: f"at {t}", play="t", t=[1, 2, 3, 4])
    return bundles[-1]["text/html"]


def at(page):
    return page.locator(".explorer-picture").get_attribute("aria-label")


def test_the_button_runs_the_slider_to_its_end_and_again(played, window):
    page = window("")
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.set_content(played)
    button = page.get_by_role("button", name="Play t")
    button.focus()
    page.keyboard.press("Enter")
    assert at(page) == "at 2" and page.get_by_role("button", name="Pause").is_visible()
    page.clock.run_for(850)
    assert at(page) == "at 3"
    page.keyboard.press("Enter")  # pause
    page.clock.run_for(5000)
    assert at(page) == "at 3"
    button.click()
    page.clock.run_for(5000)
    assert at(page) == "at 4" and button.is_visible()  # it stops there
    button.click()
    assert at(page) == "at 1"


def test_where_a_reader_wants_less_motion_a_press_is_one_step(played, window):
    page = window("", reduced_motion="reduce")
    page.clock.install(time=0)
    page.clock.pause_at(1)
    page.set_content(played)
    page.get_by_role("button", name="Next t").click()
    page.clock.run_for(5000)
    assert at(page) == "at 2"


@pytest.mark.parametrize("dark", [False, True])
def test_frames_have_the_theme_of_the_page(played, dark, window):
    page = window(played, dark=dark)
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert page.locator("svg text").first.evaluate("e => getComputedStyle(e).fill") == ink
    filled = page.locator("svg path").evaluate_all("all => all.map(e => getComputedStyle(e).fill)")
    assert "rgb(255, 255, 255)" not in filled
    strokes = page.locator("svg path").evaluate_all("all => all.map(e => getComputedStyle(e).stroke)")
    assert ink in strokes and ("rgb(0, 0, 0)" in strokes) is not dark
