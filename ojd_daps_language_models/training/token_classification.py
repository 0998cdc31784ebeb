"""Taggers of words: their head, their batches, and the entities that they find."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from torch.nn.functional import pad
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)

from ojd_daps_language_models.archive import unpack_folder
from ojd_daps_language_models.preprocessing.packing import Inputs, load_tokenizer
from ojd_daps_language_models.preprocessing.spans import (
    WordSpan,
    decode_tags,
    find_words,
    from_tags,
    load_word_tokenizer,
    tag_names,
    to_tags,
)
from ojd_daps_language_models.preprocessing.windows import (
    Windows,
    encode_windows,
    first_tokens,
)
from ojd_daps_language_models.training.classification import (
    NOT_SCORED,
    Sequences,
    begin_anew,
    iter_logits,
)
from ojd_daps_language_models.training.fit import load_quietly

IMPOSSIBLE = -1e4  # the logit of a class that a head does not have


def load_tagger(
    folder: Path, labels: Sequence[str], seed: int
) -> tuple[PreTrainedModel, bool]:
    """The model of a checkpoint folder with a head for the tags of these labels.

    Args:
        folder: what `save_pretrained` wrote.
        labels: of spans.
        seed: of a new head.

    Returns:
        The model, on the GPU where there is one, and whether its head is new.

    Raises:
        ValueError: weights of the encoder itself are missing.
    """
    names = tag_names(labels)
    known = AutoConfig.from_pretrained(folder).id2label == dict(enumerate(names))
    set_seed(seed)  # before the model: a new head is random
    model, missing = load_quietly(
        AutoModelForTokenClassification,
        folder,
        num_labels=len(names),
        ignore_mismatched_sizes=True,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    head = [key for key in missing if not key.startswith(model.base_model_prefix)]
    if not known and not head:
        begin_anew(model)
    return model, bool(head) or not known


class HeadsSideBySide(torch.nn.Module):
    """Several heads in the place of one.

    Their answers have shape (batch, width, heads, classes). Where one has fewer
    classes than another, those that it lacks are impossible.
    """

    def __init__(self, heads: Sequence[torch.nn.Module]):
        super().__init__()
        self.heads = torch.nn.ModuleList(heads)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        said = [head(hidden) for head in self.heads]
        most = max(logits.shape[-1] for logits in said)
        return torch.stack(
            [pad(one, (0, most - one.shape[-1]), value=IMPOSSIBLE) for one in said], -2
        )


@contextmanager
def learning_together(models: Sequence[PreTrainedModel]) -> Iterator[PreTrainedModel]:
    """One model that answers for several taggers, which have all but `classifier` in
    common from here on.

    Args:
        models: of one checkpoint, each with a head `classifier` for its own labels.
    """
    first, *others = models
    # Not the encoder alone: ModernBERT has a layer between it and the classifier.
    shared = [name for name, _ in first.named_children() if name != "classifier"]
    for model in others:
        for name in shared:
            setattr(model, name, getattr(first, name))
    own = first.classifier
    first.classifier = HeadsSideBySide([model.classifier for model in models])
    try:
        yield first
    finally:
        first.classifier = own


class TaggedWindows(Sequences):
    """Windows in batches, with the class of each token for each head.

    Every token of a word has one: the first begins where the word begins an entity, the
    others go on. So a pipeline, which looks at tokens, finds whole words.

    Args:
        windows: of `preprocessing.windows.encode_windows`.
        layers: for each head the labels that it learns, and the spans of the words of
            each text; labels that are not learnt count as none.
        checkpoint: folder whose tokenizer made the windows.
    """

    def __init__(
        self,
        windows: Windows,
        layers: Sequence[tuple[Sequence[str], Sequence[Sequence[WordSpan]]]],
        checkpoint: Path,
    ):
        inputs = Inputs(
            windows.ids,
            windows.lengths,
            windows.lengths,
            np.zeros(len(windows.lengths), bool),
        )
        super().__init__(inputs, np.zeros(len(windows.lengths)), checkpoint)
        self.windows = windows
        tags = [_tags_of_tokens(windows, *layer) for layer in layers]
        self._tags = np.stack(tags, axis=1)

    def arrays(self) -> list[np.ndarray]:
        """All that batches and their order are made of."""
        return [*super().arrays(), self._tags]

    def __getitems__(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once, each tensor of shape (batch, width), but for `labels`
        of shape (batch, width, heads)."""
        batch, rows = super().__getitems__(rows), np.asarray(rows)
        real = self._real(rows)
        tags = np.full((*real.shape, self._tags.shape[1]), NOT_SCORED)
        tags[real] = self._tags[self._places(rows, real)]
        return batch | {"labels": torch.as_tensor(tags)}


