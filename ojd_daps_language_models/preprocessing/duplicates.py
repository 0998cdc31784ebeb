"""Adverts that say the same thing twice, word for word or nearly so.

Two adverts are exact duplicates if they have the same words in the same order, and near
duplicates if the sets of their three-word shingles have at least the Jaccard similarity
asked for (Broder, 1997). MinHash signatures estimate it, and only for pairs that share
a band of their signatures (locality-sensitive hashing).

Fingerprints are made text by text: shards can make theirs apart and be clustered
together, and no text is needed once it has them.

Why rensa and not datasketch: with as many slots its R-MinHash has a smaller error (.029
against .034 for 128 slots, 400 shingles and a similarity of .8; neither is biased), and
it takes the hashes of many texts as one array: 7 microseconds a text against 63. What
it then finds, and how fast, is in `benchmarks/near_duplicates.py`.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

WORDS_PER_SHINGLE = 3  # with 5, one changed word in 40 undoes a similarity of .8
SLOTS = 512  # of a signature: an estimate of .8 has a standard error of .013
_SEED = 1
_CHUNK = 256  # texts whose words are in memory as Python objects
_PAIRS = 2**15  # pairs compared at a time
_RECALL = 0.995  # chance that a pair just as similar as asked for shares a band

_WORD = re.compile(r"[^\W_]+")
_MIXERS = np.random.default_rng(_SEED).integers(2**64, size=SLOTS, dtype=np.uint64)
_MIXERS |= np.uint64(1)  # odd, so that no bit of what they multiply is lost


def exact_fingerprints(texts: Iterable[str], min_words: int = 1) -> np.ndarray:
    """A hash of the words of each text, int64, shape (texts,).

    Case, white space and punctuation are ignored: they change from one job board to the
    next. Digits count, because grade and pay are all that some short texts differ in;
    long texts that differ in a few digits are still near duplicates. The hash is -1
    where there are fewer words than `min_words`, and never negative otherwise.
    """
    return np.fromiter((_hash(_words(text), min_words) for text in texts), np.int64)


def fingerprint(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Exact fingerprints and MinHash signatures of texts, in one pass over them.

    Returns:
        What `exact_fingerprints` returns, and signatures of the sets of shingles,
        uint16, shape (texts, SLOTS). Of each slot the lower 16 bits are kept: different
        shingles agree in them once in 65,536 times (b-bit MinHash; Li & König, 2010).
    """
    from rensa import RMinHash

    texts = iter(texts)
    exact = [np.empty(0, np.int64)]
    signatures = [np.empty((0, SLOTS), np.uint16)]
    while chunk := [_words(text) for text in itertools.islice(texts, _CHUNK)]:
        exact.append(np.fromiter(map(_hash, chunk), np.int64))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            *_shingles(chunk), SLOTS, _SEED
        )
        signatures.append(np.array(matrix.to_rows(), np.uint32).astype(np.uint16))
    return np.concatenate(exact), np.concatenate(signatures)


def cluster_fingerprints(
    exact: np.ndarray, signatures: np.ndarray, threshold: float = 0.8
) -> pd.DataFrame:
    """Number the clusters of duplicates among the texts that have these fingerprints.

    Near clusters are the connected components of all near-duplicate pairs. The number
    of a cluster is the smallest hash in it, whatever the order of rows. Texts without a
    word are no duplicates of each other: they are numbered -1, -2, … as they come.

    Args:
        exact: from `fingerprint`, shape (texts,).
        signatures: from `fingerprint`, shape (texts, SLOTS).
        threshold: Jaccard similarity from which two texts are near duplicates.

    Returns:
        Columns `exact` and `near`, int64; texts with one `exact` have one `near`.
    """
    rows = distinct_texts(exact)
    links = link_texts(
        band_keys(signatures[rows], threshold), signatures.__getitem__, rows, threshold
    )
    return number_linked(exact, links)


def distinct_texts(exact: np.ndarray) -> np.ndarray:
    """The first row of each text that has words, by its hash; shape (texts,).

    Args:
        exact: from `fingerprint`, shape (rows,).
    """
    found, first = np.unique(exact, return_index=True)
    return first[found >= 0]


