"""The commands that the README and docs/ give, for the tests that do what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from include.customer_360.settings import PROJECT_ROOT

NEEDS = re.compile(r"\*Needs (a Snowflake account|an Astro account|the Astro CLI and Docker|the package index)\.\*")
PROGRAMS = (
    r"make|dbt|airflow|astro|export|source|cd|cp|rm|mkdir|printf|echo|read|umask|grep|openssl|uv|python3|"
    r"\.venv/bin/\w+|\(cd|\w+=\$\("
)
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{PROGRAMS})(?: |$|(?<=\()).*")
PROSE = re.compile(r"`((?:[A-Z_]+=\S+ )*make [^`.]+)`")


@dataclass(frozen=True)
class Documented:
    """A command of a page: where it stands, what it is, and what it needs that a test has not (empty: nothing)."""

    file: str
    line: int
    heading: str
    command: str
    needs: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.file}:{self.line}: {self.command}"


def pages() -> list[str]:
    """Return the pages whose commands are looked at, as paths from the project's folder."""
    return ["README.md", *sorted(f"docs/{page.name}" for page in (PROJECT_ROOT / "docs").glob("*.md"))]


def documented(file: str) -> list[Documented]:
    """Return the commands of a page in order: those of indented blocks and bash fences, then those of the prose.

    A line *Needs ...* right under a heading holds for its section, elsewhere for the block that follows it. A command
    ends with its line, but for a backslash or a here-document.
    """
    return [*_in_blocks(file), *_in_prose(file)]


def _in_blocks(file: str) -> Iterator[Documented]:
    heading, section_needs, block_needs, fence = "", "", "", None
    lines = enumerate((PROJECT_ROOT / file).read_text(encoding="utf-8").splitlines(), start=1)
    under_heading = False
    for number, line in lines:
        text = line.strip()
        if fence is None and line.startswith("#"):
            heading, section_needs, block_needs, under_heading = line.lstrip("# "), "", "", True
        elif text.startswith("```"):
            fence = text[3:] if fence is None else None
        elif fence == "bash" or (fence is None and line.startswith("    ")):
            under_heading = False
            if COMMAND.fullmatch(text):
                command = _without_remark(text)
                while command.endswith("\\"):
                    command = command[:-1] + _without_remark(next(lines)[1].strip())
                if until := re.search(r"<<'(\w+)'", command):
                    for _, inner in lines:
                        command += f"\n{inner.removeprefix('    ')}"
                        if inner.strip() == until[1]:
                            break
                yield Documented(file, number, heading, command, block_needs or section_needs)
        elif needs := NEEDS.fullmatch(text):
            if under_heading:
                section_needs = needs[1]
            else:
                block_needs = needs[1]
        elif text:
            under_heading, block_needs = False, ""


def _without_remark(text: str) -> str:
    return re.sub(r"\s{2,}#.*$", "", text)


def _in_prose(file: str) -> Iterator[Documented]:
    if file == "docs/decisions.md":
        return
    for number, line in enumerate((PROJECT_ROOT / file).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("    "):
            yield from (Documented(file, number, "", command) for command in PROSE.findall(line))


def commands_under(heading: str, file: str = "README.md") -> list[str]:
    """Return the commands of the blocks under a heading."""
    found = [entry.command for entry in _in_blocks(file) if entry.heading == heading]
    assert found, f"{file} has no command under {heading!r}"
    return found
