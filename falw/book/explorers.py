"""Sliders around figures (explorers), alive with a kernel and, on a rendered page, without one.

`explore` shows one output that carries two lives. With a kernel (JupyterLab, Colab, VS Code) it is an ipywidgets
control that calls the plot function. On a rendered page it is HTML: native range inputs over pictures drawn
beforehand, moved by a few lines of JavaScript. Both call the same function, so the formula lives only in Python. Where
a formula is short and its sliders should not have steps, the page computes (`computed`).
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from falw.book import plots
from falw.book.computed import WIDGET, Computed, Slider, as_data, page_file, png, script, with_numbers
from falw.lab.cells import RETRAIN
from falw.lab.records import GROUPS
from falw.lab.tables import pooled_probabilities
from falw.metrics import Part, accuracy, deviation, deviation_shares, select
from falw.split import CAPS, power_law_counts
from falw.weights import balance_factor, forgetting_weight

if TYPE_CHECKING:
    from pandas import DataFrame

Choices = Mapping[str, Sequence[Any]]
Draw = Callable[..., Axes]

MAX_FRAMES = 400


def explore(
    draw: Draw,
    *,
    name: str,
    alt: Callable[..., str],
    labels: Mapping[str, str] | None = None,
    start: Mapping[str, Any] | None = None,
    play: str | None = None,
    **choices: Sequence[Any],
) -> None:
    """Display sliders over `draw`, one a parameter of `choices`, each with the values that it can take.

    draw: called with one value a parameter, returns the Axes it drew on. name: unique on the page, letters and dashes.
    alt: called alike, says in words what the picture shows. labels: what a slider is called, if not as its parameter.
    start: values to begin with, else the first. play: the slider that a button runs through. Raises ValueError for
    choices that come to more than MAX_FRAMES pictures or to none, and for a start or play that is not among them.
    """
    from IPython.display import display

    begin = _check(choices, start or {})
    if play and play not in choices:
        raise ValueError(f"no slider '{play}' to play; choose one of: {', '.join(choices)}")
    labels = {key: (labels or {}).get(key, key) for key in choices}
    page, picture = _page(draw, alt, name, labels, choices, begin, play)
    bundle = {"text/html": page, "image/png": picture, "text/plain": alt(**begin)}
    live = _live(draw, labels, choices, begin, play)
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


def _live(
    draw: Draw, labels: Mapping[str, str], choices: Choices, begin: Mapping[str, Any], play: str | None = None
) -> Any:
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
    return ipywidgets.VBox([*sliders.values(), *_player(sliders.get(play)), picture])


def _player(slider: Any) -> list[Any]:
    """A button that runs through the values of a slider, if there is one."""
    import ipywidgets

    if slider is None:
        return []
    player = ipywidgets.Play(max=len(slider.options) - 1, interval=800)
    ipywidgets.link((player, "value"), (slider, "index"))
    return [player]


def _page(
    draw: Draw,
    alt: Callable[..., str],
    name: str,
    labels: Mapping[str, str],
    choices: Choices,
    begin: Mapping[str, Any],
    play: str | None,
) -> tuple[str, str]:
    """The explorer as HTML, and its first picture as base64 PNG."""
    frames, alts, first, picture = [], [], 0, ""
    for values in product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        figure = draw(**chosen).figure
        frames.append(_svg(figure, name))
        alts.append(alt(**chosen))
        if chosen == begin:
            first, picture = len(frames) - 1, png(figure)
        plt.close(figure)
    begin_at = [list(values).index(begin[key]) for key, values in choices.items()]
    lines, packed = _pack(frames)
    texts = [[_value_text(v) for v in values] for values in choices.values()]
    sliders = "".join(
        _SLIDER.format(label=html.escape(labels[key]), last=len(values) - 1, step=step, text=html.escape(text[step]))
        for (key, values), step, text in zip(choices.items(), begin_at, texts, strict=True)
    )
    if play:
        sliders += _PLAY.format(label=html.escape(labels[play]), place=list(choices).index(play))
    page = _PAGE.format(
        name=name,
        style=page_file("explorers.css"),
        title=html.escape(f"Explorer: {', '.join(labels.values())}"),
        alt=html.escape(alts[first]),
        svg=frames[first],
        sliders=sliders,
        data=as_data({"lines": lines, "frames": packed, "alts": alts, "texts": texts}),
        script=script("frames.js", run="frames(root);"),
    )
    return page, picture


_PAGE = """<div class="explorer frames" id="explorer-{name}" role="group" aria-label="{title}">
<style>{style}</style>
<div class="explorer-sliders">{sliders}</div>
<div class="explorer-picture" role="img" aria-label="{alt}">{svg}</div>
{data}
{script}
</div>"""

_SLIDER = (
    '<label><span>{label}</span><input type="range" min="0" max="{last}" step="1" value="{step}"'
    ' aria-valuetext="{text}"><output>{text}</output></label>'
)

# What it moves is its value, the number of a slider; it shows itself where scripts run.
_PLAY = '<button type="button" class="explorer-play" name="{label}" value="{place}" hidden>Play {label}</button>'


def _value_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _canvas(height: float = 3.0) -> Axes:
    """Axes whose place does not depend on what is drawn: only the picture moves with a slider, and it is drawn fast."""
    figure = plt.figure(figsize=(5, height), dpi=144)
    figure.subplots_adjust(left=0.13, right=0.97, top=0.9, bottom=0.5 / height)
    return figure.add_subplot()


def _svg(figure: Any, name: str) -> str:
    """A figure as SVG that is the same whenever it is drawn: text as text, no metadata, ids of this explorer alone.

    What is black takes the colour of the text around it, and the ground is the page's, in a dark theme, too.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        quiet = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(file, format="svg", metadata=quiet, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", text, flags=re.S)
    referenced = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([\w-]+)"', lambda m: m.group(0) if m.group(1) in referenced else "", text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _OPEN, text, count=1)
    text = re.sub(r"(\d\.\d\d)\d+", r"\1", text)  # hundredths of a point are enough
    for shade, ink in _INKS.items():
        text = text.replace(f"fill: {shade}", f"fill: {ink}").replace(f"stroke: {shade}", f"stroke: {ink}")
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


