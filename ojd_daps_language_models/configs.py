"""What a YAML file in `configs/` may say: one pydantic model per task.

A key that no model knows is refused, and the nearest valid one is suggested.
"""

import difflib
from typing import Annotated, ClassVar, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

# What programs write where a value is missing: no data can have it as a word.
MISSING = {"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat"}
# A share may be nothing or all; a portion leaves some for others.
Share = Annotated[float, Field(ge=0, le=1)]
Portion = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
# YAML reads a bare 1 or true as a number or a truth value.
Spelling = Annotated[str, BeforeValidator(str), Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# Of which each task has a default of its own.
Epochs = Annotated[
    int,
    Field(
        ge=0, description="passes over the training part; 0 only scores the checkpoint"
    ),
]
LearningRate = Annotated[Portion, Field(description="peak of the schedule")]
Dropout = Annotated[
    Share | None,
    Field(
        description="while training, 0 to 1, in attention none; null: what the "
        "checkpoint says"
    ),
]
MaxLength = Annotated[
    int,
    Field(
        ge=8,
        le=8192,
        description="tokens that the model reads; what is longer is cut, counted",
    ),
]
# ISO 639-1, as far as the detector of `preprocessing.language` knows it.
LANGUAGES = (
    "af am an ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo "
    "fr fy ga gd gl gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la "
    "lb lg ln lo lt lv mg mk ml mn mr ms mt my ne nl nn no oc om or pa pl ps pt qu ro "
    "ru rw sa se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz vi "
    "vo wa xh yo zh zu"
)
# Codes of countries and others that are taken for those of languages.
TAKEN_FOR = {
    **{"gb": "en", "us": "en", "cn": "zh", "cz": "cs", "dk": "da", "gr": "el"},
    **{"iw": "he", "jp": "ja", "kr": "ko", "nb": "no", "ua": "uk"},
}


def _fit_a_tag(label: str) -> str:
    if label.split() != [label]:
        raise ValueError(
            "a label is one word without blanks: rename it in the file, as JOB_TITLE "
            "for JOB TITLE"
        )
    if label in ("micro", "macro"):
        raise ValueError(
            "'micro' and 'macro' name averages in the scores; choose another label"
        )
    return label


def _know_region(code: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS

    if code not in SUPPORTED_REGIONS:
        raise ValueError(
            f"unknown country code '{code}': its national phone numbers would not be "
            "found; expected two capital letters (ISO 3166), such as GB"
        )
    return code


def _know_language(code: str) -> str:
    if code not in LANGUAGES.split():
        near = TAKEN_FOR.get(code.lower(), code.lower())
        hint = f"perhaps {near}" if near in LANGUAGES.split() else "such as en"
        raise ValueError(
            f"unknown language code '{code}': all adverts would be kept aside; "
            f"expected two small letters (ISO 639-1), {hint}"
        )
    return code


# A tag is B- or I- and the label.
Label = Annotated[str, AfterValidator(_fit_a_tag)]
ONE_MASK = r"^[^\[]*\[MASK\][^\[]*$"


class _Loader(yaml.SafeLoader):
    """Takes yes, no, on, off and dates for words, as YAML 1.2 does: only true is true.

    A key that stands there twice is refused, of which PyYAML would take the last.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [
            (tag, pattern)
            for tag, pattern in kinds
            if "timestamp" not in tag and (first in "tTfF" or "bool" not in tag)
        ]
        for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        lines = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                raise ValueError(
                    f"'{name}' is in line {lines[name]} and again in line {line}; "
                    "expected each key once, with all that belongs to it"
                )
            lines[name] = line
        return node


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
    language: Annotated[str, AfterValidator(_know_language)] | None = Field(
        "en",
        description="ISO 639-1 code; adverts in others are kept aside; null keeps all",
    )


class SentenceColumns(Section):
    """Names of the columns in the user's file; null where the file has none."""

    text: str = Field("sentence", description="the sentence itself; required")
    label: str = Field(
        "label", description="whether it describes the company; required"
    )
    id: str | None = Field("id", description="unique per row")
    employer: str | None = Field("employer", description="who hires, or its code")
    advert: str | None = Field("advert", description="id of the advert it is from")

    @model_validator(mode="after")
    def _know_whose_it_is(self):
        if self.employer is None and self.advert is None:
            raise ValueError(
                "employer and advert are both null; one of them has to say which "
                "sentences belong together"
            )
        return self


class CompanyDescriptionLabels(Section):
    """What the file says for each class, whatever its case."""

    company_description: list[Spelling] = ["1", "true", "yes", "company_description"]
    not_company_description: list[Spelling] = [
        *("0", "false", "no", "not_company_description")
    ]

    @model_validator(mode="after")
    def _tell_classes_apart(self):
        one, other = (
            {word.casefold() for word in words}
            for words in (self.company_description, self.not_company_description)
        )
        if one & other:
            raise ValueError(f"{sorted(one & other)} stand for both classes")
        if missing := sorted((one | other) & MISSING):
            raise ValueError(
                f"{missing} mean that a label is missing, and stand for no class; "
                "write another word in the file"
            )
        return self


class SentenceData(Section):
    """Where the labelled sentences are, and which rows can be used."""

    path: str = Field("sample", description="file, folder, glob, s3://… or hf://…")
    columns: SentenceColumns = SentenceColumns()
    labels: CompanyDescriptionLabels = CompanyDescriptionLabels()
    max_characters: Count = Field(
        5_000, description="a longer text is kept aside, in characters"
    )
    min_words: Count = Field(
        3, description="a shorter sentence is kept aside, in words"
    )
    max_words: Count = Field(
        80, description="a longer sentence is kept aside, in words"
    )

    @model_validator(mode="after")
    def _leave_some(self):
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words {self.min_words} is above max_words {self.max_words}, and "
                "every sentence would be kept aside; expected it below"
            )
        return self


class EntityColumns(Section):
    """Names of the columns in the user's file; null where the file has none.

    A dot leads into a record: `meta.employer` is `employer` in `meta`.
    """

    text: str = Field("text", description="the text, where spans count its characters")
    tokens: str = Field("tokens", description="list of tokens, where each has a tag")
    id: str | None = Field("id", description="unique per text")
    employer: str | None = Field("employer", description="who hires, or its code")
    advert: str | None = Field("advert", description="id of the advert it is from")


class EntityData(Section):
    """Where the annotated texts are, and which of them can be used."""

    path: str = Field("sample", description="file, folder, glob, s3://… or hf://…")
    format: Literal[
        "auto", "prodigy", "label_studio", "doccano", "conll", "tags", "spacy"
    ] = Field("auto", description="what the file was exported from, or auto")
    columns: EntityColumns = EntityColumns()
    layers: Annotated[dict[str, Spelling], Field(min_length=1)] | None = Field(
        None,
        description="label sets that may overlap: name -> column of tags or "
        "spans (of CoNLL its number, of spaCy the key of doc.spans, of Label Studio "
        "the name of its Labels); null: the only one",
    )
    tag_names: list[str] | None = Field(
        None, description="what numbers stand for in a column of tags, from 0"
    )
    labels: Annotated[list[Label], Field(min_length=1)] = Field(
        ["SKILL", "MULTISKILL", "EXPERIENCE", "BENEFIT"],
        description="labels of spans; those with another are kept aside",
    )
    max_characters: Count = Field(
        100_000, description="a longer text is kept aside, in characters"
    )


class SkillColumns(Section):
    """Names of the columns in the user's file of pairs; null where it has none."""

    skill: str = Field("skill", description="a skill by its name; required")
    other: str = Field(
        "other", description="another label of it, or a skill like it; required"
    )
    score: str | None = Field(
        None, description="how alike the two are, 0 to 1; null: all are the same"
    )
    id: str | None = Field("id", description="unique per pair")


class SkillSentenceColumns(Section):
    """Names of the columns in files of advert sentences with the skill they mention."""

    text: str = Field("sentence", description="the sentence itself; required")
    label: str = Field("label", description="name of a skill; required")


class SkillData(Section):
    """Where the skills are: pairs of labels, or the official ESCO export."""

    path: str = Field("sample", description="file, folder, glob, s3://… or hf://…")
    format: Literal["auto", "pairs", "esco"] = Field(
        "auto", description="pairs, ESCO's export, or what the files look like"
    )
    language: str = Field(
        "en",
        pattern="^[a-z]{2}$",
        description="language of ESCO's export: skills_en.csv",
    )
    columns: SkillColumns = SkillColumns()
    same_from: Share = Field(
        0.8, description="score from which a pair has two labels of one skill, 0 to 1"
    )
    max_characters: Count = Field(
        200, description="a longer label is kept aside, in characters"
    )
    sentences: list[str] = Field(
        [], description="files of advert sentences with their skills, to score on"
    )
    sentence_columns: SkillSentenceColumns = SkillSentenceColumns()
    no_skill: list[Spelling] = Field(
        ["LABEL NOT PRESENT", "UNDERSPECIFIED"],
        description="labels of sentences that name no skill",
    )


class PersonalData(Section):
    """What is replaced by a placeholder before a model sees a text."""

    phone_regions: list[Annotated[str, AfterValidator(_know_region)]] = Field(
        ["GB"],
        min_length=1,
        description="ISO 3166 codes whose national phone numbers are known",
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


class Parts(Section):
    """How large the held-out parts are."""

    validation: Portion = Field(0.1, description="share of all, above 0, below 1")
    test: Portion = Field(0.1, description="share of all, above 0, below 1")
    seed: Seed = Field(0, description="seed of the division; the same for all runs")

    @model_validator(mode="after")
    def _leave_some_for_training(self):
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must leave a share for training")
        return self


class Split(Parts):
    """How the data is divided, and how much overlap a held-out part may have."""

    max_verbatim_overlap: Share = Field(
        0.25, description="share of held-out sentences that stand in train, 0 to 1"
    )
    max_near_overlap: Share = Field(
        0.01, description="share of held-out adverts with a near-duplicate in train"
    )


class SkillSplit(Parts):
    """How skills are divided: those that share a label stay together."""

    max_label_overlap: Share = Field(
        0.01, description="share of the labels of one official part that are in another"
    )


class AdvertSplit(Split):
    """How adverts are divided."""

    by: Literal["employer", "cluster"] = Field(
        "employer",
        description="what stays on one side: all adverts of an employer, or, for data "
        "without employers, only near-duplicates",
    )


class SentenceSplit(Split):
    """How labelled sentences are divided."""

    by: Literal["employer", "advert"] = Field(
        "employer",
        description="what stays on one side: all sentences of an employer, or of an "
        "advert only",
    )


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
    """Hyper-parameters of the optimisation.

    Their defaults, of each task, are the values of its file in `configs/`.
    """

    epochs: Epochs = 3
    batch_size: Count = Field(8, description="blocks per step and process")
    accumulation: Count = Field(1, description="batches per optimiser step")
    learning_rate: LearningRate = 5e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of steps until the peak, 0 to below 1"
    )
    weight_decay: Share = Field(0.01, description="AdamW's, 0 to 1")
    dropout: Dropout = 0.0
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware has it"
    )
    seed: Seed = Field(
        42, description="seed of a new head, the batches and their masks"
    )


