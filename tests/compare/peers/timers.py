"""Runs aiotools' timers: timers.py asyncio|uvloop COUNT SECONDS

The second line on stdin starts them; each line is answered with the ticks of all, and the nanoseconds that the
last tick of the first timer was behind its place on the grid.
"""

import asyncio
import sys
import time

import aiotools
import uvloop


async def main(count, interval):
    loop = asyncio.get_running_loop()
    ticks = 0
    first = None
    watched = 0
    behind = 0

    async def tick(_):
        nonlocal ticks
        ticks += 1

    async def watched_tick(_):
        nonlocal ticks, first, watched, behind
        now = time.monotonic_ns()
        first = first or now
        behind = max(0, now - first - round(watched * interval * 1e9))
        watched += 1
        ticks += 1

    timers = []
    lines = 0
    # Read in another thread, as stdin can't be awaited.
    while await loop.run_in_executor(None, sys.stdin.readline):
        lines += 1
        if lines == 2:
            timers = [aiotools.create_timer(watched_tick, interval)]
            timers += [aiotools.create_timer(tick, interval) for _ in range(count - 1)]
        print(ticks, behind, flush=True)
    for timer in timers:
        timer.cancel()


loop, count, seconds = sys.argv[1:]
runner = {"asyncio": asyncio.run, "uvloop": uvloop.run}[loop]
runner(main(int(count), float(seconds)))
