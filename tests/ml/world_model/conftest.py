"""Fixtures of the world model's tests."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small products are faster on one thread, and the same everywhere."""
    torch.set_num_threads(1)
