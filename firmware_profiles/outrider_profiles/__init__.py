"""Hardware profiles: one TOML file a board, and the loader.

A profile says what one board class runs: engine, precisions, operators, shapes, memory and budgets, each figure with
its source. A new board is one file in `boards/` and no code.

>>> from outrider_profiles import load, names
>>> "raspberry-pi-5" in names()
True
>>> load("x86-64-vnni").engine.name
'onnxruntime'
"""

from outrider_profiles.errors import ProfileError, ProfileFileError, UnknownProfileError
from outrider_profiles.loader import load, names, parse
from outrider_profiles.schema import PRECISIONS, Budgets, Engine, Install, Int8, Load, Profile, Provider, Range, Shapes

__version__ = "0.1.0"
__all__ = [
    "PRECISIONS",
    "Budgets",
    "Engine",
    "Install",
    "Int8",
    "Load",
    "Profile",
    "ProfileError",
    "ProfileFileError",
    "Provider",
    "Range",
    "Shapes",
    "UnknownProfileError",
    "load",
    "names",
    "parse",
]
