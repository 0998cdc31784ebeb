"""Divide adverts into parts such that what belongs together stays together."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

PARTS = TRAIN, VALIDATION, TEST = "train", "validation", "test"


def linked_groups(*keys: Sequence[Hashable | None]) -> np.ndarray:
    """Group the adverts that any key links, directly or through others.

    An advert of employer A with a near duplicate at employer B makes one group of both.

    Args:
        keys: for each kind of key (employer, number of the near-duplicate cluster, …)
            that of every advert; None, NaN or blank where it has none. Case and white
            space do not tell keys apart: " ACME ltd" is "Acme Ltd".

    Returns:
        The label of each advert's group, str, shape (adverts,). It is the smallest key
        in the group, with the number of its kind before it (`0:acme ltd`), whatever the
        order of rows.

    Raises:
        ValueError: an advert has no key at all, so nothing but its row could name its
            group; or there are not as many keys of one kind as of another.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    lengths = {len(column) for column in keys}
    if len(lengths) != 1:
        raise ValueError(f"keys of adverts: found {sorted(lengths)}, not one number")
    (count,) = lengths
    adverts, numbers, names = [], [], []
    for kind, column in enumerate(keys):
        codes, uniques = pd.factorize(as_keys(column), sort=True)
        known = np.flatnonzero(codes >= 0)
        adverts.append(known)
        numbers.append(codes[known] + len(names))
        names.extend(f"{kind}:{key}" for key in uniques)
    adverts, numbers = np.concatenate(adverts), np.concatenate(numbers)
    keyless = np.flatnonzero(np.bincount(adverts, minlength=count) == 0)
    if len(keyless):
        raise ValueError(
            f"{len(keyless)} of {count} adverts have none of the {len(keys)} keys that "
            f"tell what belongs together; the first is number {keyless[0] + 1}. Give "
            "their ids as one more key"
        )
    links = coo_array(
        (np.ones(len(adverts), bool), (adverts, count + numbers)),
        shape=(count + len(names), count + len(names)),
    )
    component = connected_components(links, directed=False)[1]
    # Keys were numbered in order, so the first of a component is the smallest of it.
    groups, smallest = np.unique(component[count:], return_index=True)
    label = np.array(names, object)[smallest]
    return label[np.searchsorted(groups, component[:count])]


def split_groups(
    groups: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    unit: str = "advert",
) -> np.ndarray:
    """Assign adverts to parts, whole groups at a time.

    Groups are drawn in the order of a hash of seed and label, so the outcome depends
    neither on the order of rows nor on the machine. The test part takes each group that
    still fits into its share of the adverts, then the validation part does, and the
    rest is for training, where a group lands that is larger than either. First only
    groups up to a quarter of a part are drawn, lest one employer make up all of it. If
    nothing fits, the part takes the smallest group that is left.

    Args:
        groups: label of each advert's group.
        validation: share of adverts from 0 to 1; with 0 the part stays empty.
        test: likewise.
        seed: another seed draws other groups.
        unit: what is divided, for the message.

    Returns:
        "train", "validation" or "test" for each advert, shape (adverts,).

    Raises:
        ValueError: there are fewer groups than parts.
    """
    sizes = Counter(groups)
    left = sorted(sizes, key=lambda group: _hash(seed, group))
    shares = {TEST: test, VALIDATION: validation}
    shares = {part: share for part, share in shares.items() if share > 0}
    if len(left) <= len(shares):
        parts = ", ".join(part for part in PARTS if part == TRAIN or part in shares)
        raise ValueError(
            f"too few groups of {unit}s for {parts}: found {len(left)} ({unit}s: "
            f"{len(groups)}), expected at least {len(shares) + 1}, for a group stays "
            f"together. Add {unit}s that belong to none of them, or divide by "
            "something that makes smaller ones"
        )
    part_of = {}
    for place, (part, share) in enumerate(shares.items()):
        most = len(left) - (len(shares) - place)  # one for each part to come
        wanted = share * len(groups)
        chosen = _fill({group: sizes[group] for group in left}, wanted, most)
        part_of |= dict.fromkeys(chosen, part)
        left = [group for group in left if group not in part_of]
    return np.array([part_of.get(group, TRAIN) for group in groups])


def _fill(sizes: dict[str, int], wanted: float, most: int) -> list[str]:
    """Choose groups with about `wanted` adverts: at least one, and at most `most`."""
    chosen = {}
    room = round(wanted)
    for largest in (wanted / 4, wanted):
        for group, size in sizes.items():
            fits = size <= min(largest, room) and len(chosen) < most
            if fits and group not in chosen:
                chosen[group] = size
                room -= size
    return list(chosen) or [min(sizes, key=sizes.__getitem__)]


def as_keys(column: Sequence[Hashable | None]) -> pd.Series:
    """Names of employers or adverts as they are compared: without case and spacing."""
    column = pd.Series(list(column), dtype=object)
    text = column.dropna().astype(str).str.casefold().str.split().str.join(" ")
    return text[text != ""].reindex(column.index)


def advert_keys(rows: pd.DataFrame) -> pd.Series:
    """What tells the advert of each row from all others; missing where none is given.

    Adverts may be numbered anew for each employer: an id with several employers is
    another advert with each of them, and one more in the rows that have none.

    Args:
        rows: columns employer and advert.
    """
    employer, advert = as_keys(rows["employer"]), as_keys(rows["advert"])
    repeats = employer.groupby(advert).transform("nunique") > 1
    keys = advert.mask(repeats, advert + "\0" + employer.fillna(""))
    return keys.set_axis(rows.index)


def _hash(seed: int, group: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
