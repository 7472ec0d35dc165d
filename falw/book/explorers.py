"""Sliders around figures (explorers), alive with a kernel and, on a rendered page, without one.

`explore` shows one output that carries two lives. With a kernel (JupyterLab, Colab, VS Code) it is an ipywidgets
control that calls the plot function. On a rendered page it is HTML: native range inputs over pictures drawn
beforehand, moved by a few lines of JavaScript. Both call the same function, so the formula lives only in Python.
"""

from __future__ import annotations

import html
import io
import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from falw.book import plots
from falw.lab.records import GROUPS
from falw.lab.tables import pooled_probabilities
from falw.split import CAPS, power_law_counts
from falw.weights import balance_factor, forgetting_weight

if TYPE_CHECKING:
    from pandas import DataFrame

Choices = Mapping[str, Sequence[Any]]
Draw = Callable[..., Axes]

WIDGET = "application/vnd.jupyter.widget-view+json"
MAX_FRAMES = 400


def explore(
    draw: Draw,
    *,
    name: str,
    alt: Callable[..., str],
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    **choices: Sequence[Any],
) -> None:
    """Display sliders over `draw`, one a parameter of `choices`, each with the values that it can take.

    draw: called with one value a parameter, returns the Axes it drew on. name: unique on the page, letters and dashes.
    alt: called alike, says in words what the picture shows. labels: what a slider is called, if not as its parameter.
    start: values to begin with, else the first. Raises ValueError for choices that come to more than MAX_FRAMES
    pictures or to none, and for a start that is not among them.
    """
    from IPython.display import display

    begin = _check(choices, start or {})
    labels = {key: (labels or {}).get(key, key) for key in choices}
    page, picture = _page(draw, alt, name, labels, choices, begin)
    bundle = {"text/html": page, "image/png": picture, "text/plain": alt(**begin)}
    live = _live(draw, labels, choices, begin)
    display({WIDGET: {"model_id": live.model_id, "version_major": 2, "version_minor": 0}, **bundle}, raw=True)


def _check(choices: Choices, start: Mapping[str, Any]) -> dict[str, Any]:
    """The values to begin with."""
    frames = 1
    for key in start:
        if key not in choices:
            raise ValueError(f"no slider '{key}' to start; choose one of: {', '.join(choices)}")
    for key, values in choices.items():
        frames *= len(values)
        if key in start and start[key] not in values:
            raise ValueError(f"{key} cannot start at {start[key]!r}; choose one of: {', '.join(map(str, values))}")
    if not choices or not 0 < frames <= MAX_FRAMES:
        come_to = f"choices that come to {frames if choices else 0} pictures"
        raise ValueError(f"{come_to}: give 1 to {MAX_FRAMES}, with fewer values a slider")
    return {key: start.get(key, values[0]) for key, values in choices.items()}


def _live(draw: Draw, labels: Mapping[str, str], choices: Choices, begin: Mapping[str, Any]) -> Any:
    """The ipywidgets control. It shows the picture in an Output of its own, so that nothing flickers."""
    import ipywidgets
    from IPython.display import display

    options = {key: [(_value_text(v), v) for v in values] for key, values in choices.items()}
    sliders = {
        key: ipywidgets.SelectionSlider(
            options=options[key],
            value=begin[key],
            description=labels[key],
            style={"description_width": "11em"},
            layout={"width": "33em", "max_width": "100%"},
        )
        for key in choices
    }

    def show(**values: Any) -> None:
        figure = draw(**values).figure
        display(figure)
        plt.close(figure)

    picture = ipywidgets.interactive_output(show, sliders)
    return ipywidgets.VBox([*sliders.values(), picture])


def _page(
    draw: Draw,
    alt: Callable[..., str],
    name: str,
    labels: Mapping[str, str],
    choices: Choices,
    begin: Mapping[str, Any],
) -> tuple[str, str]:
    """The explorer as HTML, and its first picture as base64 PNG."""
    frames, alts, first, picture = [], [], 0, ""
    for values in product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        figure = draw(**chosen).figure
        frames.append(_svg(figure, name))
        alts.append(alt(**chosen))
        if chosen == begin:
            first, picture = len(frames) - 1, _png(figure)
        plt.close(figure)
    begin_at = [list(values).index(begin[key]) for key, values in choices.items()]
    lines, packed = _pack(frames)
    texts = [[_value_text(v) for v in values] for values in choices.values()]
    data = json.dumps({"lines": lines, "frames": packed, "alts": alts, "texts": texts}, separators=(",", ":"))
    sliders = "".join(
        _SLIDER.format(label=html.escape(labels[key]), last=len(values) - 1, step=step, text=html.escape(text[step]))
        for (key, values), step, text in zip(choices.items(), begin_at, texts, strict=True)
    )
    page = _PAGE.format(
        name=name,
        title=html.escape(f"Explorer: {', '.join(labels.values())}"),
        alt=html.escape(alts[first]),
        svg=frames[first],
        sliders=sliders,
        data=data.replace("</", "<\\/"),
        script=_SCRIPT.replace("NAME", name),
    )
    return page, picture


