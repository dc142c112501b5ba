"""The tables of README.md, written from a machine's results between two markers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from registry import Workload

README = Path(__file__).resolve().parent / "README.md"
RESULTS = README.parent / "results"


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
        f"Machine: {about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}, "
        f"torch {kept['torch']}.",
        "Milliseconds are medians ± interquartile range over the rounds, with one thread; `ours/it` is the median over rounds",
        "of our time over that library's. Memory is the peak beyond what the process held before its first run; the first call,",
        "in seconds, holds any compilation.",
        "",
    ]
    for workload in workloads:
        entry = kept["workloads"].get(workload.id)
        if not entry or "threads=1" not in entry or workload.sizes:
            continue
        lines += [f"### {workload.title}", ""]
        lines += [
            "| | ms, one thread | ours/it | ms, two threads | accuracy reached | MB | first call, s |",
            "|---|---|---|---|---|---|---|",
        ]
        two = entry.get("threads=2", {})
        lines += [_row(name, row, two.get(name, {})) for name, row in entry["threads=1"].items()]
        lines.append("")
        lines += _verdicts(workload, entry)
        if workload.not_alike:
            lines.append(f"- Not like for like: {workload.not_alike}")
        lines += [f"- Measured {entry['date']}, load of the machine {entry['load']}.", ""]
    _put("bench.py", "Ours beside its peers", lines)


DEVICES = {"cuda": "a GPU", "cpu": "a CPU"}


def write_large(workloads: list[Workload]) -> None:
    """Write the work that has sizes for a GPU: its floor, and what each machine that has a record reached of it."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    records = [kept for kept in records if "ceilings" in kept]
    lines = [
        "The floor of a piece of work is the time that its bytes or its operations take at the rates that the device itself",
        "reaches when it copies memory and multiplies matrices, whichever is longer.",
        "",
    ]
    for device, key in (("cuda", "cuda"), ("cpu", "threads=1")):
        found = [kept for kept in records if key in kept["ceilings"]]
        lines += [f"### On {DEVICES[device]}", ""]
        if not found:
            lines += [
                "**Pending**: no record from such a machine yet. `python tests/benchmarks/bench.py --device cuda` makes it, on a",
                "machine that has one (with `--here` where the peers are installed beside the course). The aim is 60% of the",
                "device's own memory rate, or 40% of its arithmetic where that sets the floor. The floors are known without it:",
                "",
                "| work | floor: bytes | operations | reached |",
                "|---|---|---|---|",
            ]
            for workload in workloads:
                lines.append(f"| {workload.heading(device)} | {_floor_words(workload, device)} | pending |")
            lines.append("")
        for kept in found:
            about, ceilings = kept["machine"], kept["ceilings"][key]
            rates = ", ".join(
                f"{figure(value / 1e9)} {'GB' if name == 'bytes_per_s' else 'Gflop'}/s "
                f"{'copied' if name == 'bytes_per_s' else 'in products of ' + name.removesuffix('_per_s')}"
                for name, value in ceilings.items()
            )
            lines += [f"{about['processor']}, torch {kept['torch']}. Its own ceilings, measured: {rates}.", ""]
            for workload in workloads:
                lines += _large_rows(workload, kept["workloads"].get(workload.id, {}), device, key)
    _put("bench.py --device", "Work of a GPU's size beside its floor", lines)


def _floor_words(workload: Workload, device: str) -> str:
    try:
        floor = workload.floor_of(device, {})
    except KeyError:
        return "counted from the steps taken | counted from the steps taken"
    return f"{floor.bytes:.2g} | {floor.operations:.2g} ({floor.dtype})"


def _large_rows(workload: Workload, entry: dict[str, Any], device: str, key: str) -> list[str]:
    if key not in entry:
        return []
    lines = [f"**{workload.heading(device)}**", ""]
    lines += ["| | ms | ours/it | floor / time | accuracy reached | MB |", "|---|---|---|---|---|---|"]
    floor = None
    for name, row in entry[key].items():
        if "error" in row:
            lines.append(f"| {name} | not run: {row['error'].splitlines()[-1][:100]} | | | | |")
            continue
        floor = floor or row.get("floor")
        accuracy = ", ".join(f"{word.replace('_', ' ')} {figure(value)}" for word, value in row["accuracy"].items())
        share = f"{row['share']:.2g} ({row['bound']})" if "share" in row else "–"
        lines.append(
            f"| {name} | {row['median_s'] * 1e3:.3g} ± {row['spread_s'] * 1e3:.2g} | {figure(row.get('ours_over_it'))} "
            f"| {share} | {accuracy} | {row['peak_mb']:.0f} |"
        )
    lines.append("")
    if floor:
        lines.append(f"- Floor: {floor['bytes']:.2g} bytes, {floor['operations']:.2g} operations in {floor['dtype']}.")
    lines += _verdicts(workload, entry)
    if workload.not_alike:
        lines.append(f"- Not like for like: {workload.not_alike}")
    return [*lines, f"- Measured {entry['date']}, load of the machine {entry['load']}.", ""]


