"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from edgemarl.launch.whole_numbers import whole_number, whole_number_from_0

Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a config field.")]
Training = Annotated[
    list[str] | None, typer.Option("--train", metavar="FIELD=VALUE", help="Change any other training setting.")
]
Storage = Annotated[
    str | None, typer.Option(metavar="FOLDER|URL", help="Shared folder or fsspec URL (s3://..) that --out is below.")
]
Ignore = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column of the trace file out; may be repeated.")
]
TrainShare = Annotated[
    float | None, typer.Option(help="Share of the trace file's slots, from the first on, that are for training.")
]


def _seeds_of_old(given: str | None) -> None:
    if given is not None:
        raise ValueError(
            "--seeds is now --networks (networks that are drawn to compare on) or --training-seeds (runs of a learner)"
        )


OldSeeds = Annotated[str | None, typer.Option("--seeds", hidden=True, callback=_seeds_of_old)]
Concurrent = Annotated[
    int, typer.Option(parser=whole_number, metavar="INTEGER", help="Processes that train and play at once.")
]
Seed = Annotated[
    int, typer.Option("--seed", parser=whole_number_from_0, metavar="INTEGER", help="Seed of everything that is drawn.")
]
