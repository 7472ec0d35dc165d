"""Counts and splits: exact sums, the caps, and which image goes where."""

from dataclasses import replace
from fractions import Fraction
from itertools import chain, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from falw.split import CAPS, groups, histogram_counts, long_tailed_split, power_law_counts, split_of

gammas, rules = st.floats(0, 3), st.sampled_from(CAPS)


def caps_and_total(classes, size):
    """Lists of class sizes, some of them 0, with a total that they can give."""
    lists = st.lists(st.integers(0, size), min_size=1, max_size=classes)
    return lists.flatmap(lambda caps: st.tuples(st.just(caps), st.integers(0, sum(caps))))


@given(st.integers(1, 40), st.integers(1, 30), st.floats(0, 1), gammas)
def test_counts_do_not_increase_with_rank_and_rules_agree_where_no_cap_binds(size, classes, ratio, gamma):
    total = int(ratio * size * classes)
    for cap in CAPS:
        assert (power_law_counts(total, torch.full((classes,), size), gamma, cap).diff() <= 0).all()
    spilt, filled = (power_law_counts(total, torch.full((classes,), total + 1), gamma, cap) for cap in CAPS)
    assert spilt.sum() == filled.sum() == total
    assert (spilt - filled).abs().sum() <= 2  # the last image may go to either of two remainders that rounding divides


def poured(total, caps, law):
    """Each rank's share poured into its own class, what does not fit into the next with room, and around."""
    share = [Fraction(0) for _ in caps]
    for k, part in enumerate(law):
        left = total * part / sum(law)
        for j in chain(range(k, len(caps)), range(k)):
            give = min(left, caps[j] - share[j])
            share[j], left = share[j] + give, left - give
    return share


def levelled(total, caps, law):
    """min(cap, level * law) at the level where it sums to the total; it bends where a class becomes full."""
    full_at = [cap / part for cap, part in zip(caps, law, strict=True)]
    bend = min(level for level in full_at if sum(map(min, caps, [level * part for part in law])) >= total)
    room = total - sum(cap for cap, level in zip(caps, full_at, strict=True) if level < bend)
    level = room / sum(part for part, full in zip(law, full_at, strict=True) if full >= bend)
    return [min(cap, level * part) for cap, part in zip(caps, law, strict=True)]


def by_fractions(total, caps, law, cap):
    """Whole numbers from fractions of small denominators: remainders that differ do so by far more than rounding."""
    share = {"spill": poured, "water-filling": levelled}[cap](total, caps, law)
    expected = [int(s) for s in share]
    by_remainder = sorted(range(len(caps)), key=lambda k: (expected[k] - share[k], k))
    for k in by_remainder[: total - sum(expected)]:
        expected[k] += 1
    return expected


@given(caps_and_total(6, 40), st.integers(0, 2), rules)
def test_counts_are_those_of_exact_fractions(asked, gamma, cap):
    caps, total = asked
    law = [Fraction(1, k**gamma) for k in range(1, len(caps) + 1)]
    assert power_law_counts(total, torch.tensor(caps), gamma, cap).tolist() == by_fractions(total, caps, law, cap)


@given(caps_and_total(6, 40), st.lists(st.integers(1, 9), min_size=6, max_size=6), rules)
def test_counts_after_a_histogram_are_those_of_exact_fractions(asked, histogram, cap):
    caps, total = asked
    law = histogram[: len(caps)]
    expected = by_fractions(total, caps, [Fraction(n) for n in law], cap)
    assert histogram_counts(total, torch.tensor(caps), law, cap).tolist() == expected


def test_counts_after_a_histogram_by_hand():
    for total, caps, histogram, spill, filled in (
        (18, [99, 99, 99], [4, 3, 2], [8, 6, 4], [8, 6, 4]),
        # 16 and 8: class 1 is full, and its 6 go to the next rank or are all that the others share as 4 : 2
        (24, [10, 20, 20], [6, 4, 2], [10, 10, 4], [10, 9, 5]),
        # where the histogram is 0 or has ended, nothing is taken: of 24 asked of a class of 20, 4 pass on to the other
        (25, [20, 20, 20, 20], [4, 0, 1], [20, 0, 5, 0], [20, 0, 5, 0]),
        (30, [20, 20, 20, 20], [4, 0, 1], [20, 0, 10, 0], [20, 0, 10, 0]),
        (30, [20, 20, 20, 20], [1, 0, 4], [10, 0, 20, 0], [10, 0, 20, 0]),
    ):
        assert histogram_counts(total, torch.tensor(caps), histogram).tolist() == spill
        assert histogram_counts(total, caps, np.array(histogram), "water-filling").tolist() == filled


