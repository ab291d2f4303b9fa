"""examples/embedded: a service on librdkafka that is tested against a broker inside the test."""

import shutil
import subprocess

import pytest

from harness.broker import REPOSITORY, end_with_parent

SOURCE = REPOSITORY / "examples" / "embedded"


@pytest.mark.timeout(900)
@pytest.mark.highwater_only("the broker of the example is inside it")
def test_the_example_s_tests_pass():
    # With the versions of the workspace and into its directory, whose builds of the same crates are used again.
    shutil.copy(REPOSITORY / "Cargo.lock", SOURCE / "Cargo.lock")
    command = ["cargo", "test", "--target-dir", REPOSITORY / "target"]
    done = subprocess.run(
        command, cwd=SOURCE, stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=end_with_parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test result: ok. 2 passed" in done.stdout