_PAGE = """<div class="explorer" id="explorer-{name}" role="group" aria-label="{title}">
<div class="explorer-sliders">{sliders}</div>
<div class="explorer-picture" role="img" aria-label="{alt}"
 style="background:#fff;border-radius:4px;padding:4px;max-width:660px">{svg}</div>
<script type="application/json">{data}</script>
<script>{script}</script>
</div>"""

_SLIDER = (
    '<label style="display:flex;gap:.6em;align-items:center;max-width:660px"><span style="flex:0 0 8em">{label}</span>'
    '<input type="range" min="0" max="{last}" step="1" value="{step}" aria-valuetext="{text}"'
    ' style="flex:1 1 6em;min-width:0"><output style="flex:0 0 7em">{text}</output></label>'
)

# A frame's number is its position in the product of the sliders, the last one running fastest.
_SCRIPT = """(() => {
const root = document.getElementById("explorer-NAME");
const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
const sliders = [...root.querySelectorAll("input")], picture = root.querySelector(".explorer-picture");
const show = () => {
  const frame = sliders.reduce((n, s, i) => n * data.texts[i].length + Number(s.value), 0);
  sliders.forEach((s, i) => {
    const text = data.texts[i][s.value];
    s.setAttribute("aria-valuetext", text);
    s.nextElementSibling.textContent = text;
  });
  picture.innerHTML = data.frames[frame].map(k => data.lines[k]).join("\\n");
  picture.setAttribute("aria-label", data.alts[frame]);
};
sliders.forEach(s => s.addEventListener("input", show));
})();"""


def _value_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _canvas(height: float = 3.0) -> Axes:
    """Axes whose place does not depend on what is drawn: only the picture moves with a slider, and it is drawn fast."""
    figure = plt.figure(figsize=(5, height), dpi=144)
    figure.subplots_adjust(left=0.13, right=0.97, top=0.95, bottom=0.5 / height)
    return figure.add_subplot()


def _svg(figure: Any, name: str) -> str:
    """A figure as SVG that is the same whenever it is drawn: text as text, no metadata, ids of this explorer alone."""
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.S)
    referenced = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([\w-]+)"', lambda m: m.group(0) if m.group(1) in referenced else "", text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _OPEN, text, count=1)
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # hundredths of a point are enough
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


_OPEN = (
    r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1"'
    r' style="width:100%;height:auto" aria-hidden="true">'
)


def _png(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144)
    return b64encode(file.getvalue()).decode()


