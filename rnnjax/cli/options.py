"""Command-line options made from dataclasses: a field's docstring is its --help, its annotation its type and bounds."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from rnnjax.errors import InputError
from rnnjax.task import check_value, describe


class Parser(argparse.ArgumentParser):
    """Reports what is wrong as an InputError, in one line; does not guess abbreviated options."""

    def __init__(self, **options: Any) -> None:
        """As argparse's, without abbreviations."""
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(f"{message} ({self.prog} --help shows the options)")


def add_fields(parser: Parser, config: type, defaults: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
    """Add an option for each field of a dataclass. Options that are not given are absent from the parsed namespace."""
    from docstring_parser import parse_from_object

    helps: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if dataclasses.is_dataclass(cls):
            described = {entry.arg_name: entry.description for entry in parse_from_object(cls).params}
            helps |= {name: text for name, text in described.items() if text}  # a field set anew keeps its meaning
    kinds = get_type_hints(config, include_extras=True)
    for name, kind in kinds.items():
        shown = "" if defaults[name] is None else f" (default: {defaults[name]})"
        takes: dict[str, Any] = {"type": convert(flag(name), kind), "metavar": _metavar(kind)}
        if kind is bool:
            takes = {"action": argparse.BooleanOptionalAction}
        help_text = f"{helps[name]}{shown}".replace("%", "%%")
        parser.add_argument(flag(name), default=argparse.SUPPRESS, help=help_text, **takes)
    for alias, name in aliases.items():
        parser.add_argument(
            flag(alias),
            dest=f"alias:{alias}",
            default=argparse.SUPPRESS,
            metavar=_metavar(kinds[name]),
            help=f"The same as {flag(name)}.",
        )


def resolve_aliases(given: dict[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """Turn aliases into the options that they stand for.

    Raises:
        InputError: an option was given under both names.
    """
    resolved = {name: value for name, value in given.items() if not name.startswith("alias:")}
    for alias, name in aliases.items():
        if f"alias:{alias}" in given:
            if name in resolved:
                raise InputError(f"{flag(alias)}: expected it or {flag(name)}, which mean the same; got both.")
            resolved[name] = given[f"alias:{alias}"]
    return resolved


def flag(name: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + name.replace("_", "-")


def convert(option: str, kind: Any) -> Callable[[str], Any]:
    """A function from an option's text to its value; it raises InputError where that is not what `kind` says."""

    def read(text: str) -> Any:
        value: Any = text
        for number in _numbers(kind):
            try:
                value = number(text)
                break
            except ValueError:
                pass
        check_value(option, kind, value)
        return value

    return read


def _numbers(kind: Any) -> tuple[type, ...]:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return ()
    if get_args(kind):
        return tuple(number for member in get_args(kind) for number in _numbers(member))
    return (kind,) if kind in (int, float) else ()


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return _metavar(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if members := [member for member in get_args(kind) if member is not type(None)]:
        return "|".join(_metavar(member) for member in members)
    return {int: "INT", float: "FLOAT", str: "TEXT"}.get(kind, describe(kind))
