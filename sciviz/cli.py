"""The command `sciviz`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from sciviz import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a run or a claim failed, 2 the command was not understood."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `sciviz report TUTORIAL --help` tells that tutorial's parameters, which argparse cannot know.
    helped = len(given) >= 3 and given[-1] in ("-h", "--help") and not given[1].startswith("-")
    if helped and given[0] in ("report", "sweep") and given[:2] != ["report", "diff"]:
        given = ["report", given[1], "--parameters"]
    if given[:2] == ["report", "diff"]:
        given[:2] = ["report diff"]
    options = parser.parse_args(given)
    try:
        code: int = options.run(options)
    except (ValueError, RuntimeError) as error:
        print(f"sciviz: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sciviz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sciviz: stopped.", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sciviz",
        description="Open the tutorials of sciviz, run them as reports and sweeps, verify what they claim.",
    )
    parser.add_argument("--version", action="version", version=f"sciviz {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser(
        "report",
        help="run a tutorial, or a notebook of your own, and keep a page, its data and its claims",
        description="Run a notebook with parameters; leave a page, the notebook, its data and claims.",
    )
    report.add_argument("tutorial", nargs="?", help="number, wing, stem or path (1, ntk, 01_ntk, my.ipynb)")
    report.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    report.add_argument("--params", metavar="FILE.yaml", help="a file of parameters; -p goes before it")
    report.add_argument("--profile", choices=("quick", "full"), help="the same as -p profile …")
    report.add_argument("--device", choices=("auto", "cpu", "cuda"), help="the same as -p device …")
    report.add_argument("-o", "--out", metavar="DIR", help="where to (default: report-TUTORIAL)")
    report.add_argument("--list", action="store_true", help="list the tutorials with their time and memory")
    report.add_argument("--parameters", action="store_true", help="list the notebook's parameters")
    report.set_defaults(run=_report)

    compare = commands.add_parser(
        "report diff",
        help="tell what changed between two reports",
        description="Tell what changed between two reports. Exit code 0 if nothing did, 1 if something did.",
    )
    compare.add_argument("one", metavar="A")
    compare.add_argument("other", metavar="B")
    compare.set_defaults(run=_diff)

    sweep = commands.add_parser(
        "sweep",
        help="run a tutorial at every point of a grid of parameters",
        description="Run a notebook at every point of a grid; collect claims and data in one store, and show them on "
        "a page. The same command goes on where a sweep was stopped.",
    )
    sweep.add_argument("tutorial", help="number, wing, stem or path (1, ntk, 01_ntk, my.ipynb)")
    sweep.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help='an axis: width=64,256,1024, or seed=0:8 for 0 to 7, or name=["a,b", "c"]',
    )
    sweep.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    sweep.add_argument("--params", metavar="FILE.yaml", help="a file of parameters; -p goes before it")
    sweep.add_argument("--profile", choices=("quick", "full"), help="the same as -p profile …")
    sweep.add_argument("--device", choices=("auto", "cpu", "cuda"), help="the same as -p device …")
    sweep.add_argument("-o", "--out", metavar="DIR", help="where to (default: sweep-TUTORIAL)")
    sweep.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: its cores)")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers do the work instead")
    sweep.add_argument("--retry", action="store_true", help="run just the points that failed")
    sweep.add_argument("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="of a point (default: 3600)")
    sweep.add_argument("--memory-limit", type=float, metavar="MB", help="of a point (default: its worker's share)")
    sweep.add_argument(
        "--measure", action="append", default=[], metavar="DATASET.VARIABLE", help="what the page shows besides claims"
    )
    sweep.add_argument("--cold", action="store_true", help="start each kernel anew instead of forking a warm one")
    sweep.set_defaults(run=_sweep)

    opening = commands.add_parser(
        "open",
        help="copy the tutorials to a folder of yours and start JupyterLab there",
        description="Copy the tutorials to a folder, leave alone what you have changed in it, and start JupyterLab.",
    )
    opening.add_argument("folder", nargs="?", default="sciviz-tutorials", metavar="DIR", help="default: %(default)s")
    opening.add_argument("--copy-only", action="store_true", help="do not start JupyterLab")
    opening.add_argument("--no-browser", action="store_true", help="start JupyterLab without opening a browser")
    opening.add_argument(
        "--lab", action="append", default=[], metavar="OPTION", help="an option for JupyterLab, as in --lab=--port=8899"
    )
    opening.set_defaults(run=_open)

    verify = commands.add_parser(
        "verify",
        help="run tutorials and keep what their claims measured in course/claims.json",
        description="Run tutorials (all, if none is named) and compare each claim with what the course expects.",
    )
    verify.add_argument("tutorial", nargs="*")
    verify.add_argument("--profile", choices=("quick", "full"), default="quick")
    verify.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verify.add_argument("--seed", type=int, help="another seed; nothing is written then")
    verify.add_argument("--no-write", action="store_true", help="leave the record as it is")
    verify.set_defaults(run=_verify)

    cache = commands.add_parser(
        "cache",
        help="show or clear what explorers have trained and kept",
        description="Show where trained results are kept and how much they take, or clear them.",
    )
    cache.add_argument("action", choices=("show", "clear"))
    cache.set_defaults(run=_cache)

    from sciviz.coursework.commands import add_commands

    add_commands(commands)
    return parser


def _report(options: argparse.Namespace) -> int:
    from sciviz.lab.places import find_tutorial
    from sciviz.reports.parameters import parameters_help, read_parameters
    from sciviz.reports.runner import report

    if options.list:
        print(_list())
        return 0
    if options.tutorial is None:
        raise ValueError("report needs a tutorial: its number, wing, stem or path. `sciviz report --list` shows them.")
    if options.parameters:
        print(parameters_help(read_parameters(find_tutorial(options.tutorial).path)))
        return 0
    parameters = _parameters(options)
    chosen = find_tutorial(options.tutorial)
    done = report(options.tutorial, parameters, out=options.out or f"report-{chosen.stem}")
    surprising = [claim for claim in done.claims if claim.surprising]
    print(f"{done.folder / 'report.html'}: {_count(done.claims)}, {done.seconds:.0f} s")
    for claim in surprising:
        print(f"  unlike what the course expects: {claim._text()}")
    if done.failure:
        print(f"sciviz: stopped in “{done.failure.section}”: {done.failure.error}", file=sys.stderr)
        return 1
    return 0


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return what -p, --params, --profile and --device give; a name on the command line goes before the file's."""
    given: dict[str, Any] = {}
    named = ((name, value) for name in ("profile", "device") if (value := getattr(options, name)))
    for name, value in [*options.parameter, *named]:
        if name in given:
            raise ValueError(f"parameter {name} is given twice.")
        given[name] = value
    if options.params is None:
        return given
    from sciviz.reports.parameters import parameters_file

    return parameters_file(options.params) | given