class PairShares(Section):
    """Where negatives come from: shares that add up to 1."""

    another_advert: Share = Field(
        0.4, description="share from adverts of other employers"
    )
    same_employer: Share = Field(
        0.2, description="share from other adverts of the employer"
    )
    same_advert: Share = Field(
        0.4, description="share from elsewhere in the same advert"
    )

    @model_validator(mode="after")
    def _add_up(self):
        total = self.another_advert + self.same_employer + self.same_advert
        if abs(total - 1) > 1e-6:
            raise ValueError(f"expected shares that add up to 1; found {total:g}")
        return self


class Pairs(Section):
    """Which sentences are paired, half of them with their true successors."""

    shares: PairShares = PairShares()
    min_words: Count = Field(
        3, description="shorter sentences are in no pair, in words"
    )
    max_per_advert: Count | None = Field(
        None, description="first sentences drawn of each advert; null: all"
    )
    seed: Seed = Field(0, description="seed of the negatives; the same for all runs")


class FineTuning(Training):
    """Hyper-parameters of what starts from an encoder that knows its language."""

    batch_size: Count = Field(16, description="sentences or pairs per step and process")
    learning_rate: LearningRate = 1e-4
    max_length: MaxLength = 128
    freeze_word_embeddings: bool = Field(
        True, description="leave the vectors of words as they are: faster, as good"
    )


