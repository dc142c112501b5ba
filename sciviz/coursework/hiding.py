"""A copy of the library without the answers: what a question asks the student to write is not there to be read or called."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# What a student's code may need. The rest draws, runs and grades, or tells how.
_LEFT_OUT = ("reports", "_tutorials", "_course", "cli.py", "__pycache__")
_OF_COURSEWORK = ("__init__.py", "visible.py")
_REASON = "is what this assignment asks you to write: it is not there while it is graded."


def filtered_package(target: Path, hidden: Iterable[str]) -> Path:
    """Write a copy of sciviz to `target/sciviz` in which the hidden names raise.

    Parameters
    ----------
    hidden
        Names such as `sciviz.ntk.infinite.kernel_recursion`, `sciviz.ode.solvers.Solver.step` or `sciviz.ntk.infinite`; those
        of other packages are not for this function.

    Raises
    ------
    ValueError
        If the library has no such name: a typing error would leave the answer readable.
    """
    root = target / "sciviz"
    shutil.copytree(_PACKAGE, root, ignore=_ignored)
    per_file: dict[Path, set[str]] = {}
    for name in hidden:
        if not name.startswith("sciviz."):
            continue
        path, rest = _place(root, name)
        if not rest:
            path.write_text(f"raise ImportError({f'{name} {_REASON}'!r})\n", encoding="utf-8")
        else:
            per_file.setdefault(path, set()).add(rest)
    for path, names in per_file.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        left = set(names)
        tree.body = [_without(node, "", left, path) for node in tree.body]
        if left:
            raise ValueError(
                f"hidden must name what the library has, and {path.name} has no {', '.join(sorted(left))}."
            )
        # Unparsed, so that no comment of the original is left either.
        path.write_text(ast.unparse(tree) + "\n", encoding="utf-8")
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return root


def _ignored(folder: str, names: list[str]) -> set[str]:
    here = Path(folder)
    if here == _PACKAGE / "coursework":
        return set(names) - set(_OF_COURSEWORK)
    top = here == _PACKAGE
    return {name for name in names if name == "__pycache__" or (top and name in _LEFT_OUT)}


def _place(root: Path, name: str) -> tuple[Path, str]:
    """Return the file that holds a name, and what of it is meant; nothing if the whole file is."""
    parts = name.split(".")[1:]
    here = root
    for index, part in enumerate(parts):
        if (here / part).is_dir():
            here = here / part
        elif (here / f"{part}.py").is_file():
            return here / f"{part}.py", ".".join(parts[index + 1 :])
        else:
            return here / "__init__.py", ".".join(parts[index:])
    return here / "__init__.py", ""


def _without(node: ast.stmt, prefix: str, left: set[str], path: Path) -> ast.stmt:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        name = prefix + node.name
        if name in left:
            left.discard(name)
            return _stub(node)
        if isinstance(node, ast.ClassDef):
            node.body = [_without(inner, f"{name}.", left, path) for inner in node.body]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name) and prefix + target.id in left:
            left.discard(prefix + target.id)
            return ast.parse(f"{target.id} = None").body[0]
    return node


def _stub(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.stmt:
    sentence = f"{node.name} {_REASON}"
    function = f"def {node.name}(*args, **kwargs):\n    raise NotImplementedError({sentence!r})"
    if isinstance(node, ast.ClassDef):
        # A class stays one: other classes may build on it, and annotations name it.
        function = f"class {node.name}:\n    def __init__(self, *args, **kwargs):\n        raise NotImplementedError({sentence!r})"
    stub = ast.parse(function).body[0]
    if isinstance(node, ast.FunctionDef) and isinstance(stub, ast.FunctionDef):
        # A property or a static method stays one, so that the class around it can still be made.
        kept = {"property", "staticmethod", "classmethod"}
        stub.decorator_list = [d for d in node.decorator_list if isinstance(d, ast.Name) and d.id in kept]
    return stub
