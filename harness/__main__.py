"""`python -m harness` and the `harness` command: errors become one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 internal error, 2 usage, 6 failed cells, 130 or 143 stopped."""
    import click

    from harness.api.errors import HarnessError
    from harness.cli import cli
    from harness.planning.launch import Launch

    print_any_name()
    try:
        check_readable(sys.argv[1:])
        launch = Launch.of(os.environ)
        if launch is None:
            sys.exit(cli.main(standalone_mode=False) or 0)
        from harness.execute.follow import follow, leading

        if launch.rank:
            sys.exit(follow(launch))
        with leading(launch):
            sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except HarnessError as error:
        print_error(str(error))
        sys.exit(2)
    except OSError as error:
        from harness.run_folder.full_disk import full, is_full

        if not is_full(error):
            raise
        place = Path(str(error.filename or ".")).absolute()
        print_error(str(full(place if place.is_dir() else place.parent, place.name)))
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort) as error:
        stopped = error.__cause__ or error  # click has its own error for an interrupt
        print(
            str(stopped) or "Stopped. What was finished is kept; the same command goes on from there.", file=sys.stderr
        )
        sys.exit(getattr(stopped, "exit_code", 130))


def print_error(text: str) -> None:
    """Print an error, of which nothing steers the terminal, without a secret in it."""
    from harness.run_folder.shown import for_the_terminal

    print(f"Error: {for_the_terminal(text)}", file=sys.stderr)


def print_any_name() -> None:
    """Let what is printed show as escapes where the terminal's encoding lacks a character, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_readable(arguments: Sequence[str]) -> None:
    """Raise `HarnessError` for an argument that is no text in the encoding of this locale: no file could hold it."""
    from harness.api.errors import HarnessError

    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise HarnessError(
                f"got an argument that is no text in the encoding {sys.getfilesystemencoding()}: "
                f"{os.fsencode(argument)!r}, expected UTF-8; set PYTHONUTF8=1, or rename the file"
            ) from None


if __name__ == "__main__":
    main()
