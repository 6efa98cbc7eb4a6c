"""Every option of every job as lines of text: `python tests/commands/command_line.py` rewrites the record."""

from pathlib import Path

from ossnet.commands._parse.completion import all_commands
from ossnet.commands._parse.help import Option, list_options
from ossnet.config import Config

RECORD = Path(__file__).with_name("command_line.txt")


def describe() -> str:
    """The command line as it is: jobs, then the settings of the jobs that have dotted options."""
    parts = []
    for name, command in all_commands().items():
        lines = map(_line, command.options())
        parts.append(
            "\n".join([f"ossnet {name}", *(["  (settings)"] if command.configurable else []), *lines])
        )
    for preset in ("oss-net-c", "unet-3d"):
        config = Config.preset(preset)
        lines = map(_line, list_options(Config, config))
        parts.append("\n".join([f"settings with --model {preset}", *lines]))
    return "\n\n".join(parts) + "\n"


def _line(option: Option) -> str:
    words = [option.name, option.value, f"({'|'.join(option.choices)})" if option.choices else ""]
    return "  " + " ".join(filter(None, [*words, f"= {option.default}" if option.default else ""]))


if __name__ == "__main__":
    RECORD.write_text(describe())
