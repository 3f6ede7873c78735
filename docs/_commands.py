"""The command line and the training settings, as Markdown, taken from the parsers and the dataclasses."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import docstring_parser
from _tables import table

from leukonca.commands import _COMMANDS
from leukonca.learning.settings import AS_PUBLISHED, ArchitectureChanges, Settings
from leukonca.learning.variation import PRESETS as AUGMENTATIONS
from leukonca.learning.variation import Augmentation
from leukonca.nca.architecture import PRESETS, Architecture
from leukonca.nca.classifier import CellClassifier

__all__ = ["architecture_changes", "as_published", "augmentations", "commands", "presets", "settings"]

_SETTINGS = {entry.name for entry in fields(Settings)}
_KINDS = {int: "N", float: "X", str: "TEXT"}


def commands() -> str:
    """A section for each command: how it is called, what it does, its arguments."""
    return "\n\n".join(_command(name, module.parser()) for name, module in _COMMANDS.items())


def _command(name: str, parser: Any) -> str:
    # argparse has no public way to list the arguments; everybody who documents a parser goes this way.
    shown = [action for action in parser._actions if action.dest != "help"]
    own = [action for action in shown if action.dest.split(".")[0] not in _SETTINGS]
    places = [_words(action) for action in own if not action.option_strings]
    required = [f"{action.option_strings[0]} {_words(action)}" for action in own if _must(action)]
    usage = " ".join(["leukonca", name, *places, *required, "[options]"])
    rows = [(f"`{_flag(action)}`", _meaning(action), _default(action)) for action in own]
    parts = [
        f"## `leukonca {name}`",
        f"```text\n{usage}\n```",
        _inline(parser.description),
        table(("argument", "meaning", "default"), rows),
    ]
    if len(own) < len(shown):
        parts.append(_about_settings(parser, {action.dest.split(".")[0] for action in shown} & _SETTINGS))
    return "\n\n".join(parts)


def _must(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.required


def _words(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    hint = getattr(action, "_typehint", None)
    names = action.metavar or ("NAME" if action.choices else _KINDS.get(hint))
    name = " ".join(names) if isinstance(names, tuple) else str(names or action.dest.upper())
    return f"{name}…" if action.nargs == "+" else f"[{name}]" if action.nargs == "?" else name


def _flag(action: argparse.Action) -> str:
    words = "" if action.dest == "print_config" else _words(action)
    return " ".join(filter(None, (*action.option_strings[:1], words)))


def _meaning(action: argparse.Action) -> str:
    if action.dest == "print_config":
        return "print the settings as YAML and stop; `--print_config=skip_default` leaves out what is default"
    text = _inline(action.help or "")
    return f"{text}; one of {', '.join(f'`{name}`' for name in action.choices)}" if action.choices else text


def _default(action: argparse.Action) -> str:
    plain = action.default not in (None, False, argparse.SUPPRESS)
    return f"`{action.default}`" if plain and action.option_strings else ""


def _about_settings(parser: Any, known: set[str]) -> str:
    default = Settings()
    others = [f"`--{name}`" for name in sorted(_SETTINGS - known)]
    changed = [
        f"`--{name}` is {parser.get_default(name)} where it is not given"
        for name in sorted(known)
        if name != "change" and parser.get_default(name) != getattr(default, name)
    ]
    besides = [f"without {', '.join(others)}"] if others else []
    return (
        "Besides, every [setting of a training run](settings.md) is an argument"
        + "".join(f"; {fact}" for fact in (*besides, *changed))
        + "."
    )


def _inline(text: str) -> str:
    """Turn reStructuredText's ``code`` and roles into Markdown's code, and a line break into a space."""
    return re.sub(r"``(.+?)``|:[a-z]+:`(.+?)`", r"`\1\2`", " ".join(text.split()))


def _documented(kind: type) -> dict[str, str]:
    found = docstring_parser.parse(kind.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    return {entry.arg_name: _inline(entry.description or "") for entry in found.params}


def _values(hint: Any) -> str:
    options = [kind for kind in get_args(hint) if kind is not type(None)]
    if options and get_origin(hint) is not tuple and all(isinstance(kind, str) for kind in options):
        return ", ".join(f"`{option}`" for option in options)
    if len(options) == 1:
        return _values(options[0])
    return {int: "whole number", float: "number", bool: "yes or no", str: "name"}.get(hint, "three numbers")


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{part:g}' for part in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def settings() -> str:
    """The settings of a training run."""
    hints, said, default = get_type_hints(Settings), _documented(Settings), Settings()
    return table(
        ("setting", "default", "values", "meaning"),
        (
            (
                f"`{name}`",
                "" if name == "change" else _plain(getattr(default, name)),
                "see below" if name == "change" else _values(hints[name]),
                said[name],
            )
            for name in (entry.name for entry in fields(Settings))
        ),
    )


def architecture_changes() -> str:
    """What of a preset can be changed."""
    hints, said = get_type_hints(ArchitectureChanges), _documented(Architecture)
    return table(
        ("setting", "values", "meaning"),
        (
            (f"`change.{entry.name}`", _values(hints[entry.name]), said[entry.name])
            for entry in fields(ArchitectureChanges)
        ),
    )


def presets() -> str:
    """The presets and their numbers of parameters."""
    names = [entry.name for entry in fields(Architecture)]
    return table(
        ("", *(f"`{name}`" for name in PRESETS)),
        (
            *((name, *(str(getattr(shape, name)) for shape in PRESETS.values())) for name in names),
            ("sites a side", *(str(shape.grid) for shape in PRESETS.values())),
            *(
                (
                    f"parameters for {classes} classes",
                    *(f"{CellClassifier(shape, classes).parameter_count:,}" for shape in PRESETS.values()),
                )
                for classes in (5, 8, 13)
            ),
        ),
    )


def as_published() -> str:
    """Where ``--as_published`` differs from the defaults."""
    default = Settings()
    names = [entry.name for entry in fields(Settings)]
    return table(
        ("setting", "default", "as published"),
        (
            (f"`{name}`", _plain(getattr(default, name)), _plain(getattr(AS_PUBLISHED, name)))
            for name in names
            if getattr(default, name) != getattr(AS_PUBLISHED, name)
        ),
    )


def augmentations() -> str:
    """The presets of augmentation."""
    said = _documented(Augmentation)

    def shown(value: bool | float) -> str:
        return "" if not value else "yes" if value is True else f"{value:g}"

    def rows() -> Iterator[tuple[str, ...]]:
        for entry in fields(Augmentation):
            values = (shown(getattr(kinds, entry.name)) for kinds in AUGMENTATIONS.values())
            yield (entry.name, *values, said[entry.name])

    return table(("kind", *(f"`{name}`" for name in AUGMENTATIONS), "meaning"), rows())
