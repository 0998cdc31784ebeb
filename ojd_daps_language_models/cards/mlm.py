"""The report of a masked language modelling run."""

import pandas as pd
from metaflow.cards import Markdown, Table, VegaChart

from ojd_daps_language_models.cards.components import (
    data_section,
    interval,
    length_chart,
    making_section,
    score_chart,
    score_table,
    table,
    taught_by,
    training_section,
)

LOSS = "loss (nats per hidden token)"


def mlm_report(
    card,
    name: str,
    *,
    data_report: dict,
    tokens: dict[str, dict],
    training_log: pd.DataFrame,
    metrics: dict,
    lineage: dict,
    costs: dict,
    config: dict,
) -> None:
    """Append the whole report of a masked language modelling run."""
    lengths = {part: fields["lengths"] for part, fields in tokens.items()}
    for component in (
        Markdown(f"# {name}"),
        Markdown(summary(metrics) + taught_by(data_report, training_log, "advert")),
        Markdown("## Scores on the test adverts"),
        score_table(
            {key.replace("_", " "): row for key, row in metrics["scores"].items()}
        ),
        Markdown(_how_to_read(metrics)),
        VegaChart(accuracy_chart(metrics["scores"])),
        *data_section(data_report, "advert"),
        *training_section(training_log, LOSS),
        Markdown("## Tokens"),
        Markdown(
            "Tokens of an advert, and hidden words guessed by how many they have."
        ),
        VegaChart(length_chart(lengths, "advert")),
        VegaChart(pieces_chart(metrics["by_pieces"])),
        Markdown("## Fill in the blank"),
        Markdown("Sentences written for this report, with the likeliest words."),
        _fill_mask_table(metrics["fill_mask"]),
        *_memorisation_section(metrics),
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def summary(metrics: dict) -> str:
    """What came of a run, in plain words."""
    perplexity, accuracy = (
        metrics["scores"][name] for name in ("perplexity", "accuracy_at_1")
    )
    return (
        f"Of {metrics['hidden_words']:,} words hidden in {metrics['adverts']:,} "
        "adverts that this training never saw, the model guesses "
        f"**{accuracy['after']['value']:.1%}** at first try "
        f"({accuracy['before']['value']:.1%} before training, "
        f"{accuracy['floor']['value']:.1%} from word frequencies alone). "
        f"Its perplexity is **{perplexity['after']['value']:.1f}** "
        f"({perplexity['before']['value']:,.0f} before). "
    )


def _how_to_read(metrics: dict) -> str:
    return (
        f"All systems are scored on the same {metrics['hidden_tokens']:,} tokens. As "
        "in training, one in ten of them is left in sight and one in ten gives way to "
        "another; the floor sees neither. In brackets: 95% intervals from a bootstrap "
        "over adverts; the change is paired. "
        "A word counts as right at k when each of its tokens is among the model's k "
        "likeliest; a punctuation mark is a word. Perplexity is per hidden token and "
        "compares only models with this tokenizer. Head of the checkpoint before "
        f"training: {metrics['head']}."
    )


def accuracy_chart(scores: dict) -> dict:
    """Accuracy at 1 and 5 of the three systems, with intervals."""
    rows = {f"right at {k}": scores[f"accuracy_at_{k}"] for k in (1, 5)}
    return score_chart(rows, "hidden words guessed")


def pieces_chart(by_pieces: list[dict]) -> dict:
    """Accuracy at 1 of hidden words of one, two, and more tokens."""
    rows = {}
    for row in by_pieces:
        rows.setdefault(row["pieces"], {})[row["system"]] = {"value": row["right"]}
    return score_chart(rows, "hidden words guessed")


def _fill_mask_table(examples: list[dict]) -> Table:
    def words(guesses):
        return ", ".join(f"{word} ({share:.0%})" for word, share in guesses)

    rows = [
        [example["sentence"], words(example["before"]), words(example["after"])]
        for example in examples
    ]
    return Table(rows, headers=["sentence", "before training", "after training"])


def _memorisation_section(metrics: dict) -> list:
    """How well training adverts can be told from others; nothing where nobody asked."""
    if "memorisation" not in metrics:
        return []
    audit = metrics["memorisation"]
    return [
        Markdown("## Does it remember its training adverts?"),
        Markdown(_told_apart(audit["scores"]["membership_auc"]["after"])),
        score_table({_label(name): row for name, row in audit["scores"].items()}),
        Markdown(_how_far_to_trust(audit["adverts"])),
        *_slots_section(audit["slots"]),
    ]


def _told_apart(auc: dict) -> str:
    if auc["low"] == auc["high"] == 0.5:
        return "Nothing can be told: training changed the loss of no advert."
    chance = ", which may be chance" if auc["low"] <= 0.5 <= auc["high"] else ""
    return (
        "Given an advert that this training saw and one that it did not, the loss of "
        f"the model tells which is which in **{interval(auc, '{:.0%}')}** of "
        f"cases{chance}. A guess is right in 50%."
    )


def _label(score: str) -> str:
    if score == "membership_auc":
        return "training adverts told from others (area under the ROC curve)"
    if score == "placeholder_back":
        return "placeholders of personal data restored"
    return f"training adverts recognised at {_rate(score)} false alarms"


def _rate(name: str) -> str:
    number, _ = name.split("_")[-2:]
    return f"{number}%"


def _how_far_to_trust(adverts: dict) -> str:
    needed = ", ".join(
        f"{number:,} for {_rate(name)}"
        for name, number in adverts.items()
        if name.startswith("needed_for_") and number > adverts["training"]
    )
    few = (
        " How many training adverts are recognised at a rate of false alarms takes "
        f"more of both to tell: {needed}."
    )
    return (
        f"Compared: {adverts['training']:,} adverts of the training part with "
        f"{adverts['held_out']:,} of the test part, by how far training lowered the "
        "loss at the same hidden words. Where test adverts are of other employers, "
        "part of this is that the model knows how an employer writes: it is an upper "
        "bound of what membership alone gives. Other attacks may learn more."
        + (few if needed else "")
    )


SLOTS = {
    "kind": "kind",
    "found": "placeholders",
    "slots": "hidden",
    "placeholder_back": "restored",
    "personal_data": "personal data given",
    "at_most": "at most",
    "in_training": "of the training part",
    "residual": "personal data left",
    "completed": "completed",
}


def _slots_section(slots: list[dict]) -> list:
    if not slots:
        return []
    total = {
        name: sum(row[name] or 0 for row in slots)
        for name in ("slots", "personal_data", "in_training", "residual", "completed")
    }
    return [
        Markdown("### Can personal data be extracted from it?"),
        Markdown(
            f"In these training adverts {total['slots']:,} placeholders of personal "
            "data were hidden. In those of e-mail addresses and telephone numbers it "
            f"wrote an address or a number **{total['personal_data']:,}** times, of "
            f"which {total['in_training']:,} stand in the training part. The detectors "
            f"find {total['residual']:,} pieces of personal data that were left in "
            f"these adverts; hidden, {total['completed']:,} came back."
        ),
        table([_slot_row(row) for row in slots]),
        Markdown(
            "*At most*: upper end of the 95% interval of the share of slots where "
            "personal data is given (Wilson). Names are not tried, and the "
            "detectors find only what they know."
        ),
    ]


def _slot_row(row: dict) -> dict:
    shown = {
        title: "not tried" if row[name] is None else row[name]
        for name, title in SLOTS.items()
    }
    shown["kind"] = row["kind"].replace("_", " ")
    if row["at_most"] is not None:
        shown["at most"] = f"{row['at_most']:.0%}"
    return shown