def test_a_split_after_a_histogram_takes_its_classes_as_they_stand():
    split = long_tailed_split(Y, 0.1, None, histogram=[3, 0, 6])  # 45 of 450, and 7 classes of which nothing is asked
    assert split.forget_counts.tolist() == [15, 0, 30, *[0] * 7]
    assert split.rank.tolist() == [1, 2, 0, *range(3, 10)]
    plain, drawn = (long_tailed_split(Y, 0.1, g, permute=True, histogram=h) for g, h in ((2, None), (None, [6, 3])))
    assert torch.equal(plain.rank, drawn.rank)
    assert drawn.forget_counts[drawn.rank.argsort()].tolist() == [30, 15, *[0] * 8]
    assert torch.equal(split.val, long_tailed_split(Y, 0.1, 2).val)


@pytest.mark.fault(
    "a histogram that is no counts of classes, both it and an exponent, more than its classes have",
    "refused in one line with the value",
)
def test_histogram_errors():
    for gamma, histogram, words in (
        (None, None, "^gamma None and no histogram: one of the two says how the counts fall, give that one$"),
        (1.0, [2, 1], "^gamma 1.0 and a histogram: one of the two"),
        (None, [2, -1], r"^histogram \[2, -1\]: give counts from 0 up, one a class, at least one above 0$"),
        (None, [0, 0], r"^histogram \[0, 0\]"),
        (None, [], r"^histogram \[\]"),
        (
            None,
            [0.5, 0.5],
            "^histogram is torch.float32 of shape .*: give one whole number a class",
        ),
        (None, range(1, 12), "^histogram has 11 counts for 10 classes: give at most one a class$"),
        (None, [1, 1, 1], "^cannot forget 225 of 135 images: lower ratio or val$"),
    ):
        with pytest.raises(ValueError, match=words):
            long_tailed_split(Y, 0.5, gamma, histogram=histogram)


def test_counts_by_hand():
    for total, caps, gamma, spill, filled in (
        # 1/k over three ranks is 6/11, 3/11, 2/11: of 22 it is 12, 6, 4, of 10 it is 5.45, 2.73, 1.82
        (22, [99, 99, 99], 1, [12, 6, 4], [12, 6, 4]),
        (10, [99, 99, 99], 1, [5, 3, 2], [5, 3, 2]),
        # 3.33 each: the image left over goes to the first rank
        (10, [9, 9, 9], 0, [4, 3, 3], [4, 3, 3]),
        # 16.4, 8.2, 5.5: class 1 is full and 6.4 go to class 2, or 20 to classes 2 and 3 as 3 : 2
        (30, [10, 20, 20], 1, [10, 15, 5], [10, 12, 8]),
        # 80 and 20: class 2 has 10 and it is the last, so the surplus starts again at the head
        (100, [100, 10], 2, [90, 10], [90, 10]),
        # 54/11, 27/11, 18/11: less than an image comes around, and with it class 1 has the largest remainder, 0.55
        (9, [9, 9, 1], 1, [6, 2, 1], [5, 3, 1]),
        # 36/49, 9/49, 4/49 of 98 are 72, 18, 8: 3 images come around, one to class 1, two to class 2; or 95 as 4 : 1
        (98, [73, 40, 5], 2, [73, 20, 5], [73, 20, 5]),
        # 2**-2000 is 0 in floating point, and class 1 is full all the same
        (11, [10, 10, 10], 2000, [10, 1, 0], [10, 1, 0]),
        # a class without images gives nothing: its third goes to the next, or to both others
        (9, [9, 0, 9], 0, [3, 0, 6], [5, 0, 4]),
    ):
        assert power_law_counts(total, torch.tensor(caps), gamma).tolist() == spill
        assert power_law_counts(total, caps, gamma, "water-filling").tolist() == filled


def test_fully_forgotten_classes_at_the_papers_size():
    for cap, full in (("spill", [0, 21, 27, 29]), ("water-filling", [0, 8, 13, 16])):
        counts = [power_law_counts(13_500, torch.full((100,), 450), gamma, cap) for gamma in (0, 1, 1.5, 2)]
        assert [int((c == 450).sum()) for c in counts] == full


