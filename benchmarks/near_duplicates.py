"""Near duplicates: texts per second, and what is found, against datasketch.

    python benchmarks/near_duplicates.py [--adverts 20000] [--rounds 3]

Peer: datasketch as its documentation shows it, `MinHash.bulk` with 128 permutations and
`MinHashLSH`, on the same three-word shingles; what a query returns is a duplicate.
Rounds alternate, and each ratio is taken within one. The adverts are made up: 30% are
copies of another with up to 15% of the words changed, and employers repeat their
paragraphs. On 5,000 adverts at a time the clusters of both are held against those of
brute force, which compares all pairs of shingle sets.
"""

import argparse
import itertools
import resource
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from datasketch import MinHash, MinHashLSH
from results import report
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from ojd_daps_language_models.preprocessing.duplicates import (
    cluster_fingerprints,
    fingerprint,
)

THRESHOLD = 0.8
COMPARED = 5_000  # by brute force
PEER_AT_MOST = 20_000
CHANGED = [0, 0.003, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15]  # share of words


def make_adverts(count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Adverts of about 2.5 kB, and the number of the original of each."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    vocabulary = np.array(
        ["".join(rng.choice(letters, length)) for length in rng.integers(2, 11, 20_000)]
    )

    def words(length: int) -> np.ndarray:
        ranks = np.exp(rng.random(length) * np.log(len(vocabulary)))  # Zipf's law
        return vocabulary[ranks.astype(int) - 1]

    boilerplate = [words(80) for _ in range(count // 50 + 1)]
    texts, originals = [], []
    while len(texts) < count:
        original = np.concatenate(
            [words(rng.integers(100, 600)), boilerplate[rng.integers(len(boilerplate))]]
        )
        copies = rng.geometric(0.4) if rng.random() < 0.17 else 0
        for copy in range(copies + 1):
            advert = original.copy()
            changed = rng.random(len(advert)) < (rng.choice(CHANGED) if copy else 0)
            advert[changed] = words(changed.sum())
            texts.append(" ".join(advert))
            originals.append(len(originals) - copy)
    order = rng.permutation(count)
    return [texts[row] for row in order], np.array(originals)[order]


def shingles(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[place : place + 3]) for place in range(len(words) - 2)}


def ours(texts: list[str]) -> np.ndarray:
    return cluster_fingerprints(*fingerprint(texts), THRESHOLD)["near"].to_numpy()


def datasketch(texts: list[str]) -> np.ndarray:
    tokens = ([shingle.encode() for shingle in shingles(text)] for text in texts)
    signatures = MinHash.bulk(tokens, num_perm=128)
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    with index.insertion_session() as session:
        for number, signature in enumerate(signatures):
            session.insert(number, signature)
    found = [index.query(signature) for signature in signatures]
    left = np.repeat(np.arange(len(texts)), list(map(len, found)))
    return components(left, list(itertools.chain.from_iterable(found)), len(texts))


def brute_force(texts: list[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    rows = [
        [numbers.setdefault(shingle, len(numbers)) for shingle in shingles(text)]
        for text in texts
    ]
    sizes = np.array(list(map(len, rows)))
    places = np.concatenate([[0], np.cumsum(sizes)])
    matrix = csr_array((np.ones(places[-1], np.int32), np.concatenate(rows), places))
    common = (matrix @ matrix.T).tocoo()
    union = sizes[common.row] + sizes[common.col] - common.data
    alike = common.data >= THRESHOLD * union
    return components(common.row[alike], common.col[alike], len(texts))


def components(left, right, count: int) -> np.ndarray:
    links = coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def pairs(clusters: np.ndarray) -> set[tuple[int, int]]:
    """All pairs of rows in one cluster."""
    order = np.argsort(clusters, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)
    return set(
        itertools.chain.from_iterable(itertools.combinations(run, 2) for run in runs)
    )


def seconds(work: Callable, texts: list[str]) -> float:
    start = time.perf_counter()
    work(texts)
    return time.perf_counter() - start


def compare_quality(seeds: int) -> str:
    """Print what pairs are in one cluster, against those of brute force; in a line."""
    counts: dict[str, Counter] = {"ours": Counter(), "datasketch": Counter()}
    planted_pairs = true_pairs = 0
    for seed in range(seeds):
        texts, originals = make_adverts(COMPARED, seed)
        planted, true = pairs(originals), pairs(brute_force(texts))
        planted_pairs += len(planted)
        true_pairs += len(true)
        for work in (ours, datasketch):
            found = pairs(work(texts))
            counts[work.__name__].update(
                found=len(found),
                true=len(found & true),
                planted=len(found & planted),
            )
    print(
        f"{seeds} times {COMPARED:,} adverts with {planted_pairs:,} planted pairs, of "
        f"which {true_pairs:,} are near duplicates"
    )
    print(f"{'':12}{'precision':>10}{'recall':>8}{'of one original':>17}")
    said = []
    for name, count in counts.items():
        precision, recall = count["true"] / count["found"], count["true"] / true_pairs
        of_one = count["planted"] / count["found"]
        print(f"{name:12}{precision:10.3f}{recall:8.3f}{of_one:17.3f}")
        said.append(f"{name}: precision {precision:.3f}, recall {recall:.3f}")
    return f"against brute force on {COMPARED:,} adverts {'; '.join(said)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adverts", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    quality = compare_quality(arguments.rounds)
    texts, _ = make_adverts(arguments.adverts)
    some = texts[:PEER_AT_MOST]
    print(f"\nspeed on {len(some):,} adverts")
    ratios = []
    for _ in range(arguments.rounds):
        own, peer = seconds(ours, some), seconds(datasketch, some)
        ratios.append(peer / own)
        print(
            f"  ours {len(some) / own:7,.0f} texts/s   datasketch "
            f"{len(some) / peer:7,.0f} texts/s   ratio {peer / own:.1f}",
            flush=True,
        )
    report(
        "texts/s of finding near-duplicates",
        "datasketch",
        ratios,
        quality,
    )

    start = time.perf_counter()
    exact, signatures = fingerprint(texts)
    middle = time.perf_counter()
    cluster_fingerprints(exact, signatures, THRESHOLD)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"\nours on {len(texts):,} adverts: fingerprints {middle - start:.1f} s and "
        f"{signatures.nbytes / 1e6:,.0f} MB, clusters {end - middle:.1f} s; peak of "
        f"the process {peak:.2f} GB, texts and peer included"
    )


if __name__ == "__main__":
    main()
