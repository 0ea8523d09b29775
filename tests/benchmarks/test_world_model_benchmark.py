"""The world model's benchmark measures what it says, small."""

from benchmarks.performance.world_model import measure
from ml.world_model.learning import TrainingConfig


def test_a_small_training_is_measured_beside_its_products():
    config = TrainingConfig(hidden=(8, 4), n_epochs=1, batch_size=128)
    figures = measure(10, config, n_steps=200)
    assert figures["rows"] == 8 * 365
    assert figures["train_floor_ratio"] > 1
    assert figures["belief_floor_ratio"] > 0.5
    assert figures["independent_nats"] < figures["chain_nats"] < 0
    assert abs(figures["bound_nats"] - figures["bound_nats_reverse"]) < 1
    assert 0 <= figures["chain_within_2"] <= 1
    assert figures["dropped_layers"] in (0, 1)
