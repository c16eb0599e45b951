"""Command specs from the methods of a class: arity, conversions and help out of the signature."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, partialmethod, singledispatchmethod
from typing import Any, TypeVar

from finn.errors import CommandError
from finn.table import CommandSpec, Kind

F = TypeVar("F", bound=Callable[..., Any])
Converter = Callable[[bytes], Any]

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"
NOT_TEXT = "ERR value is not valid UTF-8"

_ATTRIBUTE = "__finn_declarations__"
_MISSING = object()
_NAME = re.compile(r"[!-~]{1,64}")
_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_INFINITY = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_OPTIONS = ("keys", "summary", "usage", "group", "flags", "pipelined")
_FLAGS = {Kind.WRITE: "write", Kind.READ: "readonly", Kind.LOCAL: "stale"}


@dataclass(frozen=True)
class Declaration:
    """What a decorator says of a method; the rest is read from the method."""

    kind: Kind
    name: str | None
    keys: tuple[int, int, int] | None = None
    summary: str | None = None
    usage: str | None = None
    group: str = ""
    flags: tuple[str, ...] = ()
    pipelined: str | None = None


def to_integer(data: bytes) -> int:
    """Read a 64-bit integer as strictly as Redis: no spaces, signs or zeros to spare."""
    digits = data[1:] if data[:1] == b"-" else data
    if digits.isdigit() and len(digits) < 20 and (digits[0] != 0x30 or data == b"0"):
        number = int(data)
        if -(2**63) <= number < 2**63:
            return number
    raise CommandError(NOT_AN_INTEGER)


def to_float(data: bytes) -> float:
    """Read a float, ``inf`` too, but neither ``nan`` nor what is too large for a double."""
    if _FLOAT.fullmatch(data) is not None:
        number = float(data)
        if math.isfinite(number):
            return number
    elif _INFINITY.fullmatch(data) is not None:
        return float(data)
    raise CommandError(NOT_A_FLOAT)


def to_text(data: bytes) -> str:
    """Read UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CommandError(NOT_TEXT) from None


_CONVERTERS: dict[Any, Converter | None] = {
    bytes: None,
    Any: None,
    inspect.Parameter.empty: None,
    int: to_integer,
    float: to_float,
    str: to_text,
}


def make_declaration(
    function: Any, kind: Kind, name: str | None, options: dict[str, Any]
) -> Declaration:
    """Return what a decorator says of a function.

    Raises:
        TypeError: there is no such option.
    """
    unknown = ", ".join(sorted(options.keys() - {*_OPTIONS}))
    if unknown:
        where = getattr(function, "__qualname__", function)
        raise TypeError(f"{where}: there is no option {unknown}, but {', '.join(_OPTIONS)}")
    return Declaration(kind, name, **options)


def declare(function: F, declaration: Declaration) -> F:
    """Mark a method as a command; several marks give it several names.

    Raises:
        TypeError: it cannot be a command.
    """
    if not inspect.isfunction(function):
        raise TypeError(f"{function!r} is no function: only one can be a command")
    _check(function, declaration.kind)
    _check_options(declaration, function.__qualname__)
    name = function.__name__ if declaration.name is None else declaration.name
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise TypeError(
            f"{function.__qualname__}: {name!r} is no name for a command: "
            "a str of 1 to 64 visible ASCII characters is"
        )
    setattr(function, _ATTRIBUTE, (declaration, *getattr(function, _ATTRIBUTE, ())))
    return function


def build_specs(cls: type) -> dict[bytes, tuple[str, CommandSpec]]:
    """Return a class's commands: name to attribute and spec (``run`` is left to the instance).

    A method of a subclass takes the place of the one it overrides, under the declarations of the
    base if it has none of its own; an attribute that is not a method removes the command.

    Raises:
        TypeError: a method cannot be a command, or two methods are the same command.
    """
    owners: dict[bytes, type] = {}
    specs: dict[bytes, tuple[str, CommandSpec]] = {}
    for attribute, owner, declarations in _declared(cls):
        function = inspect.getattr_static(cls, attribute)
        if not inspect.isfunction(function):
            continue
        for declaration in declarations:
            spec = _build(declaration, attribute, function)
            if declaration.pipelined is not None:
                spec.pipelined = _pipelined(cls, attribute, declaration.pipelined, spec)
            name = spec.name.encode()
            other = owners.get(name, object)
            if other is owner or not issubclass(owner, other):
                raise TypeError(
                    f"{cls.__name__}: {specs[name][0]} and {attribute} are both {spec.name}"
                )
            owners[name] = owner
            specs[name] = (attribute, spec)
    return specs


