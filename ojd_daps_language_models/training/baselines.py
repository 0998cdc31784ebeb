"""Floors: what a score is worth without any model."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

_WORD = re.compile(r"[^\W_]+")


def unigram_scores(
    labels: np.ndarray, token_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Guess every hidden token from its frequency alone.

    Args:
        labels: hidden tokens, shape (hidden,).
        token_counts: occurrences in the training part, shape (vocabulary,); one is
            added to each (Laplace).

    Returns:
        losses in nats and ranks of the right token from 0, both of shape (hidden,).
    """
    frequencies = (token_counts + 1) / (token_counts + 1).sum()
    by_frequency = np.argsort(-frequencies, kind="stable")
    ranks = np.empty_like(by_frequency)
    ranks[by_frequency] = np.arange(len(ranks))
    return -np.log(frequencies[labels]), ranks[labels]


def word_overlap(pairs: Iterable[tuple[str, str]]) -> np.ndarray:
    """Jaccard similarity of the words of two sentences, shape (pairs,)."""
    return np.array([_jaccard(_words(one), _words(other)) for one, other in pairs])


def fit_tfidf(
    train: tuple[Sequence[str], np.ndarray],
    validation: tuple[Sequence[str], np.ndarray],
):
    """TF-IDF of words and pairs of words with logistic regression (scikit-learn).

    Its strength of regularisation is chosen by average precision on validation.

    Args:
        train: sentences, and whether each is positive, bool, shape (sentences,).
        validation: the same.

    Returns:
        From sentences to the probability of each that it is positive.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline

    def fit(strength: float):
        return make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=strength, class_weight="balanced", max_iter=1000),
        ).fit(*train)

    def score(model) -> float:
        found = model.predict_proba(validation[0])[:, 1]
        return average_precision_score(validation[1], found)

    best = max((fit(strength) for strength in (0.1, 1, 10, 100)), key=score)
    return lambda sentences: best.predict_proba(sentences)[:, 1]


def embed_tfidf(texts: Sequence[str], known: Sequence[str]):
    """TF-IDF of three to five characters in a row (scikit-learn), of unit length.

    Args:
        texts: that are compared.
        known: that say how rare characters are.

    Returns:
        Sparse, shape (texts, n-grams).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer="char", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32
    )
    return vectorizer.fit(known).transform(texts)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold()))


def _jaccard(one: frozenset, other: frozenset) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
