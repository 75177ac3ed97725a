"""`python -m launch ..` in a checkout; `edgemarl ..` and `python -m edgemarl ..` where the package is installed."""

from __future__ import annotations


def run() -> None:
    """Run the command line; Ctrl-C ends it also while its modules load."""
    from edgemarl.launch import interrupt

    interrupt.exit_at_once()
    from edgemarl.launch.cli import main

    main()


if __name__ == "__main__":
    run()
