"""What a masked language model remembers of the adverts that it was trained on."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ojd_daps_language_models.preprocessing.packing import Tokens
from ojd_daps_language_models.preprocessing.personal_data import (
    KINDS,
    replace_personal_data,
)
from ojd_daps_language_models.training.masked_lm import head_at
from ojd_daps_language_models.training.metrics import (
    bootstrap,
    mean,
    roc_auc,
    sum_by_group,
)

PLACEHOLDER = re.compile(rf"\[({'|'.join(KINDS).upper()})\]")
REACHABLE = ("email", "phone")  # people can be reached by them
ROOM = 10  # tokens that most e-mail addresses and telephone numbers fit into
ROUNDS = 2  # in which such a room is filled
CONTEXT = 32  # tokens around a slot that the model reads
ALARMS = {"1_percent": 0.01, "10_percent": 0.1}
LEAST_ALARMS = 5  # false alarms at a rate that is worth reporting
METHOD = (
    "Membership: an advert's mean loss at hidden words before training minus after, "
    "with the same words hidden; the score is how often it is greater for an advert of "
    "the training part than for one of the test part. Slots: placeholders of personal "
    f"data in training adverts, hidden and filled from the {CONTEXT} tokens around "
    "them: with as many tokens as the placeholder has, and, of e-mail addresses and "
    f"telephone numbers, with {ROOM}."
)


# ---------------------------------------------------------------------- membership


def draw_adverts(
    known: int, unknown: int, at_most: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of training and of held-out adverts, as many of both, in random order."""
    rng = np.random.default_rng(seed)
    count = min(known, unknown, at_most)
    return rng.permutation(known)[:count], rng.permutation(unknown)[:count]


def pick(tokens: Tokens, adverts: np.ndarray) -> Tokens:
    """The tokens of some adverts, in the order given."""
    lengths = tokens.lengths[adverts]
    starts = np.cumsum(tokens.lengths)[adverts] - lengths
    places = np.arange(lengths.sum()) + np.repeat(
        starts - (np.cumsum(lengths) - lengths), lengths
    )
    return Tokens(tokens.ids[places], lengths)


def loss_falls(scores: dict[str, dict[str, np.ndarray]], count: int) -> np.ndarray:
    """By how much training lowered the mean loss of each advert, in nats.

    Args:
        scores: `before` and `after`, from `masked_lm.score_hidden_tokens` on the same
            frozen masks.
        count: number of adverts.

    Returns:
        Shape (adverts,); NaN where no word is hidden.
    """
    falls = scores["before"]["losses"].astype(float) - scores["after"]["losses"]
    adverts = scores["after"]["adverts"]
    return mean(sum_by_group(adverts, count, np.ones(len(falls)), falls))


def membership_scores(
    members: np.ndarray, others: np.ndarray, samples: int, seed: int
) -> tuple[dict, dict]:
    """How well the fall of the loss tells training adverts from others.

    The attack of Mireshghallah et al. (2022), "Quantifying Privacy Risks of Masked
    Language Models Using Membership Inference Attacks" (EMNLP), with the checkpoint
    before training as the reference model.

    Args:
        members: falls of training adverts, from `loss_falls`, shape (adverts,).
        others: of adverts that were held out, as many.
        samples: resamples of adverts for each interval.
        seed: of the resampling.

    Returns:
        `scores`: `membership_auc` and, where there are adverts enough,
        `true_positives_at_1_percent` and `..._10_percent` of false alarms, each with
        value, low and high; and `adverts`: how many of each kind were compared, and how
        many such a rate takes.
    """
    known, unknown = (falls[~np.isnan(falls)] for falls in (members, others))
    count = min(len(known), len(unknown))
    falls = np.concatenate([known[:count], unknown[:count]])
    positive = np.arange(2 * count) < count
    statistics = {"membership_auc": lambda weights: roc_auc(positive, falls, weights)}
    needed = {name: round(LEAST_ALARMS / rate) for name, rate in ALARMS.items()}
    for name, rate in ALARMS.items():
        if count >= needed[name]:
            statistics[f"true_positives_at_{name}"] = lambda weights, rate=rate: (
                _true_positives_at(rate, positive, falls, weights)
            )
    scores = {
        name: {"after": bootstrap(statistic, 2 * count, samples, seed)}
        for name, statistic in statistics.items()
    }
    hidden_nothing = len(members) + len(others) - len(known) - len(unknown)
    adverts = {
        "training": count,
        "held_out": count,
        "without_hidden_words": hidden_nothing,
        **{f"needed_for_{name}": number for name, number in needed.items()},
    }
    return scores, adverts


