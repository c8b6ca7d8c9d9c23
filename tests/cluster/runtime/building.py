"""Small definitions, made without a document, for tests of the runtime."""

from __future__ import annotations

from typing import Any

from cluster.definitions.model import All, Audience, Definitions, ParentModel, Published, Settings
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.placement import deal_partitions
from cluster.runtime.protocols import EvaluatorInfo


def definitions(*audiences: str, partitions: int = 8, statuses: dict[str, str] | None = None) -> Definitions:
    """Definitions with these audiences, whose conditions do not matter here."""
    statuses = statuses or {}
    return Definitions(
        settings=Settings(retention_ms=1_000, dedup_horizon_ms=1_000, dedup_ids_max=10, partitions=partitions),
        sources={},
        parent_models={"users": ParentModel("users", "user_id", {})},
        event_models={},
        audiences={
            name: Audience(name, "users", All(()), statuses.get(name, "published"))  # type: ignore[arg-type]
            for name in audiences
        },
        destinations={},
        syncs={},
        document={"version": 1, "audiences": [{"id": name} for name in audiences]},
    )


def published(version: int, **audience_versions: int) -> Published:
    """A publication whose audiences have these versions."""
    return Published(version, definitions(*audience_versions), audience_versions)


def machine(evaluators: int = 2, **more: Any) -> ControllerMachine:
    """A controller's machine over 8 partitions."""
    infos = tuple(EvaluatorInfo(i, f"evaluator-{i}", "node", f"membership/{i}") for i in range(evaluators))
    return ControllerMachine(evaluators=infos, owner_of_partition=deal_partitions(8, evaluators), **more)
