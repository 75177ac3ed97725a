"""The command line: what a user runs.

Commands import what they need when they are called, so that help and errors come at once.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import edgemarl
from edgemarl.launch import interrupt
from edgemarl.launch.options import Concurrent, Ignore, OldSeeds, Seed, Settings, Storage, Training, TrainShare
from edgemarl.launch.replay_options import replay_command
from edgemarl.launch.surroundings import harmless_surroundings
from edgemarl.launch.table_commands import profile_app, profile_pruning_command, trace_app
from edgemarl.launch.whole_numbers import whole_number, whole_number_from_0, whole_number_from_1

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(trace_app, name="trace")
app.add_typer(profile_app, name="profile")
check_app = typer.Typer(help="Check the learners against results that are known elsewhere.", no_args_is_help=True)
app.add_typer(check_app, name="check")

EXTRAS = {
    **dict.fromkeys(("torch", "ray", "fsspec", "tensorboardX"), "train"), "onnx": "export", "onnxruntime": "export",
    "optuna": "tune", "cvxpy": "test",
}  # fmt: skip
"""Packages that the plain installation lacks -> the extra that brings them."""

MESSAGE = 6000
"""Characters of an error message at most."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a disk says that takes nothing more."""
KEPT = "finished results and saves are kept, the same command goes on from there"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgemarl {edgemarl.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Decentralized control of DNN inference in edge networks."""


@app.command("scenarios")
def scenarios_command(
    name: Annotated[str | None, typer.Argument(help="Show this scenario's parameters and controllers.")] = None,
) -> None:
    """List the scenarios, or show one: parameters with units, legal range and source, and its controllers."""
    from edgemarl.launch.commands import show

    show.scenarios() if name is None else show.scenario(name)


@app.command("compare")
def compare_command(
    context: typer.Context,
    preset: Annotated[str | None, typer.Option(help="Named experiment, such as quick, or a YAML file.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Scenario at its defaults.")] = None,
    controllers: Annotated[
        str | None, typer.Option(help="With commas: names, file.py:Name, policies' files, folders of runs.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="Trace file that replaces the sampled traces.")] = None,
    ignore: Ignore = None,
    cells_from: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="SLOTS", help="Play every stretch of so many slots as a network of its own."
        ),
    ] = None,
    train_share: TrainShare = None,
    networks: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Number of networks, each drawn on its own."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(parser=whole_number, metavar="INTEGER", help="Slots that are played.")
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Slots at the start that are left out of the means."),
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    seed: Seed = 0,
    concurrent: Concurrent = 1,
    seeds: OldSeeds = None,
) -> None:
    """Compare controllers on the same traces; prints a table and writes a report page."""
    from edgemarl.launch.commands.compare import compare

    file = _trace_file(trace, ignore, cells_from, train_share)
    compare(
        preset, scenario, controllers, file, networks, slots, warmup, settings or [], out, seed, context.obj, concurrent
    )  # fmt: skip


def _trace_file(
    trace: Path | None, ignore: list[str] | None, cells_from: int | None = None, train_share: float | None = None
) -> Any:
    """The trace file that the options name; those that need one are refused without it."""
    if trace is None:
        for option, given in (("--ignore", ignore), ("--cells-from", cells_from), ("--train-share", train_share)):
            if given:
                raise ValueError(f"{option} is of a trace file: give --trace FILE")
        return None
    from edgemarl.launch.experiment.played import TraceFile

    return TraceFile(trace, tuple(ignore or ()), cells_from, train_share)


@app.command("scale")
def scale_command(
    context: typer.Context,
    devices: Annotated[str | None, typer.Option(help="Numbers of devices, with commas; default: the preset's.")] = None,
    scenario: Annotated[str, typer.Option(help="Scenario that grows.")] = "sequential_offloading",
    controllers: Annotated[
        str | None, typer.Option(help="Names, with commas; also learners that the preset `sizes` leaves out.")
    ] = None,
    trained_at: Annotated[
        str | None, typer.Option(help="Sizes at which learners are trained once more, to be played at all sizes.")
    ] = None,
    agent_steps: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Training budget of a run: decisions of agents."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Training ends after this time, if not before.")] = None,
    training_seeds: Annotated[
        int, typer.Option(parser=whole_number, metavar="INTEGER", help="Training seeds of each trained controller.")
    ] = 1,
    networks: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Networks to compare on, each drawn on its own."),
    ] = None,
    within: Annotated[float, typer.Option(help="Percent above the reference that `time to` asks for.")] = 10.0,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; finished ones are kept.")] = None,
    concurrent: Concurrent = 1,
    storage: Storage = None,
    seed: Seed = 0,
    seeds: OldSeeds = None,
) -> None:
    """Compare decentralized and centralized control as the network grows: cost, speed, memory, signalling."""
    from edgemarl.launch.commands.scale import ScaleOptions, parse_sizes, scale

    names = [name.strip() for name in (controllers or "").split(",") if name.strip()]
    small = parse_sizes(trained_at, "--trained-at") if trained_at else ()
    options = ScaleOptions(
        scenario, names, small, agent_steps, minutes, training_seeds, networks, within / 100, settings or [], seed,
        concurrent, storage,
    )  # fmt: skip
    scale(devices, options, out, context.obj)


@app.command("study")
def study_command(
    context: typer.Context,
    scenarios: Annotated[str | None, typer.Option(help="Names, with commas; default: all that are installed.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer sizes and networks, short trainings: a first answer.")] = False,
    training_seeds: Annotated[int, typer.Option(help="Training seeds of each trained controller.")] = 1,
    networks: Annotated[int | None, typer.Option(help="Networks to compare on, each drawn on its own.")] = None,
    agent_steps: Annotated[int | None, typer.Option(help="Training budget of a run: decisions of agents.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; finished ones are kept.")] = None,
    concurrent: Concurrent = 1,
    seed: Seed = 0,
) -> None:
    """Answer what is lost and saved if every device decides for itself: all scenarios, sizes, one page."""
    from edgemarl.launch.commands.study import StudyOptions, study

    names = [name.strip() for name in (scenarios or "").split(",") if name.strip()]
    study(StudyOptions(names, quick, training_seeds, networks, agent_steps, seed, concurrent), out, context.obj)


@app.command("train")
def train_command(
    scenario: Annotated[str | None, typer.Option(help="Scenario to train on; default: sequential_offloading.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Trace file whose stretches are the episodes.")] = None,
    ignore: Ignore = None,
    train_share: TrainShare = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run's folder.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Named settings; default: the best known; none: the algorithm's.")
    ] = None,
    algorithm: Annotated[str | None, typer.Option(help="Learning algorithm, such as ppo.")] = None,
    control: Annotated[str | None, typer.Option(help="decentralized or central.")] = None,
    policies: Annotated[str | None, typer.Option(help="shared (one per role) or independent (one per agent).")] = None,
    reward: Annotated[str | None, typer.Option(help="Reward mode of the scenario, such as local or team.")] = None,
    agent_steps: Annotated[
        int | None,
        typer.Option(
            parser=whole_number,
            metavar="INTEGER",
            help="Budget: decisions of learned agents.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="End early: so near the reference, such as 1%.")
    ] = None,
    training: Training = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a run that is there goes on.")] = None,
    storage: Storage = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace the run that is there.")] = False,
    wandb: Annotated[str | None, typer.Option(metavar="PROJECT", help="Send scalars to Weights & Biases too.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Go on with a run of somebody else, whatever code its checkpoint holds.")
    ] = False,
    seed: Seed = 0,
) -> int:
    """Train a controller with RLlib; its folder is a controller for `compare`, its `tensorboard` holds the scalars.

    The same command again goes on from the run's last checkpoint.
    """
    from edgemarl.launch.commands import train as runs

    if resume is not None:
        return runs.train_command(runs.saved_config(resume, agent_steps, trust), resume, trust=trust, wandb=wandb)
    named = {"recipe": recipe, "algorithm": algorithm, "control": control, "policies": policies, "reward": reward}
    file = _trace_file(trace, ignore, train_share=train_share)
    early = None if until is None else runs.share_of_percent(until, "--until")
    budget = {"agent_steps": agent_steps, "until": early}
    config = runs.run_config(scenario, settings or [], training or [], seed, file, **budget, **named)
    folder = out or Path("runs") / f"{config.scenario}-{config.algorithm}-{config.control}-{seed}"
    return runs.train_command(config, folder, storage, fresh, trust, wandb)


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run, or a policy file in it.")],
    form: Annotated[str, typer.Option("--format", help="onnx or torchscript.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Folder of the files; default: export in the run's.")] = None,
) -> None:
    """Write a run's policies as files that act on a device without Ray and without this project."""
    from edgemarl.launch.commands.export import export

    export(run, form, out)


@app.command("reproduce")
def reproduce_command(
    context: typer.Context,
    scenario: Annotated[
        str | None, typer.Argument(help="Scenario whose presets are run; none: list scenarios and figures.")
    ] = None,
    figures: Annotated[
        list[str] | None, typer.Argument(metavar="[FIGURE]..", help="Such as fig5a, or fig5 for all its parts.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short form: few networks, one seed, a tenth of the training.")
    ] = False,
    networks: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Number of networks, each drawn on its own."),
    ] = None,
    training_seeds: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Runs of every learner; default: the figure's."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; each preset has its own below it.")] = Path("results"),
    concurrent: Concurrent = 1,
    storage: Storage = None,
    seed: Seed = 0,
    seeds: OldSeeds = None,
) -> None:
    """Run the presets of a scenario, the paper's figures and ours, or those of one figure; again: it goes on."""
    from edgemarl.launch.commands.reproduce import ReproduceOptions, list_figures, reproduce

    if scenario is None:
        list_figures()
    else:
        options = ReproduceOptions(scenario, figures or [], quick, networks, seed, concurrent, storage, training_seeds)
        reproduce(options, out, context.obj)


