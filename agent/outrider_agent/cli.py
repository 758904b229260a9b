"""The command `outrider-agent`.

    outrider-agent enrol --server URL --token T --device ID --profile P --trust-root FILE|sha256:…
    outrider-agent run
    outrider-agent status [--json]
    outrider-agent predict FILE [--model NAME]
    outrider-agent doctor
    outrider-agent import DIR
    outrider-agent tuf-client --metadata-dir D [--metadata-url URL …] init|refresh|download

Exit status: 0 done · 2 bad input · 3 refused by a rule of trust · 4 the outside world failed · 5 a fault of the agent
(`tuf-client`: 0 or 1).
Heavy modules are loaded by the command that needs them alone: `run` becomes the supervisor.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from outrider_agent import VERSION
from outrider_agent.errors import AgentError, InputError
from outrider_agent.paths import Paths
from outrider_protocol.errors import ProtocolError

REFUSED: Final = 3
FAILED: Final = 1  # `tuf-client` alone: a test suite wants 0 or 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except AgentError as error:
        return _complain(error, error.hint, error.exit_status)
    except ProtocolError as error:
        return _complain(error, error.hint, REFUSED)


def _complain(error: Exception, hint: str, status: int) -> int:
    sys.stderr.write(f"outrider-agent: {type(error).__name__}: {error}\n")
    if hint:
        sys.stderr.write(f"  {hint}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="outrider-agent", description="Runs releases on this device.")
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _enrol_options(
        commands.add_parser("enrol", help="join a fleet: make a key, get a certificate, learn whom to trust")
    )
    run = commands.add_parser("run", help="run the agent in the foreground")
    run.add_argument("--verbose", action="store_true", help="log more")
    run.set_defaults(command=_run)
    status = commands.add_parser("status", help="what the running agent says of itself")
    status.add_argument("--json", action="store_true", help="as JSON")
    status.set_defaults(command=_status)
    predict = commands.add_parser("predict", help="send a file through the local API")
    predict.add_argument("file", type=Path, help=".npz or .json")
    predict.add_argument("--model", help="which model, where several are served")
    predict.set_defaults(command=_predict)
    commands.add_parser("doctor", help="check what the agent needs").set_defaults(command=_doctor)
    bring = commands.add_parser("import", help="take in a release and its order from a folder, without a network")
    bring.add_argument("folder", type=Path, metavar="DIR", help="what `outrider-fleet export --air-gap` wrote")
    bring.set_defaults(command=_import)
    _tuf_client_options(
        commands.add_parser("tuf-client", help="the agent's TUF code against any repository, for tests")
    )
    return parser


def _enrol_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", required=True, metavar="URL", help="the fleet server")
    parser.add_argument("--token", required=True, help="single-use token from `outrider-fleet token create`")
    parser.add_argument("--device", required=True, metavar="ID", help="this device's id")
    parser.add_argument("--profile", required=True, help="this board's hardware profile")
    trust = parser.add_mutually_exclusive_group(required=True)
    trust.add_argument("--trust-root", metavar="FILE|sha256:HEX", help="the fleet's root of trust, given out of band")
    trust.add_argument("--trust-on-first-use", action="store_true", help="believe the root that the server sends")
    parser.add_argument("--again", action="store_true", help="replace this device's identity")
    parser.set_defaults(command=_enrol)


def _tuf_client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata-dir", type=Path, required=True, metavar="DIR", help="where verified metadata are kept"
    )
    parser.add_argument("--metadata-url", metavar="URL", help="the repository's metadata")
    parser.add_argument("--target-name", action="append", metavar="PATH", help="a target to download; may be repeated")
    parser.add_argument("--target-base-url", metavar="URL", help="the repository's targets")
    parser.add_argument("--target-dir", type=Path, metavar="DIR", help="where a downloaded target is stored")
    steps = parser.add_subparsers(required=True, metavar="STEP", dest="step")
    steps.add_parser("init", help="trust a root; asks nobody").add_argument("root", type=Path, metavar="ROOT_FILE")
    steps.add_parser("refresh", help="bring the top-level roles up to date")
    steps.add_parser("download", help="refresh, then fetch and verify one target")
    parser.set_defaults(command=_tuf_client)


def _enrol(options: argparse.Namespace) -> int:
    from outrider_agent.durable import Durable
    from outrider_agent.enrol import Request, TrustRoot, enrol

    root = TrustRoot(None) if options.trust_on_first_use else TrustRoot.parse(options.trust_root)
    request = Request(options.server, options.token, options.device, options.profile, root, options.again)
    found = enrol(request, Paths.from_environment(), Durable())
    sys.stdout.write(f"{found.device} is enrolled in fleet {found.fleet}; start it with `outrider-agent run`\n")
    return 0


def _run(options: argparse.Namespace) -> int:
    from outrider_agent import config
    from outrider_agent.supervisor.process import run

    level = logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    paths = Paths.from_environment()
    run(paths, config.load(paths.config))
    return 0


def _status(options: argparse.Namespace) -> int:
    from outrider_agent import status

    found = status.ask(Paths.from_environment().status_socket)
    sys.stdout.write((json.dumps(found, indent=1) if options.json else status.text(found)) + "\n")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from outrider_agent.predict import predict

    sys.stdout.write(json.dumps(predict(Paths.from_environment(), options.file, options.model)) + "\n")
    return 0


def _tuf_client(options: argparse.Namespace) -> int:
    from outrider_agent.update import tuf_client

    try:
        tuf_client.run(options)
    except (AgentError, ProtocolError) as error:
        return _complain(error, error.hint, FAILED)
    return 0


def _import(options: argparse.Namespace) -> int:
    from outrider_agent.air_gap import bring

    os.umask(0o077)
    said = bring(Paths.from_environment(), options.folder, lambda news: print(news["said"], flush=True))
    sys.stdout.write(f"the order was taken ({said}): the folder may be removed\n")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from outrider_agent.doctor import examine

    findings = examine(Paths.from_environment())
    for finding in findings:
        sys.stdout.write(f"{'ok  ' if finding.ok else 'FAIL'} {finding.name:<14} {finding.found}\n")
        if finding.hint:
            sys.stdout.write(f"     {finding.hint}\n")
    return 0 if all(finding.ok for finding in findings) else InputError.exit_status


if __name__ == "__main__":
    sys.exit(main())