class NSPTraining(FineTuning):
    """Hyper-parameters of learning what follows what."""

    epochs: Epochs = 2

    @model_validator(mode="after")
    def _keep_twins_together(self):
        if self.batch_size * self.accumulation % 2:
            raise ValueError(
                f"batch_size {self.batch_size} times accumulation {self.accumulation} "
                "is odd, and both pairs of a first sentence are read in one step; "
                "expected an even number of pairs"
            )
        return self


class NERTraining(FineTuning):
    """Hyper-parameters of finding entities."""

    epochs: Epochs = 6
    batch_size: Count = Field(8, description="windows per step and process")
    learning_rate: LearningRate = 3e-4
    dropout: Dropout = 0.1
    max_length: Annotated[int, Field(ge=8, le=8192)] = Field(
        128, description="tokens of a window"
    )
    overlap: Count = Field(
        32,
        description="tokens that neighbouring windows of a long text share, at most "
        "half of max_length",
    )
    together: bool = Field(
        True, description="read texts of one advert together, in their order"
    )
    r_drop: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="weight in the loss of how much two readings of a batch differ, "
        "each with its own dropout; 0: one reading",
    )

    @model_validator(mode="after")
    def _drop_something(self):
        if self.r_drop and self.dropout == 0:
            raise ValueError(
                f"r_drop {self.r_drop:g} compares two readings that differ by dropout; "
                "expected dropout above 0, or r_drop 0"
            )
        return self

    @model_validator(mode="after")
    def _move_on(self):
        if 2 * self.overlap > self.max_length:
            raise ValueError(
                f"overlap is at most half of max_length ({self.max_length}), not "
                f"{self.overlap}"
            )
        return self


