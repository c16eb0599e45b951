"""Machines as classes: a method per command, found by its decorator.

    class Counters(finn.Machine):
        def __init__(self):
            self.counts = {}

        @finn.write("COUNT", keys=(1, 1, 1))
        def count(self, call, name: bytes, by: int = 1):
            \"\"\"Add to a counter.\"\"\"
            self.counts[name] = self.counts.get(name, 0) + by
            return self.counts[name]

A ``write`` method runs on every node, at its place in the log, so it must do the same everywhere:
it may look at its arguments, its state, ``call.now`` and ``call.random``, and at nothing else (not
the clock, not ``random``, not the order of a set).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import random
import re
from collections import deque
from collections.abc import Callable, Generator
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from finn import plain
from finn.errors import BadMachine
from finn.signatures import Declaration, build_specs, declare, make_declaration
from finn.table import CommandSpec, Kind

if TYPE_CHECKING:
    from twisted.logger import Logger

    from finn.interfaces import IReader, IWriter

F = TypeVar("F", bound=Callable[..., Any])

_POSITION_BITS = 32
_SNAPSHOTS = ("snapshot", "restore")
_MUTABLE = (list, dict, set, bytearray, deque)
_NEVER_CHANGES = re.compile(r"\b(ClassVar|Final)\b")

NOWHERE = -1
"""Position of commands that run together: how many do differs between nodes."""


def command_random(seed: int, position: int) -> random.Random:
    """Return the replicated random source of one command.

    Args:
        seed: of the entry.
        position: of the command within the entry.
    """
    return random.Random(seed << _POSITION_BITS | position)


class Call:
    """What a command's method is given beside its arguments; one serves all commands of an entry.

    Attributes:
        now: replicated time in ms since 1970, that of the last entry: in writes the same on every
            node; never goes back. 0 before the first entry, as in a local command of a fresh node.
        log: the machine's logger.
        name: name of the command that is running, upper case.
        conn: the client's connection in a ``local`` command, None in all others.
        position: of the command within its entry; whoever runs the commands counts it up.
    """

    __slots__ = ("_random", "_random_position", "_seed", "conn", "log", "name", "now", "position")

    def __init__(self, now: int, seed: int, log: Logger) -> None:
        self.now = now
        self.log = log
        self.name = ""
        self.conn: Any = None
        self.position = 0
        self._seed = seed
        self._random: random.Random | None = None
        self._random_position = -1

    @property
    def random(self) -> random.Random:
        """Replicated random source: in writes the same on every node. Do not keep it."""
        if self.position == NOWHERE:
            raise RuntimeError("call.random is not for commands that run together")
        if self._random is None or self._random_position != self.position:
            self._random = command_random(self._seed, self.position)
            self._random_position = self.position
        return self._random


class Machine:
    """Base of declarative machines.

    State is what ``vars(self)`` holds, nothing in ``__slots__`` or in the class. The snapshot that
    comes with this class copies all of it when it is taken and needs it to be plain data
    (``finn.plain``); a machine with much state, or with other types, overrides both ``snapshot``
    and ``restore``, which are generators or return nothing.

    Attributes:
        machine_name: kept with every snapshot; the name of the class unless it says otherwise.
        snapshot_version: of the format of the snapshot; count it up when ``restore`` changes.
    """

    __finn_commands__: ClassVar[dict[bytes, tuple[str, CommandSpec]]] = {}
    machine_name: ClassVar[str] = "Machine"
    snapshot_version: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "machine_name" not in vars(cls):
            cls.machine_name = cls.__name__
        cls.__finn_commands__ = build_specs(cls)

    def snapshot(self, file: IWriter) -> Generator[None, None, None] | None:
        """Write the state; see ``IMachine.snapshot``."""
        return plain.dump(plain.freeze(_state(self)), file)

    def restore(self, file: IReader) -> Generator[None, None, None] | None:
        """Replace the state by what ``snapshot`` wrote; see ``IMachine.restore``."""
        return self._restore(file)

    def _restore(self, file: IReader) -> Generator[None, None, None]:
        state = yield from plain.load(file)
        for name in _state(self):
            del vars(self)[name]
        vars(self).update(state)


def _state(machine: Machine) -> dict[str, Any]:
    """Return what a machine holds, without what ``typing`` notes in one made as ``Box[int]()``."""
    return {name: value for name, value in vars(machine).items() if name != "__orig_class__"}


def machine_commands(machine: Machine) -> dict[bytes, CommandSpec]:
    """Return the commands of a machine by name, upper case; ``run`` is the bound method.

    Raises:
        BadMachine: in place of a method the machine has a value of that name.
    """
    commands = {}
    for name, (attribute, spec) in type(machine).__finn_commands__.items():
        run = getattr(machine, attribute)
        if not callable(run):
            raise BadMachine(
                f"{type(machine).__name__}: attribute {attribute!r} hides the command "
                f"{name.decode()}: rename one of them"
            )
        pipelined = spec.pipelined and MethodType(spec.pipelined, machine)
        commands[name] = dataclasses.replace(spec, run=run, pipelined=pipelined)
    return commands


def check_state(machine: Any) -> None:
    """Find out at start, as far as can be seen, what only a snapshot or a command would tell.

    Args:
        machine: of either style.

    Raises:
        BadMachine: it cannot be run, or its snapshots cannot hold its state; the text names the
            attribute or method.
    """
    cls = type(machine)
    _check_name(machine)
    for name in _SNAPSHOTS:
        _check_method(machine, name, ("file",), "a generator, or plain")
    if not isinstance(machine, Machine):
        _check_method(machine, "command", ("applier", "conn", "cmd"), "plain")
        if inspect.isgeneratorfunction(_function(machine.command)):
            raise BadMachine(f"{cls.__name__}.command is a generator: make it plain")
        return
    owners = [owner for owner in cls.__mro__ if owner not in Machine.__mro__]
    for name, other in (_SNAPSHOTS, _SNAPSHOTS[::-1]):
        if any(name in vars(c) for c in owners) and not any(other in vars(c) for c in owners):
            raise BadMachine(
                f"{cls.__name__} has {name}() of its own, but not {other}(): write it too, "
                f"or '{other} = finn.Machine.{other}' if that fits"
            )
    if cls.snapshot is Machine.snapshot:
        _check_classes(owners, machine)
        try:
            plain.freeze(_state(machine))
        except TypeError as e:
            raise BadMachine(str(e)) from None


def check_steps(steps: Any, name: str) -> Generator[None, None, None] | None:
    """Return what a machine's ``snapshot`` or ``restore`` did.

    Raises:
        TypeError: what it was to do is not done: in a coroutine, say, or it returned the state.
    """
    if steps is None or isinstance(steps, Generator):
        return steps
    if inspect.iscoroutine(steps):
        steps.close()  # or Python warns that nobody awaited it
    how = "write to" if name == "snapshot" else "read from"
    raise TypeError(
        f"{name}() returned a {type(steps).__name__}: it is to {how} the file that it is given, "
        "and return nothing, or be a generator"
    )


def _check_name(machine: Any) -> None:
    """Refuse what cannot be kept with a snapshot, or compared with what was."""
    where = type(machine).__name__
    name = getattr(machine, "machine_name", where)
    if not (isinstance(name, str) and name):
        raise BadMachine(f"{where}.machine_name must be a str that is not empty, not {name!r}")
    version = getattr(machine, "snapshot_version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise BadMachine(
            f"{where}.snapshot_version must be a whole number, 0 or more, not {version!r}"
        )


def _check_method(machine: Any, name: str, parameters: tuple[str, ...], forms: str) -> None:
    """Refuse what is no method that can be called, or one that nobody would await."""
    method: Any = getattr(machine, name, None)
    where = f"{type(machine).__name__}.{name}"
    function = _function(method)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise BadMachine(f"{where} is async: make it {forms}")
    try:
        # Not that of what a decorator wraps: it may take other arguments.
        inspect.signature(method, follow_wrapped=False).bind(*parameters)
    except TypeError:
        raise BadMachine(f"{where} is no method that takes {', '.join(parameters)}") from None
    except ValueError:
        pass  # one written in C, which does not tell


def _function(method: Any) -> FunctionType | None:
    """Return the function behind a method, if there is one: a mock claims to be of every kind."""
    while type(method) in (functools.partial, MethodType):
        method = method.func if type(method) is functools.partial else method.__func__
    return method if type(method) is FunctionType else None


def _check_classes(owners: list[type], machine: Machine) -> None:
    """Refuse what a machine keeps beside ``vars(self)``, unless it never changes."""
    if isinstance(machine, _MUTABLE):
        raise BadMachine(
            f"{type(machine).__name__} is a container itself, whose content no snapshot holds: "
            "keep it in an attribute"
        )
    found: dict[str, type] = {}
    for owner in owners:
        for name in vars(owner):
            found.setdefault(name, owner)
    for name, owner in found.items():
        value = vars(owner)[name]
        where = f"attribute '{name}' of {owner.__name__}"
        if inspect.ismemberdescriptor(value):
            raise BadMachine(
                f"{where} is in __slots__, where the default snapshot does not look: "
                "leave __slots__ out, or write snapshot() and restore()"
            )
        kept = name in vars(machine)
        if isinstance(value, _MUTABLE) and not (kept or _is_constant(owner, name)):
            raise BadMachine(
                f"{where} is a {type(value).__name__} in the class, which no snapshot holds: "
                "set it in __init__, or annotate it ClassVar if it never changes"
            )


def _is_constant(owner: type, name: str) -> bool:
    private = f"_{owner.__name__.lstrip('_')}__"  # so Python spells what begins with two
    if name.removeprefix(private).isupper() or name.startswith("__"):
        return True
    try:
        annotation = inspect.get_annotations(owner).get(name, "")
    except NameError:  # from Python 3.14 on: one of them cannot be evaluated
        return True
    return _NEVER_CHANGES.search(str(annotation)) is not None


@overload
def write(name: F, /) -> F: ...
@overload
def write(
    name: str | None = None,
    /,
    *,
    keys: tuple[int, int, int] | None = None,
    summary: str | None = None,
    usage: str | None = None,
    group: str = "",
    flags: tuple[str, ...] = (),
    pipelined: str | None = None,
) -> Callable[[F], F]: ...
def write(name: Any = None, /, **options: Any) -> Any:
    """Make a method a command that changes state: replicated, and run on every node.

    Args:
        name: of the command, in any case; the method's own name when not given.
        options: ``keys``, positions of the keys as in Redis' COMMAND, ``(first, last, step)``
            (needed for WATCH); ``summary`` and ``usage`` for help instead of the docstring's first
            line and the signature; ``group``, a heading in help; ``flags``, further words for
            COMMAND; ``pipelined``, the method that runs several such commands together.

    The method takes ``self``, a ``Call``, and the command's arguments: how many it accepts is read
    from its signature. An argument is bytes, or annotated ``int``, ``float`` or ``str`` to be
    converted; what cannot be converted is refused before it is replicated.

    Where a call for each command costs more than what it does, ``pipelined`` names a method for
    pipelines, and for what many clients send at a time. It takes ``self``, a ``Call``, and for each
    argument a sequence with those of all commands, and returns the results in their order (a
    ``CommandError`` in place of a result is an error). It must leave what the commands would leave
    one by one, however many come together: that differs between nodes. So it knows no
    ``call.random``, and in a write it must not raise: every node that runs the same commands
    together would stop, at each start again. Results are encoded behind the last command and so
    must not be a part of the state that later ones change. Arguments must be bytes, at least one,
    and commands with optional ones run one by one. In a
    subclass that overrides the command alone, or has None in its place, it is not used.
    """
    return _decorator(Kind.WRITE, name, options)


@overload
def read(name: F, /) -> F: ...
@overload
def read(
    name: str | None = None,
    /,
    *,
    keys: tuple[int, int, int] | None = None,
    summary: str | None = None,
    usage: str | None = None,
    group: str = "",
    flags: tuple[str, ...] = (),
    pipelined: str | None = None,
) -> Callable[[F], F]: ...
def read(name: Any = None, /, **options: Any) -> Any:
    """Make a method a command that changes nothing: run on one node that is fresh enough.

    Args and signature are those of ``write``. When ``pipelined`` raises a ``CommandError``, the
    commands are run one by one.
    """
    return _decorator(Kind.READ, name, options)


@overload
def local(name: F, /) -> F: ...
@overload
def local(
    name: str | None = None,
    /,
    *,
    keys: tuple[int, int, int] | None = None,
    summary: str | None = None,
    usage: str | None = None,
    group: str = "",
    flags: tuple[str, ...] = (),
) -> Callable[[F], F]: ...
def local(name: Any = None, /, **options: Any) -> Any:
    """Make a method a command of the node that got it, whatever the cluster does.

    Args and signature are those of ``write``; the method may be ``async`` or return a Deferred,
    which has the node's request timeout to fire, and ``call.conn`` is the client's connection.
    """
    return _decorator(Kind.LOCAL, name, options)


def _decorator(kind: Kind, name: Any, options: dict[str, Any]) -> Any:
    if callable(name):
        return declare(name, Declaration(kind, None))

    def decorate(function: F) -> F:
        return declare(function, make_declaration(function, kind, name, options))

    return decorate
