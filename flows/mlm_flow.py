r"""Adapt a language model to job adverts by masked language modelling.

python flows/mlm_flow.py run
python flows/mlm_flow.py run --data adverts.csv --epochs 3
python flows/mlm_flow.py --config config configs/production/mlm.yaml \
    run --data s3://bucket/adverts/ --with batch
python flows/mlm_flow.py card view evaluate
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
    check_adverts,
    describe_data,
    load_adverts,
    texts_by_part,
)
from ojd_daps_language_models.cards.alive import unfailing_card
from ojd_daps_language_models.cards.components import live_curves
from ojd_daps_language_models.cards.mlm import LOSS, mlm_report
from ojd_daps_language_models.configs import MLMConfig
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
    check_masked_lm,
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
from ojd_daps_language_models.publishing.publish import (
    check_examples,
    check_publishing,
    publish,
)
from ojd_daps_language_models.resume import launch
from ojd_daps_language_models.tasks import mlm
from ojd_daps_language_models.training.processes import train_in_processes


@MachineChoosesEngine
class MLMFlow(FlowSpec):
    """Masked language modelling on job adverts."""

    nodes = 1  # machines that train together; DistributedMLMFlow asks for more
    config = Config(
        "config",
        default=str(PROJECT_DIR / "configs" / "mlm.yaml"),
        parser=config_parser(MLMConfig),
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
        help="passes over the training adverts; 0 only scores the checkpoint",
    )
    seed = Parameter(
        "seed",
        default=config_expr("config.training.seed"),
        type=int,
        help="seed of a new head, the batches and their masks",
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
        check_parameters(self.epochs, self.seed, nodes=self.nodes)
        self.prepared, paths = check_adverts(self, "mlm")
        given, config = describe_data(self)
        check_publishing(self.push_to, "mlm", config, given["test data"])
        self.origin = pin_checkpoint(self.checkpoint)
        self.ancestry = describe_origin(self.origin)
        folder = get_checkpoint(self.origin, self.config.model.revision)
        self.revision = pin_revision(folder, self.config.model.revision)
        self.encoder = describe_checkpoint(folder, self.checkpoint)
        check_masked_lm(self.encoder, self.config.training.block_size)
        asked, compute = asked_of(self), self.config.compute
        check_machine(asked, compute, self.encoder, paths, self.prepared)
        self.code = describe_code()
        self.began_as = f"{current.flow_name}/{current.run_id}"
        self.next(self.load)

    @measured(reads_input=True)
    @step
    def load(self):
        """Read, clean, deduplicate and split the adverts."""
        self.adverts, self.kept_aside, self.data_report = load_adverts(
            self, "mlm", get_training_texts(self.origin)
        )
        check_examples(
            self.push_to,
            describe_data(self)[1],
            lambda: collect_private_texts(self.adverts, self.origin),
        )
        self.next(self.tokenize)

    @measured
    @step
    def tokenize(self):
        """Turn adverts into tokens."""
        folder = get_checkpoint(self.origin, self.revision)
        self.tokens = mlm.tokenize(
            texts_by_part(self.adverts), folder, token_store(self), current.pathspec
        )
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
        """Train, and keep the epoch that is best on validation."""
        self.fit()
        self.next(self.evaluate)

    def fit(self, cluster=None):
        """Train on this machine, by itself or with the others of a cluster."""
        check_gpu(self.config.compute.gpu)
        self.code = describe_code(self.code)
        folder = get_checkpoint(self.origin, self.revision)
        with open_tokens(self.tokens, token_store(self)) as tokens:
            self.model, self.training_log = train_in_processes(
                mlm.train,
                tokens,
                folder,
                self.config,
                self.epochs,
                self.seed,
                compute=self.config.compute,
                cluster=cluster,
                on_row=live_curves(current.card, LOSS),
                checkpoints=training_checkpoints(self),
            )

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
        """Score the model once on the test adverts and write the report."""
        delete_checkpoints(self)
        folder = get_checkpoint(self.origin, self.revision)
        data, config = describe_data(self)
        with open_tokens(self.tokens, token_store(self)) as tokens:
            self.metrics = mlm.evaluate(
                tokens,
                folder,
                self.model,
                self.config,
                self.seed,
                texts_by_part(self.adverts)["train"],
                config["personal_data"]["phone_regions"],
            )
        self.recipe = resolve_config(
            config, data["data"], self.origin, self.epochs, self.seed
        )
        self.lineage = {
            "checkpoint": self.origin,
            "checkpoint revision": self.revision,
            **data,
            "data fingerprint": self.data_report["fingerprint"],
            **self.code,
            # runs that version 0.1.0 began have neither
            "origin": getattr(self, "ancestry", None),
            "run": getattr(self, "began_as", f"{current.flow_name}/{current.run_id}"),
        }
        with unfailing_card():
            mlm_report(
                current.card,
                f"{current.flow_name} {current.run_id}",
                data_report=self.data_report,
                tokens=self.tokens,
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
    launch(MLMFlow)
