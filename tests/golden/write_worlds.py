"""Pin the named worlds once a changed one has a new version: run this file as a script."""

import hashlib
import json
from pathlib import Path

from ml.simulate.purchase_world import PURCHASE_WORLDS
from ml.simulate.worlds import WORLDS

FILE = Path(__file__).with_name("worlds.json")


def describe_worlds():
    """Return version and SHA-256 of every named world's numbers."""
    return {
        name: {
            "version": config.version,
            "sha256": hashlib.sha256(repr(config).encode()).hexdigest(),
        }
        for name, config in {**WORLDS, **PURCHASE_WORLDS}.items()
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(describe_worlds(), indent=2, sort_keys=True) + "\n")