class MLMTraining(Training):
    """Hyper-parameters of masked language modelling."""

    block_size: Annotated[int, Field(ge=16, le=8192)] = Field(
        128, description="tokens per block; at most what the model takes"
    )


class CompanyDescriptionTraining(FineTuning):
    """Hyper-parameters of classifying sentences."""

    epochs: Epochs = 5
    balance: Literal["weights", "undersample", "none"] = Field(
        "weights",
        description="what to do in the training part: weigh the rarer class up, leave "
        "out sentences of the other, or neither",
    )


class Positives(Section):
    """Which texts are trained to be alike."""

    labels: Count | None = Field(
        None, description="other labels drawn of each skill; null: all"
    )
    descriptions: Annotated[int, Field(ge=0)] = Field(
        1, description="times that a skill meets its description, where it has one"
    )
    sentences: Annotated[int, Field(ge=0)] = Field(
        0, description="sentences made of labels for each skill, as in an advert"
    )
    relations: bool = Field(False, description="also skills that are related")
    siblings: Annotated[int, Field(ge=0)] = Field(
        0, description="skills of the same narrow group, drawn for each skill"
    )
    seed: Seed = Field(0, description="seed of what is drawn; the same for all runs")


class SkillTraining(FineTuning):
    """Hyper-parameters of the bi-encoder."""

    epochs: Epochs = 2
    batch_size: Annotated[int, Field(ge=2)] = Field(
        64,
        description="pairs per step and process; the others of a batch are negatives",
    )
    learning_rate: LearningRate = 3e-4
    max_length: MaxLength = 64
    temperature: Portion = Field(
        0.05, description="cosines are divided by it in the loss"
    )


class Evaluation(Section):
    """How the scores and their intervals are made."""

    seed: Seed = Field(0, description="seed of the resampling")
    bootstrap_samples: Annotated[int, Field(ge=100)] = Field(
        1000, description="resamples for each 95% interval"
    )


