"""The audit finds what was learnt by heart, and nothing where nothing was learnt."""

import importlib
import json
import shutil
from contextlib import nullcontext
from types import resolve_bases
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from conftest import sample_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve
from test_cards import Card, in_brackets, mlm_artifacts
from test_personal_data import PIECES

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.advert_data import texts_by_part
from ojd_daps_language_models.cards.mlm import mlm_report
from ojd_daps_language_models.configs import MLMConfig
from ojd_daps_language_models.preprocessing.packing import (
    Tokens,
    pack,
    positions_in_advert,
)
from ojd_daps_language_models.preprocessing.personal_data import replace_personal_data
from ojd_daps_language_models.tasks import mlm
from ojd_daps_language_models.training.masked_lm import model_inputs
from ojd_daps_language_models.training.memorisation import (
    CONTEXT,
    KINDS,
    ROOM,
    _surest,
    draw_adverts,
    fill,
    find_personal_data,
    find_slots,
    loss_falls,
    membership_scores,
    offsets_in_blocks,
    pick,
    try_slots,
)

ADDRESS = "ann@jobs.com"
WITH_PLACEHOLDERS = "Call [PHONE] or send your CV to [EMAIL] today."
WITH_ADDRESS = f"Write to {ADDRESS} before Friday."
CONFIG = MLMConfig.model_validate(
    {
        "training": {
            "block_size": 64,
            "batch_size": 8,
            "learning_rate": 5e-3,
            "precision": "fp32",
            "dropout": 0.0,
        },
        "masking": {"probability": 0.3},
        "evaluation": {"bootstrap_samples": 100, "audit_adverts": 16},
    }
)


@pytest.fixture(scope="module")
def bracket_bert(tiny_bert, tmp_path_factory):
    """The tiny BERT with brackets in its vocabulary, so that it reads placeholders."""
    folder = tmp_path_factory.mktemp("bracket_bert")
    shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    rarest = sorted(vocabulary, key=vocabulary.get)[-2:]
    for bracket, piece in zip("[]", rarest, strict=True):
        vocabulary[bracket] = vocabulary.pop(piece)
    path.write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def adverts():
    """Six short adverts, four times over, half of them with an e-mail address that was
    left in; the same to choose the epoch by, and others to test on."""
    texts = [
        " ".join(replace_personal_data(text)[0].split()[:8])
        for text in sample_texts()[:36]
    ]
    own = [
        f"{text} {WITH_ADDRESS if number % 2 else WITH_PLACEHOLDERS}"
        for number, text in enumerate(texts[:6])
    ]
    parts = {"train": own * 4, "validation": own, "test": texts[16:]}
    return pd.DataFrame(
        [(text, part) for part, texts in parts.items() for text in texts],
        columns=["text", "part"],
    )


