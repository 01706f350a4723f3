import type net from 'node:net';

/** Makes two sockets end together, whichever ends first, and keeps both in `open` for as long as they are there. */
export function endTogether(one: net.Socket, other: net.Socket, open: Set<net.Socket>): void {
  for (const socket of [one, other]) {
    open.add(socket);
    const end = (): void => {
      one.destroy();
      other.destroy();
    };
    socket.on('error', end);
    socket.on('close', () => {
      open.delete(socket);
      end();
    });
  }
}
