"""What `leukonca.cells.check` found: typed for programs, as text for people, as a dictionary for files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from leukonca.cells.manifest import Listing, Manifest

__all__ = ["CheckReport", "Copies", "StraddlingGroup", "UnknownLabel", "Unreadable"]

_SHOWN: Final = 10
"""Of every kind of finding the text shows this many; the dictionary has them all."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that cannot be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Copies:
    """Pictures with exactly the same pixels.

    Attributes:
        hash: Of their content.
        paths: Two or more, in the order of the manifest.
        labels: Their different labels, in that order; two or more are a contradiction.
        splits: Their different splits; two or more are a leak.
    """

    hash: str
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StraddlingGroup:
    """A group (patient, slide, field) with pictures in more than one split."""

    group: str
    splits: tuple[str, ...]
    pictures: int


@dataclass(frozen=True, slots=True)
class UnknownLabel:
    """A label that the vocabulary does not have.

    Attributes:
        label: As it is written.
        pictures: How many have it.
        nearest: The known name closest in spelling, if any is close.
        misspelt: Whether it is so close that a misspelling is probable.
    """

    label: str
    pictures: int
    nearest: str | None
    misspelt: bool


@dataclass(frozen=True)
class CheckReport:
    """What was found in a manifest.

    Attributes:
        pictures: The number of rows.
        classes: Pictures by label, in the order of the class set; ``""`` counts those without a label.
        sources: The same for each image set.
        splits: The same for each split; ``""`` is "in none".
        groups: Pictures by group, those of unknown group not counted.
        groups_by_class: The number of groups that each label occurs in.
        unreadable: Pictures that cannot be read.
        copies: Exact duplicates, including contradictions and leaks.
        straddling: Groups in more than one split.
        unknown: Labels that the vocabulary does not have.
        listings: How the pictures were found (see `Listing`); empty for a manifest read from a file.
        manifest: The manifest, with hashes.
    """

    pictures: int
    classes: Mapping[str, int]
    sources: Mapping[str, Mapping[str, int]]
    splits: Mapping[str, Mapping[str, int]]
    groups: Mapping[str, int]
    groups_by_class: Mapping[str, int]
    unreadable: tuple[Unreadable, ...]
    copies: tuple[Copies, ...]
    straddling: tuple[StraddlingGroup, ...]
    unknown: tuple[UnknownLabel, ...]
    listings: tuple[Listing, ...]
    manifest: Manifest = field(repr=False, compare=False)

    @property
    def contradictions(self) -> tuple[Copies, ...]:
        """The same picture under two labels."""
        return tuple(copies for copies in self.copies if len(copies.labels) > 1)

    @property
    def leaks(self) -> tuple[Copies, ...]:
        """The same picture in two splits."""
        return tuple(copies for copies in self.copies if len(copies.splits) > 1)

    @property
    def misspelt(self) -> tuple[UnknownLabel, ...]:
        """Labels that are probably misspelt."""
        return tuple(unknown for unknown in self.unknown if unknown.misspelt)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would corrupt a result."""
        return not (self.unreadable or self.contradictions or self.leaks or self.straddling or self.misspelt)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the manifest, ready for JSON."""
        return {
            "ok": self.ok,
            "pictures": self.pictures,
            "classes": dict(self.classes),
            "sources": {name: dict(counts) for name, counts in self.sources.items()},
            "splits": {name: dict(counts) for name, counts in self.splits.items()},
            "groups": dict(self.groups),
            "groups_by_class": dict(self.groups_by_class),
            "unreadable": [asdict(each) for each in self.unreadable],
            "duplicates": [asdict(each) for each in self.copies],
            "contradictions": [asdict(each) for each in self.contradictions],
            "duplicates_across_splits": [asdict(each) for each in self.leaks],
            "groups_across_splits": [asdict(each) for each in self.straddling],
            "unknown_labels": [asdict(each) for each in self.unknown],
            "listings": [asdict(each) for each in self.listings],
        }

    def to_text(self) -> str:
        """Return the report for people: counts, then warnings, then problems, then the verdict."""
        lines = [*self._summary(), "", *self._class_table(), *self._split_tables()]
        for listing in self.listings:
            lines += _listing_lines(listing)
        problems = list(self._problems())
        for title, findings in (("warning", list(self._warnings())), ("PROBLEM", problems)):
            for what, details in findings:
                lines += ["", f"{title}: {what}", *_some(details)]
        verdict = (
            "nothing found that would corrupt a result"
            if self.ok
            else f"not fit for use: {len(problems)} problem"
        )
        lines += ["", verdict + ("s" if len(problems) > 1 else "")]
        return "\n".join(lines)

    def _summary(self) -> Iterator[str]:
        named = sum(1 for label in self.classes if label)
        kinds = _many(named, "class", "classes")
        sets = ", ".join(name or "no set" for name in self.sources)
        yield f"{_many(self.pictures, 'picture')}, {kinds}, from {sets}"
        if self.groups:
            sizes = list(self.groups.values())
            without = self.pictures - sum(sizes)
            spread = f"{min(sizes)} to {max(sizes)} pictures (median {median(sizes):g})"
            yield (
                f"{_many(len(sizes), 'group')} of {spread}"
                + (f"; {_many(without, 'picture')} in no group" if without else "")
            )
        else:
            yield "no groups are known: related cells cannot be kept together"

    def _class_table(self) -> list[str]:
        header = ["class", "pictures", "share", *(["groups"] if self.groups else [])]
        rows = [
            [label or "(no label)", f"{count:,}", f"{count / self.pictures:.1%}"]
            + ([f"{self.groups_by_class.get(label, 0):,}"] if self.groups else [])
            for label, count in self.classes.items()
        ]
        return _columns(header, rows)

    def _split_tables(self) -> list[str]:
        lines: list[str] = []
        for title, parts in (("source", self.sources), ("split", self.splits)):
            if len(parts) > 1 or (title == "split" and "" not in parts):
                names = [name or "(none)" for name in parts]
                rows = [
                    [label or "(no label)", *(f"{counts.get(label, 0):,}" for counts in parts.values())]
                    for label in self.classes
                ]
                total = ["all", *(f"{sum(counts.values()):,}" for counts in parts.values())]
                lines += ["", *_columns([f"class by {title}", *names], [*rows, total])]
        return lines

    def _warnings(self) -> Iterator[tuple[str, list[str]]]:
        plain = [each for each in self.copies if len(each.labels) < 2 and len(each.splits) < 2]
        if plain:
            extra = sum(len(each.paths) - 1 for each in plain)
            yield (
                f"{_many(extra, 'exact duplicate')} within a label; they count twice",
                [" = ".join(each.paths) for each in plain],
            )
        if unlabelled := self.classes.get("", 0):
            yield f"{_many(unlabelled, 'picture')} without a label: not for training", []
        if own := [each for each in self.unknown if not each.misspelt]:
            yield (
                f"{_many(len(own), 'label')} of your own, not in the vocabulary; kept as written",
                [_unknown_line(each) for each in own],
            )
        for listing in self.listings:
            if listing.unmatched:
                yield (
                    f"{_many(listing.unmatched, 'picture')} of {listing.spec} fit no rule of "
                    f"{listing.source} and are not used",
                    [*listing.examples, *["…"] * (listing.unmatched > len(listing.examples))],
                )

    def _problems(self) -> Iterator[tuple[str, list[str]]]:
        if self.unreadable:
            yield (
                f"{_many(len(self.unreadable), 'picture')} cannot be read; mend or remove",
                [f"{each.path}: {each.reason}" for each in self.unreadable],
            )
        if self.contradictions:
            yield (
                f"{_many(len(self.contradictions), 'picture')} under two labels; decide which is right",
                [f"{' / '.join(each.labels)}: {' = '.join(each.paths)}" for each in self.contradictions],
            )
        if self.leaks:
            yield (
                f"{_many(len(self.leaks), 'picture')} in more than one split; keep one of each",
                [f"{' / '.join(each.splits)}: {' = '.join(each.paths)}" for each in self.leaks],
            )
        if self.straddling:
            yield (
                f"{_many(len(self.straddling), 'group')} in more than one split; move each into one",
                [
                    f"{g.group}: {_many(g.pictures, 'picture')} in {', '.join(g.splits)}"
                    for g in self.straddling
                ],
            )
        if self.misspelt:
            yield (
                f"{_many(len(self.misspelt), 'label')} probably misspelt; rename",
                [_unknown_line(each) for each in self.misspelt],
            )


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _unknown_line(unknown: UnknownLabel) -> str:
    near = f"; nearest known: {unknown.nearest}" if unknown.nearest else ""
    return f"{unknown.label!r}: {_many(unknown.pictures, 'picture')}{near}"


def _listing_lines(listing: Listing) -> list[str]:
    use = f" (use {listing.use})" if listing.use else ""
    lines = ["", f"{listing.spec}: {_many(listing.pictures, 'picture')} of {listing.source}{use}"]
    lines += [f"  left out {count:,}: {reason}" for reason, count in listing.left_out.items()]
    if listing.ignored:
        lines.append(f"  {_many(listing.ignored, 'other file')} ignored")
    return [*lines, *(f"  {remark}" for remark in listing.remarks)]


def _some(details: Sequence[str]) -> list[str]:
    rest = len(details) - _SHOWN
    return [f"  {line}" for line in details[:_SHOWN]] + ([f"  … and {rest:,} more"] if rest > 0 else [])


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in (header, *rows)
    ]