def audit(adverts, checkpoint, epochs, config=CONFIG):
    texts = texts_by_part(adverts)
    tokens = mlm.tokenize(texts, checkpoint)
    model, _ = mlm.train(tokens, checkpoint, config, epochs, seed=0)
    return [
        mlm.evaluate(tokens, checkpoint, model, config, 0, texts["train"], ["GB"])
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def learnt_by_heart(adverts, bracket_bert):
    return audit(adverts, bracket_bert, epochs=200)


@pytest.fixture(scope="module")
def untrained(adverts, bracket_bert):
    return audit(adverts, bracket_bert, epochs=0)


def rows_of(metrics) -> dict[str, dict]:
    return {row["kind"]: row for row in metrics["memorisation"]["slots"]}


def test_adverts_learnt_by_heart_are_told_from_others(learnt_by_heart):
    auc = learnt_by_heart[0]["memorisation"]["scores"]["membership_auc"]["after"]
    assert auc["value"] > 0.8
    assert auc["low"] > 0.5


def test_without_training_nothing_can_be_told(untrained):
    scores = untrained[0]["memorisation"]["scores"]
    half = {"value": 0.5, "low": 0.5, "high": 0.5}
    assert scores["membership_auc"]["after"] == half
    back = scores["placeholder_back"]["after"]
    assert back["value"] == back["low"] == 0 < back["high"]


def test_an_address_that_was_learnt_by_heart_is_found_and_restored(
    learnt_by_heart, untrained
):
    found, nothing = (
        rows_of(runs[0])["email"] for runs in (learnt_by_heart, untrained)
    )
    assert found["residual"] == nothing["residual"] > 3
    # One may be missed: with several threads no two trainings end with equal weights.
    assert found["completed"] >= found["residual"] - 1
    assert nothing["completed"] == 0
    phones = rows_of(learnt_by_heart[0])["phone"]
    assert phones["residual"] == phones["completed"] == 0


def test_placeholders_that_were_learnt_by_heart_come_back(learnt_by_heart):
    share = learnt_by_heart[0]["memorisation"]["scores"]["placeholder_back"]["after"]
    assert share["low"] > 0.4
    rows = rows_of(learnt_by_heart[0])
    slots = sum(row["slots"] for row in rows.values())
    back = sum(row["placeholder_back"] for row in rows.values())
    assert share["value"] == pytest.approx(back / slots)
    wilson = binomtest(back, slots).proportion_ci(method="wilson")
    assert [share["low"], share["high"]] == pytest.approx(list(wilson), rel=1e-3)
    assert rows["phone"]["slots"] == rows["email"]["slots"] > 5


def test_the_same_seed_gives_the_same_audit(learnt_by_heart):
    one, other = learnt_by_heart
    assert one == other


def test_the_scores_are_those_of_a_run_without_audit(adverts, bracket_bert, untrained):
    evaluation = CONFIG.evaluation.model_copy(update={"audit_adverts": 0})
    config = CONFIG.model_copy(update={"evaluation": evaluation})
    without = audit(adverts, bracket_bert, 0, config)[0]
    assert "memorisation" not in without
    assert without["scores"] == untrained[0]["scores"]


def test_adverts_without_a_hidden_word_are_not_audited(adverts, bracket_bert, capsys):
    evaluation = CONFIG.evaluation.model_copy(update={"audit_adverts": 1})
    masking = CONFIG.masking.model_copy(update={"probability": 0.03})
    config = CONFIG.model_copy(update={"evaluation": evaluation, "masking": masking})
    metrics = audit(adverts, bracket_bert, 0, config)[0]
    assert "memorisation" not in metrics and metrics["scores"]
    assert "not audited" in capsys.readouterr().out


def test_prepared_adverts_are_audited_as_they_were_prepared(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT_DIR / "flows")
    module = importlib.import_module("mlm_flow")
    (flow,) = resolve_bases((module.MLMFlow,))
    here = CONFIG.model_dump()
    sections = ("data", "personal_data", "duplicates", "split")
    prepared = {
        "data": "run:PrepareAdvertsFlow/1",
        "config": {name: here[name] for name in sections},
        "lineage": dict.fromkeys(["validation data", "test data"]),
    }
    prepared["config"]["personal_data"] = {"phone_regions": ["FR"], "names": None}
    for name in ("delete_checkpoints", "get_checkpoint", "token_store"):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(module, "open_tokens", lambda *_: nullcontext())
    monkeypatch.setattr(module, "texts_by_part", lambda _: {"train": []})

    def evaluate(*given):
        raise StopIteration(given[-1])

    monkeypatch.setattr(module.mlm, "evaluate", evaluate)
    run = MagicMock(prepared=prepared, config=MagicMock(to_dict=lambda: here))
    with pytest.raises(StopIteration, match=r"^\['FR'\]$"):
        flow.evaluate(run)


# ---------------------------------------------------------------------- membership


def test_as_many_adverts_of_both_are_drawn_anew_by_seed():
    members, others = draw_adverts(1000, 30, 200, seed=0)
    assert len(members) == len(set(members)) == len(set(others)) == 30
    again, _ = draw_adverts(1000, 30, 200, seed=0)
    other, _ = draw_adverts(1000, 30, 200, seed=1)
    assert members.tolist() == again.tolist() != other.tolist()
    assert len(draw_adverts(1000, 900, 200, seed=0)[0]) == 200


def test_the_tokens_of_an_advert_stay_together():
    lengths = np.array([3, 0, 2, 4])
    picked = pick(Tokens(np.arange(9), lengths), np.array([3, 0, 1]))
    assert picked.ids.tolist() == [5, 6, 7, 8, 0, 1, 2]
    assert picked.lengths.tolist() == [4, 3, 0]


def test_the_fall_of_the_loss_is_a_mean_over_hidden_tokens():
    adverts = np.array([0, 0, 2])
    before = {"losses": np.array([4.0, 2.0, 1.0], np.float32), "adverts": adverts}
    after = {"losses": np.array([1.0, 1.0, 3.0], np.float32), "adverts": adverts}
    falls = loss_falls({"before": before, "after": after}, 3)
    assert falls[[0, 2]].tolist() == [2, -2] and np.isnan(falls[1])


def test_the_scores_are_points_on_the_roc_curve():
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 600).round(1), rng.normal(0, 1, 600).round(1)
    scores, adverts = membership_scores(members, others, 100, seed=0)
    truth, falls = np.repeat([1, 0], 600), np.concatenate([members, others])
    auc = scores["membership_auc"]["after"]
    assert auc["value"] == pytest.approx(roc_auc_score(truth, falls))
    assert auc["low"] < auc["value"] < auc["high"]
    alarms, hits, _ = roc_curve(truth, falls, drop_intermediate=False)
    for percent in (1, 10):
        found = scores[f"true_positives_at_{percent}_percent"]["after"]
        assert found["value"] == pytest.approx(np.interp(percent / 100, alarms, hits))
    assert adverts["training"] == adverts["held_out"] == 600


