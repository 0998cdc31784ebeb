"""What a YAML file in `configs/` may say: one pydantic model per task.

A key that no model knows is refused, and the nearest valid one is suggested.
"""

import difflib
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# A share may be nothing or all; a portion leaves some for others.
Share = Annotated[float, Field(ge=0, le=1)]
Portion = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
ONE_MASK = r"^[^\[]*\[MASK\][^\[]*$"


class Section(BaseModel):
    """A part of a configuration: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AdvertColumns(Section):
    """Names of the columns in the user's file; null where the file has none."""

    text: str = Field("text", description="the advert itself; required")
    id: str | None = Field("id", description="unique per advert")
    employer: str | None = Field("employer", description="who hires, or its code")
    title: str | None = Field("title", description="job title")
    date: str | None = Field("date", description="date of posting")


class AdvertData(Section):
    """Where the adverts are, and which rows can be used."""

    path: str = Field("sample", description="file, folder, glob, s3://… or hf://…")
    columns: AdvertColumns = AdvertColumns()
    max_characters: Count = Field(
        100_000, description="a longer text is kept aside, in characters"
    )
    min_words: Count = Field(20, description="a shorter advert is kept aside, in words")
    language: str | None = Field(
        "en",
        pattern="^[a-z]{2}$",
        description="ISO 639-1 code; adverts in others are kept aside; null keeps all",
    )


class PersonalData(Section):
    """What is replaced by a placeholder before a model sees a text."""

    phone_regions: list[Annotated[str, Field(pattern="^[A-Z]{2}$")]] = Field(
        ["GB"], description="ISO 3166 codes whose national phone numbers are known"
    )
    names: str | None = Field(
        "auto",
        description="spaCy pipeline that finds people's names; auto: en_core_web_sm "
        "where it is installed; null: names stay",
    )


class Duplicates(Section):
    """When two adverts count as one."""

    near_threshold: Annotated[float, Field(ge=0.5, le=1)] = Field(
        0.8, description="Jaccard similarity of word shingles, 0.5 to 1"
    )


class Split(Section):
    """How adverts are divided, and how much overlap a test part may have."""

    by: Literal["employer", "cluster"] = Field(
        "employer",
        description="what stays on one side: all adverts of an employer, or, for data "
        "without employers, only near-duplicates",
    )
    validation: Portion = Field(0.1, description="share of adverts, above 0, below 1")
    test: Portion = Field(0.1, description="share of adverts, above 0, below 1")
    max_verbatim_overlap: Share = Field(
        0.25, description="share of held-out sentences that stand in train, 0 to 1"
    )
    max_near_overlap: Share = Field(
        0.01, description="share of held-out adverts with a near-duplicate in train"
    )
    seed: Seed = Field(0, description="of the division; the same for all runs")

    @model_validator(mode="after")
    def _leave_some_for_training(self):
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave a share for training")
        return self


class Model(Section):
    """Where the training starts."""

    checkpoint: str = Field(
        "embedded",
        description="hub id, folder, s3://…, run:MLMFlow/ID, run:MLMFlow/latest, or "
        "embedded",
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")


class Masking(Section):
    """Which words the model has to guess (Devlin et al., 2019)."""

    probability: Portion = Field(0.15, description="share of words that are masked")
    whole_words: bool = Field(
        True, description="mask all pieces of a word, or each token on its own"
    )


class Training(Section):
    """Hyper-parameters of the optimisation."""

    epochs: Annotated[int, Field(ge=0)] = Field(
        3, description="passes over the training part; 0 only scores the checkpoint"
    )
    batch_size: Count = Field(32, description="blocks per step and device")
    accumulation: Count = Field(1, description="batches per optimiser step")
    learning_rate: Portion = Field(5e-5, description="peak of the schedule")
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of steps until the peak, 0 to below 1"
    )
    weight_decay: Share = Field(0.01, description="AdamW's, 0 to 1")
    dropout: Share | None = Field(
        None, description="while training, 0 to 1; null: what the checkpoint says"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    seed: Seed = Field(42, description="of a new head, the batches and their masks")


class MLMTraining(Training):
    """Hyper-parameters of masked language modelling."""

    block_size: Annotated[int, Field(ge=16, le=8192)] = Field(
        128, description="tokens per block; at most what the model takes"
    )


class Evaluation(Section):
    """How the scores and their intervals are made."""

    seed: Seed = Field(0, description="of the frozen masks and the resampling")
    bootstrap_samples: Annotated[int, Field(ge=100)] = Field(
        1000, description="resamples of adverts for each 95% interval"
    )
    fill_mask: list[Annotated[str, Field(pattern=ONE_MASK)]] = Field(
        [], description="sentences with one [MASK], written for the report"
    )


class Compute(Section):
    """What the train step asks of AWS Batch or Kubernetes."""

    gpu: Annotated[int, Field(ge=0, le=1)] = Field(1, description="GPUs, 0 or 1")
    cpu: Count = Field(8, description="virtual CPUs")
    memory: Count = Field(32_000, description="MB")


class Publishing(Section):
    """Where the model goes."""

    push_to: str | None = Field(
        None, pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the hub"
    )


class MLMConfig(Section):
    """`configs/mlm.yaml`: masked language modelling."""

    data: AdvertData = AdvertData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: Split = Split()
    model: Model = Model()
    masking: Masking = Masking()
    training: MLMTraining = MLMTraining()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()


def parse_config(text: str, model: type[Section]) -> Section:
    """Read a YAML text as `model`.

    Raises:
        ValueError: one line for each thing that is wrong, with the dotted key, what
            was found and what was expected.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not a YAML text: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ValueError(f"expected sections such as 'data:', found {values!r}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError(
            "\n".join(_explain(fault, model) for fault in error.errors())
        ) from error


def _explain(fault: dict, model: type[Section]) -> str:
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path) or "the whole"
    if fault["type"] == "extra_forbidden":
        known = list(_section_at(model, path[:-1]).model_fields)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        return f"{key}: no such key; {hint}"
    message = f"{key}: {fault['msg']}; found {fault['input']!r}"
    if path:
        path = [part for part in path if not part.isdecimal()]
        field = _section_at(model, path[:-1]).model_fields[path[-1]]
        if field.description:
            message += f" ({field.description})"
    return message


def _section_at(model: type[Section], path: list[str]) -> type[Section]:
    for name in path:
        model = model.model_fields[name].annotation
    return model
