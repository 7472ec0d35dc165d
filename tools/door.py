"""Write the two pictures of the introduction: one account's images before and after, and the map of the book.

`map` draws what `book/_toc.yml` and the chapters' titles say; `account` trains three small networks, half a minute.
"""

import argparse
import base64
import io
import json
from pathlib import Path
from xml.sax.saxutils import escape

import yaml

BOOK = Path(__file__).resolve().parent.parent / "book"
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
    ' font-family="Helvetica, Arial, sans-serif" font-size="13" fill="#1a1a1a">\n<title>{title}</title>\n'
    '<rect x="1" y="1" width="{inner}" height="{below}" rx="10" fill="#fff" stroke="#ccc"/>\n'
)


def svg(title, width, height, parts):
    """The lines of a picture on a white card, which dark pages need."""
    head = HEAD.format(title=escape(title), width=width, height=height, inner=width - 2, below=height - 2)
    return head + "\n".join(parts) + "\n</svg>\n"


# The map

# Chapters at which a path stops; the last path stops at all.
PATHS = {
    "an hour": ("#0072B2", ["01-what-is-forgetting", "02-long-tailed-forget-sets", "verdict", "12-why"]),
    "an evening": (
        "#D55E00",
        [
            *["01-what-is-forgetting", "02-long-tailed-forget-sets", "03-one-formula", "04-observed-deviations"],
            *["05-z-score-weight", "08-benchmarks", "verdict", "12-why", "13-a-target"],
        ],
    ),
    "everything": ("#009E73", None),
}


def title_of(name):
    """A page's first heading, with the number of its chapter."""
    notebook = BOOK / f"{name}.ipynb"
    if notebook.exists():
        text = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    else:
        text = (BOOK / f"{name}.md").read_text()
    title = next(line[2:] for line in text.splitlines() if line.startswith("# "))
    return f"{int(name[:2])}  {title}" if name[:2].isdigit() else title


def book_map():
    """The parts of the book as stations of three lines, a line a path."""
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"][:-1]  # the last has what one looks up
    xs = {name: 24 + 22 * k for k, name in enumerate(PATHS)}
    texts, stops, y = [], {name: [] for name in PATHS}, 66
    for part in parts:
        y += 30
        texts.append(f'<text x="96" y="{y}" font-weight="bold" fill="#555">{escape(part["caption"])}</text>')
        for chapter in part["chapters"]:
            y += 27
            texts.append(f'<text x="96" y="{y}">{escape(title_of(chapter["file"]))}</text>')
            for name, (_, wanted) in PATHS.items():
                if wanted is None or chapter["file"] in wanted:
                    stops[name].append(y - 4)
    lines = []
    for k, (name, (colour, _)) in enumerate(PATHS.items()):
        x, label = xs[name], 24 + 16 * k
        lines.append(f'<text x="{x + 12}" y="{label + 4}" fill="{colour}" font-weight="bold">{name}</text>')
        lines.append(f'<path d="M{x} {label}V{stops[name][-1]}" stroke="{colour}" stroke-width="4" fill="none"/>')
        dots = [
            f'<circle cx="{x}" cy="{at}" r="6" fill="#fff" stroke="{colour}" stroke-width="3"/>' for at in stops[name]
        ]
        lines += dots
    return svg("Map of the book", 440, y + 22, [*lines, *texts])


# The account

ACCOUNT = {"ratio": 0.04, "gamma": 1.0, "classes": 6, "size": 14, "per_class": 200}
PANELS = {
    "original": "before: trained on these images",
    "ascent": "gradient ascent carried too far: it denies them",
    "retrain": "an honest forgetter: trained without them",
}


def account_probabilities():
    """The forgotten images (n, 28, 28), their digits, and each model's probability of these."""
    import falw
    from falw.config import Config

    setting = falw.Setting("mnist", "tiny", **ACCOUNT)
    data, split = falw.load_setting(setting)
    learning = Config(epochs=10, lr=0.1, batch_size=64, nesterov=True, schedule="cosine", crop=0, flip=False)
    fresh = falw.create("tiny", data.num_classes, data.mean, data.std)
    original = falw.train_original(fresh, data, split, learning)
    climbing = Config(epochs=10, lr=0.1, batch_size=64, crop=0, flip=False)
    models = {
        "original": original,
        "ascent": falw.unlearn("ga", original, data, split, climbing),
        "retrain": falw.unlearn("retrain", original, data, split, learning),
    }
    said = {name: falw.predict(model, data, split).forget.p_true for name, model in models.items()}
    drawn = {name: ACCOUNT[name] for name in ("classes", "per_class")}
    pictures = falw.load_dataset("mnist", **drawn).train  # the same digits, as large as they are
    assert pictures.y.equal(data.train.y)
    return pictures.x[split.forget, 0], pictures.y[split.forget], said


def ink_on_white(pixels):
    """Pixels as a picture of dark on white, in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(255 - pixels.numpy()).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def account():
    """The account's digits in rows by class, once a model; the paler, the less probable is the digit to the model."""
    x, y, said = account_probabilities()
    order = sorted(y.unique().tolist(), key=lambda c: (-int((y == c).sum()), c))
    rows = [(y == c).nonzero()[:, 0].tolist() for c in order]
    side, defs, body, top = 23, [], [], 12
    for i, pixels in enumerate(x):
        defs.append(f'<image id="d{i}" width="22" height="22" href="data:image/png;base64,{ink_on_white(pixels)}"/>')
    for name, words in PANELS.items():
        p = said[name]
        body.append(f'<text x="14" y="{top + 16}" font-weight="bold">{words}</text>')
        body.append(
            f'<text x="14" y="{top + 33}" fill="#555">probability of the right digit, mean {p.mean():.2f}</text>'
        )
        top += 42
        for row in rows:
            for k, i in enumerate(row):
                body.append(f'<use href="#d{i}" x="{14 + side * k}" y="{top}" opacity="{max(p[i].item(), 0.07):.2f}"/>')
            top += side
        top += 14
    return svg("One account before and after", 440, top, ["<defs>", *defs, "</defs>", *body])


def main():
    """Write the pictures that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", choices=["map", "account"])
    for name in parser.parse_args().pictures:
        text = book_map() if name == "map" else account()
        (BOOK / "static" / f"{name}.svg").write_text(text)


if __name__ == "__main__":
    main()
