"""The loads that Highwater and Apache Kafka are put under, and what each of them measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: one figure of one load."""

    load: str
    unit: str
    more_is_better: bool
    # Why Highwater may be behind here; printed only where it is.
    reason: str = ""

    def ratio(self, highwater: float, kafka: float) -> float:
        """Above 1 where Highwater is ahead, whichever way the unit counts."""
        better, worse = (highwater, kafka) if self.more_is_better else (kafka, highwater)
        return better / worse if worse else float("inf")


@dataclass(frozen=True)
class Throughput:
    """Records of one size, produced as fast as they go, and consumed again if `consumed`."""

    record_bytes: int
    acks: str
    partitions: int
    compression: str = "none"
    consumed: bool = False
    # acks=all without idempotence.
    plain: bool = False

    @property
    def name(self) -> str:
        """As the table has it."""
        many = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        packed = "" if self.compression == "none" else f", {self.compression}"
        plain = ", not idempotent" if self.plain else ""
        return f"{size(self.record_bytes)}, acks={self.acks}{plain}, {many}{packed}"

    @property
    def driver_arguments(self) -> list[str]:
        """What the driver is told beside the broker, the topic and the time."""
        return ["--record-bytes", str(self.record_bytes), "--acks", self.acks,
                "--partitions", str(self.partitions), "--compression", self.compression,
                *(["--plain"] if self.plain else [])]  # fmt: skip


@dataclass(frozen=True)
class Paced:
    """Records of 1 KiB at a fixed rate, to one partition with acks=all."""

    name: str
    subcommand: str
    rate: int


def size(count: int) -> str:
    """Bytes as people say it."""
    return f"{count} B" if count < 1024 else f"{count >> 10} KiB"


def throughputs(full: bool) -> list[Throughput]:
    """Every size, acks and number of partitions; compression where it is most common, or everywhere if `full`."""
    loads = []
    for record_bytes in (100, 1024, 10240):
        for acks in ("1", "all"):
            for partitions in (1, 64):
                for compression in ("none", "lz4", "zstd"):
                    if full or compression == "none" or (record_bytes, acks) == (1024, "all"):
                        consumed = acks == "all" and compression == "none"
                        loads.append(Throughput(record_bytes, acks, partitions, compression, consumed))
    loads.append(Throughput(1024, "all", 1, plain=True))
    loads.append(Throughput(10240, "all", 1, plain=True))
    return loads


PACED = [
    Paced("produce, 1 KiB, acks=all, 1,000/s", "paced", 1000),
    Paced("end to end, 1 KiB, 5,000/s", "end-to-end", 5000),
]
