"""Opening an evaluator's log, wherever it is kept."""

from __future__ import annotations

from pathlib import Path

from cluster.log.contract import Log
from cluster.log.settings import LogSettings
from cluster.log.sqlite import EvaluatorLog


def open_log(settings: LogSettings, name: str, path: Path, cache_path: Path, *, owner_epoch: int) -> Log:
    """Open the log of the evaluator `name` as its only owner: in `path`, or in a topic with its cache in `cache_path`.

    Raises Fenced for an epoch older than one that has had it, `Damaged`, other DataDirErrors, StorageFull;
    LogUnavailable where brokers do not answer, InputError where the URI or what it needs is wrong.
    """
    if not settings.uri:
        return EvaluatorLog.open(path, owner_epoch=owner_epoch)
    from cluster.log.kafka.log import KafkaLog
    from cluster.log.kafka.place import parse_place

    return KafkaLog.open(parse_place(settings.uri), name, cache_path, owner_epoch=owner_epoch)
