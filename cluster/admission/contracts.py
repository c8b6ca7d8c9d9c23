"""Contracts of event models, held to the hits of a batch: what is broken, and which hits that blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.admission.plan import EventPlan
from cluster.definitions.model import Contract
from cluster.definitions.schemas import compile_schema, first_break

Bools: TypeAlias = npt.NDArray[np.bool_]
#: Rules of one model that are told apart; whatever else is broken counts as one more.
RULES_MAX = 50
OTHER_RULE = "other rules"


class Violation(NamedTuple):
    """How often events of a batch broke one rule of a model's contract, and the first row that did."""

    model: str
    rule: str
    events: int
    row: int


class Contracts:
    """The contracts of a plan, compiled. Empty (and false) where there are none."""

    def __init__(self, plan: EventPlan) -> None:
        self._plan = plan
        self._schemas = {
            index: compile_schema(contract.schema)
            for index, contract in plan.contracts.items()
            if contract.schema is not None
        }

    def __bool__(self) -> bool:
        """Whether there is anything to check."""
        return bool(self._plan.contracts)

    @property
    def read_properties(self) -> bool:
        """Whether a schema asks for whole properties."""
        return bool(self._schemas)

    def broken(self, model: int, missing: Iterable[str], properties: Any) -> list[str]:
        """Give the rules that one event breaks: `missing` are the columns without a value."""
        contract = self._plan.contracts.get(model)
        if contract is None:
            return []
        absent = set(missing)
        rules = [_required(name) for name in contract.required if name in absent]
        if model in self._schemas and (rule := first_break(self._schemas[model], _object(properties))) is not None:
            rules.append(rule)
        return rules

    def check(
        self, models: npt.NDArray[np.int16], rows: npt.NDArray[np.int64], columns: Sequence[pa.Array],
        properties: Sequence[Any],
    ) -> tuple[list[Violation], Bools | None]:  # fmt: skip
        """Give what is broken in hits, and which of them are blocked (None: none).

        `columns` are the hits' own, in the plan's order; `properties` those of each hit, empty unless asked for.
        """
        found: dict[tuple[str, str], tuple[int, int]] = {}
        blocked = np.zeros(len(models), np.bool_)
        for index, contract in self._plan.contracts.items():
            own = np.flatnonzero(models == index)
            if len(own):
                hurt = self._check_model(index, contract, own, rows, columns, properties, found)
                if contract.blocks:
                    blocked |= hurt
        return violations_of(found), blocked if blocked.any() else None

    def _check_model(
        self, index: int, contract: Contract, own: npt.NDArray[np.intp], rows: npt.NDArray[np.int64],
        columns: Sequence[pa.Array], properties: Sequence[Any], found: dict[tuple[str, str], tuple[int, int]],
    ) -> Bools:  # fmt: skip
        hurt = np.zeros(len(rows), np.bool_)
        model = self._plan.models[index].id
        for name in contract.required:
            column = columns[self._plan.columns_of_model[index][name]]
            if column.null_count:
                lacking = own[column.is_null().to_numpy(zero_copy_only=False)[own]]
                hurt[lacking] = True
                for row in rows[lacking].tolist():
                    note(found, model, _required(name), row)
        if index in self._schemas:
            validator = self._schemas[index]
            for hit in own.tolist():
                rule = first_break(validator, _object(properties[hit]))
                if rule is not None:
                    hurt[hit] = True
                    note(found, model, rule, int(rows[hit]))
        return hurt


def note(found: dict[tuple[str, str], tuple[int, int]], model: str, rule: str, row: int, count: int = 1) -> None:
    """Count a broken rule; beyond RULES_MAX rules of a model all others are one."""
    if (model, rule) not in found and sum(known == model for known, _ in found) >= RULES_MAX:
        rule = OTHER_RULE
    before, first = found.get((model, rule), (0, row))
    found[model, rule] = (before + count, min(first, row))


def violations_of(found: dict[tuple[str, str], tuple[int, int]]) -> list[Violation]:
    """List what was counted, by model and rule."""
    return [Violation(model, rule, count, row) for (model, rule), (count, row) in sorted(found.items())]


def _required(name: str) -> str:
    return f"{name} is missing"


def _object(properties: Any) -> Any:
    """An event without properties has none of them: that is an object too."""
    return properties if isinstance(properties, dict) else {}