def _diff(options: argparse.Namespace) -> int:
    from sciviz.reports.comparison import diff

    lines = diff(options.one, options.other)
    print("\n".join(lines) if lines else "Nothing differs but times.")
    return int(bool(lines))


def _sweep(options: argparse.Namespace) -> int:
    from sciviz.lab.places import find_tutorial
    from sciviz.reports.grid import parse_grid
    from sciviz.reports.parameters import read_parameters

    chosen = find_tutorial(options.tutorial)
    out = options.out or f"sweep-{chosen.stem}"
    grid = parse_grid(read_parameters(chosen.path), options.grid)
    parameters = _parameters(options)
    from sciviz.reports.sweeps import SweepStopped, sweep

    try:
        done = sweep(
            options.tutorial,
            grid,
            parameters,
            out=out,
            workers=options.workers,
            scheduler=options.scheduler,
            retry=options.retry,
            time_limit=options.time_limit,
            memory_limit=options.memory_limit,
            measures=options.measure,
            warm=not options.cold,
        )
    except SweepStopped as error:
        print(f"sciviz: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"sciviz: stopped. What is done is kept in {out}; run the same command again to go on.", file=sys.stderr)
        return 130
    print(f"{done.folder / 'sweep.html'}: {done.total} points, {done.ran} of them run now, {done.seconds:.0f} s")
    for line in done.failed:
        print(f"  failed: {line}")
    if done.failed:
        print("Run the same command with --retry to run just these again.")
    if done.missing:
        print(f"{done.missing} points are still missing; run the same command without --retry to run them.")
    return int(bool(done.failed))


def _open(options: argparse.Namespace) -> int:
    from sciviz.reports.opening import copy_tutorials, start_lab

    copied = copy_tutorials(options.folder)
    print(f"{copied.folder}: {len(copied.new)} tutorials copied, {len(copied.renewed)} brought up to date")
    for name in copied.changed:
        print(f"  {name} is yours: left as it is")
    if options.copy_only:
        return 0
    return start_lab(copied.folder, [*options.lab, *(["--no-browser"] if options.no_browser else [])])


def _count(claims: Sequence[object]) -> str:
    return "1 claim" if len(claims) == 1 else f"{len(claims)} claims"


def _list() -> str:
    import nbformat

    from sciviz.lab.places import tutorials

    lines = []
    for tutorial in tutorials():
        budget = nbformat.read(tutorial.path, as_version=4).metadata.get("sciviz", {}).get("budget", {})
        cost = f"{budget['seconds']:>4} s  {budget['memory_mb']:>6,} MB" if budget else ""
        lines.append(f"{tutorial.number}  {tutorial.stem:<20} {cost}")
    return "\n".join(lines)


def _cache(options: argparse.Namespace) -> int:
    from sciviz.lab import cache

    folder = cache.cache_dir()
    if options.action == "clear":
        number, size = cache.clear()
        print(f"{folder}: {number} files removed, {size / 2**20:.1f} MB")
        return 0
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    print(f"{folder}: {len(sizes)} files, {sum(sizes) / 2**20:.1f} MB")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from sciviz.reports.verification import verify

    failed = False
    results = verify(
        options.tutorial,
        profile=options.profile,
        device=options.device,
        seed=options.seed,
        write=not options.no_write,
    )
    for tutorial, done in results:
        print(f"{tutorial.stem}: {_count(done.claims)}, {done.seconds:.0f} s")
        for claim in done.claims:
            print(f"  {claim._text()}")
        if done.failure:
            print(f"  stopped in “{done.failure.section}”: {done.failure.error}")
        failed = failed or done.failure is not None or any(claim.surprising for claim in done.claims)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
