"""The command `sciviz`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sciviz import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 a run or a claim failed, 2 the command was not understood."""
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `sciviz report TUTORIAL --help` tells that tutorial's parameters, which argparse cannot know.
    if len(given) >= 3 and given[0] == "report" and given[-1] in ("-h", "--help") and not given[1].startswith("-"):
        given = ["report", given[1], "--parameters"]
    options = parser.parse_args(given)
    try:
        code: int = options.run(options)
    except (ValueError, RuntimeError) as error:
        print(f"sciviz: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sciviz: stopped.", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sciviz", description="Run the tutorials of sciviz as reports, and verify what they claim."
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
    report.add_argument("--profile", choices=("quick", "full"), help="the same as -p profile …")
    report.add_argument("--device", choices=("auto", "cpu", "cuda"), help="the same as -p device …")
    report.add_argument("-o", "--out", metavar="DIR", help="where to (default: report-TUTORIAL)")
    report.add_argument("--list", action="store_true", help="list the tutorials with their time and memory")
    report.add_argument("--parameters", action="store_true", help="list the notebook's parameters")
    report.set_defaults(run=_report)

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
    parameters: dict[str, str] = {}
    for name, value in [
        *options.parameter,
        *((name, value) for name in ("profile", "device") if (value := getattr(options, name))),
    ]:
        if name in parameters:
            raise ValueError(f"parameter {name} is given twice.")
        parameters[name] = value
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


def _verify(options: argparse.Namespace) -> int:
    from sciviz.reports.verify import verify

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
