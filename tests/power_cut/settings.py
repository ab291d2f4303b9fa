"""How brokers of the rig are set up, and their topics."""

import random

from .ledger import COMPACTED

# Small segments roll often. What a topic's retention leaves is kept by the ledger, so it stands here once.
TOPICS = {
    "steady": (2, {"segment.bytes": 96 << 10}),
    "rolling": (1, {"segment.bytes": 16 << 10, "index.interval.bytes": 1024}),
    "retained": (1, {"segment.bytes": 12 << 10, "retention.bytes": 48 << 10}),
    # Rolls to an empty segment when nobody writes to it.
    "aging": (1, {"segment.bytes": 32 << 10, "segment.ms": 150}),
    COMPACTED: (1, {"segment.bytes": 12 << 10, "cleanup.policy": "compact", "min.cleanable.dirty.ratio": 0.01}),
}
# No batch is larger than a segment.
BATCH_BYTES = 8 << 10
# Topics that come and go, and how many partitions they have.
FLEETING = {"fleeting-0": 1, "fleeting-1": 2}
FLEETING_CONFIG = {"segment.bytes": 16 << 10}
# Longer than anything that a life waits for.
LONG_MS = 60_000
# Longer than it takes to fill a segment.
SOON_MS = 700
GROUPS = ["readers", "others"]


def settings(rng: random.Random) -> dict:
    """How the broker of one life is set up: short intervals and small snapshots, so that all happens that can."""
    return {
        # A producer that remembers a deleted topic would make it anew.
        "auto.create.topics.enable": False,
        "checkpoint_interval_ms": rng.choice([10, 30, 100, 1000]),
        "disk_free_hard_bytes": 1 << 20,
        "flush_linger_ms": rng.choice([5, 50, 300]),
        "group_partitions": 1,
        "group_snapshot_bytes": rng.choice([2048, 8192]),
        "log.cleaner.backoff.ms": rng.choice([50, 200]),
        "log.retention.check.interval.ms": rng.choice([100, 300]),
        "write_mode": rng.choice(["mapped", "mapped", "pwrite"]),
    }
