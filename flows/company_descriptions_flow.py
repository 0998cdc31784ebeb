"""Train a model that tells whether a sentence of an advert describes the company.

python flows/company_descriptions_flow.py run
python flows/company_descriptions_flow.py run --data labelled.csv
python flows/company_descriptions_flow.py run --checkpoint run:MLMFlow/latest --seeds 5
python flows/company_descriptions_flow.py card view evaluate
"""

from metaflow import (
    Config,
    FlowSpec,
    Parameter,
    batch,
    card,
    config_expr,
    current,
    environment,
    step,
)

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.cards.alive import unfailing_card
from ojd_daps_language_models.cards.company_descriptions import (
    LOSS,
    company_descriptions_report,
)
from ojd_daps_language_models.cards.components import live_curves
from ojd_daps_language_models.configs import CompanyDescriptionsConfig
from ojd_daps_language_models.flow_utils import (
    PATIENT_THREADS,
    MachineChoosesEngine,
    check_parameters,
    config_parser,
    delete_checkpoints,
    describe_code,
    describe_outcome,
    measured,
    resolve_config,
    stored_run,
    training_checkpoints,
)
from ojd_daps_language_models.getters.checkpoints import (
    check_classifier,
    collect_private_texts,
    describe_checkpoint,
    describe_origin,
    get_checkpoint,
    get_training_texts,
    pin_checkpoint,
    pin_revision,
)
from ojd_daps_language_models.getters.company_descriptions import iter_sentence_parts
from ojd_daps_language_models.getters.records import check_records
from ojd_daps_language_models.preflight import asked_of, check_gpu, check_machine
from ojd_daps_language_models.preprocessing.packing import count_truncated
from ojd_daps_language_models.publishing.publish import check_publishing, publish
from ojd_daps_language_models.resume import launch
from ojd_daps_language_models.tasks import company_descriptions
from ojd_daps_language_models.training.processes import train_in_processes


