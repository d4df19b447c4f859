"""Echo on aiotools' workers: server.py asyncio|uvloop PORT WORKERS"""

import asyncio
import os
import sys

import aiotools
import uvloop


async def echo(reader, writer):
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@aiotools.server
async def worker(loop, index, args):
    (port,) = args
    server = await asyncio.start_server(
        echo, "127.0.0.1", port, reuse_port=True, backlog=4096
    )
    # One write, so that the lines of the workers stay whole.
    os.write(1, b"ready\n")
    yield
    server.close()


if __name__ == "__main__":
    loop, port, workers = sys.argv[1:]
    aiotools.start_server(
        worker,
        num_workers=int(workers),
        args=(int(port),),
        runner={"asyncio": asyncio.run, "uvloop": uvloop.run}[loop],
    )
