"""`sluicegate`: assembles the commands, finds home and profile, turns errors into exit codes.

Heavy imports happen inside commands, so that `sluicegate --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from exchange.cli import (
    agreements,
    catalog,
    contracts,
    evidence,
    gateways,
    judging,
    keys,
    parties,
    requests,
    reveal,
    setup,
    transfers,
    trust,
)
from exchange.cli.state import State, profile_names

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP = """Share data across departments: contracts, masked releases, receipts anyone can verify.

--as and --home may stand anywhere on the line. Exit codes: 0 done, 1 not confirmed, 2 bad input or
configuration, 3 not found, 4 not allowed, 5 refused by contract, policy or bounds, 6 wrong state,
7 try again later, 8 evidence does not verify, 9 our own fault.
"""
COMPLETE = "_SLUICEGATE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

app = typer.Typer(
    name="sluicegate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (
    setup,
    contracts,
    judging,
    catalog,
    requests,
    agreements,
    reveal,
    transfers,
    evidence,
    parties,
    keys,
    gateways,
    trust,
):
    module.register(app)

# May stand anywhere on the line, like kubectl's --context.
GLOBAL = ("--as", "--home")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"sluicegate {version('sluicegate')}")
        raise typer.Exit


def _completion(shell: str | None) -> None:
    if shell is None:
        return
    if shell not in SHELLS:
        raise typer.BadParameter(f"one of {', '.join(SHELLS)}")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="sluicegate", complete_var=COMPLETE, shell=shell))
    raise typer.Exit


@app.callback(help=HELP)
def sluicegate(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(
            "--as", help="Profile to act as; default the current one.", metavar="NAME", autocompletion=profile_names
        ),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Home folder; default $SLUICEGATE_HOME, else ~/.sluicegate.", metavar="FOLDER"),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
    completion: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            "--show-completion",
            help="Print the completion script of bash, zsh or fish.",
            metavar="SHELL",
            callback=_completion,
            is_eager=True,
        ),
    ] = None,
) -> None:
    """See HELP."""
    context.obj = State(home, profile)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The arguments with the global options moved to the front."""
    front: list[str] = []
    rest: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        if word in GLOBAL and left:
            front += [word, left.pop(0)]
        elif word.startswith(tuple(f"{option}=" for option in GLOBAL)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


@cache
def commands() -> Any:
    """All commands, as the parser takes them: made once in a process that runs several."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Says on standard error what went wrong."""
    command = commands()
    try:
        # Not `app(...)`: that would end the process by itself, with a code of its own for a broken pipe.
        with command.make_context("sluicegate", hoisted(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as ended:
        return ended.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away; nothing is wrong, and there is nobody to tell.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - what is buffered goes there at exit
        return 0
    except typer.Abort:
        print("not confirmed: nothing was done", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort before the user
        return _failed(error, as_json=_wants_json(arguments))


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--output=json" in arguments or ("--output", "json") in pairwise(arguments)


def _failed(error: Exception, *, as_json: bool) -> int:
    from contracts.errors import Reason, SluicegateError
    from exchange.cli.output import show_error

    show = getattr(error, "show", None)
    if show is not None and hasattr(error, "exit_code"):  # typer's own: the line could not be read
        show()
        return 2
    if os.environ.get("SLUICEGATE_TRACE"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        error = SluicegateError(Reason.INVALID_ARGUMENT, f"cannot use{where}: {error.strerror or type(error).__name__}")
    if not isinstance(error, SluicegateError):
        # Not its text: it may quote a value of somebody's data.
        told = f"unexpected {type(error).__name__}; run again with SLUICEGATE_TRACE=1 to see where"
        error = SluicegateError(Reason.INTERNAL, told)
    show_error(error, as_json=as_json)
    return error.traits.exit_code


def completing(command: Any) -> Any:
    """The commands for a shell to complete: each of them has the global options, which may stand anywhere."""
    shared = [each for each in command.params if set(each.opts) & set(GLOBAL)]

    def equip(inner: Any) -> None:
        for each in getattr(inner, "commands", {}).values():
            each.params += shared
            equip(each)

    equip(command)
    return command


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    # The transport's own log would stand between our lines: what it means, we say ourselves.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
        completing(commands())(prog_name="sluicegate")
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    main()