def _check(function: Any, kind: Kind) -> None:
    name = function.__qualname__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is a generator: a command returns its reply")
    if inspect.iscoroutinefunction(function) and kind is not Kind.LOCAL:
        raise TypeError(f"{name} is async: only a local command may wait")


def _check_options(declaration: Declaration, where: str) -> None:
    """Refuse what would be found wrong only by whoever looks at the command's row."""
    keys, flags = declaration.keys, declaration.flags
    if keys is not None and not (_is_of(int, keys) and len(keys) == 3):
        raise TypeError(f"{where}: keys={keys!r} is not (first, last, step), three int")
    if not _is_of(str, flags):
        raise TypeError(f"{where}: flags={flags!r} is not a tuple of str")
    for option in ("summary", "usage", "group"):
        text = getattr(declaration, option)
        if not (isinstance(text, str) or (text is None and option != "group")):
            raise TypeError(f"{where}: {option}={text!r} is not a str")


def _is_of(kind: type, values: Any) -> bool:
    return isinstance(values, (tuple, list)) and all(isinstance(value, kind) for value in values)


def _declared(cls: type) -> list[tuple[str, type, tuple[Declaration, ...]]]:
    """List the attributes that are commands, bases first, with the class that says so."""
    found: dict[str, tuple[str, type, tuple[Declaration, ...]]] = {}
    for owner in reversed(cls.__mro__):
        for attribute, value in vars(owner).items():
            if not inspect.isfunction(value) and _hides_command(cls, value):
                raise TypeError(
                    f"{owner.__name__}.{attribute} is a {type(value).__name__}, no function: "
                    "a command cannot have that decorator"
                )
            declarations = getattr(value, _ATTRIBUTE, None)
            if declarations:
                found[attribute] = (attribute, owner, declarations)
    return list(found.values())


def _hides_command(cls: type, value: Any) -> bool:
    """Whether a decorator has made something of a command that is no function any more."""
    names = ["__wrapped__", "fget"]
    if isinstance(value, (cached_property, singledispatchmethod)) or (
        # A part of a command hides none that has a name of its own.
        isinstance(value, (partial, partialmethod)) and not _has_member(cls, value.func)
    ):
        names.append("func")
    parts = (value, *(getattr(value, name, None) for name in names))
    return any(isinstance(getattr(part, _ATTRIBUTE, None), tuple) for part in parts)


def _has_member(cls: type, value: Any) -> bool:
    return any(value is member for owner in cls.__mro__ for member in vars(owner).values())


def _build(declaration: Declaration, attribute: str, function: Callable[..., Any]) -> CommandSpec:
    _check(function, declaration.kind)
    name = (declaration.name or attribute).upper()
    where = f"{function.__qualname__} ({name})"
    converters, required, many = _parameters(function, where)
    summary = declaration.summary
    if summary is None:
        summary = (inspect.getdoc(function) or "").partition("\n")[0].strip()
    usage = declaration.usage
    return CommandSpec(
        name=name,
        kind=declaration.kind,
        min_args=required,
        max_args=-1 if many else len(converters),
        summary=summary,
        convert=_conversion(converters, many),
        keys=declaration.keys,
        flags=(_FLAGS[declaration.kind], *declaration.flags),
        usage=_usage(function) if usage is None else usage,
        group=declaration.group,
    )


