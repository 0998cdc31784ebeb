"""From chunks of adverts to parts: nothing leaks, nothing is lost, errors are plain."""

import pandas as pd
import pytest
import spacy

from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.getters.adverts import iter_advert_parts
from ojd_daps_language_models.preprocessing.adverts import prepare_adverts
from ojd_daps_language_models.sample_data.generate_adverts import generate_adverts


@pytest.fixture(scope="module")
def adverts() -> pd.DataFrame:
    """Adverts of the generator, as the getter gives them, without unusable rows."""
    config = MLMConfig()
    given = iter_advert_parts("sample", None, None, config.data)
    return pd.concat([chunk for chunk, _ in given["train"]], ignore_index=True)


def chunks(adverts):
    nothing = pd.DataFrame(columns=["source", "row", "id", "reason"], dtype="str")
    return [(adverts, nothing)]


def prepare(config=None, **parts):
    given = {part: chunks(adverts) for part, adverts in parts.items()}
    return prepare_adverts(given, config or MLMConfig())


def test_the_order_of_rows_changes_nothing(adverts):
    one = prepare(train=adverts)
    other = prepare(train=adverts.sample(frac=1, random_state=3))
    assert one.report["fingerprint"] == other.report["fingerprint"]
    parts = [p.adverts.set_index("id")["part"].sort_index() for p in (one, other)]
    pd.testing.assert_series_equal(*parts)


def test_every_advert_is_kept_or_kept_aside(adverts):
    prepared = prepare(train=adverts)
    rows = [*prepared.adverts["row"], *prepared.kept_aside["row"]]
    assert sorted(rows) == sorted(adverts["row"])
    assert prepared.kept_aside["reason"].notna().all()


def test_what_was_kept_aside_is_shown_even_if_the_split_fails(adverts, capsys):
    one = adverts[adverts["row"] == adverts["row"].min()]
    twice = pd.concat([one, one.assign(row=999)], ignore_index=True)
    with pytest.raises(ValueError, match=r"found 1 \(adverts: 1\)"):
        prepare(train=twice)
    assert "kept aside: exact duplicate (1)" in capsys.readouterr().out


def test_ids_that_repeat_are_refused_where_most_do(adverts, tmp_path):
    """A column of a few values, such as a site, leaves an advert for each of them."""
    rows = adverts.assign(site=[f"site {row % 3}" for row in range(len(adverts))])
    rows.to_csv(tmp_path / "adverts.csv", index=False)
    config = MLMConfig.model_validate({"data": {"columns": {"id": "site"}}})
    given = iter_advert_parts(str(tmp_path), None, None, config.data)
    count = len(adverts)
    message = (
        rf"adverts.csv: {count - 3} of {count} rows have an id that was seen before, "
        r"such as 'site \d'; .* another column under data.columns.id, or null"
    )
    with pytest.raises(ValueError, match=message):
        prepare_adverts(given, config)


def test_an_official_part_stays_whole_and_its_duplicates_leave_training(adverts):
    alone = prepare(train=adverts)
    aside = alone.kept_aside
    unfit = set(aside.loc[aside["reason"].str.contains("words|language"), "row"])
    test = adverts[adverts["row"] % 8 == 0]
    again = test[test["row"].isin(alone.adverts["row"])].iloc[:1].assign(row=9999)
    test = pd.concat([test, again], ignore_index=True)
    prepared = prepare(train=adverts, test=test)
    kept = prepared.adverts[prepared.adverts["part"] == "test"]
    assert set(kept["row"]) == set(test["row"]) - unfit
    assert {9999} < set(kept["row"]) and unfit & set(test["row"])
    assert prepared.report["overlap"]["test"]["near"] == 0
    shared = prepared.report["overlap"]["test"]["employers_in_train"]
    assert shared > 0
    # Names are compared as the split compares them.
    shout = prepare(
        train=adverts, test=test.assign(employer=test["employer"].str.upper())
    )
    assert shout.report["overlap"]["test"]["employers_in_train"] == shared
    assert shout.report["parts"]["test"] == prepared.report["parts"]["test"]


