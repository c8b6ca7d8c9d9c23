"""Runs Usher in a process of its own: `python -m tests.live.up_child OPTIONS_AS_JSON`; prints one JSON line a step."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from cluster.errors import UsherError
from cluster.runtime.launch import ReadyInfo, UpOptions, run


def say(**fields: object) -> None:
    print(json.dumps(fields, default=str), flush=True)


def main() -> int:
    options = json.loads(sys.argv[1])
    for name in ("data_dir",):
        options[name] = Path(options[name])
    options["definitions"] = tuple(Path(path) for path in options.get("definitions", ()))

    def on_ready(info: ReadyInfo) -> None:
        say(ready=True, **dataclasses.asdict(info))

    try:
        return run(UpOptions(**options), on_ready, lambda step: say(step=step))
    except UsherError as error:
        say(error=type(error).__name__, message=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
