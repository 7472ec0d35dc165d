"""The chapters as files: executed as they stand, set up alike, every figure with a caption and an alternative text.

That a chapter still runs is nbval's part (`make test`). nbval passes a notebook that was never executed, this does not.
"""

import base64
import importlib.util
import io
import itertools
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

from falw.config import Config
from falw.lab.cells import Cell, Setting

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


def tool(name):
    """A file of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


execute, portable = tool("execute"), tool("portable")


def read(path):
    return nbformat.read(path, as_version=4)


def test_there_are_chapters_and_the_contents_list_all_of_them():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert len(CHAPTERS) >= 3 and {path.stem for path in CHAPTERS} <= set(listed)
    intro = (ROOT / "book" / "intro.md").read_text()
    assert all(f"{{doc}}`{path.stem}`" in intro for path in CHAPTERS)


def test_chapter_is_executed_as_it_stands():
    for path in CHAPTERS:
        notebook = read(path)
        nbformat.validate(notebook)
        assert execute.is_executed(notebook), f"{path.stem}: run `make book`"


def test_cells_whose_output_is_compared_have_one():
    for path in CHAPTERS:
        cells = execute.code_cells(read(path))
        marked = [c for c in cells if "nbval-check-output" in c.metadata.get("tags", [])]
        assert all(c.outputs for c in marked) and not any("NBVAL_" in c.source for c in cells), path.stem


def test_cells_are_short():
    for path in CHAPTERS:
        assert max(len(c.source.splitlines()) for c in execute.code_cells(read(path))) <= 25, path.stem


def test_lines_of_commands_and_code_in_the_text_fit_the_page():
    pages = {path.stem: "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown") for path in CHAPTERS}
    pages |= {path.stem: path.read_text() for path in (ROOT / "book").glob("*.md")}
    blocks = [(page, code) for page, text in pages.items() for info, code in BLOCK.findall(text) if "{" not in info]
    assert len(blocks) > 50
    assert [(page, line) for page, block in blocks for line in block.splitlines() if len(line) > 90] == []


def test_every_figure_has_a_caption_a_name_and_an_alternative_text():
    for path in CHAPTERS:
        drawn = [c for c in execute.code_cells(read(path)) if any("image/png" in o.get("data", {}) for o in c.outputs)]
        assert drawn, path.stem
        for cell in drawn:
            about = cell.metadata["mystnb"]
            assert len(about["figure"]["caption"]) > 30 and len(about["image"]["alt"]) > 30, about
            assert about["figure"]["caption"] != about["image"]["alt"], about
        names = [cell.metadata["mystnb"]["figure"]["name"] for cell in drawn]
        assert len(set(names)) == len(names), path.stem


def test_names_of_figures_and_exercises_differ_over_the_book():
    labels = []
    for path in CHAPTERS:
        cells = read(path).cells
        labels += [c.metadata["mystnb"]["figure"]["name"] for c in cells if "mystnb" in c.metadata]
        labels += [c.metadata["exercise"] for c in cells if "exercise" in c.metadata]
    assert len(set(labels)) == len(labels)


def test_chapter_has_what_every_chapter_has():
    for path in CHAPTERS:
        text = "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
        for part in ("**The question.**", "**You will learn**", "**Time and hardware**", "## In short", "**Sources.**"):
            assert part in text, path.stem


def test_chapter_has_exercises_with_a_solution_that_is_folded_everywhere():
    for path in CHAPTERS:
        cells = read(path).cells
        solved = [k for k, c in enumerate(cells) if "exercise" in c.metadata]
        assert len(solved) >= 2, path.stem
        for k in solved:
            assert portable.TITLE.fullmatch(cells[k].source) and "solution" in cells[k + 1].metadata["tags"], path.stem
        for cell in (c for c in cells if "solution" in c.metadata.get("tags", [])):
            if cell.cell_type == "markdown":
                assert portable.DETAILS.fullmatch(cell.source), cell.source
            else:
                assert cell.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}, cell.source


GRADED = re.compile(r"\*\*Exercise: .+, (★{1,3})\.\*\*\n", re.M)
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.M | re.S)
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def test_chapter_ends_with_traps_questions_graded_exercises_and_reading():
    parts = ("> **What could go wrong.** ", "## Quick questions", "## Exercises", "## In short", "## Further reading")
    for path in CHAPTERS:
        texts = [c.source for c in read(path).cells if c.cell_type == "markdown"]
        places = [[k for k, text in enumerate(texts) if text.startswith(part)] for part in parts]
        assert [len(at) for at in places] == [1] * len(parts) and places == sorted(places), path.stem
        wrong, quick, *_, reading = (texts[at[0]] for at in places)
        assert wrong.count("\n> - ") in (2, 3) and reading.count("](references.bib#") >= 3, path.stem
        assert len(re.findall(r"^\*\*\d\.\*\* .+\n\n<details>", quick, re.M)) == quick.count("<details>") == 4, (
            path.stem
        )


def test_exercises_of_a_chapter_are_graded_from_easy_to_hard():
    for path in CHAPTERS:
        exercises = [c.source for c in read(path).cells if "exercise" in c.metadata]
        grades = [len(GRADED.match(text)[1]) for text in exercises if GRADED.match(text)]
        assert len(grades) == len(exercises) >= 4 and set(grades) == {1, 2, 3}, path.stem
        assert grades == sorted(grades) and any("Write down" in text for text in exercises), path.stem


def folded_code():
    """The code of folded solutions that are text, of every chapter."""
    cells = ((path.stem, cell) for path in CHAPTERS for cell in read(path).cells)
    texts = [(stem, c.source) for stem, c in cells if c.cell_type == "markdown" and c.source.startswith("<details>")]
    return [(stem, code) for stem, text in texts for code in FENCE.findall(text)]


def test_code_in_the_text_of_a_solution_runs_and_asserts_what_the_solution_says():
    found = folded_code()
    assert len(found) >= 3 * len(CHAPTERS)
    for stem, code in found:
        assert "assert" in code and max(map(len, code.splitlines())) <= 90, (stem, code)
        exec(compile(code, stem, "exec"), {"__name__": "solution"})  # noqa: S102  (our own pages)


def test_text_is_what_every_renderer_shows():
    for cell in (cell for path in CHAPTERS for cell in read(path).cells):
        if cell.cell_type == "markdown":
            raw = portable.RAW.findall(portable.CODE.sub("", cell.source))
            raw += re.findall(r"^(?:```+|:::+)\{.*", cell.source, re.M)
            assert raw == [], cell.source
        elif "hide-input" in cell.metadata.get("tags", []):
            assert cell.metadata["jupyter"]["source_hidden"], "folded in the book and not in JupyterLab"


def notebook_of(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def test_execution_fills_a_notebook_and_a_change_makes_it_stale(tmp_path):
    path = tmp_path / "n.ipynb"
    nbformat.write(notebook_of("x = 20", f"print(x + 1, {str(ROOT / 'falw')!r})"), path)
    assert not execute.is_executed(read(path))
    execute.execute(path)
    done = read(path)
    assert execute.is_executed(done) and done.cells[1].outputs[0].text == "21 ./falw\n"
    done.cells[0].source = "x = 21"
    assert not execute.is_executed(done)


def test_a_failing_cell_leaves_the_notebook_as_it_was(tmp_path, monkeypatch, capsys):
    path = tmp_path / "n.ipynb"
    nbformat.write(notebook_of("1 / 0"), path)
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["execute.py", str(path)])
    assert execute.main() == 1 and "ZeroDivisionError" in capsys.readouterr().err
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["n.ipynb"]
    monkeypatch.setattr("sys.argv", ["execute.py", "--check", str(path)])
    assert execute.main() == 1 and "not executed as it stands" in capsys.readouterr().out


def test_retrain_behaves_as_in_the_papers_table_2():
    """Records that chapter 2 shows, with the command that made them; training again takes minutes."""
    records = [json.loads(path.read_text()) for path in (ROOT / "results" / "cpu" / "textures").glob("*.json")]
    records = [r for r in records if r["setting"]["cap"] == "spill" and r["config"]["seed"] == r["setting"]["seed"]]
    for seed in range(3):
        own = [r for r in records if r["setting"]["seed"] == seed]
        scores = {r["setting"]["gamma"]: r["scores"] for r in own if r["method"] == "retrain"}
        assert sorted(scores) == [0, 1 / 4, 1 / 3, 0.5, 1, 1.5, 2]
        fa = [scores[gamma]["fa"] for gamma in sorted(scores)]
        assert abs(fa[0] - scores[0]["ta"]) <= 6 and fa[-1] < 10
        # It falls; up to 1/2 no class is exhausted and it hardly moves. 3.2: two deviations of a share of 900 images
        assert fa[3:] == sorted(fa[3:], reverse=True) and all(b - a < 3.2 for a, b in itertools.pairwise(fa))
    for r in (r for r in records if r["method"] == "original"):
        seen = [(r["scores"][k], r["sizes"][part]) for k, part in (("fa", "forget"), ("ra", "retain"))]
        assert sum(a * n for a, n in seen) / sum(n for _, n in seen) >= 99 and 55 <= r["scores"]["ta"] <= 75


def test_records_are_whole_and_made_by_committed_code():
    for path in (ROOT / "results" / "cpu").rglob("*.json"):
        record = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        named = {"setting", "method", "config", "recipe", "versions", "device", "seconds", "commit", "date"}
        assert named <= set(record) and not record["commit"].endswith("+"), path
        config, recipe = Config(**record["config"]), Config(**record["recipe"])
        cell = Cell(Setting(**record["setting"]), record["method"], config, recipe)
        assert cell.key == record["key"] == path.stem, path  # so that the same command finds it


def test_what_would_change_with_every_run_is_not_stored(tmp_path):
    code = "import ipywidgets\nfrom IPython.display import display\ndisplay(ipywidgets.IntSlider())"
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
    execute.execute(path)
    done = nbformat.read(path, as_version=4)
    assert "widgets" not in done.metadata and "execution" not in done.cells[0].metadata
    assert "widget-view" not in path.read_text() and done.cells[0].outputs


def test_an_error_or_a_run_out_of_order_is_not_executed():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])
    notebook.metadata["falw"] = {"executed": execute.sources_hash(notebook)}
    assert execute.is_executed(notebook)
    notebook.cells[0].execution_count = 2
    assert not execute.is_executed(notebook)
    notebook.cells[0].execution_count = 1
    notebook.cells[0].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
    assert not execute.is_executed(notebook)


def test_pictures_keep_what_looks_like_a_folder():
    found = execute.without_places({"image/png": "/x/ipykernel_1/2.py", "text/plain": "/x/ipykernel_1/2.py"})
    assert found == {"image/png": "/x/ipykernel_1/2.py", "text/plain": "<cell>"}


def test_a_figure_is_stored_in_few_colours_and_a_photograph_or_glass_as_it_is():
    def png(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    def pixels(encoded):
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"), float)

    rng = np.random.default_rng(0)
    figure = np.full((80, 80, 4), 255, np.uint8)
    figure[20:60, 20:60] = (0, 114, 178, 255)
    figure[rng.random((80, 80)) < 0.3] = (213, 94, 0, 255)
    assert len(execute.with_palette(png(figure))) < len(png(figure))
    assert abs(pixels(execute.with_palette(png(figure))) - figure[..., :3]).mean() <= 0.5
    photograph, glass = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8), figure.copy()
    glass[0, 0, 3] = 0
    for encoded in (png(photograph), png(glass)):
        assert execute.with_palette(encoded) == encoded
    few, within = execute.with_palette(png(figure)), '<img src="data:image/png;base64,{}" alt="a+b">'
    data = {"image/png": png(figure), "text/html": within.format(png(figure)), "text/plain": png(figure)}
    execute.shrink_pictures(data)
    assert data == {"image/png": few, "text/html": within.format(few), "text/plain": png(figure)}
