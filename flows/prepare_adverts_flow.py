"""Clean, deduplicate and divide adverts shard by shard, once for many trainings.

python flows/prepare_adverts_flow.py run --data adverts/ --max-workers 4
python flows/mlm_flow.py run --data run:PrepareAdvertsFlow/latest
python flows/prepare_adverts_flow.py --config config \
    configs/production/prepare_adverts.yaml run --data s3://bucket/adverts/
python flows/prepare_adverts_flow.py card view finish
"""

from metaflow import (
    Config,
    FlowSpec,
    Parameter,
    batch,
    card,
    config_expr,
    current,
    step,
)

from ojd_daps_language_models import PROJECT_DIR
from ojd_daps_language_models.cards.alive import unfailing_card
from ojd_daps_language_models.cards.prepare_adverts import preparation_report
from ojd_daps_language_models.configs import PrepareAdvertsConfig
from ojd_daps_language_models.flow_utils import (
    MachineChoosesEngine,
    config_parser,
    describe_code,
    join_costs,
    locate_report,
    measured,
    place_beside_runs,
)
from ojd_daps_language_models.getters.adverts import iter_shard, list_shards
from ojd_daps_language_models.getters.records import check_records
from ojd_daps_language_models.preflight import asked_of, check_shards
from ojd_daps_language_models.resume import launch
from ojd_daps_language_models.stores import open_store


