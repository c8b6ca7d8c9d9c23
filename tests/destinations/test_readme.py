"""The destination that destinations/README.md writes keeps the contract, in its own words."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from destinations.limits import Limits
from destinations.outcomes import Delivered, Permanent
from tests.destinations.contract_suite import ContractSuite, response

README = (Path(__file__).parents[2] / "destinations" / "README.md").read_text()
CODE, TEST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def written() -> Any:
    """The README's code as a module from a file, as a package would have it: descriptions are read from the source."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "usher_pigeon.py"
        file.write_text(f"{CODE}\n{TEST}")
        spec = importlib.util.spec_from_file_location("usher_pigeon", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["usher_pigeon"] = module
        spec.loader.exec_module(module)
        return module


class TestContractOfTheReadme(ContractSuite):
    example = written().TestContract.example


def test_it_reads_the_answer_that_the_readme_tells_of() -> None:
    example = TestContractOfTheReadme.example
    judgement = example.judged(example.sealed(2), response(200, b'{"unknown": ["DE10001"]}'))

    assert judgement.outcomes == (Delivered(), Permanent("the club does not know the pigeon"))
    assert isinstance(example.kind.limits(example.checked), Limits)


def test_every_outcome_and_helper_that_the_readme_names_exists() -> None:
    from destinations import answers, contract, outcomes

    for name in re.findall(r"\| `([A-Z]\w+)", README):
        assert hasattr(outcomes, name), name
    for name in ("token_scope", "next_step", "judge_step", "poll", "judge_poll", "resend_every_ms", "example_learned"):
        assert name in README
        assert hasattr(contract.Destination, name)
    assert hasattr(answers, "plain_failure")
