"""Options that several commands have: where to look, and how to answer.

Nothing heavy is imported here, so that `--help` is quick.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flambeau_operator.cli.where import Where


class Output(StrEnum):
    """How answers are written."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="For people, or for programs.")
]
Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE",
        help="YAML or JSON files with ModelDeployments; several documents in a file are fine.",
        exists=True,
        dir_okay=False,
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The ModelDeployment: vision, or mdep/vision.")
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Whose rollout, where several are meant.")
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Its namespace; else the context's, or default."),
]
Context = Annotated[str | None, typer.Option(help="In the cluster of this kubeconfig context.")]
Kubeconfig = Annotated[
    str | None, typer.Option(help="In the cluster of this kubeconfig; else $KUBECONFIG.")
]
Local = Annotated[bool, typer.Option("--local", help="In a flambeau up of this machine only.")]
Session = Annotated[int | None, typer.Option(help="In the flambeau up with this process id.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the operator has taken it up.")
]
CLUSTER_ONLY = "cluster only"
"""What a Typer context holds where `flambeau up` is out of the question: a plugin of kubectl."""


def chosen_place(
    ctx: typer.Context,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    *,
    local: bool,
    session: int | None,
) -> Where:
    """Return where to look; what cannot go together is refused."""
    on_this_machine = local or session is not None
    in_a_cluster = ctx.obj == CLUSTER_ONLY or context is not None or kubeconfig is not None
    if on_this_machine and in_a_cluster:
        raise typer.BadParameter(
            "a flambeau up of this machine is in no cluster: leave one of them out",
            param_hint="--local",
        )
    return Where(namespace, context, kubeconfig, local, session, ctx.obj == CLUSTER_ONLY)


def seconds_of(text: str, option: str) -> float:
    """Return the seconds of an option that is a duration: `90s`, `1h30m`."""
    # pydantic costs a quarter of a second, which --help need not pay.
    from flambeau_operator.resources.quantities import parse_duration  # noqa: PLC0415

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
