"""`outrider-fleet` on one home."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from outrider_fleet.cli import main
from tests.fleet.app.house import House


class Shell:
    """Runs commands on one home."""

    def __init__(self, house: House) -> None:
        self.house = house

    def __call__(self, *args: str, **env: str) -> Result:
        return CliRunner().invoke(main, ["--home", str(self.house.home.path), *args], env=env)

    def json(self, *args: str) -> Any:
        result = self(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)
