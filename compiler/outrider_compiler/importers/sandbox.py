"""What a child process does to itself before it touches foreign code or foreign files.

1. No network: an audit hook, which the interpreter cannot take off again, refuses every use of it.
2. While a foreign file is read (`reading`), nothing is started, loaded or written outside the child's own folder.
3. No core dump; where a limit is given, memory and processor time are bounded too.

The hook stops mistakes, downloads and code hidden in files; it is no jail for native code.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from outrider_compiler.errors import CompilerError
from outrider_compiler.importers.child import one_line

NETWORK_EVENTS: Final = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "socket.sendto"}
)
PROCESS_EVENTS: Final = frozenset(
    {
        "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill",
        "os.killpg", "pty.spawn", "os.startfile", "ctypes.dlopen", "ctypes.dlsym", "ctypes.call_function",
        "os.putenv.LD_PRELOAD",
    }
)  # fmt: skip
WRITE_EVENTS: Final = frozenset(
    {
        "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
        "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil.rmtree", "shutil.move", "shutil.copyfile",
        "shutil.copytree", "shutil.unpack_archive",
    }
)  # fmt: skip
WRITE_FLAGS: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ADDRESS_SPACE_BYTES: Final = 4 << 30  # libraries map 1 GiB or less
READING_BYTES: Final = 8 << 30  # the same beside torch, which maps more
ADDRESS_SPACE_FACTOR: Final = 8  # copies of a model that parsing, simplifying and loading hold at once


class ChildRefusalError(Exception):
    """What the parent shall say."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ForbiddenError(PermissionError):
    """What the audit hook raises: somebody tried."""


class _Reading:
    """The folder in which files may be written while a foreign file is read; '' while none is."""

    folder: str = ""


def main(work: Callable[[dict[str, Any]], dict[str, Any] | None]) -> int:
    """Do `work` on the task of the command line; prints the last word and returns the exit status."""
    sys.excepthook = _last_word
    try:
        answer = work(json.loads(sys.argv[1]))
    except ChildRefusalError as error:
        return refuse(error)
    except CompilerError as error:
        return refuse(ChildRefusalError(str(error), error.hint))
    except MemoryError:
        return refuse(ChildRefusalError("reading the file takes more memory than its size allows", ""))
    except RecursionError:
        return refuse(ChildRefusalError("the file is nested too deeply to be read", ""))
    print(json.dumps(answer or {}), flush=True)
    return 0


def _last_word(kind: type[BaseException], error: BaseException, _trace: Any) -> None:
    """What a library raised that nobody foresaw, in one line instead of a traceback."""
    refuse(ChildRefusalError(f"{kind.__name__}: {error}", ""))


def refuse(error: ChildRefusalError) -> int:
    """Print the last word; returns the exit status."""
    print(json.dumps({"error": one_line(str(error)), "hint": error.hint}), flush=True)
    return 3


def bound(size_bytes: int, seconds: float) -> None:
    """Bound this process for reading a file of `size_bytes`: memory, processor time, no core dump."""
    memory = ADDRESS_SPACE_BYTES + ADDRESS_SPACE_FACTOR * size_bytes
    for kind, limit in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, int(seconds) + 1), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def cut_network() -> None:
    """From here on a `ForbiddenError` refuses the network in this process, and what `reading` forbids."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK_EVENTS:
            raise ForbiddenError(f"{event}: the compiler's importer has no network")
        if _Reading.folder and _forbidden(event, arguments):
            raise ForbiddenError(f"{event}: a file that is read may not do that")

    sys.addaudithook(refuse)


@contextmanager
def reading(source: Path, folder: Path) -> Iterator[None]:
    """While a foreign file is read: start nothing, load no library, write in `folder` alone; a try is a refusal.

    Memory is bounded by the file's size.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = READING_BYTES + ADDRESS_SPACE_FACTOR * source.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))
    _Reading.folder = str(folder.absolute())
    try:
        yield
    except ForbiddenError as error:
        hint = "The file holds code that runs when it is loaded: save weights alone, best as safetensors."
        raise ChildRefusalError(f"{source}: {error}", hint) from error
    finally:
        _Reading.folder, sys.dont_write_bytecode = "", before
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _forbidden(event: str, arguments: tuple[Any, ...]) -> bool:
    if event in PROCESS_EVENTS:
        return True
    if event == "open":
        return _writes(*arguments[1:3]) and _outside(arguments[0])
    return event in WRITE_EVENTS and any(_outside(item) for item in arguments if isinstance(item, (str, bytes)))


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(flags, int) and flags & WRITE_FLAGS:
        return True
    return isinstance(mode, str) and any(letter in mode for letter in "wax+")


def _outside(path: Any) -> bool:
    if isinstance(path, int):
        return False
    place = os.path.normpath(Path(os.fsdecode(path)).absolute())
    return place != os.devnull and not place.startswith(_Reading.folder + os.sep)


def prepare(folder: Path | None = None) -> None:
    """Cut the network, keep to one thread, and let `module:callable` be found in the current folder.

    `folder` takes what libraries write on their way.
    """
    cut_network()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # also where torch's own code says otherwise
    if folder is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        tempfile.tempdir = str(folder)
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(Path.cwd()))


def make_module(architecture: str, weights: str, folder: Path | None = None) -> Any:
    """Build the module in evaluation mode, with its weights; raises `ChildRefusalError`.

    `weights` is a state dict, '' for none, or a .pt2 file, which needs no architecture.
    """
    import torch

    from outrider_compiler.importers import program_file, state_dict

    if weights.endswith(program_file.SUFFIX):
        return program_file.module(Path(weights), folder or Path(tempfile.gettempdir()))
    module_name, _, attribute = architecture.partition(":")
    try:
        module = getattr(importlib.import_module(module_name), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ChildRefusalError(
            f"{architecture}: {error}", "It must be importable here and callable without arguments."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ChildRefusalError(f"{architecture} returned {type(module).__name__}", "It must return a torch.nn.Module.")
    if weights:
        state_dict.into(module, Path(weights), folder or Path(tempfile.gettempdir()))
    return module.eval()
