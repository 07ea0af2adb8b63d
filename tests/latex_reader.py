"""Reads LaTeX as strictly as a careful person: what is no known command, brace or environment of ours is an error."""

from __future__ import annotations

import re

COMMANDS = {
    *("begin", "end", "centering", "caption", "label", "small", "setlength", "tabcolsep", "resizebox", "ifdim"),
    *("width", "linewidth", "else", "fi", "toprule", "midrule", "bottomrule", "par", "smallskip", "footnotesize"),
    *("scriptsize", "providecommand", "harnessvalue", "includegraphics", "textheight", "paragraph", "subsection"),
    *("item", "cite", "emph", "texttt", "raggedright", "textbackslash", "textasciitilde", "textasciicircum"),
    *("textless", "textgreater", "textbar", "textbraceleft", "textbraceright", "textquotesingle"),
    *("textperiodcentered", "textbullet", "dag", "ddag", "dots", "char", "times", "pm", "leq", "geq", "S", "ss"),
    *("ae", "AE", "o", "O", "aa", "AA", "l", "L", "u", "r", "H", "v", "c"),
    *"`'^~=.\"$&#%_\\",
}
"""Every command that a report may use. None of them reads a file but `includegraphics`."""
SIGNS = {
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">",
    "textbar": "|", "textbraceleft": "{", "textbraceright": "}", "textquotesingle": "'",
    "textperiodcentered": "·", "dag": "†", "ddag": "‡",
}  # fmt: skip
TOKEN = re.compile(r"\\(?P<command>[A-Za-z]+|.)|(?P<comment>%[^\n]*)|(?P<sign>[{}$&#_^~])|(?P<text>[^\\%{}$&#_^~]+)")
"""A command, a comment, a sign that means something, or text."""


def check(latex: str) -> None:
    """Assert that it is balanced, has known commands alone, and no sign that TeX would read as more than a sign."""
    assert latex.isascii(), [sign for sign in latex if not sign.isascii()]
    environments: list[str] = []
    depth, mathematics, definition = 0, False, False
    for token in TOKEN.finditer(latex):
        command, sign = token["command"], token["sign"]
        if command is not None:
            assert command in COMMANDS, f"\\{command}"
            definition = definition or command == "providecommand"
            if command in ("begin", "end"):
                name = re.match(r"\{(\w+\*?)\}", latex[token.end() :])
                assert name, f"\\{command} without a name"
                if command == "begin":
                    environments.append(name[1])
                else:
                    assert environments.pop() == name[1]
        elif sign in ("{", "}"):
            depth += 1 if sign == "{" else -1
            assert depth >= 0, "a brace closes what none opened"
        elif sign == "$":
            mathematics = not mathematics
        elif sign == "#":
            assert definition, "a parameter outside a definition"
        elif sign == "&":
            assert "tabular" in environments, "a column outside a table"
        elif sign:
            raise AssertionError(f"a bare {sign}")
        elif token["comment"]:
            assert latex[: token.start()].endswith(("\n", "{")) or not token.start(), "text that is commented out"
        if token["text"] and "\n" in token["text"]:
            definition = False
    assert (depth, mathematics, environments) == (0, False, [])


def read(latex: str) -> str:
    """Return the text of escaped ASCII as it is printed."""
    plain = re.sub(r"\\char34\{\}", '"', latex.replace("$-$", "-").replace("$+$", "+").replace("{`}", "`"))
    plain = re.sub(r"\\([a-z]+)\{\}", lambda hit: SIGNS[hit[1]], plain).replace("-{}", "-")
    return re.sub(r"\\([$&#%_])", r"\1", plain)