def test_a_rate_of_few_adverts_is_not_reported():
    falls = np.arange(60.0)
    scores, adverts = membership_scores(falls, falls, 100, seed=0)
    assert set(scores) == {"membership_auc", "true_positives_at_10_percent"}
    assert adverts["needed_for_1_percent"] == 500
    assert scores["true_positives_at_10_percent"]["after"]["value"] == pytest.approx(
        0.1
    )


def test_adverts_without_hidden_words_are_left_out_and_counted():
    members, others = np.array([np.nan, 2, 3, 4]), np.array([1.0, 0, np.nan, np.nan])
    scores, adverts = membership_scores(members, others, 100, seed=0)
    assert scores["membership_auc"]["after"]["value"] == 1
    assert adverts["training"] == adverts["held_out"] == 2
    assert adverts["without_hidden_words"] == 3


# --------------------------------------------------------------------------- slots


def test_all_kinds_of_personal_data_are_known():
    assert {*replace_personal_data("")[1], "name"} == set(KINDS)


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.text())
@settings(max_examples=300, deadline=None)
def test_what_is_found_is_what_would_be_replaced(text):
    replaced, counts = replace_personal_data(text)
    found = find_personal_data(text, ["GB"])
    assert bool(found) == any(counts.values())
    for kind, start, end in reversed(found):
        text = f"{text[:start]}[{kind.upper()}]{text[end:]}"
    assert "".join(text.split()) == "".join(replaced.split())


def test_personal_data_is_found_at_its_place():
    text = "Mail jane@firm.comAbout us, or 020 7946 0958; not [EMAIL]."
    found = [(kind, text[a:b]) for kind, a, b in find_personal_data(text, ["GB"])]
    assert found == [("email", "jane@firm.com"), ("phone", "020 7946 0958")]


@pytest.mark.parametrize(
    "text",
    [
        "Contact us: [EMAIL] [PHONE] today, or ring 0161 496 0000 now.",
        "Contact us: [EMAIL]\n[PHONE]\n\n0161 496 0000",
        "[NAME] [PHONE] [EMAIL], [EMAIL][PHONE] or 0161 496 0000 [URL]",
    ],
)
def test_placeholders_side_by_side_are_no_personal_data(text):
    found = [(kind, text[a:b]) for kind, a, b in find_personal_data(text, ["GB"])]
    assert found == [("phone", "0161 496 0000")]


@pytest.mark.parametrize(("packed", "width"), [(True, 40), (False, 16)])
def test_a_slot_is_read_as_it_was_in_training(bracket_bert, packed, width):
    """In its block, at its position, and with nothing of another block in sight."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bracket_bert)
    model = AutoModelForMaskedLM.from_pretrained(bracket_bert).eval()
    with torch.no_grad():
        for values in model.base_model.parameters():
            values *= 5  # so that each token around a slot matters, and its position
    texts = ["We pay well. " * 5 + "Call [PHONE]. " * 9, "Call [PHONE]. " * 30]
    tokens = mlm.tokenize({"train": texts}, bracket_bert)
    tokens = Tokens(**tokens["train"])
    assert tokens.lengths[0] % width
    first = 0 if packed else None
    blocks = pack(tokens, width, tokenizer.pad_token_id, separate=not packed)[:]
    offsets = offsets_in_blocks(tokens, np.arange(2), width, separate=not packed)
    slots, residual = find_slots(texts, offsets, width, tokenizer, ["GB"])
    assert len(slots) == 39 and not residual
    given = fill(model, tokenizer, width, first, slots, None, 1, 8, bf16=False)
    places = np.flatnonzero(blocks.adverts.ravel() >= 0)
    compared = 0
    for slot, ids in zip(slots, given, strict=True):
        assert tokenizer.decode(slot.ids[slot.first : slot.last]) == "[ phone ]"
        begin = places[(slot.advert and tokens.lengths[0]) + slot.first]
        row, column = divmod(begin, width)
        here = slice(column, column + slot.last - slot.first)
        if here.stop > width:
            continue  # it goes on in the next block
        read = blocks.ids[row : row + 1].astype(np.int64)
        read[0, here] = tokenizer.mask_token_id
        owners = blocks.adverts[row : row + 1]
        batch = {"input_ids": torch.tensor(read), "adverts": torch.tensor(owners)}
        if packed:
            batch["position_ids"] = torch.tensor(positions_in_advert(owners))
            far = np.arange(width)
            far = (far < here.start - CONTEXT // 2) | (far >= here.stop + CONTEXT // 2)
            batch["adverts"] = torch.tensor(np.where(far, 99, owners))
        with torch.no_grad():
            logits = model(**model_inputs(batch)).logits[0, here]
        logits[:, tokenizer.all_special_ids] = -torch.inf
        assert ids.tolist() == logits.argmax(-1).tolist()
        compared += 1
    assert compared > 20


def test_what_is_surest_is_filled_first():
    rows, surety = np.array([0, 0, 1, 0, 1]), np.array([-3.0, -1, -2, -2, -4])
    assert sorted(_surest(rows, surety, left=2)) == [1, 2, 3]
    assert sorted(_surest(rows, surety, left=3)) == [1, 2]
    assert sorted(_surest(rows, surety, left=1)) == [0, 1, 2, 3, 4]


def slots_filled_with(text, texts, checkpoint) -> dict[str, dict]:
    """Rows of `try_slots` for a model that writes `text` into rooms."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])

    def fill_in(slots, size, rounds):
        assert size in (None, ROOM)
        if size:
            return [ids] * len(slots)
        return [slot.ids[slot.first : slot.last] for slot in slots]

    audited = np.arange(len(texts))
    scores, rows = try_slots(
        fill_in, tokenizer, texts, audited, 0 * audited, 64, ["GB"], seed=0
    )
    assert scores["placeholder_back"]["after"]["value"] == 1
    return {row["kind"]: row for row in rows}