class MLMEvaluation(Evaluation):
    """How hidden words are scored."""

    fill_mask: list[Annotated[str, Field(pattern=ONE_MASK)]] = Field(
        [], description="sentences with one [MASK], written for the report"
    )
    audit_adverts: Annotated[int, Field(ge=0)] = Field(
        200,
        description="training adverts, and as many held out, that are compared to tell "
        "what the model remembers; 0: none",
    )


class NEREvaluation(Evaluation):
    """How entities are scored and shown."""

    examples: list[str] = Field(
        [], description="sentences written for the report, which shows what is found"
    )


class CompanyDescriptionEvaluation(Evaluation):
    """How sentences are scored."""

    prevalence: Portion | None = Field(
        None,
        description="share of company descriptions where the model will be used; null: "
        "the share in the training data as they came",
    )


class SkillEvaluation(Evaluation):
    """How skills are scored, and what the report shows of them."""

    map_skills: Count = Field(
        800, description="skills that are drawn on the map; none of training"
    )
    neighbours: Count = Field(
        12, description="skills whose nearest neighbours are listed"
    )


class Compute(Section):
    """What train and evaluate ask of Batch or Kubernetes, and how often train saves."""

    gpu: Annotated[int, Field(ge=0)] = Field(1, description="GPUs of one machine")
    processes: Count | None = Field(
        None, description="processes that train together; null: one for each GPU"
    )
    cpu: Count = Field(4, description="virtual CPUs")
    memory: Count = Field(16_000, description="MB")
    shared_memory: Count = Field(
        2_000, description="MB of it as /dev/shm, which processes share"
    )
    checkpoint_minutes: Annotated[float, Field(gt=0)] = Field(
        10,
        description="minutes between training checkpoints, which cost 3% of the time "
        "at most",
    )


class Reference(Section):
    """A published score, to stand on the model card beside those of the run."""

    system: str = Field(
        min_length=1, description="the model, as its authors call it; required"
    )
    score: str = Field(
        min_length=1, description="group, measure: as the run prints it; required"
    )
    value: float = Field(description="as published; required")
    test_set: str = Field(min_length=1, description="what it was scored on; required")
    source: str = Field(min_length=1, description="where it is published; required")


class Publishing(Section):
    """Where the model goes, and what its card says that no run can know."""

    push_to: str | None = Field(
        None, pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME on the hub"
    )
    private: bool = Field(True, description="only its owner sees the repository")
    licence: str | None = Field(
        None, description="licence of the model, by the hub's name, such as apache-2.0"
    )
    language: str | None = Field(
        None,
        pattern="^[a-z]{2,3}$",
        description="of the texts, ISO 639 code; null: the one that was checked",
    )
    test_set: str | None = Field(
        None, description="name of the public test set that --test-data is"
    )
    references: list[Reference] = Field(
        [], description="published scores on that test set"
    )

    @model_validator(mode="after")
    def _compare_on_one_test_set(self):
        for reference in self.references:
            if reference.test_set != self.test_set:
                raise ValueError(
                    f"{reference.system} was scored on '{reference.test_set}', this "
                    f"model is on '{self.test_set}': scores on different test sets "
                    "cannot be compared"
                )
        return self


class Shards(Section):
    """How the work on many adverts is divided among tasks."""

    megabytes: Annotated[float, Field(gt=0)] = Field(
        64,
        description="megabytes of text in a shard; more where there would be over 95",
    )
    bands_per_task: Count = Field(
        60,
        description="bands of the signatures that one task searches for near "
        "duplicates",
    )


class ShardCompute(Section):
    """What each task asks of AWS Batch or Kubernetes."""

    cpu: Count = Field(2, description="virtual CPUs")
    memory: Count = Field(8_000, description="MB")


class PrepareAdvertsConfig(Section):
    """`configs/prepare_adverts.yaml`: adverts prepared shard by shard."""

    data: AdvertData = AdvertData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: AdvertSplit = AdvertSplit()
    shards: Shards = Shards()
    compute: ShardCompute = ShardCompute()

    @model_validator(mode="after")
    def _know_employers(self):
        _require_employers(self.data.columns, self.split)
        return self


