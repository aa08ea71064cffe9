"""The `course` command."""

import time
from pathlib import Path
from typing import Any

import click

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.profiles import PROFILES
from course_utils.runner.lessons import find_lessons, parse_parameters

ANY_PROFILE = click.Choice(list(PROFILES))


class CourseGroup(click.Group):
    """Prints a CourseError as one sentence, with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CourseError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=CourseGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the course and build what it needs."""


@main.command()
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option(
    "--profile", type=ANY_PROFILE, default="tiny", show_default=True, help="tiny needs no GPU and no network."
)
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter of the lesson.")
@click.option("--resume", is_flag=True, help="Skip what finished with the same settings; go on with stopped training.")
@click.option(
    "--cell-minutes", type=float, help="End a lesson when a cell takes longer. [default: 60 in tiny, else 720]"
)
@click.option(
    "--solutions/--learner", default=False, help="Run the notebooks with the exercises solved. [default: learner]"
)
def run(
    lessons: tuple[str, ...],
    profile: str,
    pairs: tuple[tuple[str, str], ...],
    resume: bool,
    cell_minutes: float | None,
    solutions: bool,
) -> None:
    """Run lessons (all, or those with the numbers NN) and write build/index.html."""
    from course_utils.runner.run import run_lessons

    chosen = find_lessons(paths.SOLUTIONS if solutions else paths.NOTEBOOKS, lessons)
    parameters: dict[str, Any] = {}
    for lesson in chosen:
        parameters |= parse_parameters(lesson, pairs)
    values = PROFILES[profile]
    variant = "solutions" if solutions else "learner"
    try:
        records = run_lessons(chosen, values, paths.BUILD, parameters, variant, resume, click.echo, cell_minutes)
    except KeyboardInterrupt:
        click.echo("\nStopped. To go on where it was, give the same command with --resume.", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        raise CourseError(
            f"{error}. Make room, or set COURSE_BUILD to another folder; then give the same command with --resume."
        ) from error
    click.echo(f"Report: {paths.BUILD / 'index.html'}")
    failed = [record.lesson[:2] for record in records if record.status != "finished"]
    if failed:
        raise CourseError(f"Not finished: {', '.join(failed)}. What to do stands above and in the report.")


@main.command()
@click.option(
    "--profile", type=ANY_PROFILE, default="tiny", show_default=True, help="The profile to check this machine for."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON, to collect from many machines.")
@click.pass_context
def check(ctx: click.Context, profile: str, as_json: bool) -> None:
    """Check this machine, the packages and the checkpoints; a line that says WARN or FAIL says how to fix it."""
    from course_utils.runner import setup_check

    setup = setup_check.check_setup(profile)
    click.echo(setup_check.as_json(setup, profile) if as_json else setup)
    ctx.exit(1 if setup.count(setup_check.FAIL) else 0)


@main.command("list")
def list_lessons() -> None:
    """List the lessons with the time and memory that each takes in each profile."""
    from course_utils.overview import lesson_table

    click.echo(lesson_table().to_string())


@main.command()
def clean() -> None:
    """Remove what runs left in build/, your finetuned model included, and the drawn pages; say what is gone."""
    from course_utils.runner.clean import clean

    click.echo(clean(paths.BUILD, paths.CACHE))


@main.command()
@click.option("--rows", default=64, show_default=True, help="Training rows of each side.")
@click.option("--pages", default=100, show_default=True, help="Dev pages that each side is evaluated on.")
@click.option("--small", default=10, show_default=True, help="Pages of the growth measurement, and ten times as many.")
def bench(rows: int, pages: int, small: int) -> None:
    """Time the published settings against the lesson's, factor by factor (a few minutes)."""
    from course_utils.maintain.bench import bench

    bench(rows, pages, small, click.echo)


@main.command()
@click.argument("names", nargs=-1)
def trials(names: tuple[str, ...]) -> None:
    """Run lesson 07 with other seeds, rates and wordings (all, or those named), and renew data/precomputed."""
    from course_utils.maintain.trials import trials

    trials(names, click.echo)


@main.command("full-size")
def full_size() -> None:
    """Train the 2B model's true configuration, random weights, for a step on this CPU; say what fits which GPU."""
    from course_utils.maintain.full_size import full_size

    full_size(click.echo)


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
def book() -> None:
    """Make a website in build/book of the lessons that were run, the report and docs/ (`make book` installs Sphinx)."""
    from course_utils.maintain.book import make_book

    make_book(paths.BUILD, click.echo)


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


@main.command()
@click.argument("folder", type=click.Path(path_type=Path), default="wheels")
@click.option("--platform", type=click.Choice(["linux", "macos", "windows"]), default="linux", show_default=True)
@click.option("--python", type=click.Choice(["3.11", "3.12", "3.13"]), default="3.11", show_default=True)
@click.option("--cuda", is_flag=True, help="For Linux with a GPU: 6 GB more.")
@click.option("--torch-index", default="", help="Take torch without CUDA from this index. [default: PyTorch's own]")
def wheelhouse(folder: Path, platform: str, python: str, cuda: bool, torch_index: str) -> None:
    """Download every wheel for one platform into FOLDER, to install the course without a network, checked by hash."""
    from course_utils.maintain.wheelhouse import CPU_INDEX, make_wheelhouse

    make_wheelhouse(folder, platform, python, cuda, click.echo, torch_index or CPU_INDEX)


@main.command()
@click.option(
    "--profile", type=ANY_PROFILE, default="tiny", show_default=True, help="Whose models and pages to search."
)
@click.option(
    "--collection", help="Search a collection that lesson 12 saved (such as manual), in place of the test pages."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8010,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes any that is free.",
)
@click.option("--open/--no-open", "show", default=True, help="Open the page in the browser.")
def serve(profile: str, collection: str | None, port: int, show: bool) -> None:
    """Open a search page for the test pages or a collection of your own, on this machine only; Ctrl+C ends it."""
    import webbrowser

    from course_utils import search
    from course_utils.machine import quiet
    from course_utils.profiles import load_profile

    quiet()
    if collection:
        from course_utils.documents import load_collection

        engine, embedded = load_collection(collection)
        click.echo(f"{len(engine.corpus.corpus)} pages, {embedded} of them new")
    else:
        engine = search.load_engine(load_profile(profile))
    server = search.start(engine, port)
    click.echo(f"{server.address} (Ctrl+C ends it)")
    if show:
        webbrowser.open(server.address)
    server.wait()


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
