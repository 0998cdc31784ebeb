"""Cleaning, personal data and sentences: adverts per second on one core.

    python benchmarks/preprocessing_speed.py [--data adverts.jsonl]

Peers, on the same adverts: spaCy's full pipeline, called once per advert as its first
example does; and the sentence component alone, that is the pipeline that we split with,
given the raw adverts in one `nlp.pipe`. Repetitions alternate, and each ratio is taken
within one repetition.

The full pipeline is en_core_web_sm where it is installed. Where it is not, one of the
same architecture stands in for it (tok2vec 96 wide and 4 deep, tagger, parser,
attribute_ruler, lemmatizer, ner) with random weights, which cost the same time.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import spacy
from results import report
from spacy.lookups import Lookups
from spacy.training import Example

import ojd_daps_language_models
from ojd_daps_language_models.preprocessing.cleaning import clean_text
from ojd_daps_language_models.preprocessing.personal_data import replace_personal_data
from ojd_daps_language_models.preprocessing.sentences import (
    DEFAULT_PIPELINE,
    describe_sentence_pipeline,
    load_sentence_pipeline,
    split_sentences,
)

SAMPLE = Path(ojd_daps_language_models.__file__).parent / "sample_data/mlm.jsonl.gz"
# As many as en_core_web_sm has: the time of a component grows with its labels.
TAGS, DEPENDENCIES, ENTITIES = 50, 45, 18


def load_full_pipeline() -> spacy.Language:
    """Load en_core_web_sm, or make a pipeline that takes as long."""
    if spacy.util.is_package(DEFAULT_PIPELINE):
        return spacy.load(DEFAULT_PIPELINE)
    nlp = spacy.blank("en")
    embed = {
        "@architectures": "spacy.MultiHashEmbed.v2",
        "width": 96,
        "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE", "SPACY", "IS_SPACE"],
        "rows": [5000, 1000, 2500, 2500, 50, 50],
        "include_static_vectors": False,
    }
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": 96,
        "depth": 4,
        "window_size": 1,
        "maxout_pieces": 3,
    }
    own = {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode}
    shared = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96}
    nlp.add_pipe("tok2vec", config={"model": own})
    nlp.add_pipe("tagger", config={"model": {"tok2vec": shared}})
    nlp.add_pipe("parser", config={"model": {"tok2vec": shared}})
    nlp.add_pipe("ner", config={"model": {"tok2vec": own}})
    words = [f"word{i}" for i in range(max(TAGS, DEPENDENCIES, ENTITIES))]
    annotation = {
        "words": words,
        "tags": [f"T{i % TAGS}" for i in range(len(words))],
        "heads": [max(i - 1, 0) for i in range(len(words))],
        "deps": ["ROOT", *(f"d{i % DEPENDENCIES}" for i in range(1, len(words)))],
        "entities": [f"U-E{i % ENTITIES}" for i in range(len(words))],
    }
    doc = spacy.tokens.Doc(nlp.vocab, words)
    example = Example.from_dict(doc, annotation)
    nlp.initialize(lambda: [example])
    ruler = nlp.add_pipe("attribute_ruler", before="ner")
    for tag in set(annotation["tags"]):
        ruler.add([[{"TAG": tag}]], {"POS": "NOUN"})
    lookups = Lookups()
    for table in ("lemma_rules", "lemma_exc", "lemma_index"):
        lookups.add_table(table, {})
    nlp.add_pipe("lemmatizer", before="ner").initialize(lookups=lookups)
    return nlp


def seconds(task: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def ratios(times: list[float], others: list[float]) -> list[float]:
    """Within the repetitions."""
    return [a / b for a, b in zip(times, others, strict=True)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="JSON Lines with a column `text`")
    parser.add_argument("--adverts", type=int, default=100, help="drawn at random")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()

    path = arguments.data or SAMPLE
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        texts = [text for line in file if (text := json.loads(line)["text"])]
    texts = random.Random(0).sample(texts, min(arguments.adverts, len(texts)))
    full, nlp = load_full_pipeline(), load_sentence_pipeline()
    alone = load_sentence_pipeline()
    if "mend_boundaries" in alone.pipe_names:
        alone.remove_pipe("mend_boundaries")  # ours too, on top of the component
    cleaned = [clean_text(text) for text in texts]
    replaced = [replace_personal_data(text)[0] for text in cleaned]

    def prepare() -> None:
        anonymous = (replace_personal_data(clean_text(text))[0] for text in texts)
        list(split_sentences(anonymous, nlp))

    tasks = {
        "full pipeline per advert": lambda: [full(text) for text in texts],
        "sentence component alone": lambda: list(alone.pipe(texts)),
        "ours, all three": prepare,
        "  cleaning": lambda: list(map(clean_text, texts)),
        "  personal data": lambda: list(map(replace_personal_data, cleaned)),
        "  sentences": lambda: list(split_sentences(replaced, nlp)),
    }
    times = {name: [] for name in tasks}
    for task in tasks.values():
        task()  # loads what is loaded once
    for _ in range(arguments.repetitions):
        for name, task in tasks.items():
            times[name].append(seconds(task))

    size = statistics.mean(map(len, texts))
    print(f"{len(texts)} adverts of {size:,.0f} characters on average, one core")
    print(f"sentences by {describe_sentence_pipeline(nlp)}")
    print(f"full pipeline: {describe_sentence_pipeline(full)}\n")
    ours, component = times["ours, all three"], times["sentence component alone"]
    print(f"{'':26}{'adverts/s':>10}{'ms each':>9}")
    for name, measured in times.items():
        each = statistics.median(measured) / len(texts)
        print(f"{name:26}{1 / each:10,.0f}{each * 1000:9.2f}")
    what = "adverts/s of cleaning, personal data and sentences, on one core"
    full_times = times["full pipeline per advert"]
    speed = f"{len(texts) / statistics.median(ours):,.0f} adverts/s"
    report(what, "spaCy's full pipeline per advert", ratios(full_times, ours), speed)
    report(
        what,
        "the sentence component alone",
        ratios(ours, component),
        unit="times its time",
    )


if __name__ == "__main__":
    main()
