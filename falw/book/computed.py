"""Explorers that compute in the page: continuous sliders, numbers and words of their own, no kernel and no network.

The formula in JavaScript stands once, in page/formulas.js, and a browser holds it equal to the Python function beside
it. What is shown has a static figure in it, for places that run no scripts; with a kernel, in JupyterLab and Colab, an
ipywidgets control calls the Python functions.
"""

from __future__ import annotations

import html
import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

WIDGET = "application/vnd.jupyter.widget-view+json"
Found = Callable[..., Mapping[str, Any]]


@dataclass(frozen=True)
class Slider:
    """A control: from low to high in steps, whole numbers for a step of 1, or one of the `choices`."""

    label: str
    start: Any
    low: float = 0
    high: float = 1
    step: float = 0.01
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Computed:
    """An explorer: what a value of every slider gives, as numbers, a figure and words.

    name: of the element, letters and dashes. script: its key in page/explorers.js. numbers: called with `constants`
    and a value a slider, gives what the script finds. draw: called with all of these, returns Axes. alt, formula: words
    and HTML with numbers in their {places}.
    """

    name: str
    script: str
    sliders: Mapping[str, Slider]
    numbers: Found
    draw: Callable[..., Axes]
    alt: str
    formula: str
    constants: Mapping[str, Any]

    def found(self, **values: Any) -> dict[str, Any]:
        """The values of the sliders, the constants, and the numbers that come of them."""
        given = {**self.constants, **values}
        return {**given, **self.numbers(**given)}

    def show(self) -> None:
        """Display it."""
        from IPython.display import display

        begin = self.found(**{key: slider.start for key, slider in self.sliders.items()})
        picture = png(self.draw(**begin).figure)
        plt.close("all")
        bundle = {
            "text/html": _computed_page(self, begin, picture),
            "image/png": picture,
            "text/plain": with_numbers(self.alt, begin),
        }
        live = {"model_id": _controls(self).model_id, "version_major": 2, "version_minor": 0}
        display({WIDGET: live, **bundle}, raw=True)


def with_numbers(template: str, numbers: Mapping[str, Any]) -> str:
    """Words with numbers in their {places}, a minus before a number as such. As in page/panels.js."""
    return re.sub(r"(?<![\w#])-(?=\d)", "−", template.format(**numbers))


@cache
def page_file(name: str) -> str:
    """A file of the folder page."""
    return files("falw.book").joinpath("page", name).read_text("utf-8")


# JupyterLab would take the arrows of a control for its own.
_OWN_KEYS = 'root.addEventListener("keydown", (event) => event.stopPropagation());'


def script(*names: str, run: str) -> str:
    """Scripts of the folder page, and a line that is run with the element of the explorer as `root`."""
    text = "\n".join([_OWN_KEYS, *map(page_file, names), run])
    return f'<script>(() => {{\nconst root = document.currentScript.closest(".explorer");\n{text}\n}})();</script>'


def png(figure: Any) -> str:
    """A figure as PNG, base64."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144)
    return b64encode(file.getvalue()).decode()


def still(picture: str, alt: str) -> str:
    """The picture of an explorer before its script has run."""
    words = html.escape(alt)
    image = f'<img src="data:image/png;base64,{picture}" alt="{words}">'
    return f'<div class="explorer-picture" role="img" aria-label="{words}">{image}</div>'


def as_data(value: Any) -> str:
    """A value as JSON for a script to read."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json">{text}</script>'


def _computed_page(explorer: Computed, begin: Mapping[str, Any], picture: str) -> str:
    title = html.escape(f"Explorer: {', '.join(slider.label for slider in explorer.sliders.values())}")
    controls = "".join(_control(key, slider) for key, slider in explorer.sliders.items())
    run = f"compute(root, EXPLORERS.{explorer.script});"
    words = {"alt": explorer.alt, "formula": explorer.formula, "constants": dict(explorer.constants)}
    return f"""<div class="explorer computed" id="explorer-{explorer.name}" role="group" aria-label="{title}">
<style>{page_file("explorers.css")}</style>
<div class="explorer-sliders">{controls}</div>
<p class="explorer-formula" role="status">{with_numbers(explorer.formula, begin)}</p>
{still(picture, with_numbers(explorer.alt, begin))}
{as_data(words)}
{script("formulas.js", "panels.js", "explorers.js", "computed.js", run=run)}
</div>"""


def _control(key: str, slider: Slider) -> str:
    if slider.choices:
        options = "".join(f"<option{' selected' * (c == slider.start)}>{c}</option>" for c in slider.choices)
        return f'<label><span>{slider.label}</span><select name="{key}">{options}</select></label>'
    text = (f"{slider.start:.2f}" if slider.step < 1 else str(slider.start)).replace("-", "−")
    bounds = f'min="{slider.low}" max="{slider.high}" step="{slider.step}" value="{slider.start}"'
    control = f'<input type="range" name="{key}" {bounds} aria-valuetext="{text}">'
    return f"<label><span>{slider.label}</span>{control}<output>{text}</output></label>"


def _controls(explorer: Computed) -> Any:
    """The ipywidgets control: the same sliders, over the Python functions."""
    import ipywidgets
    from IPython.display import display

    words, sliders = ipywidgets.HTML(), {key: _widget(slider) for key, slider in explorer.sliders.items()}

    def show(**values: Any) -> None:
        found = explorer.found(**values)
        # A line each, as the page's style sheet has it.
        words.value = with_numbers(explorer.formula, found).replace("<span>", '<span style="display: block">')
        figure = explorer.draw(**found).figure
        display(figure)
        plt.close(figure)

    picture = ipywidgets.interactive_output(show, sliders)
    return ipywidgets.VBox([*sliders.values(), words, picture])


def _widget(slider: Slider) -> Any:
    import ipywidgets

    style = {"style": {"description_width": "11em"}, "layout": {"width": "33em", "max_width": "100%"}}
    if slider.choices:  # JupyterLab takes the arrow keys of a select box, and leaves a slider its own
        options = {"options": slider.choices, "value": slider.start}
        return ipywidgets.SelectionSlider(description=slider.label, **options, **style)
    kind = ipywidgets.FloatSlider if slider.step < 1 else ipywidgets.IntSlider
    bounds = {"min": slider.low, "max": slider.high, "step": slider.step, "value": slider.start}
    return kind(description=slider.label, **bounds, **style)
