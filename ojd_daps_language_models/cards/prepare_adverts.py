"""The report of adverts that were prepared for several trainings."""

from metaflow.cards import Markdown

from ojd_daps_language_models.cards.components import data_section, making_section


def preparation_report(
    card, name: str, *, data_report: dict, lineage: dict, costs: dict, config: dict
) -> None:
    """Append the whole report of a preparation."""
    report = {
        key: value for key, value in data_report.items() if key != "seen_by_checkpoint"
    }
    for component in (
        Markdown(f"# {name}"),
        *data_section(report, "advert"),
        *making_section(lineage, costs, config),
    ):
        card.append(component)