def _pipelined(
    cls: type, attribute: str, name: str, spec: CommandSpec
) -> Callable[..., Any] | None:
    """Return the method that runs several commands together.

    It must not hide a command's method that a subclass overrides: then there is none, nor when a
    subclass has None in its place.
    """
    where = f"{cls.__name__}.{attribute} ({spec.name})"
    function = inspect.getattr_static(cls, name, _MISSING)
    if function is None:
        return None
    if not inspect.isfunction(function):
        raise TypeError(f"{where}: pipelined={name!r} is not a method")
    together, alone = (next(c for c in cls.__mro__ if n in vars(c)) for n in (name, attribute))
    if not issubclass(together, alone):
        return None
    if spec.kind is Kind.LOCAL or spec.convert is not None or not spec.min_args:
        raise TypeError(
            f"{where}: only a write or a read that takes arguments, all bytes, can be pipelined"
        )
    _check(function, spec.kind)
    try:
        inspect.signature(function).bind(None, None, *[None] * spec.min_args)
    except TypeError:
        raise TypeError(
            f"{where}: {name} must take self, call and {spec.min_args} sequences of arguments"
        ) from None
    return function


def _command_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters behind ``self`` and ``call``."""
    return list(inspect.signature(function).parameters.values())[2:]


def _parameters(
    function: Callable[..., Any], where: str
) -> tuple[list[Converter | None], int, list[Converter | None]]:
    """Return converters of the positional arguments, how many are required, and ``*args``'."""
    parameters = list(inspect.signature(function).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) < 2 or any(p.kind not in positional for p in parameters[:2]):
        raise TypeError(f"{where} must take self and call")
    hints = _hints(function, parameters[2:], where)
    converters: list[Converter | None] = []
    many: list[Converter | None] = []
    required = 0
    for parameter in parameters[2:]:
        converter = _converter(hints.get(parameter.name, parameter.empty), parameter.name, where)
        if parameter.kind in positional:
            converters.append(converter)
            required += parameter.default is parameter.empty
        elif parameter.kind is parameter.VAR_POSITIONAL:
            many.append(converter)
        else:
            raise TypeError(f"{where}: a command has no keyword arguments ({parameter.name})")
    return converters, required, many


def _hints(
    function: Callable[..., Any], parameters: list[inspect.Parameter], where: str
) -> dict[str, Any]:
    """Evaluate the annotations of the arguments only: that of ``call`` is often not importable."""
    holder = types.SimpleNamespace()
    holder.__annotations__ = {
        p.name: p.annotation for p in parameters if p.annotation is not p.empty
    }
    try:
        return typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}))
    except Exception as e:
        raise TypeError(f"{where}: an annotation cannot be evaluated: {e}") from e


def _converter(hint: Any, name: str, where: str) -> Converter | None:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        # "int | None = None": the None is the default, a client cannot send it.
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        hint = members[0] if len(members) == 1 else hint
    try:
        return _CONVERTERS[hint]
    except (KeyError, TypeError):
        raise TypeError(
            f"{where}: argument {name} is {hint!r}, but bytes, int, float and str are what a "
            "command takes"
        ) from None


def _conversion(
    converters: list[Converter | None], many: list[Converter | None]
) -> Callable[[list[bytes]], list[Any]] | None:
    """Return the ``convert`` of a spec, or None when every argument stays bytes."""
    wanted = [(i, converter) for i, converter in enumerate(converters) if converter is not None]
    rest = many[0] if many else None
    start = len(converters)
    if not wanted and rest is None:
        return None

    def convert(args: list[bytes]) -> list[Any]:
        values: list[Any] = list(args)
        for i, converter in wanted:
            if i < len(values):
                values[i] = converter(values[i])
        if rest is not None:
            values[start:] = map(rest, values[start:])
        return values

    return convert


def _usage(function: Callable[..., Any]) -> str:
    """Write the arguments as a person does: ``queue [step] [name ...]``."""
    words = []
    for parameter in _command_parameters(function):
        if parameter.kind is parameter.VAR_POSITIONAL:
            words.append(f"[{parameter.name} ...]")
        elif parameter.default is parameter.empty:
            words.append(parameter.name)
        else:
            words.append(f"[{parameter.name}]")
    return " ".join(words)
