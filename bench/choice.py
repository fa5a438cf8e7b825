"""What it costs the front to choose between versions: microseconds per request, best of many.

python -m bench.choice
"""

from __future__ import annotations

import timeit

from flambeau_runtime.serving.desired import Sticky
from flambeau_runtime.serving.traffic import Chance, Split, lay_out

HEADERS = (
    b"\r\nHost: models.example.com\r\nUser-Agent: python-requests/2.32\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nX-Request-Id: 0f1e2d3c4b5a\r\nX-User-Id: user-12345\r\n"
    b"Cookie: theme=dark; session=0123456789abcdef; lang=en\r\nContent-Length: 120\r\n"
)
TIMES = 100_000


class Taker:
    """Stands for a version."""

    queue = None


def main() -> None:
    """Print a table."""
    default = Taker()
    parts = [(share, Taker()) for share in lay_out([("2.0", 10)])]
    four = [(share, Taker()) for share in lay_out([(str(i), 10) for i in range(4)])]
    known = {"m": default}
    ways = {
        "no split (a look into a dictionary)": lambda: known.get("m"),
        "by chance": Split("m", default, parts, Chance()),
        "by chance, five versions": Split("m", default, four, Chance()),
        "by a header": Split("m", default, parts, Chance(), Sticky(header="x-user-id")),
        "by a cookie": Split("m", default, parts, Chance(), Sticky(cookie="session")),
    }
    print("| choice | µs |\n|---|---|")
    for name, way in ways.items():
        call = (lambda way=way: way.pick(HEADERS)) if isinstance(way, Split) else way
        best = min(timeit.repeat(call, number=TIMES, repeat=7)) / TIMES * 1e6
        print(f"| {name} | {best:.2f} |")


if __name__ == "__main__":
    main()
