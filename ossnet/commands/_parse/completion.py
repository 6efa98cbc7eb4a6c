"""Completion of the command line in a shell, written from the options themselves."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from shlex import quote
from typing import Any

from ossnet.commands._parse import Command
from ossnet.commands._parse.help import Option, list_options

_SCRIPT = """\
# Completion of ossnet in bash; in zsh after: autoload -U compinit bashcompinit && compinit && bashcompinit
_ossnet() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} job=${{COMP_WORDS[1]}} words=
  if (( COMP_CWORD == 1 )); then
    words={jobs}
  elif [[ $job == bench && $COMP_CWORD == 2 && $word != -* ]]; then
    words={benchmarks}
  else
    [[ $job == bench ]] && job="bench ${{COMP_WORDS[2]}}"
    case "$job $before" in
{values}
    *) [[ $word == -* ]] && case "$job" in
{options}
       esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _ossnet ossnet"""
"""Where no word fits, `-o default` completes names of files."""


def all_commands() -> dict[str, Command[Any]]:
    """Every command by what follows `ossnet`."""
    from ossnet.commands.main import JOBS

    found = dict[str, Command[Any]]()
    for name in JOBS:
        module = import_module(f"ossnet.commands.{name}")
        each = [module.COMMAND] if hasattr(module, "COMMAND") else module.COMMANDS.values()
        found |= {command.name: command for command in each}
    return found


def completion_script() -> str:
    """A script for bash that completes jobs, options and the values of those that have a few; else files."""
    commands = all_commands()
    options = {name: [*_options(command)] for name, command in commands.items()}
    values = [
        f"    {quote(f'{name} {option.name}')}) words={quote(' '.join(option.choices))} ;;"
        for name, each in options.items()
        for option in each
        if option.choices
    ]
    names = [
        f"       {quote(name)}) words={quote(' '.join(option.name for option in each))} ;;"
        for name, each in options.items()
    ]
    jobs = dict.fromkeys(name.split()[0] for name in commands)
    return _SCRIPT.format(
        jobs=quote(" ".join(jobs)),
        benchmarks=quote(" ".join(name.split()[1] for name in commands if " " in name)),
        values="\n".join(values),
        options="\n".join(names),
    )


def _options(command: Command[Any]) -> Iterator[Option]:
    """A command's options; with the settings of the default network, where it has some."""
    from ossnet.config import Config
    from ossnet.models import PRESETS

    for option in command.options():
        yield replace(option, choices=tuple(PRESETS)) if option.name == "--model" else option
    if command.configurable:
        preset = Config.preset("oss-net-c")
        yield from list_options(Config, preset)
