"""Child process: programs that `torch.export.save` wrote (`.pt2`), as data and never as code.

torch's own reader trusts the file: it evaluates shape expressions, resolves operators by attribute access, unpickles
constants and loads compiled libraries. So the archive is looked through first:

1. Only entries that a program of plain tensors has; no compiled code, no pickled or scripted objects.
2. Operators are torch's own; shape expressions are made of known words; structures are tuples, lists and dicts.
3. Pickled tensors are read with `weights_only` (forced by `sandbox.prepare`), while `sandbox.reading` watches.
4. Guards of the original inputs are dropped: they are source code that torch would run.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from outrider_compiler.importers import state_dict
from outrider_compiler.importers.sandbox import ChildRefusalError, reading

SUFFIX: Final = ".pt2"
JSON_BYTES: Final = 64 << 20
NAME: Final = r"[A-Za-z0-9_]+"
ENTRIES: Final = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
    rf"|models/model\.json|data/sample_inputs/model\.pt|extra/.*"
    rf"|data/weights/(weight_\d+|model\.pt|{NAME}_weights_config\.json)"
    rf"|data/constants/(tensor_\d+|model\.pt|{NAME}_constants_config\.json)"
)
OPERATORS: Final = re.compile(
    rf"torch\.ops\.(aten|prims)\.{NAME}(\.{NAME})?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift|getitem)"
    r"|math\.(trunc|ceil|floor)|torch\.sym_(not|int|float|ite|max|min|sqrt|sum)"
)
STRUCTURES: Final = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
EXPRESSION: Final = re.compile(r"[\w\s()'=,+*/<>&|~.-]{1,2000}")
ATTRIBUTE: Final = re.compile(r"\.\s*[A-Za-z_]|[\w)']\s*\.(?!\d)")
WORDS: Final = frozenset(
    {
        "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Mod", "Max", "Min", "Abs", "And", "Or", "Not",
        "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Piecewise", "ExprCondPair", "Equality", "Unequality", "StrictLessThan",
        "LessThan", "StrictGreaterThan", "GreaterThan", "BooleanTrue", "BooleanFalse", "NegativeOne", "One", "Zero",
        "Half", "Infinity", "NegativeInfinity", "floor", "ceiling", "positive", "nonnegative", "integer", "real",
        "finite", "nonzero", "precision", "True", "False", "true", "false", "oo", "int_oo", "evaluate", "FloorDiv",
        "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift",
        "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt",
        "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator",
    }
)  # fmt: skip
SYMBOL: Final = re.compile(r"[a-z]{1,3}\d+")
SAVE_AGAIN: Final = "Save it again with torch.export.save, of a model of torch's own operators and plain tensors."
DAMAGED: Final = "The file is damaged or no program of torch.export.save."


def load(path: Path, folder: Path) -> Any:
    """The `torch.export.ExportedProgram`; raises `ChildRefusalError`."""
    import torch
    import torch._inductor.cpp_builder  # what loading imports on its way, before `reading` watches
    import torch.export.pt2_archive._package  # as above

    check(path)
    with reading(path, folder):
        try:
            program = torch.export.load(path)
        except pickle.UnpicklingError as error:
            raise ChildRefusalError(f"{path}: refused to unpickle an object in it", SAVE_AGAIN) from error
    program._guards_code = []
    return program


def module(path: Path, folder: Path) -> Any:
    """The program as a module with `input_names` and `output_names`; raises `ChildRefusalError`."""
    import torch

    program = load(path, folder)
    inner = program.module()

    class Program(torch.nn.Module):
        """Calls the program."""

        input_names = tuple(names_of(program))

        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: Any) -> Any:
            """Positional inputs, as exported."""
            return self.inner(*inputs)

    return Program()


def names_of(program: Any) -> list[str]:
    """Names of the program's inputs; raises `ChildRefusalError` where one is no tensor."""
    names = list(program.graph_signature.user_inputs)
    if not all(isinstance(name, str) for name in names):
        raise ChildRefusalError("an input of the program is a constant", "Export it with tensors alone as inputs.")
    return names


def check(path: Path) -> None:
    """Raise `ChildRefusalError` unless the archive holds a program and nothing that runs when it is loaded."""
    for name in state_dict.check_zip(path):
        entry = name.partition("/")[2]
        if not ENTRIES.fullmatch(entry):
            raise ChildRefusalError(f"{path}: holds {name!r}, which is not read", SAVE_AGAIN)
    for name, text in _documents(path):
        for key, value in _items(name, text):
            _check_item(path, key, value)


def _documents(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".json"):
                if member.file_size > JSON_BYTES:
                    raise ChildRefusalError(f"{path}: {member.filename} has {member.file_size} bytes", DAMAGED)
                yield member.filename, archive.read(member)


def _items(name: str, text: bytes) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    try:
        waiting = [json.loads(text)]
    except ValueError as error:
        raise ChildRefusalError(f"{name}: {error}", DAMAGED) from error
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_item(path: Path, key: str, value: Any) -> None:
    if key in ("target", "as_operator") and not (isinstance(value, str) and OPERATORS.fullmatch(value)):
        raise ChildRefusalError(f"{path}: operator {str(value)[:100]!r} is not one of torch's own", SAVE_AGAIN)
    if key == "expr_str" and not _is_expression(value):
        raise ChildRefusalError(f"{path}: {str(value)[:100]!r} is no expression of a shape", SAVE_AGAIN)
    if key in ("as_custom_obj", "custom_obj") or (key == "path_name" and not _is_tensor_file(value)):
        raise ChildRefusalError(f"{path}: holds the object {str(value)[:100]!r}, no tensor", SAVE_AGAIN)
    if key in ("in_spec", "out_spec") and value:
        _check_structure(path, value)


def _is_tensor_file(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"(weight|tensor)_\d+", value))


def _is_expression(value: Any) -> bool:
    if not isinstance(value, str) or not EXPRESSION.fullmatch(value) or ATTRIBUTE.search(value):
        return False
    return all(word in WORDS or SYMBOL.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", value))


def _check_structure(path: Path, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    found = {item for key, item in _items("structure", text.encode()) if key == "type"}
    if "__enum__" in text or "default_factory" in text or not found <= STRUCTURES:
        raise ChildRefusalError(f"{path}: inputs or outputs are {text[:100]!r}", SAVE_AGAIN)
