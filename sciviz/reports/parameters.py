"""A notebook's parameters: read from its `parameters` cell, and checked before anything runs.

Papermill passes on whatever it is given; a wrong name or type would only show in a result.
"""

from __future__ import annotations

import ast
import difflib
import io
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

_CONTAINERS: dict[str, type] = {"list": list, "tuple": tuple, "dict": dict}
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook, as its cell states it: `width: int = 512  # hidden units [16..8192]`.

    Attributes
    ----------
    low, high
        The range its comment states, `[low..high]`; None if it states none.
    choices
        The words its comment states, `{one, other}`; empty if it states none.
    meaning
        The rest of the comment.
    """

    name: str
    type: str
    default: Any
    meaning: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def accepted(self) -> str:
        """What it takes, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kind = {"int": "an integer", "float": "a number", "str": "a word", "bool": "true or false"}.get(
            self.type, f"a {self.type}"
        )
        return kind if self.low is None else f"{kind} from {self.low:g} to {self.high:g}"

    def read(self, value: Any) -> Any:
        """Return the value in the parameter's type; text is read as the command line gives it.

        Raises
        ------
        ValueError
            If it is none of what the parameter takes.

        >>> Parameter("width", "int", 512, low=16, high=8192).read("256")
        256
        """
        result: Any = value
        kind = _TYPES.get(self.type)
        try:
            if kind is bool:
                result = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                    str(value).lower()
                ]
            elif kind is str and not isinstance(value, str):
                raise ValueError
            elif kind is int:
                result = int(value) if isinstance(value, str) else value
                if isinstance(result, bool) or not isinstance(result, int):
                    raise ValueError
            elif kind is float:
                if isinstance(value, bool):
                    raise ValueError
                result = float(value)
                if not math.isfinite(result):
                    raise ValueError
            elif kind is None:
                result = ast.literal_eval(value) if isinstance(value, str) else value
                if not isinstance(result, _CONTAINERS.get(self.type.split("[")[0], object)):
                    raise ValueError
        except (ValueError, KeyError, TypeError, SyntaxError):
            raise ValueError(f"parameter {self.name} takes {self.accepted}, got {value!r}.") from None
        outside = self.low is not None and self.high is not None and not self.low <= result <= self.high
        if outside or (self.choices and result not in self.choices):
            near = difflib.get_close_matches(str(result), self.choices, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"parameter {self.name} takes {self.accepted}, got {value!r}.{hint}")
        return result


def read_parameters(path: Path | str) -> list[Parameter]:
    """Read the parameters of a notebook from its cell tagged `parameters`.

    Raises
    ------
    ValueError
        If the notebook cannot be read, has not exactly one such cell, or the cell holds anything but literals.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        # nbformat raises whatever the first thing that is not there leads to.
        said = str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a notebook that can be read: {said}.") from None
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{path} must have one cell tagged 'parameters', found {len(cells)}.")
    return parse_parameters(cells[0].source)


def parse_parameters(source: str) -> list[Parameter]:
    """Read the parameters that a cell's source states.

    Raises
    ------
    ValueError
        If a line is not a typed name with a literal value.

    >>> parse_parameters('width: int = 512  # hidden units [16..8192]')[0].accepted
    'an integer from 16 to 8192'
    """
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise ValueError(f"A parameters cell holds typed literals only, line {error.lineno} is not Python.") from None
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
            raise ValueError(f"A parameters cell holds typed literals only, line {node.lineno} is something else.")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(
                f"A parameters cell holds typed literals only, line {node.lineno} computes something."
            ) from None
        comment = comments.get(node.end_lineno or node.lineno, "")
        interval = re.search(r"\[\s*(-?[\d.eE+-]+?)\s*\.\.\s*(-?[\d.eE+-]+?)\s*\]", comment)
        words = re.search(r"\{([^}]*)\}", comment)
        meaning = re.sub(r"\s*(\[[^\]]*\.\.[^\]]*\]|\{[^}]*\})", "", comment).strip()
        found.append(
            Parameter(
                node.target.id,
                ast.unparse(node.annotation),
                default,
                meaning,
                float(interval[1]) if interval else None,
                float(interval[2]) if interval else None,
                tuple(word.strip() for word in words[1].split(",")) if words else (),
            )
        )
    return found


def check_parameters(known: list[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values in their types, after checking names, types and ranges.

    Raises
    ------
    ValueError
        One sentence on the first that does not fit; an unknown name comes with the nearest known ones.
    """
    by_name = {parameter.name: parameter for parameter in known}
    for name in given:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3) or list(by_name)
            raise ValueError(f"there is no parameter {name!r}; the nearest are {', '.join(near)}.")
    return {name: by_name[name].read(value) for name, value in given.items()}


def parameters_file(path: Path | str) -> dict[str, Any]:
    """Read parameters from a YAML file of names and values.

    Raises
    ------
    ValueError
        If it cannot be read, or is no such file.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(f"{str(path)!r} is not a file of parameters that can be read: {said}.") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{str(path)!r} must hold one 'name: value' a line, and nothing else.")
    return found


def parameters_help(known: list[Parameter]) -> str:
    """Return the parameters as a table for the terminal: name, type, default, what it takes and means."""
    rows = [(p.name, p.type, repr(p.default), f"{p.meaning}{'; ' if p.meaning else ''}{p.accepted}") for p in known]
    widths = [max(len(row[i]) for row in [*rows, ("name", "type", "default", "")]) for i in range(3)]
    lines = [("name", "type", "default", "meaning"), *rows]
    return "\n".join("  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]) for row in lines)
