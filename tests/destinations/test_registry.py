from __future__ import annotations

from destinations.registry import KINDS


def test_every_kind_is_found_under_its_own_name_and_can_do_a_removal() -> None:
    for name, kind in KINDS.items():
        assert kind.kind == name
        assert "remove" in kind.exits
        assert kind.limits.batch_records_max >= 1
        assert kind.settings_model.model_config["extra"] == "forbid"
