"""`flambeau`: the commands, their options and their exit codes.

Exit codes: 0 all is well (for `up`: stopped as asked), 1 something is wrong with the files or with
this machine, 2 the command line itself is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau_operator.cli.options import (
    CLUSTER_ONLY,
    Context,
    Files,
    Kubeconfig,
    Local,
    Namespace,
    Output,
    OutputOption,
    Session,
    chosen_place,
    seconds_of,
)
from flambeau_operator.cli.rollout_commands import rollout

app = typer.Typer(
    name="flambeau",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  50 ms that only --version needs

        typer.echo(f"flambeau {version('flambeau-operator')}")
        raise typer.Exit


@app.callback()
def flambeau(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Serve PyTorch models from one file, and change them while they serve.

    [bold]Examples[/bold]

      flambeau validate wine.yaml          is it right, and if not, in which line?

      flambeau up wine.yaml                serve it on http://127.0.0.1:8080 until Ctrl-C

      flambeau up a.yaml b.yaml --port 0   two of them, on free ports
    """


@app.command()
def validate(files: Files, output: OutputOption = Output.TABLE) -> None:
    """Check ModelDeployments without serving them; every problem with its line, at once.

    [bold]Examples[/bold]

      flambeau validate wine.yaml

      flambeau validate *.yaml -o json
    """
    # pydantic's types cost a quarter of a second, which --help need not pay.
    from flambeau_operator.cli import verdict  # noqa: PLC0415

    raise typer.Exit(verdict.run(files, as_json=output is Output.JSON))


@app.command()
def up(
    files: Files,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port of the first; the next gets the next. 0: free ones."
        ),
    ] = 8080,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Keep logs and state here; otherwise they vanish with the command.",
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Serve ModelDeployments on this machine until Ctrl-C, following edits of the files.

    [bold]Examples[/bold]

      flambeau up wine.yaml

      flambeau up wine.yaml --port 9000 --state-dir /tmp/wine

      flambeau up wine.yaml -o json | jq .deployments
    """
    # The rest of the program (asyncio, aiohttp, rich) costs half a second that --help need not pay.
    from flambeau_operator.cli import up as serving  # noqa: PLC0415

    raise typer.Exit(serving.run(files, port, state_dir, as_json=output is Output.JSON))


@app.command()
def plan(  # noqa: PLR0913  a command line
    ctx: typer.Context,
    files: Files,
    *,
    load: Annotated[
        bool,
        typer.Option(
            "--load", help="Load the new versions in a runtime of this machine, ask them."
        ),
    ] = False,
    requests: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSON lines {body, contentType, expect} to ask; else the warm-up requests.",
        ),
    ] = None,
    within: Annotated[
        str, typer.Option(help="How long a version may take to be ready with --load.")
    ] = "15m",
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
    local: Local = False,
    session: Session = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what would follow if the files were applied, and change nothing.

    Exit codes: 0 nothing would change, 1 something would, 2 it would be refused or rolled back, or
    cannot be told.

    [bold]Examples[/bold]

      flambeau plan wine.yaml                       live, a rollout, or new pods?

      flambeau plan wine.yaml -o json | jq .deployments[].podsRoll

      flambeau plan wine.yaml --load --requests golden.jsonl    what is the new version like?
    """
    from flambeau_operator.cli import plan as planning  # noqa: PLC0415

    if requests is not None and not load:
        raise typer.BadParameter(
            "asks a version that is loaded: add --load", param_hint="--requests"
        )
    where = chosen_place(ctx, namespace, context, kubeconfig, local=local, session=session)
    within_s = seconds_of(within, "--within")
    trial = planning.TrialWanted(requests, within_s) if load else None
    raise typer.Exit(planning.run(files, where, trial, as_json=output is Output.JSON))


app.add_typer(rollout)

kubectl = typer.Typer(
    name="kubectl flambeau",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="ModelDeployments of a cluster: how new versions come in, and what an edit would change.",
)
kubectl.command()(validate)
kubectl.command()(plan)
kubectl.add_typer(rollout)


def main() -> None:
    """Run the command line."""
    app()


def main_of_kubectl() -> None:
    """Run as a plugin of kubectl: the same commands, in a cluster alone."""
    kubectl(obj=CLUSTER_ONLY, prog_name="kubectl flambeau")


if __name__ == "__main__":
    main()
