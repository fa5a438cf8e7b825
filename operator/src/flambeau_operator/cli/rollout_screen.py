"""Where `flambeau rollout status --watch` writes: a live picture, lines, or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from flambeau_operator.cli.rollout_json import view_to_json
from flambeau_operator.cli.rollout_lines import Line, plain, status_lines
from flambeau_operator.cli.rollout_view import View

Screen = Callable[[View], None]
"""Shows how it stands now."""


@contextmanager
def open_screen(*, as_json: bool) -> Iterator[Screen]:
    """Choose how to write, by what was asked for and where stdout leads."""
    if as_json:
        yield _json_lines()
    elif sys.stdout.isatty():
        with _live() as screen:
            yield screen
    else:
        yield _news()


def write_lines(lines: Sequence[Line]) -> None:
    """Write lines once: in colour on a terminal, as text elsewhere."""
    if not sys.stdout.isatty():
        sys.stdout.write(plain(lines))
        return
    from rich.console import Console  # noqa: PLC0415  only where it draws
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def _json_lines() -> Screen:
    said: list[View] = []

    def show(seen: View) -> None:
        if said != [_at_rest(seen)]:
            said[:] = [_at_rest(seen)]
            sys.stdout.write(json.dumps(view_to_json(seen)) + "\n")
            sys.stdout.flush()

    return show


def _news() -> Screen:
    """Write the lines that differ from the last time: for logs and pipes."""
    said: list[Line] = []

    def show(seen: View) -> None:
        lines = [line for line in status_lines(_at_rest(seen)) if line]
        new = [line for line in lines if line not in said]
        said[:] = lines
        if new:
            sys.stdout.write(plain(new))
            sys.stdout.flush()

    return show


def _at_rest(seen: View) -> View:
    """Return the view without what runs down by itself: another second is no news."""
    models = (replace(each, pause_left_s=None, kept_for_s=None) for each in seen.models)
    return replace(seen, models=tuple(models))


@contextmanager
def _live() -> Iterator[Screen]:
    """Draw in place; the last picture stays."""
    from rich.console import Console, Group  # noqa: PLC0415  only where it draws
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def show(seen: View) -> None:
            drawn = [Text.assemble(*line) for line in status_lines(seen)]
            live.update(Group(*drawn), refresh=True)

        yield show
