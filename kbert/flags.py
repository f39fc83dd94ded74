"""Convert dataclasses to absl flags and back, and run command lines.

In: `argv` and the dataclasses whose fields are the flags. Out: instances of them, and an exit code.
Flags live in a fresh `FlagValues` for each call, so nothing is global and tests drive command lines
in process. This is the only file that imports absl's flags. No TensorFlow.
"""

import dataclasses
import difflib
import errno
import logging
import math
import os
import re
import signal
import sys
import tempfile
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from absl import flags as absl_flags

from kbert.elsewhere import NAMES, REMARKS
from kbert.errors import UsageError, for_user
from kbert.interruption import Interrupted, handled, raised


def main(
    program: str,
    about: str,
    argv: Sequence[str] | None,
    groups: Callable[[str | None], Sequence[type]],
    body: Callable[..., int],
    *,
    takes_task: bool | Literal["optional"] = False,
) -> int:
    """Parse `argv`, call `body` with one instance a group, and turn its errors into an exit code.

    Args:
        program: what the user types, for messages.
        about: first lines of `--help`.
        argv: the arguments after the program's name; None for the process's own.
        groups: task name (None unless `takes_task`) -> dataclasses that hold the flags.
        body: the command: takes the instances, imports TensorFlow, and returns the exit code.
        takes_task: read `--task` first and hand its value to `groups`; "optional": None where it is not given.

    Returns:
        0; 1 for a mistake in data; 2 for one in the command line; 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with handled(raised, (signal.SIGTERM,)):
        return _run(program, about, argv, groups, body, takes_task)


def _run(
    program: str,
    about: str,
    argv: Sequence[str],
    groups: Callable[[str | None], Sequence[type]],
    body: Callable[..., int],
    takes_task: bool | Literal["optional"],
) -> int:
    try:
        instances = parse(program, about, argv, groups, takes_task)
        if instances is None:
            return 0
        _show_notes()
        return body(*instances)
    except KeyboardInterrupt as error:
        end = error if isinstance(error, Interrupted) else Interrupted()
        print(f"\n{program}: {end}", file=sys.stderr)
        return end.exit_code
    except BrokenPipeError:
        # The reader (`| head`) has gone; point stdout elsewhere so that the exit flush stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            if error.filename is None:
                raise
            print(f"{program}: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        where = error.filename or f"a temporary file in {tempfile.gettempdir()} (TMPDIR names another folder), or an output"
        print(f"{program}: no space left on the disk: {where}", file=sys.stderr)
        return 1
    except Exception as error:
        found = for_user(error)
        if found is None:
            raise
        print(f"{program}: {found}", file=sys.stderr)
        return found.exit_code


def parse(
    program: str,
    about: str,
    argv: Sequence[str],
    groups: Callable[[str | None], Sequence[type]],
    takes_task: bool | Literal["optional"] = False,
) -> list[Any] | None:
    """Parse the arguments into instances of the groups; return None after printing `--help`.

    Raises:
        UsageError: an unknown, malformed or missing flag, a leftover argument, an unreadable flagfile.
    """
    arguments = _expand_flagfiles(argv)
    task = _task(arguments, takes_task) if takes_task else None
    classes = groups(task)
    values = absl_flags.FlagValues()
    absl_flags.DEFINE_bool("help", False, "Print this text.", short_name="h", flag_values=values)
    if takes_task:
        _define_task(values)
    # A task's own defaults of flags that all tasks share.
    defaults = {name: value for cls in classes for name, value in getattr(cls, "DEFAULTS", {}).items()}
    for cls in classes:
        _define(values, cls, defaults)
    try:
        leftover = values([program, *arguments])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        of_task = f" of --task={task}" if task else ""
        others = (name for name in _unknown(values, arguments) if name != error.flagname)
        first, *more = (f"--{name}{{}}{_meant(name, values, groups, takes_task)}" for name in (error.flagname, *others))
        also = f"; unknown too: {', '.join(more)}".replace("{}", "") if more else ""
        raise UsageError(f"unknown flag {first.format(of_task)}{also}; --help lists the flags") from None
    except absl_flags.Error as error:
        said = re.sub(r"invalid literal for int\(\) with base 10: .*", "expected a whole number", str(error))
        raise UsageError(re.sub(r"could not convert string to float: .*", "expected a number", said)) from None
    if values.help:
        print(_help(program, about, classes, takes_task, defaults))
        return None
    if leftover:
        raise UsageError(f"unexpected argument {leftover[0]!r}; write every option as --flag=value")
    missing = [spec for cls in classes for spec, _ in specs(cls) if _needed(spec) and values[spec.name].value is None]
    if len(missing) > 1:
        raise UsageError(f"{', '.join(f'--{spec.name}' for spec in missing)} are required; --help lists the flags")
    if missing:
        raise UsageError(f"--{missing[0].name} is required: {missing[0].metadata['help']}")
    return [_read(values, cls) for cls in classes]


def _unknown(values: absl_flags.FlagValues, arguments: Sequence[str]) -> list[str]:
    """Return the names of all flags that do not exist."""
    try:
        left = values(["", *arguments], known_only=True)[1:]
    except absl_flags.Error:
        return []
    return list(dict.fromkeys(each[2:].partition("=")[0] for each in left if each.startswith("--")))


def _meant(name: str, values: Collection[str], groups: Callable[[str | None], Sequence[type]], takes_task: Any) -> str:
    """Return a suggestion for an unknown flag, in parentheses; empty if there is none."""
    from kbert.tasks import OPTIONS

    names = [name, *(own for own, others in NAMES.items() if name in others)]
    of_tasks = {
        own: [f"--task={task}" for task in OPTIONS if any(spec.name == own for cls in groups(task) for spec, _ in specs(cls))]
        for own in (names if takes_task else ())
    }
    if own := next((own for own in names if own in values), None):
        return f" (here it is --{own})"
    if of_task := of_tasks.get(name):
        return f" (it belongs to {' and '.join(of_task)})"
    if found := next(((own, tasks) for own, tasks in of_tasks.items() if tasks), None):
        return f" (here it is --{found[0]}, which belongs to {' and '.join(found[1])})"
    if name in REMARKS:
        return f" ({REMARKS[name]})"
    close = difflib.get_close_matches(name, list(values), n=1)
    return f" (did you mean --{close[0]}?)" if close else ""


def _needed(spec: dataclasses.Field[Any]) -> bool:
    return spec.default is dataclasses.MISSING


def _expand_flagfiles(argv: Sequence[str]) -> list[str]:
    reader = absl_flags.FlagValues()
    absl_flags.DEFINE_string("flagfile", None, "", flag_values=reader)
    try:
        arguments = reader.read_flags_from_files(list(argv), force_gnu=False)
    except (absl_flags.Error, UnicodeDecodeError) as error:
        raise UsageError(f"--flagfile: {str(error).removeprefix('ERROR:: ')}") from None
    # Editors on Windows put a byte order mark in front of a file's first flag.
    return [argument.lstrip("\ufeff") for argument in arguments]


def _task(arguments: Sequence[str], takes_task: bool | Literal["optional"]) -> str | None:
    values = absl_flags.FlagValues()
    _define_task(values)
    try:
        values(["", *arguments], known_only=True)
    except absl_flags.Error as error:
        raise UsageError(str(error)) from None
    if takes_task == "optional" and not values["task"].present:
        return None
    from kbert.tasks import named

    return named(values.task)


def _define_task(values: absl_flags.FlagValues) -> None:
    from kbert.tasks import DEFAULT

    absl_flags.DEFINE_string("task", DEFAULT, "", flag_values=values)


def specs(cls: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Return the flag fields of a dataclass with their types, those of nested dataclasses included."""
    hints = typing.get_type_hints(cls)
    found: list[tuple[dataclasses.Field[Any], Any]] = []
    # A class's own fields come first, then those of its base classes.
    for spec in sorted(dataclasses.fields(cls), key=lambda spec: spec.name not in vars(cls)["__annotations__"]):
        if dataclasses.is_dataclass(hints[spec.name]):
            found += specs(hints[spec.name])
        elif "help" in spec.metadata:
            found.append((spec, hints[spec.name]))
    return found