@pytest.mark.parametrize(
    ("written", "given", "known"),
    [
        ("ann@jobs.com", 3, 3),
        ("to ANN@JOBS.COM or", 3, 3),
        ("ann.more@jobs.com", 3, 0),
        ("0161 496 0000", 3, 0),
        ("the best team", 0, 0),
        ("[EMAIL]", 0, 0),
    ],
)
def test_personal_data_in_a_slot_is_counted(bracket_bert, written, given, known):
    texts = [f"{WITH_PLACEHOLDERS} We pay well."] * 3 + [WITH_ADDRESS]
    row = slots_filled_with(written, texts, bracket_bert)["email"]
    assert (row["personal_data"], row["in_training"]) == (given, known)
    assert (row["found"], row["slots"], row["placeholder_back"]) == (3, 3, 3)


def test_no_more_slots_than_adverts_are_tried_and_zero_has_an_upper_end(bracket_bert):
    rows = slots_filled_with("team", [f"{WITH_PLACEHOLDERS} " * 5] * 4, bracket_bert)
    assert (rows["email"]["found"], rows["email"]["slots"]) == (20, 4)
    assert rows["email"]["at_most"] == pytest.approx(0.4899, abs=1e-4)  # Wilson's
    assert rows["phone"]["at_most"] == rows["email"]["at_most"]
    assert rows["url"]["personal_data"] is rows["name"]["residual"] is None


# ---------------------------------------------------------------------- the report


def report(metrics) -> Card:
    card, artifacts = Card(), mlm_artifacts()
    artifacts["metrics"]["memorisation"] = metrics
    mlm_report(card, "AFlow 12", **artifacts)
    json.dumps([part.render() for part in card], allow_nan=False)
    return card


def test_the_report_says_what_is_remembered(learnt_by_heart):
    metrics = learnt_by_heart[0]["memorisation"]
    card = report(metrics)
    auc = metrics["scores"]["membership_auc"]["after"]
    text = card.text().partition("## Does it remember its training adverts?")[2]
    shares = [f"{auc[key]:.0%}" for key in ("value", "low", "high")]
    assert f"**{in_brackets(*shares)}** of cases. A guess" in text
    assert "upper bound" in text and "500 for 1%, 50 for 10%" in text
    (slots,) = [table for table in card.tables() if "restored" in table[0]]
    rows = rows_of(learnt_by_heart[0])
    assert [row["kind"] for row in slots][:2] == ["email", "phone"]
    assert slots[0]["completed"] == f"{rows['email']['completed']}"
    assert slots[-1]["personal data left"] == "not tried"


def test_the_report_quotes_no_personal_data(learnt_by_heart):
    card = report(learnt_by_heart[0]["memorisation"])
    assert ADDRESS not in json.dumps([part.render() for part in card])


def test_the_report_says_that_nothing_can_be_told(untrained):
    assert "Nothing can be told" in report(untrained[0]["memorisation"]).text()


def test_a_score_that_may_be_chance_is_called_so(learnt_by_heart):
    metrics = json.loads(json.dumps(learnt_by_heart[0]["memorisation"]))
    metrics["scores"]["membership_auc"]["after"]["low"] = 0.4
    assert "may be chance" in report(metrics).text()


def test_a_report_without_audit_has_no_such_section():
    card = Card()
    mlm_report(card, "AFlow 12", **mlm_artifacts())
    assert "remember" not in card.text()
