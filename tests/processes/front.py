"""A front in a process of its own, to be killed: `python -m … FOLDER FORK FATE`.

FATE "dies" kills the template first. Writes one line of JSON when everything runs: the pids of the
workers, one of which hangs, and of the template.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.processes.living import answer, living

HANGS = """
    import os, time

    def handle(data, context):
        if data is not None:
            for row in data:
                while row["body"].get("hang"):
                    pass
            return [os.getpid() for _ in data]
"""


async def main():
    folder, fork, template_dies = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3] == "dies"
    async with living(folder, HANGS, fork=fork, workers=2) as (live, supervisor):
        await live.until_ready(2)
        hanging = asyncio.create_task(answer(live, b'{"hang": true}'))
        await asyncio.sleep(0.1)
        pids = [*supervisor.pids()]
        if template_dies:
            os.kill(supervisor.template_pid, signal.SIGKILL)
        elif supervisor.template_pid:
            pids.append(supervisor.template_pid)
        sys.stdout.write(json.dumps(pids) + "\n")
        sys.stdout.flush()
        await hanging


if __name__ == "__main__":
    asyncio.run(main())