@app.command("bench")
def bench_command(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A group of benchmarks; all by default.")] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Say what became slower; exit code 1 if something did.")
    ] = None,
    history: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Put the numbers at this file's end.")] = None,
    devices: Annotated[str | None, typer.Option(help="Of the group quality: sizes, with commas.")] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Of the group quality: what is trained; sequential_offloading by default.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(metavar="PERCENT,..", help="Of the group quality: how near the reference; 2,1.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="CONTROLLER", help="Of the group quality: in place of the reference.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Of the group quality: processor time of a side.")] = None,
    sides: Annotated[
        str | None, typer.Option(help="Of the group quality: recipe,plain,rllib; elsewhere recipes.")
    ] = None,
    training_seeds: Annotated[
        int | None, typer.Option(help="Of the group quality: trainings of each, of which the slowest counts.")
    ] = None,
    settings: Settings = None,
) -> int:
    """Measure speed against references in the same run."""
    from edgemarl.launch.commands.bench import bench
    from edgemarl.launch.commands.quality import quality_options

    quality = quality_options(devices, minutes, sides, training_seeds, scenario, within, against, settings or [])
    return bench(json_file, only or [], compare, history, quality)


@app.command("sweep")
def sweep_command(
    scenario: Annotated[str, typer.Option(help="Scenario to train on.")] = "sequential_offloading",
    controllers: Annotated[
        str, typer.Option(help="Of shared, independent, mappo, central, with commas; or a YAML file.")
    ] = "shared,central",
    sizes: Annotated[
        list[str] | None, typer.Option("--sizes", metavar="FIELD=V1,V2", help="Config field that takes these values.")
    ] = None,
    training_seeds: Annotated[
        int, typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Training seeds of each.")
    ] = 3,
    agent_steps: Annotated[
        int | None,
        typer.Option(parser=whole_number, metavar="INTEGER", help="Budget of a run: decisions of learned agents."),
    ] = None,
    training: Training = None,
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs; finished ones are kept, others go on.")] = Path(
        "runs/sweep"
    ),
    storage: Storage = None,
    concurrent: Annotated[
        int | None,
        typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Runs at once; default: what the CPUs allow."),
    ] = None,
    seeds: OldSeeds = None,
) -> int:
    """Train controllers over seeds and sizes through Ray Tune; the curves of all runs in one sweep.parquet."""
    from edgemarl.launch.commands.sweep import sweep
    from edgemarl.launch.commands.train import training_fields

    fields = training_fields(training or [], agent_steps=agent_steps)
    return sweep(scenario, controllers, sizes or [], training_seeds, fields, settings or [], out, storage, concurrent)