def test_what_only_repeats_the_test_part_leaves_no_training(adverts):
    with pytest.raises(ValueError, match="no training advert is left"):
        prepare(train=adverts, test=adverts)


def test_the_test_part_cannot_choose_the_epoch(adverts):
    test, train = adverts[adverts["row"] % 8 == 0], adverts[adverts["row"] % 8 != 0]
    with pytest.raises(ValueError, match=r"100\.0% .* near-duplicate in test"):
        prepare(train=train, validation=test, test=test)


def test_parts_with_the_same_sentences_are_refused(adverts):
    """In a held-out advert that resembles none of the training part otherwise."""
    fit = prepare(train=adverts).adverts
    train, test = fit[fit["part"] == "train"], fit[fit["part"] == "test"]
    sentence = "You will count 17 blue bicycles in the yard of Oak Lane."
    learnt = train.assign(text=train["text"].where(train.index > train.index[0]))
    learnt["text"] = learnt["text"].fillna(f"{train['text'].iloc[0]} {sentence}")
    config = MLMConfig.model_validate({"split": {"max_verbatim_overlap": 0.3}})
    own = test.assign(
        text=[
            f"Here is the advert that has the number {n} and speaks of {n * 7} oaks, "
            f"of {n * 3} birds that live in them, and of what {n * 5} of them sing."
            for n in test["row"]
        ]
    )
    prepare(config, train=learnt, test=own)
    own["text"] += f" {sentence}"
    with pytest.raises(ValueError, match=r"test: 50\.0% .* word for word in training"):
        prepare(config, train=learnt, test=own)


def test_an_official_part_without_usable_adverts_is_refused(adverts):
    short = adverts[:5].assign(text="Apply now")
    with pytest.raises(ValueError, match=r"test: no advert is left.*fewer than 20"):
        prepare(train=adverts[5:], test=short)


def test_unknown_employers_cannot_be_kept_apart(adverts):
    nameless = adverts.assign(employer=pd.Series(None, adverts.index, dtype="str"))
    with pytest.raises(ValueError, match="no advert has one"):
        prepare(train=nameless)
    split = {"by": "cluster", "max_verbatim_overlap": 0.5}
    config = MLMConfig.model_validate({"split": split})
    assert prepare(config, train=nameless).report["parts"]["test"]["adverts"] > 0


def test_no_name_that_the_pipeline_finds_reaches_a_model(adverts, tmp_path):
    nlp = spacy.blank("en")
    names = [{"label": "PERSON", "pattern": "Ada Quill"}]
    nlp.add_pipe("entity_ruler").add_patterns(names)
    nlp.to_disk(tmp_path / "names")
    named = adverts.assign(text="Ask for Ada Quill. " + adverts["text"])
    personal_data = {"names": str(tmp_path / "names")}
    config = MLMConfig.model_validate({"personal_data": personal_data})
    prepared = prepare(config, train=named)
    assert prepared.adverts["text"].str.startswith("Ask for [NAME].").all()
    assert prepared.report["personal_data"]["name"] == len(adverts)


def test_employers_stay_on_their_side_when_adverts_are_added():
    """Most of them do: a part that has become larger takes some in."""
    made = pd.DataFrame(generate_adverts(700, seed=5, employers=60)).dropna()
    made = made.drop_duplicates("id").assign(source="made")
    made["row"] = range(len(made))
    made = made.astype(dict.fromkeys(["id", "text", "employer", "title"], "str"))
    limits = {"max_verbatim_overlap": 1, "max_near_overlap": 1}
    config = MLMConfig.model_validate({"split": limits})
    before, after = (
        prepare(config, train=rows).adverts.groupby("employer")["part"].first()
        for rows in (made[:630], made)
    )
    both = before.index.intersection(after.index)
    assert (before[both] == after[both]).mean() > 0.8
