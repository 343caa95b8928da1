"""A TCP relay in front of a server, which can slow the answers down and cut a connection in the middle of one."""

import contextlib
import socket
import threading
import time

PIECE = 16 << 10


class Relay:
    """Listens on a port of its own; ``cut_after`` bytes of one connection's answers cut it, once each time it is set."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.target = None
        self.cut_after = None
        self.bytes_per_s = None
        self.answered_bytes = 0
        self.cuts = 0
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._backward, args=(server, client), daemon=True).start()

    def _forward(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(PIECE):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _backward(self, server, client):
        done = 0
        with contextlib.suppress(OSError):
            while data := server.recv(PIECE):
                done += len(data)
                self.answered_bytes += len(data)
                if self.cut_after is not None and done > self.cut_after:
                    self.cut_after = None
                    self.cuts += 1
                    break
                if self.bytes_per_s:
                    time.sleep(len(data) / self.bytes_per_s)
                client.sendall(data)
        for one in (server, client):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
