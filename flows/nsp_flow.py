r"""Train a model that tells whether one sentence of an advert follows another.

python flows/nsp_flow.py run
python flows/nsp_flow.py run --data adverts.csv --checkpoint run:MLMFlow/latest
python flows/nsp_flow.py run --seeds 5
python flows/nsp_flow.py --config config configs/production/nsp.yaml \
    run --data s3://bucket/adverts/ --with batch
python flows/nsp_flow.py card view evaluate
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
from ojd_daps_language_models.advert_data import (
    advert_table,
    check_adverts,
    describe_data,
    load_adverts,
    sentences_of,
)
from ojd_daps_language_models.cards.alive import unfailing_card
from ojd_daps_language_models.cards.components import live_curves
from ojd_daps_language_models.cards.nsp import LOSS, nsp_report
from ojd_daps_language_models.configs import NSPConfig
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
    token_store,
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
from ojd_daps_language_models.preflight import asked_of, check_gpu, check_machine
from ojd_daps_language_models.preprocessing.token_files import open_tokens
from ojd_daps_language_models.publishing.publish import check_publishing, publish
from ojd_daps_language_models.resume import launch
from ojd_daps_language_models.tasks import nsp
from ojd_daps_language_models.training.processes import train_in_processes


@MachineChoosesEngine
class NSPFlow(FlowSpec):
    """Next-sentence prediction on job adverts."""

    config = Config(
        "config",
        default=str(PROJECT_DIR / "configs" / "nsp.yaml"),
        parser=config_parser(NSPConfig),
        help="YAML file that decides which model comes out",
    )
    data = Parameter(
        "data",
        default=config_expr("config.data.path"),
        help="adverts: file, folder, glob, s3://…, hf://datasets/owner/name, or "
        "run:PrepareAdvertsFlow/ID",
    )
    validation_data = Parameter(
        "validation-data", default=None, help="adverts to choose the best epoch by"
    )
    test_data = Parameter("test-data", default=None, help="adverts to score on, once")
    checkpoint = Parameter(
        "checkpoint",
        default=config_expr("config.model.checkpoint"),
        help="hub id, folder, s3://…, run:MLMFlow/ID, run:MLMFlow/latest or embedded",
    )
    epochs = Parameter(
        "epochs",
        default=config_expr("config.training.epochs"),
        type=int,
        help="passes over the training pairs; 0 only scores the checkpoint",
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
        self.prepared, paths = check_adverts(self, "nsp")
        given, config = describe_data(self)
        check_publishing(self.push_to, "nsp", config, given["test data"])
        self.origin = pin_checkpoint(self.checkpoint)
        self.ancestry = describe_origin(self.origin)
        folder = get_checkpoint(self.origin, self.config.model.revision)
        self.revision = pin_revision(folder, self.config.model.revision)
        self.encoder = describe_checkpoint(folder, self.checkpoint)
        check_classifier(self.encoder, self.config.training.max_length)
        asked, compute = asked_of(self), self.config.compute
        check_machine(asked, compute, self.encoder, paths, self.prepared)
        self.code = describe_code()
        self.began_as = f"{current.flow_name}/{current.run_id}"
        self.all_seeds = list(range(self.seed, self.seed + self.seeds))
        self.next(self.load)

    @measured(reads_input=True)
    @step
    def load(self):
        """Read, clean, deduplicate and split the adverts, and pair their sentences."""
        from ojd_daps_language_models.preprocessing.pairs import make_pairs

        self.adverts, self.kept_aside, report = load_adverts(
            self, "nsp", get_training_texts(self.origin)
        )
        prepared = sentences_of(self.adverts)
        sentences, self.pairs, paired = make_pairs(
            advert_table(self.adverts), self.config.pairs, prepared
        )
        self.sentences = None if prepared else sentences
        self.data_report = report | paired
        self.next(self.tokenize)

    @measured
    @step
    def tokenize(self):
        """Turn sentences into tokens."""
        self.tokens, self.lengths, truncated = nsp.tokenize(
            sentences_of(self.adverts, self.sentences),
            self.pairs,
            get_checkpoint(self.origin, self.revision),
            self.config,
            token_store(self),
            current.pathspec,
        )
        self.data_report |= {"truncated": truncated}
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
        """Train for each seed, and keep the epoch that is best on validation."""
        check_gpu(self.config.compute.gpu)
        self.code = describe_code(self.code)
        folder = get_checkpoint(self.origin, self.revision)
        with open_tokens(self.tokens, token_store(self)) as tokens:
            models, self.training_log = train_in_processes(
                nsp.train,
                tokens,
                self.pairs,
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
        """Score the model once on the test pairs and write the report."""
        delete_checkpoints(self)
        folder = get_checkpoint(self.origin, self.revision)
        with open_tokens(self.tokens, token_store(self)) as tokens:
            self.metrics = nsp.evaluate(
                tokens,
                sentences_of(self.adverts, self.sentences),
                self.pairs,
                folder,
                [self.model, *self.other_models],
                self.config,
                self.all_seeds,
            )
        data, config = describe_data(self)
        self.recipe = resolve_config(
            config, data["data"], self.origin, self.epochs, self.seed
        )
        self.lineage = {
            "checkpoint": self.origin,
            "checkpoint revision": self.revision,
            **data,
            "data fingerprint": self.data_report["fingerprint"],
            "seeds": self.seeds,
            **self.code,
            "origin": self.ancestry,
            "run": self.began_as,
        }
        with unfailing_card():
            nsp_report(
                current.card,
                f"{current.flow_name} {current.run_id}",
                data_report=self.data_report,
                lengths=self.lengths,
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
            lambda: collect_private_texts(self.adverts, self.origin),
            self.push_to,
        )
        self.next(self.end)

    @measured
    @step
    def end(self):
        """Say what came out, and where to look."""
        print(describe_outcome(self.metrics, current.flow_name, current.run_id))


if __name__ == "__main__":
    launch(NSPFlow)
