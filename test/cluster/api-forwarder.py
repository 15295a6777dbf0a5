#!/usr/bin/env python3
"""api-forwarder.py LAB_PID HOST PORT PORT_FILE: makes HOST:PORT of the lab's network reachable on a free port of 127.0.0.1 outside it.

A socket stays in the network namespace where it was made. So this listens outside, writes its port to PORT_FILE, and hands the
listening socket to itself inside the lab, where it ends together with the lab.
"""
import asyncio
import os
import socket
import sys


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()  # one direction broke: the other must end too


async def serve(listener, host, port):
    async def connection(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()  # the API server is away; clients see a closed connection and try again
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(connection, sock=listener)
    await server.serve_forever()


if sys.argv[1] == '--inside':
    fd, host, port = sys.argv[2:]
    asyncio.run(serve(socket.socket(fileno=int(fd)), host, int(port)))
else:
    lab_pid, host, port, port_file = sys.argv[1:]
    listener = socket.create_server(('127.0.0.1', 0), backlog=128)
    listener.set_inheritable(True)
    with open(port_file + '.new', 'w') as f:
        f.write(str(listener.getsockname()[1]))
    os.rename(port_file + '.new', port_file)
    os.execvp('nsenter', ['nsenter', '-t', lab_pid, '-n', '-p', '--', sys.executable, __file__, '--inside', str(listener.fileno()), host, port])
