"""A model of the reader's own as a table of probabilities: weights, groups and deviations, in Python and in the page.

A table has a row an image: its class, the probability p of that class under the model, its part (forget or unseen), and
if there is a Retrain, its probability in the column `retrain`. `show` puts an explorer into the page, onto which a
reader drops such a table as CSV; nothing leaves the page. What it shows is `weighted` and `group_rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import torch

from falw.book import plots
from falw.book.computed import as_data, page_file, png, script, still
from falw.metrics import deviation_shares
from falw.split import Split, groups
from falw.weights import balance_factor, class_stats, forgetting_weight, z_score

if TYPE_CHECKING:
    from pandas import DataFrame

OWN_COLUMNS, OWN_PARTS = ("class", "p", "part"), ("forget", "unseen")
OWN_GROUPS = ("head", "mid", "tail", "all")


def weighted(rows: DataFrame, tau: float = 0.15) -> DataFrame:
    """Of each forgotten row z (Eq. 5), w (Eq. 7), its class's group, and its deviation from Retrain, NaN without one.

    rows: columns class, p, part, and maybe retrain. Raises ValueError for a column that is lacking, a part that is
    neither forget nor unseen or has no row, and for a p outside [0, 1].
    """
    _check_rows(rows)
    names = sorted(rows["class"].unique())
    y = torch.tensor([names.index(name) for name in rows["class"]])
    p, forget = torch.tensor(rows["p"].to_numpy(float)), torch.tensor((rows["part"] == "forget").to_numpy())
    stats = class_stats(p[~forget], y[~forget], len(names))
    counts, own = torch.bincount(y[forget], minlength=len(names)), y[forget]
    z = z_score(p[forget], own, stats)
    weights = forgetting_weight(z, balance_factor(counts, tau)[own])
    members = groups(Split(*[own[:0]] * 3, forget_counts=counts, rank=torch.arange(len(names))))
    group = {int(c): name for name, classes in members.items() for c in classes}
    found = rows[rows["part"] == "forget"].assign(z=z.numpy(), w=weights.numpy())
    retrain = found["retrain"].astype(float) if "retrain" in found else float("nan")
    return found.assign(group=[group[c] for c in own.tolist()], deviation=found["p"] - retrain)


def group_rows(images: DataFrame) -> list[dict[str, Any]]:
    """What the page's table says of head, mid, tail and all rows of `weighted`: means, and shares in percent."""
    found = []
    for name in OWN_GROUPS:
        mine = images if name == "all" else images[images["group"] == name]
        row = {"group": name, "images": len(mine), **{key: mine[key].mean() for key in ("p", "z", "w", "deviation")}}
        shares = deviation_shares(torch.tensor(mine["deviation"].to_numpy())) if "retrain" in mine else {}
        found.append({**row, "below": 100 * (mine["w"] < 1).mean(), **shares})
    return found


def _check_rows(rows: DataFrame) -> None:
    for name in OWN_COLUMNS:
        if name not in rows:
            raise ValueError(f"no column '{name}' among {', '.join(map(str, rows))}: give {', '.join(OWN_COLUMNS)}")
    other = rows.loc[~rows["part"].isin(OWN_PARTS), "part"]
    if len(other):
        raise ValueError(f"row {other.index[0]} has the part {other.iloc[0]!r}; choose one of: {', '.join(OWN_PARTS)}")
    for part in OWN_PARTS:
        if not (rows["part"] == part).any():
            raise ValueError(f"no row has '{part}' as its part: give forgotten and unseen images")
    for name in {"p", "retrain"} & {*rows}:
        values = rows[name] if name == "p" else rows.loc[rows["part"] == "forget", name]
        outside = values[~values.between(0, 1)]
        if len(outside):
            raise ValueError(f"row {outside.index[0]} has {name} {outside.iloc[0]}; give a probability from 0 to 1")


def show(rows: DataFrame, tau: float = 0.15) -> None:
    """Display the explorer, with these rows as its example."""
    from IPython.display import display

    images = weighted(rows, tau)
    figure = plots.weights_by_group(images).figure
    picture = png(figure)
    plt.close(figure)
    mean = images["w"].mean()
    alt = f"Weights of {len(images)} forgotten images over p, coloured by group of classes: mean {mean:.2f}."
    page = _OWN_PAGE.format(
        style=page_file("explorers.css"),
        tau=tau,
        still=still(picture, alt),
        data=as_data(rows.to_csv(index=False, float_format="%.7g")),
        script=script("formulas.js", "panels.js", "own.js", run="ownModel(root);"),
    )
    display({"text/html": page, "image/png": picture, "text/plain": alt}, raw=True)


_OWN_PAGE = """<div class="explorer computed own" id="explorer-own" role="group" aria-label="Explorer: your own model">
<style>{style}</style>
<div class="explorer-drop"><label><span>your CSV</span><input type="file" accept=".csv,.tsv,.txt,text/csv"></label>
Choose a file or drop it here. It is read in this page and sent nowhere.</div>
<div class="explorer-sliders"><label><span>τ</span><input type="range" name="tau" min="0" max="1" step="0.01"
 value="{tau}" aria-valuetext="{tau:.2f}"><output>{tau:.2f}</output></label></div>
<p class="explorer-formula" role="status"></p>
{still}
<div class="explorer-table" tabindex="0" role="region" aria-label="By group of classes"></div>
{data}
{script}
</div>"""