@MachineChoosesEngine
class PrepareAdvertsFlow(FlowSpec):
    """Adverts prepared for the flows that learn from them."""

    config = Config(
        "config",
        default=str(PROJECT_DIR / "configs" / "prepare_adverts.yaml"),
        parser=config_parser(PrepareAdvertsConfig),
        help="YAML file that decides which adverts come out",
    )
    data = Parameter(
        "data",
        default=config_expr("config.data.path"),
        help="adverts: file, folder, glob, s3://… or hf://datasets/owner/name",
    )
    validation_data = Parameter(
        "validation-data", default=None, help="adverts to choose the best epoch by"
    )
    test_data = Parameter("test-data", default=None, help="adverts to score on, once")

    @measured(reads_input=True)
    @step
    def start(self):
        """Check what could otherwise fail an hour later, and make the shards."""
        from ojd_daps_language_models.preprocessing.shards import group_bands

        given = {
            "train": self.data,
            "validation": self.validation_data,
            "test": self.test_data,
        }
        self.given = {part: path for part, path in given.items() if path}
        group_bands(  # `search` will need no more tasks than can be
            self.config.duplicates.near_threshold, self.config.shards.bands_per_task
        )
        for path in self.given.values():
            check_records(path, self.config.data.columns, "mlm")
        self.shards = list_shards(self.given, self.config.shards.megabytes)
        check_shards(asked_of(self), self.shards)
        self.code = describe_code()
        self.began_as = f"{current.flow_name}/{current.run_id}"
        self.place = place_beside_runs(self, f"prepared_adverts/{self.began_as}")
        if self.place is None:
            raise ValueError("prepared adverts need a datastore on this disk or on S3")
        print(f"shards: {len(self.shards)}, prepared in {self.place}")
        self.parts = [shard["part"] for shard in self.shards]
        self.numbers = list(range(len(self.shards)))
        self.next(self.prepare, foreach="numbers")

    @batch(
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
    )
    @measured(reads_input=True)
    @step
    def prepare(self):
        """Clean the adverts of a shard, and take their fingerprints."""
        from ojd_daps_language_models.preprocessing.shards import (
            open_staged,
            stage_shard,
        )

        chunks = iter_shard(self.shards[self.input], self.config.data)
        store = open_staged(self.place)
        self.found_by = stage_shard(store, self.input, chunks, self.config)
        self.next(self.gather)

    @measured(reads_input=True)
    @step
    def gather(self, inputs):
        """Check that all shards were prepared in one way."""
        from ojd_daps_language_models.preprocessing.shards import check_alike

        self.merge_artifacts(inputs, exclude=["costs", "found_by"])
        self.costs = join_costs(inputs, "prepare")
        self.found_by = check_alike([task.found_by for task in inputs])
        self.next(self.search)

    @measured(reads_input=True)
    @step
    def search(self):
        """Check that there are adverts, and divide the search for near duplicates."""
        from ojd_daps_language_models.preprocessing.shards import group_bands, read_rows

        read_rows(open_store(self.place), self.parts)
        self.bands = group_bands(
            self.config.duplicates.near_threshold, self.config.shards.bands_per_task
        )
        self.groups = list(range(len(self.bands)))
        self.next(self.match, foreach="groups")

    @batch(
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
    )
    @measured(reads_input=True)
    @step
    def match(self):
        """Link the near duplicates that some bands of the signatures show."""
        from ojd_daps_language_models.preprocessing.shards import (
            link_shards,
            open_staged,
        )

        link_shards(
            open_staged(self.place),
            self.parts,
            self.input,
            self.bands[self.input],
            self.config.duplicates.near_threshold,
        )
        self.next(self.unite)

    @measured
    @step
    def unite(self, inputs):
        """Go on once all bands are searched."""
        self.merge_artifacts(inputs, exclude=["costs"])
        self.costs = join_costs(inputs, "match")
        self.next(self.divide)

    @batch(
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
    )
    @measured(reads_input=True)
    @step
    def divide(self):
        """Decide which adverts are kept, and in which part."""
        from ojd_daps_language_models.preprocessing.shards import (
            divide_shards,
            open_staged,
        )

        self.data_report = self.found_by | divide_shards(
            open_staged(self.place),
            self.parts,
            len(self.groups),
            list(self.given),
            self.config,
        )
        self.next(self.write, foreach="numbers")

    @batch(
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
    )
    @measured(reads_input=True)
    @step
    def write(self):
        """Write the adverts of a shard, and those that are kept aside."""
        from ojd_daps_language_models.preprocessing.shards import (
            open_staged,
            write_shard,
        )

        self.files = write_shard(open_staged(self.place), self.input)
        self.next(self.finish)

    @card(type="blank")
    @measured
    @step
    def finish(self, inputs):
        """Say what the files are, and report."""
        from ojd_daps_language_models.preprocessing.shards import (
            hash_shards,
            write_manifest,
        )

        self.merge_artifacts(inputs, exclude=["costs", "files"])
        self.costs = join_costs(inputs, "write")
        store = open_store(self.place)
        self.data_report |= {
            "seen_by_checkpoint": None,
            "fingerprint": hash_shards(store, len(self.shards)),
        }
        config = self.config.to_dict()
        sections = ("data", "personal_data", "duplicates", "split")
        self.recipe = {name: config[name] for name in sections}
        self.recipe["data"] |= {"path": self.data}
        self.lineage = {
            "run": self.began_as,
            "data": self.data,
            "validation data": self.validation_data,
            "test data": self.test_data,
            "data fingerprint": self.data_report["fingerprint"],
            **self.code,
        }
        write_manifest(
            store,
            {
                "report": self.data_report,
                "config": self.recipe,
                "lineage": self.lineage,
                "files": [file for task in inputs for file in task.files],
            },
        )
        with unfailing_card():
            preparation_report(
                current.card,
                f"{current.flow_name} {current.run_id}",
                data_report=self.data_report,
                lineage=self.lineage,
                costs=self.costs,
                config=config,
            )
        self.next(self.end)

    @measured
    @step
    def end(self):
        """Remove what only the steps needed, and say what came out."""
        from ojd_daps_language_models.preprocessing.shards import delete_staged

        delete_staged(open_store(self.place))
        for part, numbers in self.data_report["parts"].items():
            print(f"{part}: {numbers['adverts']:,} adverts")
        print(locate_report(current.flow_name, current.run_id, "finish"))
        print(f"prepared adverts: {self.place}")
        for task in ("mlm", "nsp"):
            print(f"python flows/{task}_flow.py run --data run:{self.began_as}")


if __name__ == "__main__":
    launch(PrepareAdvertsFlow)
