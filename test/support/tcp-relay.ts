import { once } from 'node:events';
import net from 'node:net';
import { endTogether } from '../../bench/wire/socket-pair.js';

/** Which way bytes go: from who connected to the target, or back. */
export type Direction = 'to-target' | 'to-client';

/** An address that can be moved from one server to another, as a virtual IP is, or a proxy's. */
export interface TcpRelay {
  readonly port: number;
  /** New connections go there; open ones stay where they are. */
  retarget(port: number): void;
  /** Keeps what goes that way from arriving, until {@link release}. */
  hold(direction: Direction): void;
  /** Delivers what was held. */
  release(): void;
  /** Ends every open connection. What was held is never delivered. */
  cut(): void;
  close(): Promise<void>;
}

export async function startRelay(targetPort: number): Promise<TcpRelay> {
  const sockets = new Set<net.Socket>();
  let target = targetPort;
  let held: Direction | undefined;

  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ port: target, host: '127.0.0.1', noDelay: true });
    endTogether(client, upstream, sockets);
    forward(client, upstream, 'to-target');
    forward(upstream, client, 'to-client');
  });
  const waiting = new Set<() => void>();
  const forward = (from: net.Socket, to: net.Socket, direction: Direction): void => {
    let kept: Buffer[] = [];
    const deliver = (): void => {
      for (const chunk of kept) to.write(chunk);
      kept = [];
    };
    waiting.add(deliver);
    from.once('close', () => waiting.delete(deliver));
    from.on('data', (chunk: Buffer) => {
      if (held === direction) kept.push(chunk);
      else to.write(chunk);
    });
    from.on('end', () => to.end());
  };

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as net.AddressInfo).port,
    retarget: (port) => (target = port),
    hold: (direction) => (held = direction),
    release: () => {
      held = undefined;
      for (const deliver of waiting) deliver();
    },
    cut,
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