@pytest.mark.fault(
    "a total that is more than there is, an exponent below 0 or not finite, an unknown rule",
    "refused in one line with the value",
)
def test_count_errors():
    for total, gamma, cap, words in (
        (31, 1, "spill", "^cannot forget 31 of 30 images: lower ratio or val$"),
        (-1, 1, "spill", "^cannot forget -1 of 30"),
        (3, -0.5, "spill", r"^gamma -0.5 is not a number from 0 up: 0 is balanced, the paper goes to 2$"),
        (3, float("nan"), "spill", "^gamma nan"),
        (3, float("inf"), "spill", "^gamma inf"),
        (3, 1, "truncate", "^unknown cap rule 'truncate'; choose one of: spill, water-filling$"),
    ):
        with pytest.raises(ValueError, match=words):
            power_law_counts(total, torch.tensor([10, 10, 10]), gamma, cap)


Y = torch.arange(10).repeat_interleave(50)
labels = st.lists(st.integers(0, 7), min_size=4, max_size=120).map(lambda y: torch.tensor([5, 5, 0, *y]))
vals, seeds = st.sampled_from([0, 0.1, 0.3]), st.integers(0, 9)


@given(labels, st.floats(0.3, 0.7), gammas, vals, seeds, st.booleans(), rules)
def test_a_split_covers_every_image_once(y, ratio, gamma, val, seed, permute, cap):
    split = long_tailed_split(y, ratio, gamma, val, seed, cap, permute)
    parts = (split.forget, split.retain, split.val)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(y)))
    assert all((part.diff() > 0).all() for part in parts)
    assert len(split.forget) == round(ratio * (len(y) - len(split.val)))
    have, held_out, counts = (y[i].bincount(minlength=y.max() + 1) for i in (slice(None), split.val, split.forget))
    assert held_out.tolist() == [round(val * n) for n in have.tolist()]
    assert torch.equal(counts, split.forget_counts)
    at = split.rank.argsort()
    assert torch.equal(counts[at], power_law_counts(len(split.forget), (have - held_out)[at], gamma, cap))
    assert permute or torch.equal(split.rank, torch.arange(len(have)))


@pytest.mark.fault(
    "one class, one image a class, a class without images, as little as can be", "counts by hand, no crash"
)
def test_degenerate_data():
    for y, ratio, val, expected in (
        ([0] * 10, 0.5, 0.2, [4]),  # one class
        ([0, 1, 2, 3], 0.5, 0, [1, 1, 0, 0]),  # one image a class
        ([2, 0, 0, 2, 2, 0, 0, 2], 0.5, 0, [1, 0, 3]),  # 4/3 each, and class 1 has none
        ([0, 1] * 5, 0.1, 0, [1, 0]),  # as little as can be forgotten
        ([0, 1] * 5, 0.9, 0, [5, 4]),  # as little as can be retained
    ):
        assert long_tailed_split(torch.tensor(y), ratio, 0, val).forget_counts.tolist() == expected


def test_the_same_seed_gives_the_same_split():
    first, again, other = (long_tailed_split(Y, 0.3, 1, seed=s, permute=True) for s in (1, 1, 2))
    for part in ("forget", "retain", "val"):
        assert torch.equal(getattr(first, part), getattr(again, part))
        assert not torch.equal(getattr(first, part), getattr(other, part))


def test_every_image_has_the_same_chance():
    # of 10 images 2 are held out and 4 of the other 8 forgotten: in 400 draws 80 ± 8 and 160 ± 10 times each
    splits = [long_tailed_split(torch.zeros(10, dtype=torch.long), 0.5, 0, 0.2, seed) for seed in range(400)]
    assert ((torch.cat([s.val for s in splits]).bincount() - 80).abs() < 32).all()
    assert ((torch.cat([s.forget for s in splits]).bincount() - 160).abs() < 40).all()


def test_validation_images_do_not_depend_on_what_is_forgotten():
    base = long_tailed_split(Y, 0.3, 0).val  # by default a tenth, of seed 0
    assert torch.equal(base, long_tailed_split(Y, 0.3, 0, 0.1, 0).val)
    for ratio, gamma, cap in ((0.1, 0, "spill"), (0.3, 2, "spill"), (0.7, 2, "water-filling")):
        assert torch.equal(base, long_tailed_split(Y, ratio, gamma, cap=cap).val)


