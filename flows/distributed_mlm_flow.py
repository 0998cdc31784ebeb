"""Adapt a language model to job adverts on several machines at once.

python flows/distributed_mlm_flow.py run --nodes 4 --with batch
"""

from metaflow import (
    Parameter,
    batch,
    card,
    config_expr,
    current,
    environment,
    parallel,
    step,
)
from mlm_flow import MLMFlow

from ojd_daps_language_models.advert_data import texts_by_part
from ojd_daps_language_models.flow_utils import (
    PATIENT_THREADS,
    MachineChoosesEngine,
    cluster_of_step,
    join_parallel_costs,
    measured,
    token_store,
)
from ojd_daps_language_models.getters.checkpoints import get_checkpoint
from ojd_daps_language_models.resume import launch
from ojd_daps_language_models.tasks import mlm


@MachineChoosesEngine
class DistributedMLMFlow(MLMFlow):
    """Masked language modelling on several machines."""

    nodes = Parameter("nodes", default=2, type=int, help="machines that train together")

    @measured
    @step
    def tokenize(self):
        """Turn adverts into tokens."""
        folder = get_checkpoint(self.origin, self.revision)
        self.tokens = mlm.tokenize(
            texts_by_part(self.adverts), folder, token_store(self), current.pathspec
        )
        self.next(self.train, num_parallel=self.nodes)

    @batch(
        gpu=config_expr("config.compute.gpu"),
        cpu=config_expr("config.compute.cpu"),
        memory=config_expr("config.compute.memory"),
        shared_memory=config_expr("config.compute.get('shared_memory')"),
    )
    @environment(vars=PATIENT_THREADS)
    @card(type="blank", refresh_interval=5)
    @parallel
    @measured(energy=True)
    @step
    def train(self):
        """Train on one machine of several, each of which ends with the same model."""
        self.fit(cluster_of_step())
        self.next(self.collect)

    @measured
    @step
    def collect(self, inputs):
        """Go on with what the first machine has."""
        self.model, self.training_log = inputs[0].model, inputs[0].training_log
        self.code = inputs[0].code
        self.costs = join_parallel_costs(inputs, "train")
        self.merge_artifacts(inputs)
        self.next(self.evaluate)


if __name__ == "__main__":
    launch(DistributedMLMFlow)
