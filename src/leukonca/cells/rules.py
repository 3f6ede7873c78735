"""The rules by which a published layout gives a picture its label.

A rule looks at the POSIX path of a file relative to the folder of the set. It either says nothing (the next
rule is asked), gives a label, or says why the picture is left out. A file of which no rule says anything is
*unmatched*: it is counted and reported and never inherits a label, least of all that of the file before it.

A path is matched by a *glob* or by a regular expression, always whole and in any case (``.JPG`` is
``.jpg``). In a glob ``*`` and ``?`` stay within one folder, ``**/`` is any number of folders (also none), a
final ``**`` is everything below, and ``{code}``, ``{key}``, ``{group}`` or ``{split}`` catches a part of one
name: as little of it as will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from leukonca.cells.fields import Fields

__all__ = ["Lookup", "Pattern", "Rule", "Verdict", "plain_key", "read_pattern", "read_rule"]

_TOKEN: Final = re.compile(r"\*\*/|\*\*$|\*|\?|\{(?P<name>[a-z]*)\}|(?P<other>.)", re.DOTALL)
_CATCHES: Final = ("code", "key", "group", "split")


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a path must look like.

    Attributes:
        text: As it was written, for people.
        regex: What it means.
    """

    text: str
    regex: re.Pattern[str]

    def match(self, path: str) -> re.Match[str] | None:
        """Match a relative POSIX path as a whole."""
        return self.regex.fullmatch(path)

    def catches(self, name: str) -> bool:
        """Whether the pattern has a part called ``name``."""
        return name in self.regex.groupindex


@dataclass(frozen=True, slots=True)
class Lookup:
    """A CSV file of the set that holds the codes.

    Attributes:
        file: Its path relative to the folder of the set.
        key: The column that is compared with the pattern's ``{key}``; leading zeros do not matter.
        value: The column with the code.
    """

    file: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says of a picture: its label, or why it is left out; never both, never neither."""

    label: str = ""
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a layout.

    Attributes:
        pattern: The pictures that it speaks of.
        verdicts: What it says, by the code in lower case; under ``""`` where it says the same of all.
        codes: The same codes as they were written, for people.
        lookup: Where the code is found if it is not in the path.
    """

    pattern: Pattern
    verdicts: Mapping[str, Verdict]
    codes: Mapping[str, Verdict]
    lookup: Lookup | None = None

    def judge(self, path: str, table: Mapping[str, str] | None = None) -> Verdict | None:
        """Say what a picture is.

        Args:
            path: The picture, as a POSIX path relative to the folder of the set.
            table: The codes of the rule's `lookup`, by `plain_key`.

        Returns:
            The verdict, or ``None`` where the rule does not speak of this picture.
        """
        found = self.pattern.match(path)
        if found is None:
            return None
        if self.lookup is not None:
            code = (table or {}).get(plain_key(found["key"]), "")
            return self.verdicts.get(code.casefold()) if code else None
        code = found["code"] if self.pattern.catches("code") else ""
        return self.verdicts.get(code.casefold())


def plain_key(key: str) -> str:
    """Return a number without leading zeros and anything else in lower case: ``007`` and ``7`` are one."""
    key = key.strip()
    return (key.lstrip("0") or "0") if key.isdigit() else key.casefold()


def _glob_to_regex(glob: str, fields: Fields) -> str:
    parts: list[str] = []
    for token in _TOKEN.finditer(glob):
        match token.group():
            case "**/":
                parts.append(r"(?:[^/]+/)*")
            case "**":
                parts.append(r".*")
            case "*":
                parts.append(r"[^/]*")
            case "?":
                parts.append(r"[^/]")
            case text if token["other"] is None:
                if token["name"] not in _CATCHES:
                    raise fields.error(f"path {glob!r}: {text} is not one of {{{'}, {'.join(_CATCHES)}}}")
                parts.append(rf"(?P<{token['name']}>[^/]+?)")
            case text:
                parts.append(re.escape(text))
    return "".join(parts)


def read_pattern(fields: Fields, *, need: str = "") -> Pattern:
    """Read the ``path`` (a glob) or ``regex`` of a table.

    Args:
        fields: The table.
        need: A part that the pattern has to catch.

    Raises:
        DataError: There is none or there are both, it is no pattern, or does not catch ``need``.
    """
    if ("path" in fields) == ("regex" in fields):
        raise fields.error('give either path = "…" (with * and **) or regex = "…"')
    text = fields.text("path") if "path" in fields else fields.text("regex")
    try:
        regex = re.compile(
            _glob_to_regex(text, fields) if "path" in fields else text, re.IGNORECASE | re.DOTALL
        )
    except re.error as error:
        raise fields.error(f"{text!r} is not a regular expression: {error}") from None
    pattern = Pattern(text, regex)
    if need and not pattern.catches(need):
        raise fields.error(f"{text!r} has to catch {{{need}}}, in a regex as (?P<{need}>…)")
    return pattern


def read_rule(file: str, where: str, values: object) -> Rule:
    """Read one entry of ``[[uses.NAME.rules]]``.

    It has a ``path`` or a ``regex``, and one of: ``label`` (of all its pictures); ``left_out`` = a reason
    (for all its pictures); a table ``labels`` from codes to labels, with or without a table ``left_out`` from
    codes to reasons. The code is the pattern's ``{code}``, or comes from ``table`` (see `Lookup`).

    Raises:
        DataError: The entry is not of that form.
    """
    fields = Fields(file, where, values, ("path", "regex", "label", "labels", "left_out", "table"))
    lookup = _read_lookup(fields)
    whole = isinstance(fields.values.get("left_out", {}), str)
    if sum((whole, "label" in fields, "labels" in fields)) != 1:
        raise fields.error('give one of label = "…", a table of labels, or left_out = "the reason"')
    if not whole and "labels" not in fields:
        if "left_out" in fields or lookup:
            raise fields.error('label = "…" is for all pictures: write a table of labels instead')
        codes = {"": Verdict(label=fields.text("label"))}
    elif whole:
        codes = {"": Verdict(left_out=fields.text("left_out"))}
    else:
        labels, left_out = fields.text_table("labels"), fields.text_table("left_out")
        if both := sorted(set(labels) & set(left_out)):
            raise fields.error(f"code {both[0]!r} is both labelled and left out")
        codes = {code: Verdict(label=label) for code, label in labels.items()}
        codes |= {code: Verdict(left_out=reason) for code, reason in left_out.items()}
    need = "" if "labels" not in fields else "key" if lookup else "code"
    verdicts = {code.casefold(): verdict for code, verdict in codes.items()}
    if len(verdicts) != len(codes):
        raise fields.error("two codes differ in case only")
    return Rule(read_pattern(fields, need=need), verdicts, codes, lookup)


def _read_lookup(fields: Fields) -> Lookup | None:
    if "table" not in fields:
        return None
    inner = Fields(fields.file, f"{fields.where}.table", fields.values["table"], ("file", "key", "value"))
    return Lookup(inner.text("file"), inner.text("key"), inner.text("value"))
