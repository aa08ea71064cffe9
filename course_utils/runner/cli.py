"""The `course` command."""

import errno
import shlex
import signal
import time
from typing import Any

import click

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.profiles import PROFILES
from course_utils.runner.lessons import UsageError, find_lessons, format_minutes, parse_parameters

ANY_PROFILE = click.Choice(list(PROFILES))


class CourseGroup(click.Group):
    """Prints a CourseError as one sentence: exit code 1, 2 for a wrong command, 130 for a run that was stopped."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)  # what a stopped run says to give again
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CourseError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(2 if isinstance(error, UsageError) else 1)
        except KeyboardInterrupt:
            again = [word for word in ctx.obj if word != "--resume"]
            again += ["--resume"] if again[:1] == ["run"] else []
            click.echo(f"\nStopped. Go on where it was with: {shlex.join(['course', *again])}", err=True)
            ctx.exit(130)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
                raise
            click.echo("Error: The disk is full: make room, then give the same command with --resume.", err=True)
            ctx.exit(1)


@click.group(cls=CourseGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the course and build what it needs."""


def _stop_like_ctrl_c() -> None:
    """Let a cancelled job or a closed terminal stop a run as Ctrl-C does, except under nohup. Windows has no SIGHUP."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


@main.command()
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option(
    "--profile", type=ANY_PROFILE, default="tiny", show_default=True, help="tiny needs no GPU and no network."
)
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter of the lesson.")
@click.option("--resume", is_flag=True, help="Skip what finished with the same settings; go on with stopped training.")
@click.option("--cell-minutes", default=720.0, show_default=True, help="End a lesson when a cell takes longer.")
@click.option(
    "--solutions/--learner", default=False, help="Run the notebooks with the exercises solved. [default: learner]"
)
def run(
    lessons: tuple[str, ...],
    profile: str,
    pairs: tuple[tuple[str, str], ...],
    resume: bool,
    cell_minutes: float,
    solutions: bool,
) -> None:
    """Run lessons (all, or those with the numbers NN) and write build/index.html."""
    from course_utils.runner.run import run_lessons

    chosen = find_lessons(paths.SOLUTIONS if solutions else paths.NOTEBOOKS, lessons)
    parameters: dict[str, Any] = {}
    for lesson in chosen:
        parameters |= parse_parameters(lesson, pairs)
    _stop_like_ctrl_c()
    variant = "solutions" if solutions else "learner"
    records = run_lessons(chosen, PROFILES[profile], paths.BUILD, parameters, variant, resume, click.echo, cell_minutes)
    click.echo(f"Report: {paths.BUILD / 'index.html'}")
    failed = [record.lesson[:2] for record in records if record.status != "finished"]
    if failed:
        raise CourseError(f"Not finished: {', '.join(failed)}. What to do stands above and in the report.")


@main.command()
@click.option(
    "--profile", type=ANY_PROFILE, default="tiny", show_default=True, help="The profile to check this machine for."
)
@click.pass_context
def check(ctx: click.Context, profile: str) -> None:
    """Check this machine, the packages and the checkpoints; a line that says WARN or FAIL says how to fix it."""
    from course_utils.runner import setup_check

    setup = setup_check.check_setup(profile)
    click.echo(setup)
    ctx.exit(1 if setup.count(setup_check.FAIL) else 0)


@main.command("list")
def list_lessons() -> None:
    """List the lessons: number, title, and minutes and memory in each profile."""
    headers = [lesson.header() for lesson in find_lessons(paths.NOTEBOOKS)]
    width = max(len(header.title) for header in headers)
    click.echo(f"{'':<{width}}" + "".join(f"  {name:<14}" for name in PROFILES))
    for header in headers:
        needs = [f"{format_minutes(header.minutes.get(name))}, {header.memory.get(name, 0):g} GB" for name in PROFILES]
        click.echo(f"{header.title:<{width}}" + "".join(f"  {need:<14}" for need in needs))


@main.command()
def clean() -> None:
    """Remove what runs left in build/, your finetuned model included, and the drawn pages; say what it freed."""
    from course_utils.runner.clean import clean

    click.echo(clean(paths.BUILD, paths.CACHE))


@main.command()
@click.option("--rows", default=64, show_default=True, help="Training rows of each side.")
@click.option("--pages", default=100, show_default=True, help="Dev pages that each side is evaluated on.")
@click.option("--small", default=10, show_default=True, help="Pages of the growth measurement, and ten times as many.")
@click.option("--seed", default=0, show_default=True, help="Seed of the rows and their order.")
def bench(rows: int, pages: int, small: int, seed: int) -> None:
    """Time the published settings against the lesson's, factor by factor (a few minutes)."""
    from course_utils.maintain.bench import bench

    bench(rows, pages, small, seed, click.echo)


@main.command("full-size")
def full_size() -> None:
    """Train the 2B model's true configuration, random weights, for a step on this CPU; say what fits which GPU."""
    from course_utils.maintain.full_size import full_size

    click.echo(f"Record: {full_size(paths.BUILD, click.echo)}")


@main.command()
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option(
    "--profile", "names", multiple=True, type=click.Choice(["t4", "full"]), help="Only this profile. [default: both]"
)
@click.option("--rows", default=8, show_default=True, help="ROWS of every lesson.")
def rehearse(lessons: tuple[str, ...], names: tuple[str, ...], rows: int) -> None:
    """Run lessons in t4 and full, on a small hub of our own: the published names, widths and calls, one layer each."""
    from course_utils.maintain.rehearsal.run import rehearse

    chosen = find_lessons(paths.SOLUTIONS, lessons)
    started = time.monotonic()
    results = rehearse(
        chosen, [PROFILES[name] for name in dict.fromkeys(names) or ("t4", "full")], rows=rows, say=click.echo
    )
    failed = [f"{result.lesson[:2]} {result.profile}" for result in results if result.problems]
    if failed:
        raise CourseError(
            f"Not as it should be: {', '.join(failed)}. The notebooks and the hub's log are in {paths.BUILD / 'rehearsal'}."
        )
    click.echo(f"All as it should be: {len(results)} runs in {(time.monotonic() - started) / 60:.0f} minutes.")


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a notebook differs from its source.")
def notebooks(check: bool) -> None:
    """Write the notebooks from notebooks/sources."""
    from course_utils.runner.notebooks import check_all, write_all

    if check:
        differences = check_all()
        if differences:
            raise CourseError("\n".join(differences))
        click.echo("The notebooks are in step with their sources.")
    else:
        for path in write_all():
            click.echo(path)


@main.command("build-pages")
def build_pages() -> None:
    """Draw the page images and write the data set in data/cache."""
    from course_utils.dataset import prepare_dataset

    click.echo(prepare_dataset(PROFILES["tiny"]))


@main.command("build-standins")
@click.argument("names", nargs=-1)
@click.option("--cards-only", is_flag=True, help="Only measure again and rewrite the model cards.")
def build_standins(names: tuple[str, ...], cards_only: bool) -> None:
    """Train the stand-in checkpoints again, or those named (three to four hours on two cores in all; goes on where it stopped)."""
    from course_utils.maintain.standins.build import build

    build(names, cards_only, click.echo)