def _pack(frames: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """All lines that occur, once each, and every frame as numbers of lines: axes and ticks repeat in each."""
    number: dict[str, int] = {}
    packed = [[number.setdefault(line, len(number)) for line in frame.split("\n")] for frame in frames]
    return list(number), packed


# The book's explorers


def forget_set(per_class: int = 450) -> None:
    """How many images of each class are forgotten, over gamma, ratio, number of classes and cap rule (chapter 2)."""

    def counts(gamma, ratio, classes, cap):
        return power_law_counts(round(ratio * classes * per_class), [per_class] * classes, gamma, cap)

    def alt(**values):
        forgotten = counts(**values)
        gone, none = int((forgotten == per_class).sum()), int((forgotten == 0).sum())
        return (
            f"Forget counts by rank for gamma {values['gamma']:g}, ratio {values['ratio']:g},"
            f" {values['classes']} classes, {values['cap']}: from {int(forgotten[0])} to {int(forgotten[-1])} images;"
            f" {gone} classes are forgotten whole, {none} not at all."
        )

    explore(
        lambda **values: plots.power_law(counts(**values), per_class, _canvas()),
        name="forget-set",
        alt=alt,
        labels={"gamma": "γ", "ratio": "ratio", "classes": "classes C", "cap": "cap rule"},
        start={"gamma": 0.5, "ratio": 0.3, "classes": 100},
        gamma=[0, 0.25, 0.5, 1, 1.5, 2],
        ratio=[0.1, 0.2, 0.3, 0.5],
        classes=[10, 100],
        cap=CAPS,
    )


def weight() -> None:
    """Eq. 5 over p, mu, sigma and eta (chapter 5): the curve and where one sample lies on it."""

    def of(p, mu, sigma, eta):
        return forgetting_weight((torch.as_tensor(p, dtype=torch.float64) - mu) / sigma, eta=eta)

    def draw(p, mu, sigma, eta):
        around_mu = mu + torch.tensor([-0.002, 0.0, 0.002])
        x = torch.cat([torch.linspace(0, 1, 81, dtype=torch.float64), around_mu]).sort().values
        ax = plots.weight_curves({"w": (x, of(x, mu, sigma, eta))}, "probability of the true class p", ax=_canvas())
        ax.axvspan(max(mu - sigma, 0), min(mu + sigma, 1), color="#dddddd", zorder=0, label="μ ± σ")
        ax.plot(p, of(p, mu, sigma, eta), "o", color=plots.colour("falw"), markersize=8, label="this sample")
        ax.set_xlim(0, 1)
        ax.legend(frameon=False, loc="upper left", ncols=3)
        return ax

    def alt(p, mu, sigma, eta):
        z, w = (p - mu) / sigma, of(p, mu, sigma, eta).item()
        return f"Weight over p for mu {mu:g}, sigma {sigma:g}, eta {eta:g}: at p {p:g} z is {z:.2f} and w is {w:.2f}."

    explore(
        draw,
        name="weight",
        alt=alt,
        labels={"p": "p", "mu": "μ", "sigma": "σ", "eta": "η"},
        start={"p": 0.9, "mu": 0.6, "sigma": 0.25, "eta": 1.0},
        p=[0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
        mu=[0.3, 0.6, 0.9],
        sigma=[0.1, 0.25, 0.4],
        eta=[0.5, 1.0, 2.0],
    )


def balance(total: int = 13500, classes: int = 100) -> None:
    """Eqs. 6 and 7 over tau and the forgotten images of a class (chapter 6), beside the weight without B."""

    def factor(tau, count):
        counts = torch.full((classes,), (total - count) / (classes - 1), dtype=torch.float64)
        counts[0] = count
        return balance_factor(counts, tau)[0].item()

    def draw(tau, count):
        z = torch.linspace(-3, 3, 241, dtype=torch.float64)
        curves = {"B = 1": (z, forgetting_weight(z))}
        curves[f"B = {factor(tau, count):.2f}"] = (z, forgetting_weight(z, factor(tau, count)))
        return plots.weight_curves(curves, "z-score", "B = 1", _canvas())

    def alt(tau, count):
        w = forgetting_weight(torch.tensor([-0.5, 0.5], dtype=torch.float64), factor(tau, count))
        return (
            f"Weight over z for a class with {count} of {total} forgotten images in {classes} classes and tau {tau:g}:"
            f" B is {factor(tau, count):.2f}, and z of minus and plus one half gives {w[0]:.2f} and {w[1]:.2f}."
        )

    explore(
        draw,
        name="balance",
        alt=alt,
        labels={"tau": "τ", "count": "forgotten images"},
        start={"tau": 0.15, "count": 5},
        tau=[0.0, 0.1, 0.15, 0.2, 0.5, 1.0],
        count=[1, 5, 20, 60, 135, 450],
    )


def deviations(records: DataFrame, methods: Sequence[str]) -> None:
    """Probabilities of forgotten images under a method and Retrain, over method, gamma and group (chapter 4).

    Seeds are pooled. The values of gamma are those at which Retrain and every method ran; raises ValueError for none.
    """
    pooled = pooled_probabilities(records)
    ran = pooled.reset_index().groupby("gamma")["label"].agg(set)
    gammas = [gamma for gamma, labels in ran.items() if {"retrain", *methods} <= labels]
    if not gammas:
        raise ValueError(f"no gamma has records of retrain and all of: {', '.join(methods)}")

    def draw(method, gamma, group):
        return plots.probability_counts(
            pooled.xs((gamma, group), level=("gamma", "group")).loc[["retrain", method]], _canvas()
        )

    def alt(method, gamma, group):
        theirs, mine = (pooled.at[(name, gamma, group), "mean"] for name in ("retrain", method))
        which = "all classes" if group == "all" else f"{group} classes"
        return (
            f"Probability of the true class of forgotten images of {which} at gamma {gamma:g}: mean {mine:.2f} under"
            f" {method}, {theirs:.2f} under Retrain, so {abs(mine - theirs):.2f} {'more' if mine > theirs else 'less'}."
        )

    explore(
        draw,
        name="deviations",
        alt=alt,
        labels={"method": "method", "gamma": "γ", "group": "group"},
        method=list(methods),
        gamma=gammas,
        group=GROUPS,
    )


METRICS = {"gap": "Avg. Gap", "fa": "FA", "ra": "RA", "ta": "TA", "mia": "MIA", "mia_confidence": "MIA (confidence)"}


def benchmark(tables: Mapping[str, DataFrame]) -> None:
    """Frames of `tables.table` under the names of their settings: one metric of one setting as bars (chapter 8)."""
    keys = {label: key for key, label in METRICS.items()}

    def draw(setting, metric):
        unit = "points" if metric == "Avg. Gap" else "%"
        return plots.metric_bars(tables[setting], keys[metric], f"{metric}, {unit}")

    def alt(setting, metric):
        means = tables[setting].set_index("method")[f"{keys[metric]}_mean"].dropna()
        values = ", ".join(f"{name} {mean:.1f}" for name, mean in means.items())
        return f"{metric} on {setting}, mean over seeds: {values}."

    explore(draw, name="benchmark", alt=alt, setting=list(tables), metric=list(METRICS.values()))


def trajectory(trace: Any, classes: Mapping[str, int]) -> None:
    """A `traces.Trace` epoch by epoch, for the classes given under their names (chapter 5)."""

    def of(group, epoch):
        c, stats = classes[group], trace.stats[epoch]
        of_class, unseen = trace.y == c, trace.val_y == c
        numbers = trace.p[epoch][of_class], trace.w[epoch][of_class], trace.val_p[epoch][unseen]
        return (*numbers, stats.mean[c].item(), stats.std[c].item())

    def alt(group, epoch):
        p, w, _, mean, std = of(group, epoch)
        return (
            f"Class of the {group} after {epoch} epochs: {len(p)} forgotten samples with mean probability"
            f" {p.mean():.2f} and mean weight {w.mean():.2f}; unseen images {mean:.2f} plus or minus {std:.2f}."
        )

    explore(
        lambda **values: plots.class_at_epoch(*of(**values), _canvas()),
        name="trajectory",
        alt=alt,
        group=list(classes),
        epoch=list(range(len(trace.stats))),
    )


def false_alarms(rows: Sequence[Mapping[str, Any]]) -> None:
    """What an attack finds beyond what it finds of Retrains, over its false alarms, gamma and group (chapter 11).

    Rows: `tables.interval` in percent of the forgotten images, with "line", a method, "gamma", "group" and "rate", the
    false alarms in percent.
    """
    sliders = {key: list(dict.fromkeys(row[key] for row in rows)) for key in ("gamma", "group", "rate")}

    def of(**values):
        return [{**row, "panel": None, "group": None} for row in rows if all(row[k] == v for k, v in values.items())]

    def draw(**values):
        ax = _canvas()
        ax.figure.subplots_adjust(left=0.24)
        label = {None: "percent of forgotten images found, less Retrains'"}
        return plots.intervals(of(**values), label, panels=[ax])[0]

    def alt(gamma, group, rate):
        found = ", ".join(f"{row['line']} {row['mean']:+.1f}" for row in of(gamma=gamma, group=group, rate=rate))
        images = "all images" if group == "all" else f"images of the {group}"
        return f"{images} found at {rate:g} % false alarms and gamma {gamma:g}, in percent less Retrains': {found}."

    labels = {"gamma": "γ", "group": "group", "rate": "false alarms, %"}
    explore(draw, name="false-alarms", alt=alt, labels=labels, **sliders)


def guesses(of: Mapping[str, torch.Tensor], retrain: torch.Tensor, groups: Mapping[str, torch.Tensor]) -> None:
    """What is said of each forgotten image without Retrain, beside Retrain's probability of its class (chapter 13).

    of: (n,) probabilities under the names of what says them; retrain: (n,); groups: which of the images, (n,) bool.
    """

    def pairs(guess, group):
        return of[guess][groups[group]], retrain[groups[group]]

    def draw(guess, group):
        ax = _canvas(4.2)
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        ax.plot(*pairs(guess, group), "o", color=plots.colour("neighbour-target"), markersize=3)
        ax.set(xlabel=guess, ylabel="p under Retrain", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        return ax

    def alt(guess, group):
        said, true = pairs(guess, group)
        r = torch.corrcoef(torch.stack([said, true]))[0, 1].item()
        return (
            f"{guess} of {len(true)} forgotten images of {group} classes, beside p under Retrain:"
            f" means {said.mean():.2f} and {true.mean():.2f}, correlation {r:.2f}."
        )

    labels = {"guess": "what is said", "group": "group"}
    explore(draw, name="guesses", alt=alt, labels=labels, guess=list(of), group=list(groups))