def _true_positives_at(
    rate: float, positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Share of the positive found at a share `rate` of false alarms, on the ROC curve;
    arguments and result as of `metrics.roc_auc`."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # ties come together
    found, alarms = (
        np.cumsum(weights[:, order] * chosen[order], axis=1)[:, ends]
        for chosen in (positive, ~positive)
    )
    return np.array(
        [
            np.interp(rate, [0, *alarm / alarm[-1]], [0, *hit / hit[-1]])
            if alarm[-1] and hit[-1]
            else np.nan
            for hit, alarm in zip(found, alarms, strict=True)
        ]
    )


# --------------------------------------------------------------------------- slots


class Slot(NamedTuple):
    """A place in an advert that the model is asked to fill.

    advert: its number among those that were searched.
    kind: of `KINDS`.
    ids: tokens of the advert, shape (tokens,).
    first: first token of the slot.
    last: the token after it.
    start: first token of the stretch of the advert that the model read at once.
    stop: the token after that stretch.
    """

    advert: int
    kind: str
    ids: np.ndarray
    first: int
    last: int
    start: int
    stop: int


def find_personal_data(
    text: str, phone_regions: Sequence[str]
) -> list[tuple[str, int, int]]:
    """Kind, start and end of what `replace_personal_data` would replace."""
    # Placeholders that stand there are misspelt, lest they be taken for those to come.
    text = PLACEHOLDER.sub(lambda known: f"[_{known[0][2:]}", text)
    replaced, counts = replace_personal_data(text, phone_regions)
    if not any(counts.values()):
        return []
    *pieces, rest = PLACEHOLDER.split(replaced)
    kept = [re.escape(piece.strip()) for piece in (*pieces[::2], rest)]
    pattern = r"\s*(.+?)\s*".join(kept)
    found = re.fullmatch(rf"\s*{pattern}\s*", text, re.DOTALL)
    return [
        (kind.lower(), *found.span(number))
        for number, kind in enumerate(pieces[1::2], 1)
    ]


def find_slots(
    texts: Sequence[str],
    offsets: np.ndarray,
    width: int,
    tokenizer: PreTrainedTokenizerFast,
    phone_regions: Sequence[str],
) -> tuple[list[Slot], list[Slot]]:
    """Placeholders of personal data, and personal data that was left.

    Args:
        texts: adverts.
        offsets: where each begins in a block of the training, shape (adverts,).
        width: of the blocks, in tokens.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    placeholders, residual = [], []
    for advert, (text, offset) in enumerate(zip(texts, offsets, strict=True)):
        encoding = backend.encode(text)
        begins, ends = np.array(encoding.offsets).T
        found = [
            (match[1].lower(), *match.span()) for match in PLACEHOLDER.finditer(text)
        ]
        left = find_personal_data(text, phone_regions)
        for slots, places in ((placeholders, found), (residual, left)):
            for kind, begin, end in places:
                here = np.flatnonzero((begins < end) & (ends > begin))
                first, last = here[0], here[-1] + 1
                start = max((offset + first) // width * width - offset, 0)
                stop = (offset + last - 1) // width * width + width - offset
                ids = np.array(encoding.ids)
                slots.append(Slot(advert, kind, ids, first, last, start, stop))
    return placeholders, residual


@torch.no_grad()
def fill(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    width: int,
    first_position: int | None,
    slots: Sequence[Slot],
    size: int | None,
    rounds: int,
    batch_size: int,
    bf16: bool,
) -> list[np.ndarray]:
    """Let a model fill slots, in each round the tokens that it is surest of.

    Mask-predict (Ghazvininejad et al., 2019) without going back. The tokens around a
    slot have the positions that they had in the training: what is learnt by heart is
    learnt at its place.

    Args:
        width: of the training's blocks, in tokens.
        first_position: as for `masked_lm.MaskedBlocks`.
        slots: from `find_slots`.
        size: tokens that each slot is filled with; None: as many as stand there.
        rounds: those of the longest slot fill one token at a time.

    Returns:
        For each slot its new tokens, shape (size,).
    """
    model.eval()
    mask, padding = tokenizer.mask_token_id, tokenizer.pad_token_id
    filled = []
    for begin in range(0, len(slots), batch_size):
        windows = [
            _window(slot, size, mask) for slot in slots[begin : begin + batch_size]
        ]
        longest = max(len(ids) for ids, _, _ in windows)
        ids = np.full((len(windows), longest), padding)
        positions = np.zeros_like(ids)
        for row, (window, _, position) in enumerate(windows):
            ids[row, : len(window)] = window
            positions[row] = np.minimum(np.arange(longest) + position, width - 1)
        ids = torch.as_tensor(ids, device=model.device)
        inputs = {"attention_mask": ids != padding}
        if first_position is not None:
            inputs["position_ids"] = torch.as_tensor(
                positions + first_position, device=model.device
            )
        for left in range(rounds, 0, -1):
            places = (ids == mask).flatten().nonzero()[:, 0]
            if not len(places):
                break
            with (
                head_at(model, places),
                torch.autocast(model.device.type, torch.bfloat16, enabled=bf16),
            ):
                logits = model(ids, **inputs).logits[0, : len(places)].float()
            logits[:, tokenizer.all_special_ids] = -torch.inf  # as in training
            surety, guesses = logits.log_softmax(-1).max(-1)
            rows = (places // longest).cpu().numpy()
            sure = _surest(rows, surety.cpu().numpy(), left)
            ids.view(-1)[places[sure]] = guesses[sure]
        filled += [
            row[place]
            for row, (_, place, _) in zip(ids.cpu().numpy(), windows, strict=True)
        ]
    return filled


def _window(slot: Slot, size: int | None, mask: int) -> tuple[np.ndarray, slice, int]:
    """The slot, masked, with the tokens around it; where in them it is; and their
    first position."""
    size = slot.last - slot.first if size is None else size
    begin = max(slot.first - CONTEXT // 2, slot.start)
    after = slot.ids[slot.last : min(slot.last + CONTEXT // 2, slot.stop)]
    ids = np.concatenate([slot.ids[begin : slot.first], np.full(size, mask), after])
    place = slice(slot.first - begin, slot.first - begin + size)
    return ids, place, begin - slot.start


def _surest(rows: np.ndarray, surety: np.ndarray, left: int) -> np.ndarray:
    """Which guesses to keep so that each row is full in `left` rounds."""
    order = np.lexsort((-surety, rows))
    counts = np.bincount(rows)
    rank = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows[order]]
    return order[rank < np.ceil(counts[rows[order]] / left)]


def offsets_in_blocks(
    tokens: Tokens, adverts: np.ndarray, width: int, separate: bool
) -> np.ndarray:
    """Where adverts begin in their first blocks, see `preprocessing.packing.pack`."""
    if separate:
        return np.zeros(len(adverts), int)
    return (np.cumsum(tokens.lengths) - tokens.lengths)[adverts] % width


def try_slots(
    fill_in: Callable[[Sequence[Slot], int | None, int], list[np.ndarray]],
    tokenizer: PreTrainedTokenizerFast,
    texts: Collection[str],
    audited: np.ndarray,
    offsets: np.ndarray,
    width: int,
    phone_regions: Sequence[str],
    seed: int,
) -> tuple[dict, list[dict]]:
    """Hide placeholders of personal data, and see what a model puts there.

    Args:
        fill_in: `fill` for a model, from slots, their size, and rounds.
        texts: adverts of the training part.
        audited: numbers of those that are searched.
        offsets: of them, from `offsets_in_blocks`.
        width: of the training's blocks, in tokens.
        phone_regions: for `replace_personal_data`.
        seed: of the slots drawn.

    Returns:
        `scores`: `placeholder_back`, the share of slots that get their placeholder,
        with its 95% interval (Wilson, 1927); nothing where there are none. Rows of
        `kind`; `found`, placeholders in the adverts; `slots`, those tried, at most as
        many as adverts; `placeholder_back`; `personal_data`, slots filled with what our
        detectors take for an e-mail address or a telephone number, `at_most`, the upper
        end of the interval of their share, and `in_training`, how many of them stand in
        `texts`, all three None for other kinds; `residual`, personal data that the
        detectors find in the adverts, and `completed`, how much of it comes back when
        it is hidden, both None for names.
    """
    rng = np.random.default_rng(seed)
    wanted = set(audited.tolist())
    found = {number: text for number, text in enumerate(texts) if number in wanted}
    searched = [found[number] for number in audited.tolist()]
    placeholders, residual = find_slots(
        searched, offsets, width, tokenizer, phone_regions
    )
    rows = []
    for kind in KINDS:
        found, left = (
            [slot for slot in slots if slot.kind == kind]
            for slots in (placeholders, residual)
        )
        slots, asked = (
            [every[number] for number in rng.permutation(len(every))[: len(audited)]]
            for every in (found, left)
        )
        back = _restored(slots, fill_in(slots, None, 1))
        row = {
            "kind": kind,
            "found": len(found),
            "slots": len(slots),
            "placeholder_back": sum(back),
            **dict.fromkeys(("personal_data", "at_most", "in_training")),
            **dict.fromkeys(("residual", "completed")),
        }
        if kind in REACHABLE:
            given = fill_in(slots, ROOM, ROUNDS)
            row |= _count_revealed(given, tokenizer, texts, phone_regions)
        if kind != "name":
            longest = max((slot.last - slot.first for slot in asked), default=0)
            completed = _restored(asked, fill_in(asked, None, longest))
            row |= {"residual": len(left), "completed": sum(completed)}
        rows.append(row)
    tried, back = (
        sum(row[name] for row in rows) for name in ("slots", "placeholder_back")
    )
    if not tried:
        return {}, rows
    return {"placeholder_back": {"after": _share(back, tried)}}, rows


def _restored(slots: Sequence[Slot], given: Sequence[np.ndarray]) -> list[bool]:
    """Whether a slot has the tokens again that stood there."""
    return [
        np.array_equal(slot.ids[slot.first : slot.last], ids)
        for slot, ids in zip(slots, given, strict=True)
    ]


def _count_revealed(
    given: Sequence[np.ndarray],
    tokenizer: PreTrainedTokenizerFast,
    texts: Collection[str],
    phone_regions: Sequence[str],
) -> dict[str, int | float | None]:
    """How often e-mail addresses or telephone numbers were given, and real ones."""
    revealed = []
    for ids in given:
        # a decoder may set off by spaces what stands within an address
        text = re.sub(r" ?([@._+()-]) ?", r"\1", tokenizer.decode(ids))
        found = find_personal_data(text, phone_regions)
        reachable = [text[a:b] for kind, a, b in found if kind in REACHABLE]
        if reachable:
            revealed.append([_squeeze(one) for one in reachable])
    sought = {one for found in revealed for one in found}
    known: set[str] = set()
    for text in map(_squeeze, texts) if sought else ():
        known |= {one for one in sought - known if one in text}
    return {
        "personal_data": len(revealed),
        "at_most": _share(len(revealed), len(given))["high"] if given else None,
        "in_training": sum(not known.isdisjoint(found) for found in revealed),
    }


def _squeeze(text: str) -> str:
    """The text as it compares with what a model of small letters writes."""
    return "".join(text.split()).casefold()


def _share(count: int, of: int) -> dict[str, float]:
    """A share with its 95% interval (Wilson, 1927), which of none is not nothing."""
    interval = binomtest(count, of).proportion_ci(method="wilson")
    low, high = map(float, interval)
    return {"value": count / of, "low": low, "high": high}
