"""The command line: histories for so many minutes."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from harness.broker import ApacheKafka, Highwater

from .rig import run

# A history's length: long enough for rebalances to settle between two crashes, short enough for a new seed to count.
HISTORY_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/history/run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long in all [default: 10]")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first history; the next ones count on")
    parser.add_argument("--broker", choices=["highwater", "kafka"], default="highwater")
    arguments = parser.parse_args()
    kind = {"highwater": Highwater, "kafka": ApacheKafka}[arguments.broker]
    seed = random.SystemRandom().randrange(2**31) if arguments.seed is None else arguments.seed
    until = time.monotonic() + 60 * arguments.minutes
    while (left := until - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="history-") as directory:
            broker = kind(Path(directory) / "broker", {"group.min.session.timeout.ms": 1000}).start()
            try:
                verdict = run(broker, min(left, HISTORY_S), seed)
            finally:
                broker.discard()
            print(verdict.summary, flush=True)
            if verdict.faults:
                print("\n".join([*verdict.faults, *verdict.errors, broker.log_tail()]), flush=True)
                return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
