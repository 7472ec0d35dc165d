"""Plain Markdown of notebooks as MyST: each form by hand, and that nothing else is touched."""

import importlib.util
from pathlib import Path

import pytest

path = Path(__file__).resolve().parent.parent / "tools" / "portable.py"
spec = importlib.util.spec_from_file_location("portable", path)
portable = importlib.util.module_from_spec(spec)
spec.loader.exec_module(portable)


@pytest.mark.parametrize(
    "plain, myst",
    [
        ("by [Eq. 6](06-balance-factor.ipynb#eq-6), and", "by {ref}`Eq. 6 <eq-6>`, and"),
        ("by [Eq. A](#eq-a)", "by {ref}`Eq. A <eq-a>`"),
        ("in [the figure](#fig-tau) to", "in {numref}`fig-tau` to"),
        ("as [there](06-balance-factor.ipynb#fig-tau),", "as {numref}`fig-tau`,"),
        ("SalUn ([Fan et al. 2024](references.bib#salun)) is", "SalUn {cite}`salun` is"),
        ("[Fan et al. (2024)](references.bib#salun) is", "{cite:t}`salun` is"),
        ("[Benchmark](08-benchmarks.ipynb) and $a | b$", "[Benchmark](08-benchmarks.ipynb) and $a | b$"),
        ("$$\na \\\\\nb\n$$", "$$\na \\\\\nb\n$$"),
        ("code: `[the figure](#fig-tau)`", "code: `[the figure](#fig-tau)`"),
        ("```\n> **Title.** in code\n```", "```\n> **Title.** in code\n```"),
    ],
)
def test_a_form_becomes_what_the_build_numbers_and_the_rest_stays(plain, myst):
    assert portable.to_myst(plain) == myst


def test_an_equation_without_a_number_and_text_are_no_part_of_the_numbered_one_below():
    first, text, numbered = "$$\na = b,\n$$", "where $a$ is a logit.", "$$\nc \\tag{9}\n$$"
    page = portable.to_myst(f"{first}\n\n{text}\n\n{numbered}")
    assert page == f"{first}\n\n{text}\n\n{portable.to_myst(numbered)}" and "eq-9" in page


def test_a_numbered_equation_keeps_the_papers_number_and_has_an_anchor():
    text = portable.to_myst("It is\n\n$$\nw = 1 \\\\\nz = 2 \\tag{13}\n$$\n\nor\n\n$$\nx\n$$")
    assert text.count("(eq-13)=") == 1 and "z = 2 \\tag{13}\n\\end{equation}\n```\n\nor\n\n$$\nx\n$$" in text


def test_a_picture_with_a_caption_is_a_figure_and_a_quote_with_a_title_a_box():
    text = portable.to_myst("Look:\n\n![A chart.](static/chart.svg)\n\n*What it\nshows.*\n\nThen.")
    assert text.startswith("Look:\n\n```{figure} static/chart.svg\n:name: fig-chart") and ":alt: A chart.\n" in text
    assert "\nWhat it\nshows.\n```\n\nThen." in text
    text = portable.to_myst("> **Algorithm 1.** Given:\n>\n> 1. Start.\n>    1. Go on.\n\nAfter.")
    assert (
        "{admonition} Algorithm 1\n:class: note\nGiven:\n\n1. Start.\n   1. Go on.\n````" in text
        and "\n\nAfter." in text
    )


def test_an_answer_that_is_not_a_solution_is_a_folded_box_and_two_stay_two():
    answers = [
        f"<details><summary>Answer</summary>\n\n{words}\n\n</details>" for words in ("By [Eq. 6](#eq-6).", "No.")
    ]
    text = portable.to_myst("\n\n".join(["**1.** Why?", answers[0], "**2.** So?", answers[1]]))
    assert text.count("`````{admonition} Answer\n:class: dropdown\n") == 2 and "details" not in text
    assert "\nBy {ref}`Eq. 6 <eq-6>`.\n`````\n\n**2.** So?" in text and text.endswith("\nNo.\n`````")


def test_a_solution_lies_between_its_marks_and_belongs_to_the_exercise_before_it():
    def cell(kind, source, **metadata):
        return {"cell_type": kind, "source": source, "metadata": metadata}

    answer = "<details><summary>Solution</summary>\n\nTwo. [Eq. 6](#eq-6)\n\n</details>"
    cells = [
        cell("markdown", "**Exercise: adding.**\nWhat is 1 + 1?", exercise="ex-add"),
        cell("code", "1 + 1", tags=["solution"]),
        cell("markdown", answer, tags=["solution"]),
        cell("markdown", "## In short"),
    ]
    found = [c["source"] for c in portable.translate({"cells": cells})["cells"]]
    assert found[0] == "````{exercise} adding\n:label: ex-add\nWhat is 1 + 1?\n````"
    assert found[1].startswith("````{solution-start} ex-add") and found[2] == "1 + 1"
    assert found[3] == "Two. {ref}`Eq. 6 <eq-6>`" and "{solution-end}" in found[4] and found[5] == "## In short"
    assert cells[0]["source"].startswith("**Exercise"), "the notebook itself stays as it is"
