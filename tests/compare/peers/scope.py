"""Spawns tasks that do nothing, and waits for them: scope.py asyncio|aiotools|trio

For each number on stdin, a line with the nanoseconds that as many take.
"""

import asyncio
import sys
import time

import aiotools
import trio

TASKS = 1000


async def task():
    pass


async def of_asyncio():
    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(task())


async def of_aiotools():
    async with aiotools.TaskScope() as scope:
        for _ in range(TASKS):
            scope.create_task(task())


async def of_trio():
    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(task)


async def main(once):
    for line in sys.stdin:
        start = time.perf_counter_ns()
        for _ in range(int(line)):
            await once()
        print(time.perf_counter_ns() - start, flush=True)


ways = {"asyncio": of_asyncio, "aiotools": of_aiotools, "trio": of_trio}
way = sys.argv[1]
if way == "trio":
    trio.run(main, ways[way])
else:
    asyncio.run(main(ways[way]))
