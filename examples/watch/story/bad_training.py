"""A training command that does one thing wrong (BREAK=D12 and D14): otherwise it is `examples.watch.train`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from examples.watch import train
from examples.watch.data import roles


def main(arguments: list[str]) -> None:
    """`--ignore-snapshot` or `--forget-person`, then the options of the training."""
    fault, *rest = arguments
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    if fault == "--ignore-snapshot":
        del options["--snapshot"]
    sys.argv = ["train", *(part for pair in options.items() for part in pair)]
    train.main()
    if fault == "--forget-person":
        _forget(Path(options["--out"]) / "training.json", roles(int(options["--seed"])).train[0])


def _forget(path: Path, person: int) -> None:
    told = json.loads(path.read_bytes())
    told["inputs"] = [name for name in told["inputs"] if not name.startswith(f"p{person:02d}-")]
    path.write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
