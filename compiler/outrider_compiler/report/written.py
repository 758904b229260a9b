"""A build whose summaries are written down, whether it ends well or not."""

from __future__ import annotations

from pathlib import Path

from outrider_compiler import pipeline
from outrider_compiler.errors import CompilerError
from outrider_compiler.files import write_atomically
from outrider_compiler.progress import Progress
from outrider_compiler.release import Release
from outrider_compiler.report import junit, markdown
from outrider_compiler.report.summary import Memory, Summary
from outrider_compiler.request import BuildRequest


def build(request: BuildRequest, progress: Progress, junit_file: Path | None, markdown_file: Path | None) -> Release:
    """Build, and write the files that were asked for; raises what the build raises, after they are written."""
    memory = Memory(progress)
    try:
        release = pipeline.build(request, memory)
    except CompilerError as error:
        if junit_file or markdown_file:
            _write(Summary.of_failure(request, memory.outcomes, error), junit_file, markdown_file)
        raise
    if junit_file or markdown_file:
        _write(Summary.of_release(release.report()), junit_file, markdown_file)
    return release


def _write(summary: Summary, junit_file: Path | None, markdown_file: Path | None) -> None:
    if junit_file:
        write_atomically(junit_file, junit.render(summary))
    if markdown_file:
        write_atomically(markdown_file, markdown.render(summary))
