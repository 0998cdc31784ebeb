"""The report of a masked language modelling run."""

import pandas as pd
from metaflow.cards import Markdown, Table, VegaChart

from ojd_daps_language_models.cards.components import (
    data_section,
    length_chart,
    making_section,
    score_chart,
    score_table,
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
        Markdown(_summary(metrics) + taught_by(data_report, training_log, "advert")),
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
        *making_section(lineage, costs, config),
    ):
        card.append(component)


def _summary(metrics: dict) -> str:
    perplexity, accuracy = (
        metrics["scores"][name] for name in ("perplexity", "accuracy_at_1")
    )
    return (
        f"Of {metrics['hidden_words']:,} words hidden in {metrics['adverts']:,} "
        "adverts that it never saw, the model guesses "
        f"**{accuracy['after']['value']:.1%}** at first try "
        f"({accuracy['before']['value']:.1%} before training, "
        f"{accuracy['floor']['value']:.1%} from word frequencies alone). "
        f"Its perplexity is **{perplexity['after']['value']:.1f}** "
        f"({perplexity['before']['value']:,.0f} before). "
    )


def _how_to_read(metrics: dict) -> str:
    return (
        f"All systems read the same {metrics['hidden_tokens']:,} hidden tokens. In "
        "brackets: 95% intervals from a bootstrap over adverts; the change is paired. "
        "A word counts as right at k when each of its tokens is among the model's k "
        "likeliest. Perplexity is per hidden token and compares only models with this "
        f"tokenizer. Head of the checkpoint before training: {metrics['head']}."
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