@app.command("preflight")
def preflight_command(
    working_dir: Annotated[Path, typer.Option(help="Folder that the job would be given.")] = Path("."),
    runtime_env: Annotated[
        Path | None, typer.Option(help="Runtime environment of the job, such as launch/cluster/runtime_env.yaml.")
    ] = None,
    largest: Annotated[
        int, typer.Option(parser=whole_number_from_0, metavar="INTEGER", help="Name this many of the largest files.")
    ] = 5,
) -> None:
    """Say what `ray job submit` would upload and how large it is; fails if Ray would refuse it."""
    from edgemarl.launch.commands.preflight import preflight

    default = working_dir / "launch" / "cluster" / "runtime_env.yaml"
    preflight(working_dir, runtime_env or (default if default.is_file() else None), largest)


@check_app.command("pendulum")
def check_pendulum_command(
    algorithm: Annotated[str, typer.Argument(help="ddpg or td3.")],
    steps: Annotated[int, typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Env steps.")] = 10_000,
    seed: Seed = 0,
) -> None:
    """Train on Gymnasium's Pendulum-v1, whose returns are published (-150 to -200)."""
    from edgemarl.launch.commands.check import check_pendulum

    check_pendulum(algorithm, steps, seed)


@check_app.command("parity")
def check_parity_command(
    training_seeds: Annotated[int, typer.Option(parser=whole_number, metavar="INTEGER", help="Runs of each side.")] = 5,
    agent_steps: Annotated[
        int, typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Decisions of devices per run.")
    ] = 320_000,
    devices: Annotated[
        int, typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Devices of the network.")
    ] = 20,
    out: Annotated[Path, typer.Option(help="Folder of the policies; finished ones are kept.")] = Path(
        "results/learning_parity"
    ),
) -> None:
    """Train the same PPO through our runner and through RLlib's own: do they learn the same?"""
    from edgemarl.launch.commands.check import check_parity

    check_parity(training_seeds, agent_steps, devices, out)


@check_app.command("memory")
def check_memory_command(
    minutes: Annotated[float, typer.Option(help="Time of the clock.")] = 60.0,
    every_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder of memory.csv and memory.svg.")] = Path("results/memory"),
) -> None:
    """Train and play for an hour: do memory, open files and threads stay as they are?"""
    from edgemarl.launch.commands.check import check_memory

    check_memory(minutes, every_s, out)


@check_app.command("clients")
def check_clients_command(
    scenario: Annotated[str, typer.Option(help="Scenario to train on.")] = "sequential_offloading",
    devices: Annotated[str | None, typer.Option(help="Sizes, with commas; default: the scenario's own.")] = None,
    clients: Annotated[str | None, typer.Option(help="Names, with commas; default: all.")] = None,
    training_seeds: Annotated[
        int, typer.Option(parser=whole_number_from_1, metavar="INTEGER", help="Trainings of each client.")
    ] = 3,
    agent_steps: Annotated[str, typer.Option(help="Budgets in decisions, with commas.")] = "100000,300000",
    quick: Annotated[bool, typer.Option("--quick", help="Every client for a moment, one seed: does it run?")] = False,
    finished: Annotated[bool, typer.Option("--finished", help="Train nothing, show what is there.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results; finished trainings are kept.")] = Path(
        "results/clients"
    ),
) -> None:
    """Train with other libraries and with ours on the same network: cost against decisions and seconds."""
    from edgemarl.launch.commands.clients import check_clients, clients_options

    check_clients(clients_options(scenario, devices, clients, training_seeds, agent_steps, quick), out, finished)


app.command("replay")(replay_command)
app.command("profile-pruning")(profile_pruning_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Bad input, a damaged file and a full disk give one line on stderr and exit code 2, Ctrl-C one line and 130, SIGTERM
    one line and 143.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        interrupt.raise_interrupts()
        harmless_surroundings()
    try:
        code = _exit_code(words)
    except KeyboardInterrupt:
        code = interrupt.EXIT_CODE
    except SystemExit as end:  # of a SIGTERM, and of everything that was said already
        code = end.code
    if arguments is None:
        interrupt.exit_at_once()
    if code == interrupt.TERMINATED:
        interrupt.stopped(code)
    if code == interrupt.EXIT_CODE:
        interrupt.stopped()
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(words: list[str]) -> Any:
    """What the command returns; the parser gives 130 after Ctrl-C."""
    try:
        # the command as it was typed is for the report
        return app(args=words, standalone_mode=False, obj=shlex.join([*program(), *words]))
    except Exception as error:
        if interrupt.came():
            return interrupt.came()
        if isinstance(error, typer.Abort):  # the parser makes one of an `EOFError`: of a file, as nothing asks here
            _fail(f"a file ended before its end, it is damaged: {error.__cause__ or error}", 2)
        if isinstance(error, OSError) and error.errno in FULL:
            _fail(f"{os.strerror(error.errno)}{_place(error)}; {KEPT}", 2)
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
            _fail(f"this needs {error.name}: pip install 'edgemarl[{EXTRAS[error.name]}]'", 2)
        if isinstance(error, ValueError) and not os.environ.get("EDGEMARL_DEBUG"):
            _fail(str(error), 2)
        if hasattr(error, "format_message"):  # an error of the command line's parser
            _fail(error.format_message(), 2)
        raise


def _place(error: OSError) -> str:
    """The file or folder of an error, without the temporary name that it had."""
    if not error.filename:
        return ""
    from edgemarl.envs.files import PREFIX

    path = Path(os.fsdecode(error.filename))
    parts = path.parts
    cut = next((i for i, part in enumerate(parts) if part.startswith(PREFIX)), len(parts))
    return f" ({Path(*parts[:cut])})"


def program() -> list[str]:
    """The words with which the command line was started."""
    started = getattr(sys.modules.get("__main__"), "__spec__", None)
    module = "" if started is None else started.name.removesuffix(".__main__")
    return ["python", "-m", module] if module in ("launch", "edgemarl") else ["edgemarl"]


def _fail(message: str, code: int) -> NoReturn:
    from edgemarl.envs.config import cut

    sys.stderr.write(f"edgemarl: {cut(message, MESSAGE)}\n")
    sys.exit(code)
