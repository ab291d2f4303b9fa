"""A short run of the bank (bank/): transactions while workers and broker are killed."""

import pytest

from harness.modules import run_module

TIMEOUT_S = 280

# Long enough for several kills of the broker and many of workers.
MINUTES = 0.4


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_every_transfer_is_applied_once_and_no_reader_sees_another_total(tests_dir, request, rng, group_protocol):
    """Whatever is killed. Apache Kafka takes too long to start again, so there only workers are."""
    broker = request.config.getoption("--broker")
    arguments = ["--seed", rng.randrange(2**32), "--minutes", MINUTES, "--broker", broker]
    arguments += ["--group-protocol", group_protocol] + (["--spare-broker"] if broker == "kafka" else [])
    run_module(tests_dir, "bank", *arguments, timeout_s=TIMEOUT_S)