def _tags_of_tokens(
    windows: Windows, labels: Sequence[str], spans: Sequence[Sequence[WordSpan]]
) -> np.ndarray:
    """The class of each token for one head, shape (tokens,), int64."""
    of_words = [np.empty(0, np.int64)]
    for found, count in zip(spans, windows.word_counts, strict=True):
        learnt = [span for span in found if span[2] in labels]
        of_words.append(to_tags(learnt, count, labels))
    # Word -1 is the last: not scored.
    tags = np.append(np.concatenate(of_words), NOT_SCORED)[windows.words]
    first, _ = first_tokens(windows.words)
    goes_on = (windows.words >= 0) & (tags % 2 == 1)
    goes_on[first] = False
    tags[goes_on] += 1
    return tags


def read_entities(
    logits: np.ndarray, windows: Windows, labels: Sequence[str]
) -> list[list[WordSpan]]:
    """The likeliest entities of each text, from what was said of its windows.

    Args:
        logits: of a model, float, shape (windows, longest, classes).
        windows: that they are of.
        labels: whose tags the classes are.
    """
    real = np.arange(logits.shape[1]) < windows.lengths[:, None]
    places, words = first_tokens(windows.words)
    said = log_softmax(logits[real][places].astype(np.float64), axis=-1)
    # A word without a token, such as a lone control character, may be anything.
    scores = np.zeros((int(windows.word_counts.sum()), logits.shape[-1]))
    scores[words] = said
    return [
        from_tags(tags, labels) for tags in decode_tags(scores, windows.word_counts)
    ]


def score_windows(
    model: PreTrainedModel, windows: TaggedWindows, batch_size: int, precision: str
) -> np.ndarray:
    """Logits of a model, float32, shape (windows, longest, classes)."""
    longest = windows.inputs.lengths.max(initial=0)
    shape = (len(windows), longest, model.config.num_labels)
    logits = np.zeros(shape, np.float32)
    for rows, said in iter_logits(model, windows, batch_size, precision):
        logits[rows, : said.shape[1]] = said
    return logits


def score_packed(
    model: bytes,
    labels: Sequence[str],
    windows: TaggedWindows,
    batch_size: int,
    precision: str,
) -> np.ndarray:
    """Logits of a packed model: see `load_tagger` and `score_windows`."""
    with tempfile.TemporaryDirectory() as folder:
        loaded, _ = load_tagger(unpack_folder(model, Path(folder)), labels, 0)
    return score_windows(loaded, windows, batch_size, precision)


def find_entities(
    texts: Sequence[str], folder: Path | str, overlap: int = 32, batch_size: int = 32
) -> list[list[dict]]:
    """The entities in texts of any length, found as when the model was scored.

    Beside `pipeline("token-classification")` it reads a long text in windows that share
    some words, lets of two windows the one decide that shows more around a word, and
    never begins or ends an entity inside a word.

    Args:
        texts: whole adverts or sentences.
        folder: of a model that `flows/ner_flow.py` trained.
        overlap: tokens that neighbouring windows share.
        batch_size: windows that the model reads at once.

    Returns:
        For each text its entities in order: label, start, end (in characters), text.
    """
    folder = Path(folder)
    names = AutoConfig.from_pretrained(folder).id2label
    labels = [names[number][2:] for number in range(1, len(names), 2)]
    model, _ = load_tagger(folder, labels, 0)
    length = AutoTokenizer.from_pretrained(folder).model_max_length
    nlp = load_word_tokenizer()
    words = [find_words(text, nlp) for text in texts]
    windows = encode_windows(
        texts, words, load_tokenizer(folder), length, min(overlap, length // 2)
    )
    tagged = TaggedWindows(windows, [(labels, [[]] * len(texts))], folder)
    logits = score_windows(model, tagged, batch_size, "auto")
    return [
        [
            {
                "label": label,
                "start": places[first][0],
                "end": places[stop - 1][1],
                "text": text[places[first][0] : places[stop - 1][1]],
            }
            for first, stop, label in found
        ]
        for text, places, found in zip(
            texts, words, read_entities(logits, windows, labels), strict=True
        )
    ]
