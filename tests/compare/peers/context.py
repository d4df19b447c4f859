"""Enters and leaves aiotools' contexts: context.py asyncio|uvloop one|group

For each number on stdin, a line with the nanoseconds that as many take.
"""

import asyncio
import sys
import time

import aiotools
import uvloop

MEMBERS = 1000


async def setup(seed):
    return seed


async def teardown(value):
    pass


@aiotools.actxmgr
async def context(seed):
    value = await setup(seed)
    try:
        yield value
    finally:
        await teardown(value)


async def one(iterations):
    for seed in range(iterations):
        async with context(seed) as value:
            value += 1


async def group(iterations):
    for seed in range(iterations):
        async with aiotools.actxgroup(context(seed + n) for n in range(MEMBERS)):
            pass


async def main(way):
    for line in sys.stdin:
        start = time.perf_counter_ns()
        await way(int(line))
        print(time.perf_counter_ns() - start, flush=True)


loop, way = sys.argv[1:]
runner = {"asyncio": asyncio.run, "uvloop": uvloop.run}[loop]
runner(main({"one": one, "group": group}[way]))