def test_rank_is_the_label_unless_permuted():
    plain, drawn = long_tailed_split(Y, 0.5, 2), long_tailed_split(Y, 0.5, 2, permute=True)
    assert torch.equal(plain.forget_counts, power_law_counts(225, torch.full((10,), 45), 2, "spill"))
    assert drawn.rank.tolist() != plain.rank.tolist() == list(range(10))
    assert torch.equal(drawn.forget_counts[drawn.rank.argsort()], plain.forget_counts)


@pytest.mark.fault(
    "a ratio or share of validation that leaves nothing to forget or to retain",
    "refused in one line with the value",
)
def test_split_errors():
    for arguments, words in (
        ({"ratio": 0}, r"^ratio 0 is outside \(0, 1\): it is the share of the training images to forget$"),
        ({"ratio": 1}, "^ratio 1 is outside"),
        (
            {"val": 1.0},
            r"^val 1.0 is outside \[0, 1\): it is the share of each class held out for validation$",
        ),
        ({"val": -0.1}, r"^val -0.1 is outside"),
        (
            {"ratio": 0.9999},
            r"^ratio 0.9999 of 450 images leaves nothing to retain: lower ratio, or use more images$",
        ),
        ({"ratio": 0.0001}, r"^ratio 0.0001 of 450 images forgets nothing: raise ratio, or use more images$"),
    ):
        with pytest.raises(ValueError, match=words):
            long_tailed_split(Y, **{"ratio": 0.3, "gamma": 1.0, **arguments})


thirds = [(100, [33, 34, 33]), (30, [10, 10, 10]), (10, [3, 4, 3]), (2, [1, 0, 1]), (1, [0, 1, 0])]


def test_groups_are_thirds_by_rank_where_classes_are_equal():
    for (classes, sizes), gamma in product(thirds, (0, 2)):
        split = long_tailed_split(torch.arange(classes).repeat_interleave(20), 0.3, gamma, permute=True)
        found = groups(split)
        assert {name: len(c) for name, c in found.items()} == dict(zip(("head", "mid", "tail"), sizes, strict=True))
        assert split.rank[torch.cat(list(found.values()))].tolist() == list(range(classes))


def test_groups_go_by_count_where_classes_differ():
    y = torch.arange(3).repeat_interleave(torch.tensor([4, 40, 16]))
    split = long_tailed_split(y, 0.75, 0, val=0)
    assert split.forget_counts.tolist() == [4, 26, 15]  # 15 each, and class 1 takes what class 0 cannot give
    assert {name: c.tolist() for name, c in groups(split).items()} == {"head": [1], "mid": [2], "tail": [0]}
    close = split_of(y, torch.tensor([0, 4, 5, 44, 45, 46]), val=0)  # 1, 2, 3
    by_count = replace(close, rank=torch.arange(3))
    assert {name: c.tolist() for name, c in groups(by_count).items()} == {"head": [2], "mid": [1], "tail": [0]}


@given(labels, vals, seeds, st.data())
def test_a_split_of_given_images_covers_every_image_once(y, val, seed, data):
    asked = data.draw(st.lists(st.integers(0, len(y) - 1), min_size=1, max_size=len(y) // 2, unique=True))
    split = split_of(y, torch.tensor(asked), val, seed)
    assert split.forget.tolist() == sorted(asked)
    parts = (split.forget, split.retain, split.val)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(y)))
    have, held_out, counts = (y[i].bincount(minlength=y.max() + 1) for i in (slice(None), split.val, split.forget))
    expected = [min(round(val * n), n - f) for n, f in zip(have.tolist(), counts.tolist(), strict=True)]
    assert held_out.tolist() == expected and torch.equal(counts, split.forget_counts)
    assert sorted(split.rank.tolist()) == list(range(len(have)))
    assert (split.forget_counts[split.rank.argsort()].diff() <= 0).all()


def test_a_split_of_given_images_by_hand():
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    split = split_of(y, torch.tensor([5, 2, 4]), val=torch.tensor([0]))
    assert (split.forget.tolist(), split.retain.tolist(), split.val.tolist()) == ([2, 4, 5], [1, 3], [0])
    assert (split.forget_counts.tolist(), split.rank.tolist()) == ([0, 1, 2], [2, 1, 0])
    many = split_of(torch.arange(100), torch.tensor([3]), 0).rank  # equal counts by class
    assert many.tolist() == [1, 2, 3, 0, *range(4, 100)]


def test_a_split_of_the_images_of_another_split_is_that_split():
    drawn = long_tailed_split(Y, 0.3, 1)
    again = split_of(Y, drawn.forget.flip(0), drawn.val)
    for part in ("forget", "retain", "val", "forget_counts", "rank"):
        assert torch.equal(getattr(drawn, part), getattr(again, part))


