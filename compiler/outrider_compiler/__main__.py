"""`python -m outrider_compiler` is the command `outrider-compiler`."""

from outrider_compiler.cli import main

main()