_INKS = {"#000000": "currentColor", "#dddddd": "rgb(128 128 128 / 25%)"}
_OPEN = (
    r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1"'
    r' style="width:100%;height:auto" fill="currentColor" aria-hidden="true">'
)


def _pack(frames: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """All lines that occur, once each, and every frame as numbers of lines: axes and ticks repeat in each."""
    number: dict[str, int] = {}
    packed = [[number.setdefault(line, len(number)) for line in frame.split("\n")] for frame in frames]
    return list(number), packed


# The book's explorers


def forget_set(per_class: int = 450) -> None:
    """How many images of each class are forgotten, over gamma, ratio, number of classes and cap rule (chapter 2)."""

    def numbers(gamma, ratio, classes, cap, each):
        total = round(ratio * classes * each)
        counts = power_law_counts(total, [each] * classes, gamma, cap)
        whole = {"gone": int((counts == each).sum()), "none": int((counts == 0).sum())}
        return {"total": total, "counts": counts, "first": int(counts[0]), "last": int(counts[-1]), **whole}

    Computed(
        name="forget-set",
        script="forgetSet",
        sliders={
            "gamma": Slider("γ", 0.5, 0, 2),
            "ratio": Slider("ratio", 0.3, 0.01, 0.6),
            "classes": Slider("classes C", 100, 2, 100, 1),
            "cap": Slider("cap rule", CAPS[0], choices=tuple(CAPS)),
        },
        numbers=numbers,
        draw=lambda counts, each, **_: plots.power_law(counts, each, _canvas()),
        alt="Forget counts by rank for gamma {gamma:.2f}, ratio {ratio:.2f}, {classes} classes, {cap}: from {first} to"
        " {last} images; {gone} classes are forgotten whole, {none} not at all.",
        formula='<span><a href="#eq-b">Eq. B</a> with T = {ratio:.2f} · {classes} · {each} = {total}:'
        " <b>{first}</b> images of the first class to <b>{last}</b> of the last.</span>"
        "<span><b>{gone}</b> classes are forgotten whole, <b>{none}</b> not at all.</span>",
        constants={"each": per_class},
    ).show()


def weight() -> None:
    """Eq. 5 over p, mu, sigma and eta (chapter 5): the curve and where one sample lies on it."""

    def of(p, mu, sigma, eta):
        return forgetting_weight((torch.as_tensor(p, dtype=torch.float64) - mu) / sigma, eta=eta)

    def numbers(p, mu, sigma, eta):
        z = 0.0 if p == mu else (p - mu) / sigma
        return {"z": z, "w": of(p, mu, sigma, eta).item(), **_around_1(z)}

    def draw(p, mu, sigma, eta, w, **_):
        around_mu = mu + torch.tensor([-0.002, 0.0, 0.002])
        x = torch.cat([torch.linspace(0, 1, 81, dtype=torch.float64), around_mu]).sort().values
        ax = plots.weight_curves({"w": (x, of(x, mu, sigma, eta))}, "probability of the true class p", ax=_canvas())
        ax.axvspan(max(mu - sigma, 0), min(mu + sigma, 1), color="#dddddd", zorder=0, label="μ ± σ")
        ax.plot(p, w, "o", color="#D55E00", markersize=8, label="this sample")
        ax.set_xlim(0, 1)
        ax.legend(frameon=False, loc="upper left", ncols=3)
        return ax

    Computed(
        name="weight",
        script="weight",
        sliders={
            "p": Slider("p", 0.9),
            "mu": Slider("μ", 0.6, 0.01, 0.99),
            "sigma": Slider("σ", 0.25, 0.02, 0.5),
            "eta": Slider("η", 1.0, 0.25, 4, 0.05),
        },
        numbers=numbers,
        draw=draw,
        alt="Weight over p for mu {mu:.2f}, sigma {sigma:.2f}, eta {eta:.2f}: at p {p:.2f} z is {z:.2f} and w is"
        " {w:.2f}.",
        formula='<span><a href="#eq-5">Eq. 5</a>: z = (p − μ) / σ = ({p:.2f} − {mu:.2f}) / {sigma:.2f} ='
        " <b>{z:.2f}</b></span>"
        "<span>w = 1 + sign(z) tanh(|z|)<sup>1/η</sup> = 1 {sign} {tanh:.2f}<sup>1/{eta:.2f}</sup> ="
        " <b>{w:.2f}</b></span>",
        constants={},
    ).show()


def _around_1(z: float) -> dict[str, Any]:
    """How a weight is written out: 1, a sign, and a power of this."""
    return {"sign": "−" if z < 0 else "+", "tanh": math.tanh(abs(z))}


def balance(total: int = 13500, classes: int = 100, most: int = 450) -> None:
    """Eqs. 6 and 7 over tau, the forgotten images of a class and z (chapter 6), beside the weight without B."""

    def factor(tau, count):
        counts = torch.full((classes,), (total - count) / (classes - 1), dtype=torch.float64)
        counts[0] = count
        return balance_factor(counts, tau)[0].item()

    def numbers(tau, count, z, **_):
        b = factor(tau, count)
        points = torch.tensor([-0.5, 0.5, z], dtype=torch.float64)
        low, high, w = forgetting_weight(points, b).tolist()
        return {"b": b, "w": w, "low": low, "high": high, "plain": forgetting_weight(points)[2].item(), **_around_1(z)}

    def draw(z, b, w, **_):
        x = torch.linspace(-3, 3, 241, dtype=torch.float64)
        curves = {"B = 1": (x, forgetting_weight(x)), f"B = {b:.2f}": (x, forgetting_weight(x, b))}
        ax = plots.weight_curves(curves, "z-score", "B = 1", _canvas())
        ax.plot(z, w, "o", color="#D55E00", markersize=8, label="this sample")
        ax.legend(frameon=False, loc="upper left")
        return ax

    Computed(
        name="balance",
        script="balance",
        sliders={
            "tau": Slider("τ", 0.15),
            "count": Slider("forgotten images", 5, 1, most, 1),
            "z": Slider("z", 0.5, -3, 3, 0.05),
        },
        numbers=numbers,
        draw=draw,
        alt="Weight over z for a class with {count} of {total} forgotten images in {classes} classes and tau {tau:.2f}:"
        " B is {b:.2f}, and z of minus and plus one half gives {low:.2f} and {high:.2f}; at z {z:.2f} w is {w:.2f}.",
        formula='<span><a href="#eq-6">Eq. 6</a>: B = ({total} / ({classes} · {count}))<sup>{tau:.2f}</sup> ='
        " <b>{b:.2f}</b></span>"
        '<span><a href="#eq-7">Eq. 7</a>: w = 1 + sign(z) tanh(|z|)<sup>1/B</sup> = 1 {sign} {tanh:.2f}<sup>1/{b:.2f}'
        "</sup> = <b>{w:.2f}</b>, and {plain:.2f} for B = 1</span>",
        constants={"total": total, "classes": classes, "most": most},
    ).show()


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
        both = pooled.xs((gamma, group), level=("gamma", "group")).loc[["retrain", method]]
        return plots.legend_above(plots.probability_counts(both, _canvas()))

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


SIDES = ("left", "right")


def two_models(parts: Mapping[str, Part], groups: Mapping[str, torch.Tensor]) -> None:
    """Two models side by side over the same forgotten images, each beside Retrain (page one-rate).

    parts: the forget set under every model, by name, "retrain" among them; it begins with the last two. groups: classes
    of head, mid and tail (`split.groups`). The page has probabilities to six digits. Raises ValueError where there is
    no Retrain, and as `metrics.deviation`.
    """
    if RETRAIN not in parts:
        raise ValueError(f"no '{RETRAIN}' among {', '.join(parts)}: give its part, too")
    for part in parts.values():
        deviation(part, parts[RETRAIN])  # of the same images, or it raises
    y = parts[RETRAIN].y
    members = {GROUPS[0]: y >= 0, **{name: torch.isin(y, classes) for name, classes in groups.items()}}
    members = {name: chosen for name, chosen in members.items() if chosen.any()}

    def numbers(left, right, group, **_):
        theirs = select(parts[RETRAIN], members[group])
        found: dict[str, Any] = {"images": len(theirs.y)}
        for side, name in zip(SIDES, (left, right), strict=True):
            values = _with_retrains_numbers(select(parts[name], members[group]), theirs)
            found |= {f"{side}_{key}": value for key, value in values.items()}
        return found

    def draw(left, right, group, notes, **found):
        _, panels = plt.subplots(1, 2, figsize=(7, 4.6), dpi=144, layout="constrained")
        p = {name: parts[name].p_true[members[group]] for name in (left, right, RETRAIN)}
        own = {name: members[name][members[group]] for name in plots.GROUP_COLOURS if name in members}
        for ax, name, note in zip(panels, (left, right), notes.values(), strict=True):
            plots.against_retrain(p[name], p[RETRAIN], own, ax=ax)
            words = re.sub("<[^>]+>", "", with_numbers(note, found).replace("</span>", "\n")).strip()
            ax.set(title=name, ylabel=f"p under {name}")
            ax.set_xlabel(f"p under Retrain\n\n{words}", fontsize="small")
        return panels[0]

    *_, left, right = parts
    Computed(
        name="two-models",
        script="twoModels",
        sliders={
            "left": Slider("left", left, choices=tuple(parts)),
            "right": Slider("right", right, choices=tuple(parts)),
            "group": Slider("classes", GROUPS[0], choices=tuple(members)),
        },
        numbers=numbers,
        draw=draw,
        alt="p of {images} forgotten images over Retrain’s, classes: {group}. " + "; ".join(_of_sides(_IN_WORDS)) + ".",
        formula="<span>In the mean over {images} images p differs from Retrain’s by <b>{left_distance:.3f}</b> under"
        " {left} and by <b>{right_distance:.3f}</b> under {right} (lower is better).</span>",
        constants={
            "p": {name: [round(p, 6) for p in part.p_true.tolist()] for name, part in parts.items()},
            "known": {name: part.correct.int().tolist() for name, part in parts.items()},
            "members": {name: chosen.nonzero()[:, 0].tolist() for name, chosen in members.items()},
            "notes": dict(zip(SIDES, _of_sides(_NOTE), strict=True)),
        },
    ).show()


def _with_retrains_numbers(mine: Part, theirs: Part) -> dict[str, float]:
    """What is said of one model: FA of both, p less Retrain's as mean, mean size and percent within 0.1, and W1."""
    from scipy.stats import wasserstein_distance

    difference = deviation(mine, theirs).double()
    return {
        "fa": accuracy(mine),
        "good": accuracy(theirs),
        "deviation": difference.mean().item(),
        "distance": difference.abs().mean().item(),
        "faithful": deviation_shares(difference)["faithful"],
        "w1": float(wasserstein_distance(mine.p_true.double(), theirs.p_true.double())),
    }


_NOTE = (
    "<span>FA <b>{:fa:.1f} %</b>: good is Retrain’s, {:good:.1f} %</span>"
    "<span>mean of p − Retrain’s <b>{:deviation:.3f}</b>: 0 is good</span>"
    "<span>within 0.1 of Retrain’s <b>{:faithful:.1f} %</b>: higher is better</span>"
    "<span>W1 to Retrain <b>{:w1:.3f}</b>: lower is better</span>"
)
_IN_WORDS = (
    "{:}: FA {:fa:.1f} percent, Retrain’s {:good:.1f}, mean of p less Retrain’s {:deviation:.3f}, within 0.1"
    " {:faithful:.1f} percent, W1 {:w1:.3f}"
)


def _of_sides(template: str) -> list[str]:
    """Words about one model as those about the left one, and the right: {:w1:.3f} is {left_w1:.3f}, {:} its name."""
    return [template.replace("{:}", f"{{{side}}}").replace("{:", f"{{{side}_") for side in SIDES]


METRICS = {"gap": "Avg. Gap", "fa": "FA", "ra": "RA", "ta": "TA", "mia": "MIA", "mia_confidence": "MIA (confidence)"}


def benchmark(tables: Mapping[str, DataFrame]) -> None:
    """Frames of `tables.table` under the names of their settings: one metric of one setting as bars (page one-rate)."""
    keys = {label: key for key, label in METRICS.items()}

    def draw(setting, metric):
        good = "points: lower is better" if metric == "Avg. Gap" else "%: as near to Retrain's as can be"
        return plots.metric_bars(tables[setting], keys[metric], f"{metric}, {good}")

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
        play="epoch",
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


AT_REST, KEPT_AT = (0.6, 0.25), ("FaLW", "0", "0.25", "0.5", "1", "2")  # mu and sigma; the weights to choose from


def resting_point(weight: Callable[[float], float], pull: float, retrain: float) -> float:
    """Where p of the true class comes to rest under a wrong label of `weight` and retained images of `pull`.

    On two logits the label pushes their difference by -weight(p) * p, as its cross-entropy says, and the retained
    images pull it by pull * (retrain - p), as a soft label would. With one weight for all p that is at
    pull * retrain / (pull + weight).
    """
    from scipy.optimize import brentq

    return float(brentq(lambda p: weight(p) * p - pull * (retrain - p), 0.0, 1.0))


def rest_point() -> None:
    """Push and pull on the probability of one forgotten image, over weight, pull and Retrain's p (why chapter)."""
    mu, sigma = AT_REST

    def of(name):
        if name != KEPT_AT[0]:
            return lambda p: float(name)
        return lambda p: forgetting_weight(torch.tensor((p - mu) / sigma, dtype=torch.float64)).item()

    def draw(weight, pull, retrain):
        ax, p = _canvas(), torch.linspace(0, 1, 81).tolist()
        rest = resting_point(of(weight), pull, retrain)
        ax.plot(p, [of(weight)(each) * each for each in p], color=plots.colour("rl"), label="push of the label, w p")
        ax.plot(p, [pull * (retrain - each) for each in p], color=plots.colour("ft"), label="pull of retained images")
        ax.axvline(retrain, color="black", linestyle=":", linewidth=1, label="Retrain's p")
        ax.plot(rest, pull * (retrain - rest), "o", color=plots.colour("falw"), markersize=8, label="at rest")
        ax.set(xlim=(0, 1), ylim=(0, 2), xlabel="probability of the true class p", ylabel="force on the logit")
        ax.legend(frameon=False, loc="upper left", fontsize="small")
        return ax

    def alt(weight, pull, retrain):
        rest = resting_point(of(weight), pull, retrain)
        return f"Weight {weight}, pull {pull:g}, Retrain's p {retrain:g}: push and pull meet at p {rest:.2f}."

    explore(
        draw,
        name="rest-point",
        alt=alt,
        labels={"weight": "weight w", "pull": "pull", "retrain": "Retrain's p"},
        start={"weight": "1", "pull": 1.0, "retrain": 0.8},
        weight=KEPT_AT,
        pull=[0.25, 0.5, 1.0, 2.0, 4.0],
        retrain=[0.2, 0.5, 0.8],
    )


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