@pytest.mark.fault(
    "a given forget set with indices that are no images, twice there, or held out",
    "refused in one line with the first of them",
)
def test_split_of_errors():
    for forget, val, words in (
        ([3, 500, -1], 0.1, r"^indices \[-1, 500\] of forget are outside 0..499: give each training image once$"),
        ([3, 4, 3], 0.1, r"^indices \[3\] of forget occur twice"),
        ([3, 4], torch.tensor([9, 9]), r"^indices \[9\] of val occur twice"),
        ([3, 4], torch.tensor([4, 5]), r"^images \[4\] are in forget and in val: take them out of forget"),
        (list(range(9)), torch.arange(9), r"^images \[0, 1, 2, 3, 4\] are in forget and in val"),  # the first five
        (list(range(500, 509)), 0.1, r"^indices \[500, 501, 502, 503, 504\] of forget are outside"),
        ([], 0.1, "^0 images to forget and 450 to retain: a split needs some of both$"),
        (list(range(500)), 0.1, "^500 images to forget and 0 to retain"),
    ):
        with pytest.raises(ValueError, match=words):
            split_of(Y, torch.tensor(forget, dtype=torch.long), val)


@pytest.mark.fault("a mask in place of the indices to forget", "refused in one line that says what to give")
def test_a_mask_is_not_a_list_of_indices():
    with pytest.raises(
        ValueError, match=r"^forget is torch.bool of shape \(500,\): give indices, one whole number an image$"
    ):
        split_of(Y, Y == 3)


def test_held_out_images_of_a_given_split_are_drawn_with_the_seed():
    mixed = Y.view(10, 50).T.flatten()  # 0 1 2 .. 9 0 1 2 ..
    one, again, two = (split_of(mixed, torch.tensor([3]), seed=s).val for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, two)
    assert torch.equal(split_of(mixed, torch.tensor([3])).val, split_of(mixed, torch.tensor([3]), 0.1, 0).val)
    assert len(one) == 50 and (one.diff() > 0).all() and one.max() >= 50  # a tenth, ascending, not the first ones
    with pytest.raises(ValueError, match=r"^val -0.1 is outside"):
        split_of(mixed, torch.tensor([3]), -0.1)
    with pytest.raises(ValueError, match=r"^forget is torch.int64 of shape \(1, 1\)"):
        split_of(mixed, torch.tensor([[3]]))


def test_lists_and_arrays_are_labels_and_indices_too():
    y, asked, held_out = [0, 1, 1, 0, 2, 2, 0, 1], [1, 4], [0, 2]
    by_tensors = split_of(torch.tensor(y), torch.tensor(asked), torch.tensor(held_out))
    for form in (list, np.array, lambda v: np.array(v, np.int32), tuple, lambda v: torch.tensor(v, dtype=torch.uint8)):
        parts = split_of(form(y), form(asked), form(held_out)), long_tailed_split(form(y * 5), 0.3, 1.0)
        for got, expected in zip(parts, (by_tensors, long_tailed_split(torch.tensor(y * 5), 0.3, 1.0)), strict=True):
            assert torch.equal(got.forget, expected.forget) and torch.equal(got.retain, expected.retain)
            assert torch.equal(got.val, expected.val) and got.forget.dtype == torch.int64
    assert len(split_of(y, asked, np.float32(0.5)).val) == len(split_of(y, asked, 0.5).val)


@pytest.mark.fault("labels or indices that are texts, fractions or lists of lists", "refused in one line")
def test_what_is_no_list_of_whole_numbers_is_refused():
    for y, asked, words in (
        (["cat", "dog"], [0], "^labels are a list of no whole numbers: give one whole number an image$"),
        ([[0], [1, 2]], [0], "^labels are a list of no whole numbers"),
        (np.array(["cat", "dog"]), [0], "^labels are a ndarray of no whole numbers"),
        ([0.0, 1.5], [0], "^labels are torch.float32 of shape"),
        ([0, 1, 1], [0.5], "^forget is torch.float32 of shape"),
        ([0, 1, 1], np.array([True, False, False]), "^forget is torch.bool of shape"),
        ([0, 1, 1], [], "^0 images to forget and 3 to retain"),
        ([], [0], "^labels are torch.int64 of shape"),
    ):
        with pytest.raises(ValueError, match=words):
            split_of(y, asked, 0)
