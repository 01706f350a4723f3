import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

/** What a faulty server does with a question; its version and `get ready` it answers as it should. */
export type Fault = (socket: Socket, question: string) => void;

export interface FaultyMemcached {
  readonly port: number;
  /** Connections so far. */
  connections(): number;
  close(): Promise<void>;
}

/** A server that says it is a Memcached, and then answers as a test wants it to: what no real one does. */
export async function startFaultyMemcached(
  fault: Fault,
  version = 'VERSION 1.6.18\r\n',
): Promise<FaultyMemcached> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let rest = '';
    socket.on('data', (chunk: Buffer) => {
      const lines = (rest + chunk.toString('latin1')).split('\r\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === 'version') socket.write(version);
        else if (line === 'get ready') socket.write('END\r\n');
        else fault(socket, line);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
