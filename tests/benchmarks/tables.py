"""The tables of README.md, written from a machine's results between two markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from registry import Workload

README = Path(__file__).resolve().parent / "README.md"
BEGIN, END = "<!-- begin: written by bench.py -->", "<!-- end: written by bench.py -->"


def figure(value: float | None) -> str:
    """Return a number with the digits that it supports."""
    return "–" if value is None else f"{value:.3g}"


def _row(name: str, one: dict[str, Any], two: dict[str, Any]) -> str:
    if "error" in one:
        return f"| {name} | not run: {one['error'].splitlines()[-1][:100]} | | | | | |"
    accuracy = ", ".join(f"{key.replace('_', ' ')} {figure(value)}" for key, value in one.get("accuracy", {}).items())
    other = f"{two['median_s'] * 1e3:.3g}" if "median_s" in two else "–"
    version = one["versions"].get(name.split(",")[0].split(" ")[0], "")
    return (
        f"| {name} {version} | {one['median_s'] * 1e3:.3g} ± {one['spread_s'] * 1e3:.2g} | {figure(one.get('ours_over_it'))} "
        f"| {other} | {accuracy} | {one['peak_mb']:.0f} | {one['cold_s']:.2g} |"
    )


def write_tables(kept: dict[str, Any], workloads: list[Workload]) -> None:
    """Write all workloads that have results, each with what was to be reached."""
    about = kept["machine"]
    lines = [
        BEGIN,
        "",
        f"Machine: {about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}, "
        f"torch {kept['torch']}.",
        "Milliseconds are medians ± interquartile range over the rounds, with one thread; `ours/it` is the median over rounds",
        "of our time over that library's. Memory is the peak beyond what the process held before its first run; the first call,",
        "in seconds, holds any compilation.",
        "",
    ]
    for workload in workloads:
        entry = kept["workloads"].get(workload.id)
        if not entry or "threads=1" not in entry:
            continue
        lines += [f"### {workload.title}", ""]
        lines += [
            "| | ms, one thread | ours/it | ms, two threads | accuracy reached | MB | first call, s |",
            "|---|---|---|---|---|---|---|",
        ]
        two = entry.get("threads=2", {})
        lines += [_row(name, row, two.get(name, {})) for name, row in entry["threads=1"].items()]
        lines.append("")
        for target in entry["targets"] or []:
            word = {True: "Reached", False: "**Not reached**", None: "Not decided"}[target["met"]]
            lines.append(
                f"- {word}: {target['says']} ({figure(target['reached'])}, at most {figure(target['at_most'])})."
            )
        if workload.not_alike:
            lines.append(f"- Not like for like: {workload.not_alike}")
        lines += [f"- Measured {entry['date']}, load of the machine {entry['load']}.", ""]
    lines.append(END)
    text = README.read_text(encoding="utf-8")
    if BEGIN in text:
        before, after = text.split(BEGIN)[0], text.split(END)[1]
    else:
        before, after = text.rstrip() + "\n\n## Ours beside its peers\n\n", "\n"
    README.write_text(before + "\n".join(lines) + after, encoding="utf-8")