def _verdicts(workload: Workload, entry: dict[str, Any]) -> list[str]:
    """Say of each target whether it is reached, and of those that are not what stands in the way."""
    lines = []
    for target in entry["targets"] or []:
        word = {True: "Reached", False: "**Not reached**", None: "Not decided"}[target["met"]]
        lines.append(f"- {word}: {target['says']} ({figure(target['reached'])}, at most {figure(target['at_most'])}).")
    reasons = {(target.says, target.ours): target.why for target in workload.targets}
    missed = dict.fromkeys(
        reasons.get((target["says"], target["ours"]), "") for target in entry["targets"] or [] if target["met"] is False
    )
    return [*lines, *(f"- Why not: {why}" for why in missed if why)]


def write_growth(kept: dict[str, Any]) -> None:
    """Write each axis of growth: the times, the exponent and the theoretical one."""
    lines = [
        "Processor time with one thread, median of at least five runs a size; the exponents are slopes of the logarithm over the",
        "upper half of the sizes. Memory is the highest beyond what the process held before its first run.",
        "",
        "| what grows | from | to | ms | exponent | theory | MB | exponent | theory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for row in kept.values():
        times, peaks, sizes = row["seconds"], row["peak_mb"], row["sizes"]
        lines.append(
            f"| {row['axis']} | {sizes[0]:,} | {sizes[-1]:,} | {figure(times[0] * 1e3)} to {figure(times[-1] * 1e3)} "
            f"| {row['exponent']:.2f} | {row['theory']:g} | {figure(peaks[0])} to {figure(peaks[-1])} "
            f"| {_or_dash(row['memory_exponent'], '.2f')} | {_or_dash(row['memory_theory'], 'g')} |"
        )
        if row["note"]:
            notes.append(f"- {row['axis'].capitalize()}: {row['note']}.")
    _put("growth.py", "What it costs to grow", [*lines, "", *notes, ""])


WAITS = {
    ("import", "after torch"): ("`import sciviz` after torch", 0.1),
    ("kernel", "first figure"): ("first figure in a fresh kernel", 3.0),
    ("kernel", "first explorer"): ("first explorer in a fresh kernel", 6.0),
}


def write_person(kept: dict[str, Any]) -> None:
    """Write what a person waits for: beginnings, explorers, tutorials."""
    lines = ["| | seconds | at most |", "|---|---|---|"]
    for (part, row), (words, most) in WAITS.items():
        if part in kept:
            lines.append(f"| {words} | {figure(kept[part]['rows'][row])} | {most:g} |")
    if "explorers" in kept:
        lines += ["", "An explorer's answer in the kernel, processor time (at most 50 ms, p95 of 60 random moves):", ""]
        lines += ["| explorer | ready after, s | median, ms | p95, ms |", "|---|---|---|---|"]
        for name, row in kept["explorers"]["rows"].items():
            lines.append(
                f"| {name} | {figure(row['ready_s'])} | {figure(row['median_s'] * 1e3)} | {figure(row['p95_s'] * 1e3)} |"
            )
    if "browser" in kept:
        lines += [
            "",
            "From the key to the frame with another path, in Chromium (at most 150 ms, p95 over all of its sliders):",
            "",
        ]
        lines += ["| explorer | moves | median, ms | p95, ms |", "|---|---|---|---|"]
        for name, row in kept["browser"]["rows"].items():
            lines.append(
                f"| {name} | {row['moves']} | {figure(row['median_s'] * 1e3)} | {figure(row['p95_s'] * 1e3)} |"
            )
    if "tutorials" in kept:
        lines += ["", "Each tutorial run whole, explorers too, on all cores:", ""]
        lines += ["| tutorial | s | MB | the slowest five cells (s) |", "|---|---|---|---|"]
        for name, row in kept["tutorials"]["rows"].items():
            slow = ", ".join(f"`{cell['cell']}` {cell['seconds']:g}" for cell in row["slowest"])
            lines.append(f"| {name} | {row['seconds']:g} | {row['memory_mb']} | {slow} |")
    loads = ", ".join(f"{part} {entry['load']:g}" for part, entry in kept.items())
    lines += ["", f"Load of the machine, by part: {loads}.", ""]
    _put("person.py", "What a person waits for", lines)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _put(script: str, heading: str, lines: list[str]) -> None:
    """Put the lines between the script's markers in README.md, below a heading of their own where they are new."""
    begin, end = f"<!-- begin: written by {script} -->", f"<!-- end: written by {script} -->"
    text = README.read_text(encoding="utf-8")
    if begin in text:
        before, after = text.split(begin)[0], text.split(end)[1]
    else:
        before, after = text.rstrip() + f"\n\n## {heading}\n\n", "\n"
    README.write_text(before + "\n".join([begin, "", *lines, end]) + after, encoding="utf-8")
