"""Every page as a reader has it: from disk, without a network, in light and dark mode, on a phone, by keyboard."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from built import PAGES, ROOT, SITE
from test_safety import named

pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
soup = {path: BeautifulSoup(path.read_text(), "html.parser") for path in SITE.glob("*.html")}
WITH_EXPLORERS = [path for path in PAGES if soup[path].select(".explorer")]
explorers = pytest.mark.parametrize("path", WITH_EXPLORERS, ids=lambda path: path.stem)


def test_there_is_a_page_for_every_source():
    sources = {path.stem for path in (ROOT / "book").glob("*.ipynb")} | {
        path.stem for path in (ROOT / "book").glob("*.md")
    }
    assert sources <= {path.stem for path in PAGES} and len(WITH_EXPLORERS) >= 5


@pages
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_loads_without_an_error_or_a_network_and_anybody_can_read_it(path, scheme, visit):
    page = visit(path, scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    formulas, drawn = (page.locator(s).count() for s in ("span.math, div.math", "mjx-container"))
    assert not formulas or drawn
    assert page.trouble == []
    found = Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]][:3]) for v in serious]


# What is laid out wrong: what is wider than the column and does not scroll in a box of its own, a number whose
# deviation stands on another line, and on a desktop whatever scrolls that is no long command.
LAID_OUT = """desktop => {
    document.querySelectorAll("details").forEach(e => { e.open = true });
    const article = document.querySelector("article") ?? document.body, found = [];
    const edge = article.getBoundingClientRect().right - parseFloat(getComputedStyle(article).paddingRight) + 1;
    const say = (what, e) => found.push(`${what}: ${e.textContent.trim().slice(0, 60)}`);
    for (const e of article.querySelectorAll("table, img, figure, pre, .explorer, select, input")) {
        const box = e.closest(".pst-scrollable-table-container, .explorer-table, .output, .wide") ?? e;
        if (box.getBoundingClientRect().right > edge) say("wider than the column", e);
        if (box !== e && box.scrollWidth > box.clientWidth + 1 && !/auto|scroll/.test(getComputedStyle(box).overflowX))
            say("does not scroll", e);
        if (e.src && e.naturalWidth && e.clientWidth && e.clientWidth < 0.34 * e.naturalWidth) say("too small", e);
        if (desktop && box !== e && box.scrollWidth > box.clientWidth + 1) say("cut off", e);
    }
    if (desktop)
        for (const e of article.querySelectorAll(".cell_input pre"))
            if (e.scrollWidth > e.clientWidth + 1) say("cut off", e);
    const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT), range = document.createRange();
    while (texts.nextNode())
        for (const m of texts.currentNode.data.matchAll(/[\\d.]+\\s±\\s[\\d.]+/g)) {
            range.setStart(texts.currentNode, m.index);
            range.setEnd(texts.currentNode, m.index + m[0].length);
            const lines = new Set([...range.getClientRects()].map(r => Math.round(r.top)));
            if (lines.size > 1) found.push(`broken: ${m[0]}`);
        }
    return found
}"""


# Whether each wide figure scrolls, and what stands above it.
WIDE = """[...document.querySelectorAll('.wide')].map(
    e => [e.scrollWidth > e.clientWidth, getComputedStyle(e, '::before').content])"""


@pages
@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_cut_off_or_broken(path, width, visit):
    page = visit(path, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LAID_OUT, width > 390) == []
    for scrolls, says in page.evaluate(WIDE):
        assert (scrolls, "scroll" in says) == (width == 390,) * 2


WITH_TWO_PICTURES = [path for path in PAGES if soup[path].select("img.only-dark")]


@pytest.mark.parametrize("path", WITH_TWO_PICTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_caption_is_shown(path, scheme, visit):
    heights = visit(path, scheme).evaluate("[...document.querySelectorAll('figcaption')].map(e => e.clientHeight)")
    assert heights and min(heights) > 9


WITH_EQUATIONS = [path for path in PAGES if soup[path].select("div.math")]


@pytest.mark.parametrize("path", WITH_EQUATIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("width", [1400, 390])
def test_no_formula_is_cut_off(path, width, visit):
    """An equation is the same picture if nothing is cut off. (Sizes do not tell: a glyph can outgrow its box.)"""
    page = visit(path, width=width)
    page.evaluate("document.fonts.ready")

    def pictures():
        boxes = [equation.bounding_box() for equation in page.locator("div.math").all()]
        around = [{**b, "y": b["y"] - 15, "height": b["height"] + 30} for b in boxes]
        return [page.screenshot(clip=box, full_page=True, animations="disabled") for box in around]

    before = pictures()
    page.add_style_tag(content=".math, mjx-container { overflow: visible !important; }")
    assert [k for k, (cut, whole) in enumerate(zip(before, pictures(), strict=True)) if cut != whole] == []


@pages
def test_links_and_pictures_lead_somewhere(path):
    missing = []
    for tag, key in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
        for element in soup[path].find_all(tag, **{key: True}):
            address = urlsplit(element[key])
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            anchor = unquote(address.fragment)
            known = soup.get(target)
            if not target.exists() or (anchor and known and not known.find(id=anchor)):
                missing.append(element[key])
    assert missing == []


@pages
def test_page_names_no_place_on_a_machine(path):
    assert named(re.sub(r"base64,[\w+/=]+", "", path.read_text())) == []
    elements = [(e, key) for key in ("href", "src") for e in soup[path].find_all(attrs={key: True})]
    assert [e[key] for e, key in elements if e[key].startswith(("/", "file:"))] == []


@pages
def test_every_picture_has_an_alternative_text(path):
    pictures = [img for img in soup[path].select("main img") if "logo" not in img["src"]]  # the theme's own
    assert all(len(picture.get("alt", "")) > 20 for picture in pictures)


SLIDER = "input[type=range]"


def state(explorer):
    """What an explorer shows: its picture, the words for it, and what its sliders say."""
    picture = explorer.locator(".explorer-picture")
    texts = [slider.get_attribute("aria-valuetext") for slider in explorer.locator(SLIDER).all()]
    return (
        picture.inner_html(),
        picture.get_attribute("aria-label"),
        texts,
        explorer.locator("output").all_inner_texts(),
    )


@explorers
def test_every_slider_moves_by_keyboard_and_by_mouse(path, visit):
    page = visit(path)
    for explorer in page.locator(".explorer").all():
        for k, slider in enumerate(explorer.locator(SLIDER).all()):
            before, start = state(explorer), slider.input_value()
            slider.focus()
            page.keyboard.press("End" if slider.input_value() != slider.get_attribute("max") else "Home")
            by_key = state(explorer)
            box = slider.bounding_box()
            far = box["width"] - 3 if slider.input_value() == slider.get_attribute("min") else 3
            slider.click(position={"x": far, "y": box["height"] / 2})
            by_mouse = state(explorer)
            for old, new in ((before, by_key), (by_key, by_mouse)):
                assert new[2][k] != old[2][k] and new[2] == new[3], "the slider says where it is"
                assert new[1] != old[1], "the words change"
            assert len({before[0], by_key[0], by_mouse[0]}) > 1, "the picture changes"
            slider.fill(start)
    assert page.trouble == []


@explorers
def test_an_explorer_shows_the_picture_and_the_words_of_the_frame_its_sliders_say(path, visit):
    page = visit(path)
    same = """(e, svg) => { const d = document.createElement("div"); d.innerHTML = svg;
    return d.innerHTML === e.querySelector(".explorer-picture").innerHTML }"""
    for explorer in page.locator(".explorer.frames").all():  # those that compute: test_computed.py
        data = json.loads(explorer.locator("script[type='application/json']").text_content())
        sliders = explorer.locator("input").all()
        for slider in [None, *sliders]:  # None: as the page begins
            if slider:
                assert slider.evaluate("e => e.tabIndex") == 0
                slider.focus()
                page.keyboard.press("ArrowRight")
            frame, texts = 0, []
            for values, s in zip(data["texts"], sliders, strict=True):
                frame = frame * len(values) + int(s.input_value())
                texts.append(values[int(s.input_value())])
            assert state(explorer)[1:] == (data["alts"][frame], texts, texts)
            assert explorer.evaluate(same, "\n".join(data["lines"][k] for k in data["frames"][frame]))


@explorers
def test_in_the_dark_an_explorers_figure_is_light_on_dark(path, visit):
    page = visit(path, "dark")
    for explorer in page.locator(".explorer").all():
        explorer.locator("svg text").first.wait_for(state="attached")
        colours = "e => [getComputedStyle(e).color, getComputedStyle(e.querySelector('svg text')).fill]"
        ink, words = explorer.evaluate(colours)
        assert ink == words and min(map(int, re.findall(r"\d+", words)[:3])) > 150
        clear = "e => getComputedStyle(e.querySelector('.explorer-picture')).backgroundColor"
        assert explorer.evaluate(clear) == "rgba(0, 0, 0, 0)"


@pytest.mark.parametrize("path", [path for path in PAGES if soup[path].select("main figure img")], ids=lambda p: p.stem)
def test_in_the_dark_a_figure_has_no_card_and_an_image_is_no_negative(path, visit):
    page = visit(path, "dark")
    for picture in page.locator("main figure img").all():
        if picture.is_visible():
            style = picture.evaluate("e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).filter]")
            images = "only-dark" in (picture.get_attribute("class") or "")
            assert style == ["rgba(0, 0, 0, 0)", "none" if images else "invert(1) hue-rotate(180deg)"]


@explorers
def test_without_scripts_the_first_picture_stays(path, visit):
    page = visit(path, java_script_enabled=False)
    for explorer in page.locator(".explorer").all():
        assert explorer.locator(".explorer-picture :is(svg, img)").is_visible()
        assert len(explorer.locator(".explorer-picture").get_attribute("aria-label")) > 40


@explorers
def test_an_explorer_is_as_wide_as_a_phone_and_its_words_are_large_enough(path, visit):
    page = visit(path, width=390)
    for explorer in page.locator(".explorer").all():
        svg = explorer.locator(".explorer-picture svg").last.bounding_box()
        assert svg["x"] >= 0 and svg["x"] + svg["width"] <= 390
        heights = explorer.evaluate(
            "e => [...e.querySelectorAll('svg text')].map(t => t.getBoundingClientRect())"
            ".map(b => Math.max(b.height, b.width > 20 ? 0 : b.width))"  # what is turned is as wide as others are high
        )
        assert min(heights) >= 9


def test_search_finds_the_balance_factor(visit):
    page = visit(Path(SITE / "search.html"))
    page.goto((SITE / "search.html").as_uri() + "?q=balance+factor")
    page.wait_for_selector("#search-results li a")
    found = [link.get_attribute("href") for link in page.locator("#search-results li a").all()]
    assert any(link.startswith("06-balance-factor.html") for link in found)
    assert page.trouble == []


def test_building_again_changes_no_page(tmp_path):
    command = [Path(sys.executable).with_name("jupyter-book"), "build", "book", "--config", "_config.yml"]
    command += ["--path-output", str(tmp_path), "--all", "-W", "-n", "--keep-going", "-q"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    again = tmp_path / "_build" / "html"
    assert {path.name for path in again.glob("*.html")} == {path.name for path in SITE.glob("*.html")}
    different = [
        path.name for path in SITE.glob("*.html") if without_digests(path) != without_digests(again / path.name)
    ]
    assert different == []


def without_digests(path):
    """A page without the ?v=... of style sheets, which a first build leaves out for those it has yet to write."""
    return re.sub(r"\?v=[0-9a-f]+", "", path.read_text())
