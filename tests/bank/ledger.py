"""What a bank's books have to look like: transfers come in, and of each come two new balances, once and in order.

Accounts belong to a partition, and a transfer is between accounts of one partition. The input at offset n of partition
p becomes two records in partition p of the ledger: the balances of payer and payee after it. So the balances after any
number of inputs are known, and whatever a reader sees has to be one of these states, with the total of the beginning.
"""

import json
import random
from typing import NamedTuple

TRANSFERS = "transfers"
LEDGER = "ledger"
PARTITIONS = 4
ACCOUNTS = 10
OPENING_BALANCE = 1000
TOTAL = ACCOUNTS * OPENING_BALANCE


def client_settings(bootstrap: str) -> dict:
    """What all clients have in common."""
    return {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "reconnect.backoff.max.ms": 500,
        # Else librdkafka (2.16) starts over when its only broker is away (KIP-899), and at times what it had to send
        # stays with a thread of before that never ends: the client sends nothing any more, whatever the broker does.
        "metadata.recovery.strategy": "none",
    }


class Transfer(NamedTuple):
    """Money that is to go from one account to another of the same partition. Numbers are unique."""

    number: int
    payer: int
    payee: int
    amount: int

    @staticmethod
    def random(number: int, rng: random.Random) -> "Transfer":
        payer, payee = rng.sample(range(ACCOUNTS), 2)
        return Transfer(number, payer, payee, rng.randint(1, 300))

    def encode(self) -> bytes:
        return json.dumps(self).encode()

    @staticmethod
    def decode(value: bytes) -> "Transfer":
        return Transfer(*json.loads(value))


class Entry(NamedTuple):
    """A record of the ledger: an account's balance after the input at an offset."""

    account: int
    input_offset: int
    balance: int

    def encode(self) -> bytes:
        return json.dumps(self).encode()

    @staticmethod
    def decode(value: bytes) -> "Entry":
        return Entry(*json.loads(value))


class Accounts:
    """The balances of one partition, after so many inputs."""

    def __init__(self):
        self.balances = [OPENING_BALANCE] * ACCOUNTS
        self.next_input = 0

    def apply(self, transfer: Transfer) -> list[Entry]:
        """Carries out the next transfer, as far as there is money for it; the two entries that follow from it."""
        amount = min(transfer.amount, self.balances[transfer.payer])
        self.balances[transfer.payer] -= amount
        self.balances[transfer.payee] += amount
        entries = [Entry(it, self.next_input, self.balances[it]) for it in (transfer.payer, transfer.payee)]
        self.next_input += 1
        return entries

    def restore(self, entry: Entry) -> None:
        """Takes over what the ledger says."""
        self.balances[entry.account] = entry.balance
        self.next_input = entry.input_offset + 1
