"""What a terminal can show: text in ASCII where it knows nothing else, help where torch lacks."""

from __future__ import annotations

import ast
import codecs
import sys
from importlib.util import find_spec
from pathlib import Path

INSTALL = "pip install 'shiftgym[agents]'"
INSTALL_PART = {  # what one extra brings, and how to install it
    "ray": "pip install 'shiftgym[ray]'",
    "submitit": "pip install 'shiftgym[slurm]'",
    "pyarrow": "pip install 'shiftgym[tables]'",
}
ERRORS = "shiftgym-ascii"  # name of the codec error handler
PLAIN = {
    "±": "+-", "×": "x", "·": "*", "−": "-", "–": "-", "—": "-", "→": "->", "≤": "<=", "≥": ">=",
    "…": "...", "’": "'", "‘": "'", "“": '"', "”": '"', "─": "-", "│": "|", "╭": "+", "╮": "+",
    "╰": "+", "╯": "+", "█": "#", "ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e",
}  # fmt: skip


def plain(error: UnicodeError) -> tuple[str, int]:
    """Write in plain letters what the terminal cannot; ``?`` for what has none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in wrong), error.end


def survive_any_encoding() -> None:
    """Let printing never fail for want of a letter."""
    codecs.register_error(ERRORS, plain)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what tests put there may lack it
        if reconfigure is not None and stream.errors != ERRORS:
            reconfigure(errors=ERRORS)


def help_without_importing(target: str, name: str, lacking: str) -> str:
    """Give a command's help from its source, for where what it imports is not installed.

    Args:
        target: ``module:function`` of the command.
        name: the command.
        lacking: the missing package.
    """
    module, _, function = target.partition(":")
    found = find_spec(module)
    tree = ast.parse(Path((found and found.origin) or "").read_text(encoding="utf-8"))
    written = [
        ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    lines = [f"usage: shiftgym {name} [options]", "", *written, ""]
    lines.append(f"Every option is listed where {lacking} is installed: {INSTALL}")
    return "\n".join(lines)
