"""`flambeau rollout …`, which is `kubectl flambeau rollout …`: the commands and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from flambeau_operator.cli.options import (
    Context,
    Kubeconfig,
    Local,
    Model,
    Name,
    Namespace,
    Output,
    OutputOption,
    Session,
    Wait,
    chosen_place,
    seconds_of,
)

# What does the work (pydantic, aiohttp, Kubernetes' client) costs half a second that --help need
# not pay: it is imported where it is used.

WAIT_S = 10.0

rollout = typer.Typer(
    name="rollout",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="See how a new version comes in, and have a say in it.",
)


@rollout.command()
def status(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", "-w", help="Go on until it ended.")
    ] = True,
    timeout: Annotated[
        str | None, typer.Option(help="Watch no longer than this: 90s, 10m, 1h30m.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how a rollout stands: steps, weights, errors and latency of both versions, verdict.

    Exit codes: 0 rolled out, 1 rolled back or stalled, 2 it cannot be read, 3 still going.

    [bold]Examples[/bold]

      flambeau rollout status vision                    live, until it ended

      flambeau rollout status vision --no-watch         once

      flambeau rollout status vision --timeout 30m      what a pipeline waits for

      flambeau rollout status vision --no-watch -o json | jq -r .outcome
    """
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    timeout_s = None if timeout is None else seconds_of(timeout, "--timeout")
    as_json = output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.status(watch=watch, timeout_s=timeout_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))


@rollout.command()
def history(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the last rollouts of every model, what became of them and why."""
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    raise typer.Exit(work.run(where, name, work.history(as_json=output is Output.JSON)))


@rollout.command()
def promote(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    step: Annotated[
        bool, typer.Option("--step", help="End the current step only, and go on with the next.")
    ] = False,
    model: Model = None,
    wait: Wait = True,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring the candidate to 100 % now, whatever its steps and its analysis say.

    [bold]Examples[/bold]

      flambeau rollout promote vision           all the way

      flambeau rollout promote vision --step    on to the next step
    """
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    wait_s, as_json = WAIT_S if wait else 0.0, output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.request("promote", model, step=step, wait_s=wait_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))


@rollout.command()
def abort(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    model: Model = None,
    wait: Wait = True,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take the candidate back; the version before answers everything again.

    What was taken back is not tried again by itself: see retry.
    """
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    wait_s, as_json = WAIT_S if wait else 0.0, output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.request("abort", model, step=False, wait_s=wait_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))


@rollout.command()
def retry(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    model: Model = None,
    wait: Wait = True,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Try once more what was rolled back."""
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    wait_s, as_json = WAIT_S if wait else 0.0, output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.request("retry", model, step=False, wait_s=wait_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))


@rollout.command()
def pause(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    wait: Wait = True,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Hold rollouts where they are: sets spec.rollout.paused.

    A candidate that fails is still taken back.
    """
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    wait_s, as_json = WAIT_S if wait else 0.0, output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.pause(paused=True, wait_s=wait_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))


@rollout.command()
def resume(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    name: Name,
    *,
    wait: Wait = True,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let rollouts go on: sets spec.rollout.paused to false."""
    from flambeau_operator.cli import rollout as work  # noqa: PLC0415

    wait_s, as_json = WAIT_S if wait else 0.0, output is Output.JSON
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    job = work.pause(paused=False, wait_s=wait_s, as_json=as_json)
    raise typer.Exit(work.run(where, name, job))
