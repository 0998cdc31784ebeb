"""Tokens of adverts in blocks: adverts per second against the list-concatenating way.

    python benchmarks/tokenizing.py [--data adverts.jsonl] [--adverts 6000]

Peer: a loop that tokenizes advert by advert with transformers' tokenizer, adds up the
lists (`sum(lists, [])`) and slices them, as many a fine-tuning script does. Beside it
what the tokenizer alone costs, called in batches: nobody can be faster than that.
"""

import argparse
import gzip
import itertools
import json
import statistics
import time
from pathlib import Path

from preprocessing_speed import ratios
from results import report
from transformers import AutoTokenizer

from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.getters.storage import sample_path
from ojd_daps_language_models.preprocessing.packing import encode, load_tokenizer, pack

WIDTH = 128


def read_texts(path: Path, count: int) -> list[str]:
    """The first adverts of a file, over and over until there are `count`."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        texts = [text for line in file if (text := json.loads(line)["text"])]
    return list(itertools.islice(itertools.cycle(texts), count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="JSON Lines with a column `text`")
    parser.add_argument("--adverts", type=int, default=6000)
    parser.add_argument("--repetitions", type=int, default=2)
    arguments = parser.parse_args()
    texts = read_texts(arguments.data or sample_path("mlm"), arguments.adverts)
    folder = get_checkpoint("embedded")
    slow_tokenizer = AutoTokenizer.from_pretrained(folder)
    fast_tokenizer = load_tokenizer(folder)

    def concatenating() -> int:
        lists = [slow_tokenizer(text)["input_ids"] for text in texts]
        ids = sum(lists, [])  # noqa: RUF017 (the peer)
        return len([ids[i : i + WIDTH] for i in range(0, len(ids), WIDTH)])

    def tokenizer_alone() -> int:
        for start in range(0, len(texts), 1000):
            fast_tokenizer.encode_batch_fast(texts[start : start + 1000])
        return 0

    def ours() -> int:
        return len(pack(encode(texts, fast_tokenizer), WIDTH, 0)[:].ids)

    ways = {
        "concatenating": concatenating,
        "tokenizer alone": tokenizer_alone,
        "ours": ours,
    }
    seconds = {name: [] for name in ways}
    for _ in range(arguments.repetitions):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(texts)} adverts")
    own = seconds["ours"]
    what = f"adverts/s from text to blocks, {len(texts):,} adverts"
    speed = f"{len(texts) / statistics.median(own):,.0f} adverts/s"
    peer = "a loop over adverts that adds up lists"
    report(what, peer, ratios(seconds["concatenating"], own), speed)
    alone = ratios(own, seconds["tokenizer alone"])
    report(what, "the tokenizer alone", alone, unit="times its time")


if __name__ == "__main__":
    main()