@MachineChoosesEngine
class CompanyDescriptionsFlow(FlowSpec):
    """Classification of sentences of adverts: company description or not."""

    config = Config(
        "config",
        default=str(PROJECT_DIR / "configs" / "company_descriptions.yaml"),
        parser=config_parser(CompanyDescriptionsConfig),
        help="YAML file that decides which model comes out",
    )
    data = Parameter(
        "data",
        default=config_expr("config.data.path"),
        help="labelled sentences: file, folder, glob, s3://… or hf://datasets/owner/name",
    )
    validation_data = Parameter(
        "validation-data",
        default=None,
        help="labelled sentences to choose epoch and threshold by",
    )
    test_data = Parameter(
        "test-data", default=None, help="labelled sentences to score on, once"
    )
    checkpoint = Parameter(
        "checkpoint",
        default=config_expr("config.model.checkpoint"),
        help="hub id, folder, s3://…, run:MLMFlow/ID, run:MLMFlow/latest or embedded",
    )
    epochs = Parameter(
        "epochs",
        default=config_expr("config.training.epochs"),
        type=int,
        help="passes over the training sentences; 0 only scores the checkpoint",
    )
    seed = Parameter(
        "seed",
        default=config_expr("config.training.seed"),
        type=int,
        help="seed of a new head and the batches",
    )
    seeds = Parameter(
        "seeds",
        default=1,
        type=int,
        help="trainings, from --seed on; the model of the first one is published",
    )
    push_to = Parameter(
        "push-to",
        default=config_expr("config.publishing.push_to"),
        help="OWNER/NAME on the Hugging Face hub",
    )

    @measured(reads_input=True)
    @step
    def start(self):
        """Check what could otherwise fail an hour later."""
        check_parameters(self.epochs, self.seed, self.seeds)
        check_publishing(
            self.push_to, "company_descriptions", self.config, self.test_data
        )
        paths = (self.data, self.validation_data, self.test_data)
        for path in filter(None, paths):
            check_records(path, self.config.data.columns, "company_descriptions")
        self.origin = pin_checkpoint(self.checkpoint)
        self.ancestry = describe_origin(self.origin)
        folder = get_checkpoint(self.origin, self.config.model.revision)
        self.revision = pin_revision(folder, self.config.model.revision)
        self.encoder = describe_checkpoint(folder, self.checkpoint)
        check_classifier(self.encoder, self.config.training.max_length)
        check_machine(asked_of(self), self.config.compute, self.encoder, paths)
        self.code = describe_code()
        self.began_as = f"{current.flow_name}/{current.run_id}"
        self.all_seeds = list(range(self.seed, self.seed + self.seeds))
        self.next(self.load)

    @measured(reads_input=True)
    @step
    def load(self):
        """Read, clean, deduplicate, split and balance the sentences."""
        from ojd_daps_language_models.preprocessing.company_descriptions import (
            prepare_sentences,
        )

        given = iter_sentence_parts(
            self.data, self.validation_data, self.test_data, self.config.data
        )
        self.sentences, self.kept_aside, self.data_report = prepare_sentences(
            given, self.config, get_training_texts(self.origin)
        )
        self.next(self.tokenize)

    @measured
    @step
    def tokenize(self):
        """Turn sentences into tokens."""
        folder = get_checkpoint(self.origin, self.revision)
        self.tokens = company_descriptions.tokenize(self.sentences, folder, self.config)
        self.data_report |= {"truncated": count_truncated(self.tokens)}
        self.next(self.train)

    @batch(
        gpu=config_expr("config.compute.gpu"),
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
        shared_memory=config_expr("config.compute.get('shared_memory')"),
    )
    @environment(vars=PATIENT_THREADS)
    @card(type="blank", refresh_interval=5)
    @measured(energy=True)
    @step
    def train(self):
        """Train for each seed, and choose epoch and threshold by validation."""
        check_gpu(self.config.compute.gpu)
        self.code = describe_code(self.code)
        folder = get_checkpoint(self.origin, self.revision)
        models, self.thresholds, self.training_log = train_in_processes(
            company_descriptions.train,
            self.tokens,
            self.sentences,
            folder,
            self.config,
            self.epochs,
            self.all_seeds,
            compute=self.config.compute,
            on_row=live_curves(current.card, LOSS),
            checkpoints=training_checkpoints(self),
        )
        self.model, *self.other_models = models
        self.next(self.evaluate)

    @batch(
        gpu=config_expr("config.compute.gpu"),
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
        shared_memory=config_expr("config.compute.get('shared_memory')"),
    )
    @environment(vars=PATIENT_THREADS)
    @card(type="blank")
    @measured
    @step
    def evaluate(self):
        """Score the model once on the test sentences and write the report."""
        delete_checkpoints(self)
        folder = get_checkpoint(self.origin, self.revision)
        self.metrics, self.predictions = company_descriptions.evaluate(
            self.tokens,
            self.sentences,
            folder,
            [self.model, *self.other_models],
            self.thresholds,
            self.config,
            self.all_seeds,
            self.data_report["prevalence"],
        )
        self.recipe = resolve_config(
            self.config.to_dict(), self.data, self.origin, self.epochs, self.seed
        )
        self.lineage = {
            "checkpoint": self.origin,
            "checkpoint revision": self.revision,
            "data": self.data,
            "validation data": self.validation_data,
            "test data": self.test_data,
            "data fingerprint": self.data_report["fingerprint"],
            "seeds": self.seeds,
            **self.code,
            "origin": self.ancestry,
            "run": self.began_as,
        }
        with unfailing_card():
            company_descriptions_report(
                current.card,
                f"{current.flow_name} {current.run_id}",
                data_report=self.data_report,
                lengths={part: rows["lengths"] for part, rows in self.tokens.items()},
                training_log=self.training_log,
                metrics=self.metrics,
                lineage=self.lineage,
                costs=self.costs,
                config=self.recipe,
            )
        self.next(self.push_to_hub)

    @measured(reads_input=True)
    @step
    def push_to_hub(self):
        """Publish the model with its card, where that was asked for."""
        self.published = publish(
            stored_run(self),
            lambda: collect_private_texts(self.sentences, self.origin),
            self.push_to,
        )
        self.next(self.end)

    @measured
    @step
    def end(self):
        """Say what came out, and where to look."""
        print(describe_outcome(self.metrics, current.flow_name, current.run_id))


if __name__ == "__main__":
    launch(CompanyDescriptionsFlow)