def _define(values: absl_flags.FlagValues, cls: type, defaults: Mapping[str, Any]) -> None:
    for spec, hint in specs(cls):
        kind = _bare(hint)
        default = defaults.get(spec.name, None if spec.default is dataclasses.MISSING else spec.default)
        arguments: dict[str, Any] = {"flag_values": values}
        if typing.get_origin(kind) is Literal:
            absl_flags.DEFINE_enum(spec.name, default, list(typing.get_args(kind)), "", **arguments)
        elif typing.get_origin(kind) is tuple:
            absl_flags.DEFINE_list(spec.name, None if default is None else list(default), "", **arguments)
        else:
            limits = {
                "lower_bound": spec.metadata.get("low"),
                "upper_bound": spec.metadata.get("high"),
            }
            define = {
                bool: absl_flags.DEFINE_bool,
                int: absl_flags.DEFINE_integer,
                float: absl_flags.DEFINE_float,
                str: absl_flags.DEFINE_string,
            }[kind]
            define(spec.name, default, "", **arguments, **(limits if kind in (int, float) else {}))


def _bare(hint: Any) -> Any:
    """Return `X` of `X | None`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return typing.get_args(hint)[0]
    return hint


def _read(values: absl_flags.FlagValues, cls: type) -> Any:
    hints = typing.get_type_hints(cls)
    read: dict[str, Any] = {}
    for spec in dataclasses.fields(cls):
        hint = hints[spec.name]
        if dataclasses.is_dataclass(hint):
            read[spec.name] = _read(values, typing.cast(type, hint))
        elif "help" in spec.metadata:
            value = values[spec.name].value
            if value == "" and _needed(spec):
                raise UsageError(f"--{spec.name} is empty: {spec.metadata['help']}")
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"--{spec.name}={value}: expected a finite number")
            if typing.get_origin(_bare(hint)) is tuple and value is not None:
                value = tuple(value)
            read[spec.name] = value
    return cls(**read)


def _help(program: str, about: str, classes: Sequence[type], takes_task: Any, defaults: Mapping[str, Any]) -> str:
    lines = [f"usage: {program} [--flagfile=FILE] [--flag=value ...]", "", about.strip(), "", "flags:"]
    rows: list[tuple[str, str]] = []
    if takes_task:
        from kbert.tasks import DEFAULT, OPTIONS

        what = "; ".join(f"{name}: {kind.ABOUT}" for name, kind in OPTIONS.items())
        said = f"What to train. {what}. Default: {DEFAULT}."
        if takes_task == "optional":
            said = f"What the checkpoint answers; each task has flags of its own. {what}. Default: what its head is for."
        rows.append((f"--task={'|'.join(OPTIONS)}", said))
    for cls in classes:
        for spec, hint in specs(cls):
            rows.append((f"--{spec.name}{_form(_bare(hint))}", f"{spec.metadata['help']} {_default(spec, defaults)}"))
    rows.append(("--flagfile=FILE", "Read flags from a file, one a line; put it first, so that later flags override it."))
    for head, text in rows:
        lines += [f"  {head}", *textwrap.wrap(text, 96, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(lines)


def _form(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "=" + "|".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "=NAME,..."
    return {bool: "", int: "=N", float: "=X", str: "=VALUE"}[kind]


def _default(spec: dataclasses.Field[Any], defaults: Mapping[str, Any]) -> str:
    default = defaults.get(spec.name, spec.default)
    if default is dataclasses.MISSING:
        return "Required."
    if "default" in spec.metadata:
        return f"Default: {spec.metadata['default']}."
    if default in (None, (), ""):
        return "Default: not set."
    value = ",".join(default) if isinstance(default, tuple) else default
    return f"Default: {str(value).lower() if isinstance(value, bool) else value}."


def _show_notes() -> None:
    """Send kbert's log messages to stderr."""
    logger = logging.getLogger("kbert")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.StreamHandler()  # a new one at each call, as it keeps the stderr of its creation
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]


def check_columns(text_columns: Sequence[str], fields: Sequence[str]) -> None:
    """Raise UsageError unless a model's fields each get a column."""
    if len(text_columns) != len(fields):
        raise UsageError(f"--text_columns={','.join(text_columns)}: the model reads {len(fields)} ({', '.join(fields)})")
