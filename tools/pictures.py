"""Sphinx extension: figures that show images, drawn a second time for the dark; wide ones scroll on a phone.

In the dark a style sheet turns figures light on dark (book/static/book.css), and an image would be its own negative.
So where a cell's metadata say that its figure shows images (mystnb: image: classes: images), the page has two pictures,
of which the theme shows one: in the second all is turned but the images. A figure of several panels in a row, shrunk
to a phone's width, could not be read: it is put into a box in which it scrolls.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

SMALLEST, COLOURS, FILLED = 30, 16, 0.7  # pixels a side, and more colours than a bar, and less white than a diagram
WIDE, READABLE = 1000, 0.45  # pixels of a figure that scrolls, and the smallest scale at which its numbers can be read
PICTURE = re.compile(r'<img (?P<words>[^>]*)class="images" src="(?P<folder>[^"]*?)(?P<name>[^"/]+)\.png"')
DRAWN = re.compile(r'(<img [^>]*class="only-dark"[^>]*>)?<img [^>]*src="[^"]*?_images/(?P<name>[^"/]+)\.png"[^>]*>')


def boxes(figure: np.ndarray) -> list[tuple[slice, slice]]:
    """Where a figure on white, uint8 (h, w, 3), shows images: what is large, full and of many colours."""
    drawn = (figure < 255).any(axis=2)
    found = [box for box in ndimage.find_objects(ndimage.label(drawn)[0]) if drawn[box].mean() > FILLED]
    large = [box for box in found if min(drawn[box].shape) >= SMALLEST]
    return [box for box in large if len(np.unique(figure[box].reshape(-1, 3), axis=0)) > COLOURS]


def in_the_dark(figure: np.ndarray) -> np.ndarray:
    """A figure, uint8 (h, w, 3), light on black; images stay as they are."""
    dark = 255 - figure
    for box in boxes(figure):
        dark[box] = figure[box]
    return dark


def both(app, pagename, templatename, context, doctree):
    """Put the second picture of every figure that shows images beside the first one, and wide figures into boxes."""
    stored = {Path(name).stem: source for source, name in app.builder.images.items()}

    def two(m):
        folder = Path(app.outdir, "_images")
        folder.mkdir(exist_ok=True)
        figure = np.asarray(Image.open(Path(app.srcdir, stored[m["name"]])).convert("RGB"))
        Image.fromarray(in_the_dark(figure)).save(folder / f"{m['name']}-dark.png", optimize=True)
        dark = f'<img {m["words"]}class="only-dark" src="{m["folder"]}{m["name"]}-dark.png"/>'
        return f'{dark}<img {m["words"]}class="only-light" src="{m["folder"]}{m["name"]}.png"'

    def box(m):
        with Image.open(Path(app.srcdir, stored[m["name"]])) as figure:
            width = figure.width
        least = f"--least: {round(READABLE * width)}px"
        return f'<div class="wide" tabindex="0" style="{least}">{m[0]}</div>' if width > WIDE else m[0]

    context["body"] = DRAWN.sub(box, PICTURE.sub(two, context.get("body", "")))


def setup(app):
    """Called by Sphinx."""
    app.connect("html-page-context", both, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
