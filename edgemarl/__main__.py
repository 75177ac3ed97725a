"""`python -m edgemarl ..`: the command line."""

from edgemarl.launch.__main__ import run

if __name__ == "__main__":
    run()