def link_texts(
    bands: Iterable[np.ndarray],
    take: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Link the near duplicates that share one of these bands.

    What several tasks find, each for some of the bands, is together what one finds for
    all of them: `number_linked` takes all links at once.

    Args:
        bands: for each band the keys of the texts, from `band_keys`.
        take: from numbers of rows to their signatures.
        rows: the number of each text, from `distinct_texts`.
        threshold: Jaccard similarity of near-duplicates.

    Returns:
        Pairs of rows, shape (links, 2): as few as keep together what belongs together.
    """
    component = _link(
        bands, lambda texts: take(rows[texts]), np.arange(len(rows)), threshold
    )
    _, first, of_text = np.unique(component, return_index=True, return_inverse=True)
    others = np.flatnonzero(first[of_text] != np.arange(len(rows)))
    return np.column_stack([rows[first[of_text[others]]], rows[others]])


def number_linked(exact: np.ndarray, links: np.ndarray) -> pd.DataFrame:
    """Number the clusters of duplicates: see `cluster_fingerprints`.

    Args:
        exact: from `fingerprint`, shape (rows,).
        links: pairs of rows, from `link_texts`, shape (links, 2).
    """
    exact = exact.copy()
    wordless = np.flatnonzero(exact < 0)
    exact[wordless] = -1 - np.arange(len(wordless))
    near, text = np.unique(exact, return_inverse=True)
    component = _merge(np.arange(len(near)), *text[links.T])
    _, smallest, of_text = np.unique(component, return_index=True, return_inverse=True)
    return pd.DataFrame({"exact": exact, "near": near[smallest[of_text]][text]})


def choose_representatives(
    clusters: pd.DataFrame, lengths: Sequence[int], ids: Sequence[Hashable]
) -> np.ndarray:
    """Say which text of each near cluster is kept, bool, shape (texts,).

    It is the longest; of several the one with the smallest fingerprint, then with the
    smallest id. So it does not depend on the order of rows where ids are unique.

    Args:
        clusters: from `cluster_fingerprints` or `number_linked`.
        lengths: of the texts that were clustered, in characters.
        ids: of these texts.
    """
    order = clusters.reset_index(drop=True).assign(
        shortness=-np.asarray(lengths), id=list(ids)
    )
    order = order.sort_values(["near", "shortness", "exact", "id"], kind="stable")
    kept = np.zeros(len(order), bool)
    kept[order.drop_duplicates("near").index] = True
    return kept


def count_bands(threshold: float) -> int:
    """How many bands signatures have at a threshold."""
    return SLOTS // _band_width(threshold)


def band_keys(
    signatures: np.ndarray, threshold: float, bands: Iterable[int] | None = None
) -> Iterator[np.ndarray]:
    """For each band of slots a number that stands for what a text has in it, uint64.

    Bands are as wide as they can be without losing pairs just as similar as asked for.

    Args:
        bands: their numbers, up to `count_bands`; None: all.
    """
    width = _band_width(threshold)
    for number in range(count_bands(threshold)) if bands is None else bands:
        start = number * width
        band = signatures[:, start : start + width].astype(np.uint64)
        yield band @ _MIXERS[:width]


def has_near_duplicate(
    signatures: np.ndarray, among: np.ndarray, threshold: float = 0.8
) -> np.ndarray:
    """Say which texts have a near duplicate among others, bool, shape (texts,).

    Args:
        signatures: of the texts, from `fingerprint`.
        among: of the others.
        threshold: Jaccard similarity from which two texts are near duplicates.
    """
    found = ~_has_words(signatures)  # nothing to look for
    bands = zip(
        band_keys(signatures, threshold), band_keys(among, threshold), strict=True
    )
    for keys, other_keys in bands:
        order = np.argsort(other_keys)
        ends = np.searchsorted(other_keys, keys, side="right", sorter=order)
        starts = np.searchsorted(other_keys, keys, side="left", sorter=order)
        for text, place in _pairs(np.where(found, ends, starts), ends):
            missing = ~found[text]
            text, other = text[missing], order[place[missing]]
            alike = _are_alike(signatures[text], among[other], threshold)
            found[text[alike]] = True
    return found & _has_words(signatures)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _hash(words: list[str], min_words: int = 1) -> int:
    if len(words) < min_words:
        return -1
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1  # 63 bits: never negative


def _shingles(texts: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the shingles of all texts in a row, and where those of each begin.

    Empty words follow each text, so that a shingle begins at each of its words, and a
    text of one word has one too.
    """
    padding = [""] * (WORDS_PER_SHINGLE - 1)
    flat = np.array([word for words in texts for word in (*words, *padding)], object)
    hashes = pd.util.hash_array(flat)
    shingles = sum(
        _MIXERS[place] * hashes[place : len(hashes) - len(padding) + place]
        for place in range(WORDS_PER_SHINGLE)
    )
    begins = flat[: len(shingles)] != ""
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.uint64)
    return shingles[begins], offsets


def _link(
    bands: Iterable[np.ndarray],
    take: Callable[[np.ndarray], np.ndarray],
    component: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Component of each text in the graph of near-duplicate pairs, shape (texts,).

    A pair that is in one component already is not compared: its link would change
    nothing. So the outcome is that of comparing all pairs that share a band.
    """
    for keys in bands:
        # Equal keys make a bucket, and in it the components lie one after the other:
        # each text is paired with what comes between their end and the bucket's.
        order = np.lexsort((component, keys))
        bucket, part = (
            values[order][1:] != values[order][:-1] for values in (keys, component)
        )
        for left, right in _pairs(_ends(bucket | part), _ends(bucket)):
            left, right = order[left], order[right]
            apart = component[left] != component[right]
            left, right = left[apart], right[apart]
            alike = _are_alike(take(left), take(right), threshold)
            if alike.any():
                component = _merge(component, left[alike], right[alike])
    return component


def _merge(component: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array(
        (np.ones(len(left), bool), (component[left], component[right])),
        shape=(len(component), len(component)),
    )
    return connected_components(links, directed=False)[1][component]


def _are_alike(left: np.ndarray, right: np.ndarray, threshold: float) -> np.ndarray:
    """Whether the signatures in a row of each agree in enough slots."""
    return np.count_nonzero(left == right, axis=1) >= threshold * SLOTS


def _has_words(signatures: np.ndarray) -> np.ndarray:
    return (signatures != np.iinfo(np.uint16).max).any(axis=1)


def _band_width(threshold: float) -> int:
    return max(
        width
        for width in range(1, SLOTS + 1)
        if 1 - (1 - threshold**width) ** (SLOTS // width) >= _RECALL
    )


def _ends(borders: np.ndarray) -> np.ndarray:
    """Where the run of each place ends, given whether one ends at each but the last."""
    ends = np.append(np.flatnonzero(borders), len(borders)) + 1
    return np.repeat(ends, np.diff(ends, prepend=0))


def _pairs(
    starts: np.ndarray, ends: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair the n-th place with each from the n-th start to the n-th end, in batches."""
    totals = np.cumsum(ends - starts)
    count = totals[-1] if len(totals) else 0
    for begin in range(0, count, _PAIRS):
        pair = np.arange(begin, min(begin + _PAIRS, count))
        place = np.searchsorted(totals, pair, side="right")
        yield place, ends[place] - (totals[place] - pair)
