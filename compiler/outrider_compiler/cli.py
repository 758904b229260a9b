"""The command `outrider-compiler`.

1. Words for people go to stderr, results to stdout; with `--json` stdout is one JSON document, the error's too.
2. Exit status: 0 done, 2 usage, 3 refused by profile or file, 4 gate failed.
3. Heavy packages load inside the commands that need them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import click

from outrider_compiler.console import Console
from outrider_compiler.errors import CompilerError, UsageError
from outrider_compiler.files import check_places, read, read_text, unusable, write_atomically

PATH = click.Path(path_type=Path)
JSON_WANTED = "outrider_compiler.json"
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class Commands(click.Group):
    """Turns errors into words on stderr, an exit status and, with --json, a document on stdout."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember whether JSON is wanted, before a wrong option ends the parsing."""
        ctx.meta[JSON_WANTED] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except CompilerError as error:
            self._refuse(ctx, error)
        except OSError as error:
            if error.filename is None:
                raise
            self._refuse(ctx, unusable(error))
        except click.UsageError as error:
            self._document(ctx, UsageError(error.format_message()))
            raise

    def _refuse(self, ctx: click.Context, error: CompilerError) -> NoReturn:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        self._document(ctx, error)
        ctx.exit(error.exit_code)

    def _document(self, ctx: click.Context, error: CompilerError) -> None:
        if ctx.meta[JSON_WANTED]:
            click.echo(json.dumps(error.json()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outrider-compiler")
def main() -> None:
    """Build a release: one artifact per hardware profile, chosen by measurement, with the reason."""


@main.command()
@click.argument("model")
@click.option("--name", required=True, help="The model's name (a family, e.g. har).")
@click.option("--version", required=True, help="The release's label, e.g. 1.4.0.")
@click.option("--counter", required=True, type=int, help="Orders releases of a model; higher than all before.")
@click.option("--profile", "profiles", multiple=True, required=True, help="Hardware profile; repeat for several.")
@click.option("--calibration", required=True, type=PATH, help=".npz with x (or x:<input>).")
@click.option("--evaluation", required=True, type=PATH, help=".npz with x and y, disjoint from calibration.")
@click.option("--task", default="classification", show_default=True, help="classification, regression or anomaly.")
@click.option("--out", required=True, type=PATH, help="Directory to make (an OCI image layout).")
@click.option("--architecture", help="module:callable that makes the module of a state dict.")
@click.option("--classes", default="", help="Names, comma-separated, or a .json file with a list.")
@click.option("--probabilities", help="Name of the output that decides: class probabilities, the value, or the score.")
@click.option("--embedding", help="Name of the output that drift detection watches.")
@click.option("--precision", "precisions", multiple=True, help="Build this beside fp32, or fail; repeat for several.")
@click.option("--gate", "limits", multiple=True, metavar="NAME=NUMBER", help="Another limit, e.g. agreement_min=0.99.")
@click.option(
    "--slices", multiple=True, metavar="NAME", help="Judge each part of slice:NAME in the evaluation set too."
)
@click.option("--robustness", is_flag=True, help="Report noise, missing channels and adversarial inputs.")
@click.option("--measured", multiple=True, type=PATH, help="Timings that `bench` took on a board; repeat for several.")
@click.option("--for-bench", is_flag=True, help="Pack every candidate, to be measured on the board; cannot be signed.")
@click.option("--window", type=int, help="Raw input: its last LENGTH steps of axis 1.", metavar="LENGTH")
@click.option("--resize", help="Raw images to this size.", metavar="HxW[:linear|nearest]")
@click.option("--layout", help="Raw axes to the model's, e.g. NHWC:NCHW.", metavar="RAW[:MODEL]")
@click.option("--scale", help="Raw values times FACTOR (1/255), plus OFFSET.", metavar="FACTOR[,OFFSET]")
@click.option("--normalise", help="(value - MEAN) / STD, one or one a channel (m1:m2:m3).", metavar="MEAN,STD")
@click.option("--preprocess-input", help="Which input these are for, where there are several.", metavar="NAME")
@click.option("--locked", type=PATH, help="Build what this outrider.lock chose, byte for byte.")
@click.option("--provenance", type=PATH, help="JSON that the training run wrote (run, snapshot, …).")
@click.option("--junit", type=PATH, help="Write every candidate and limit as JUnit XML, after a failure too.")
@click.option("--markdown", type=PATH, help="Write a summary for a pull request, after a failure too.")
@JSON
def build(
    as_json: bool, classes: str, limits: tuple[str, ...], junit: Path | None, markdown: Path | None, **options: Any
) -> None:
    """Build MODEL (.onnx, .tflite, .pt2, module:callable, or a state dict with --architecture) for every profile."""
    from outrider_compiler.preprocess import options as preprocessing
    from outrider_compiler.report import written
    from outrider_compiler.request import BuildRequest, Gate

    check_places(junit, markdown)
    console, gate = Console(), Gate().with_limits(limits)
    asked = preprocessing.read(**{name: options.pop(name) for name in preprocessing.NAMES})
    request = BuildRequest(
        source=options.pop("model"), classes=class_names(classes), gate=gate, preprocess=asked, **options
    )
    with console.progress(len(request.profiles)) as progress:
        release = written.build(request, progress, junit, markdown)
    report = release.report()
    if as_json:
        click.echo(json.dumps({"out": str(release.directory), **report}))
    else:
        console.table(report)
        click.echo(str(release.directory))


def class_names(text: str) -> tuple[str, ...]:
    """`a,b,c`, or the path of a .json file that holds a list or `{"classes": [...]}`; raises `UsageError`."""
    if not text.endswith(".json"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        value = json.loads(Path(text).read_text(encoding="utf-8"))
        names = value["classes"] if isinstance(value, dict) else value
        return tuple(str(name) for name in names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{text}: {error}", "A JSON list of class names is expected.") from error


@main.command()
@click.argument("model")
@click.option("--profile", "names", multiple=True, required=True, help="Hardware profile; repeat for several.")
@JSON
def check(model: str, names: tuple[str, ...], as_json: bool) -> None:
    """Say whether each profile can run MODEL (.onnx, .tflite or .pt2), without building anything."""
    from outrider_compiler.inspection import check_file
    from outrider_compiler.pipeline import load_profiles

    results = check_file(Path(model), load_profiles(names))
    if as_json:
        click.echo(json.dumps(results))
    for name, item in results.items():
        if not as_json:
            click.echo(f"{name}: {'runs' if item['ok'] else item['reason']}")
            if item["hint"]:
                click.echo(f"hint: {item['hint']}", err=True)
    if not all(item["ok"] for item in results.values()):
        raise click.exceptions.Exit(3)


@main.command()
@click.argument("directory", type=PATH)
@JSON
def inspect(directory: Path, as_json: bool) -> None:
    """Verify a release DIRECTORY and say what is in it."""
    from outrider_compiler.inspection import describe
    from outrider_compiler.release import Release

    release = Release.open(directory)
    release.verify()
    value = describe(release)
    if as_json:
        click.echo(json.dumps(value))
        return
    click.echo(f"{value['model']} {value['version']} (counter {value['counter']})")
    for name, item in value["artifacts"].items():
        click.echo(
            f"  {name}: {item['precision']} · {item['engine']} · {item['device_bytes']} bytes · {item['digest']}"
        )


@main.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--fail-on-worse", is_flag=True, help="Status 4 where B loses more than the gates allow beside A.")
@click.option("--markdown", type=PATH, help="Write it as tables for a pull request.")
@JSON
def compare(a: Path, b: Path, fail_on_worse: bool, markdown: Path | None, as_json: bool) -> None:
    """Show two releases, A and B, side by side."""
    from outrider_compiler import compare as comparing
    from outrider_compiler.release import Release
    from outrider_compiler.report import side_by_side

    check_places(markdown)
    found = comparing.compare(Release.open(a), Release.open(b))
    if fail_on_worse:
        comparing.check_comparable(found)
    if markdown:
        write_atomically(markdown, side_by_side.render(found))
    if as_json:
        click.echo(json.dumps(found))
    else:
        Console().side_by_side(found)
    if fail_on_worse and found["worse"]:
        raise click.exceptions.Exit(4)


@main.command()
@click.argument("directory", type=PATH)
@click.option("--profile", "name", required=True, help="The board that this machine is.")
@click.option("--out", required=True, type=PATH, help="Where to write the timings for `build --measured`.")
@JSON
def bench(directory: Path, name: str, out: Path, as_json: bool) -> None:
    """Time every candidate of a release that was built with --for-bench, on the board itself."""
    from outrider_compiler import bench as timing
    from outrider_compiler.host import this_host
    from outrider_compiler.pipeline import load_profiles
    from outrider_compiler.release import Release

    check_places(out)
    measured = timing.bench(Release.open(directory), load_profiles((name,))[0], this_host())
    write_atomically(out, measured.encode())
    click.echo(measured.encode().decode() if as_json else str(out))


@main.command()
@click.argument("name", required=False)
@JSON
def profiles(name: str | None, as_json: bool) -> None:
    """List the hardware profiles that ship with Outrider, or say all about NAME (or a file), with its sources."""
    from dataclasses import asdict

    from outrider_compiler import boards
    from outrider_compiler.pipeline import load_profiles
    from outrider_profiles import names

    found = load_profiles((name,) if name else names())
    if as_json:
        click.echo(json.dumps({board.name: asdict(board) for board in found}))
        return
    for board in found:
        click.echo(boards.page(board) if name else boards.line(board))


@main.command()
@click.argument("directory", type=PATH)
@click.option("--key", required=True, metavar="PLACE", help="The pipeline's private key: a file, or pkcs11: address.")
@click.option("--metadata", type=PATH, help="The model's current role; left out for the first release.")
@click.option("--server", "url", help="Fetch the current role from this fleet server; none there: the first release.")
@click.option("--start-over", is_flag=True, help="List this release alone: after a pipeline's key was stolen.")
@click.option("--out", required=True, type=PATH, help="Where to write the new role.")
@JSON
def sign(
    directory: Path, key: str, metadata: Path | None, url: str | None, out: Path, *, start_over: bool, as_json: bool
) -> None:
    """List a release in the model's delegated TUF role, signed with the pipeline's key.

    Its passphrase comes from OUTRIDER_PASSPHRASE_FILE or OUTRIDER_PASSPHRASE, a token's PIN from OUTRIDER_PIN_FILE or
    OUTRIDER_PIN.
    """
    from outrider_compiler import publishing
    from outrider_compiler.release import Release

    if metadata and url:
        raise UsageError("--metadata and --server both say which role is the current one: give one of them")
    check_places(out)
    release = Release.open(directory)
    current = read(metadata) if metadata else publishing.current_role(release, url) if url else None
    data = publishing.sign(release, key, current, publishing.utc_now(), os.environ, start_over=start_over)
    write_atomically(out, data)
    click.echo(json.dumps({"out": str(out), **publishing.role_words(data)}) if as_json else str(out))


@main.command()
@click.argument("directory", type=PATH)
@click.option("--server", "url", required=True, help="Address of the fleet server, e.g. http://127.0.0.1:8080.")
@click.option("--token", envvar="OUTRIDER_TOKEN", required=True, help="Pipeline token (or OUTRIDER_TOKEN).")
@click.option("--metadata", required=True, type=PATH, help="The role that `sign` wrote.")
@JSON
def publish(directory: Path, url: str, token: str, metadata: Path, as_json: bool) -> None:
    """Upload a signed release to a fleet server."""
    from outrider_compiler import publishing
    from outrider_compiler.release import Release

    role = read_text(metadata)
    answer = publishing.publish(Release.open(directory), publishing.server(url, token), role)
    click.echo(json.dumps(answer) if as_json else "published")