class MLMConfig(Section):
    """`configs/mlm.yaml`: masked language modelling."""

    data: AdvertData = AdvertData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: AdvertSplit = AdvertSplit()
    model: Model = Model()
    masking: Masking = Masking()
    training: MLMTraining = MLMTraining()
    evaluation: MLMEvaluation = MLMEvaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()

    @model_validator(mode="after")
    def _know_employers(self):
        _require_employers(self.data.columns, self.split)
        return self


class NSPConfig(Section):
    """`configs/nsp.yaml`: next-sentence prediction."""

    data: AdvertData = AdvertData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: AdvertSplit = AdvertSplit()
    pairs: Pairs = Pairs()
    model: Model = Model()
    training: NSPTraining = NSPTraining()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()

    @model_validator(mode="after")
    def _know_employers(self):
        _require_employers(self.data.columns, self.split, self.pairs.shares)
        return self


class CompanyDescriptionsConfig(Section):
    """`configs/company_descriptions.yaml`: does a sentence describe the company?"""

    data: SentenceData = SentenceData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: SentenceSplit = SentenceSplit()
    model: Model = Model()
    training: CompanyDescriptionTraining = CompanyDescriptionTraining()
    evaluation: CompanyDescriptionEvaluation = CompanyDescriptionEvaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()


class NERConfig(Section):
    """`configs/ner.yaml`: named entities in adverts."""

    data: EntityData = EntityData()
    personal_data: PersonalData = PersonalData()
    duplicates: Duplicates = Duplicates()
    split: SentenceSplit = SentenceSplit()
    model: Model = Model()
    training: NERTraining = NERTraining()
    evaluation: NEREvaluation = NEREvaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()


class SkillSimilarityConfig(Section):
    """`configs/skill_similarity.yaml`: which labels mean the same skill."""

    data: SkillData = SkillData()
    split: SkillSplit = SkillSplit()
    positives: Positives = Positives()
    model: Model = Model()
    training: SkillTraining = SkillTraining()
    evaluation: SkillEvaluation = SkillEvaluation()
    compute: Compute = Compute()
    publishing: Publishing = Publishing()


def parse_config(text: str, model: type[Section]) -> Section:
    """Read a YAML text as `model`.

    Raises:
        ValueError: one line for each thing that is wrong, with the dotted key, what
            was found and what was expected.
    """
    try:
        values = yaml.load(text, _Loader)
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


def _require_employers(
    columns: AdvertColumns, split: AdvertSplit, shares: PairShares | None = None
) -> None:
    """Raise ValueError where employers are asked for, but no column has them."""
    instead = {}
    if split.by == "employer":
        instead["split.by"] = "split: {by: cluster}"
    if shares and shares.same_employer:
        instead["pairs.shares.same_employer"] = (
            "pairs: {shares: {another_advert: 0.5, same_employer: 0, same_advert: 0.5}}"
        )
    if instead and columns.employer is None:
        raise ValueError(
            f"data.columns.employer is null, and {' and '.join(instead)} would need "
            f"it: name the column, or say {' and '.join(instead.values())}"
        )


def _explain(fault: dict, model: type[Section]) -> str:
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path)
    if fault["type"] in ("extra_forbidden", "invalid_key"):
        known = list(_fields_at(model, path[:-1]))
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        return f"{key}: no such key; {hint}"
    message = fault["msg"].removeprefix("Value error, ")
    if key:  # sections that do not go together are named already
        message = f"{key}: {message}"
    if fault["type"] != "value_error" or not isinstance(fault["input"], dict):
        message += f"; found {fault['input']!r}"  # what is said of a section names it
    if path:
        path = [part for part in path if not part.isdecimal()]
        field = _fields_at(model, path[:-1]).get(path[-1])
        if field and field.description:
            message += f" ({field.description})"
    return message


def _fields_at(model: type[Section], path: list[str]) -> dict[str, FieldInfo]:
    """The keys of a section, or of the sections of a list; of a mapping none."""
    for name in path:
        if name.isdecimal():
            continue
        kind = model.model_fields[name].annotation
        own = [one for one in (kind, *get_args(kind)) if hasattr(one, "model_fields")]
        if not own:
            return {}
        (model,) = own
    return model.model_fields
