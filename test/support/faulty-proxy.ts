import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { endTogether } from '../../bench/wire/socket-pair.js';

/** What becomes of the bytes that come by. */
export type Passage =
  | { readonly kind: 'open' }
  /** They are taken and go nowhere: nobody says no, and nobody answers. */
  | { readonly kind: 'black-hole' }
  /** They arrive that much later, in their order. */
  | { readonly kind: 'late'; readonly delayMs: number };

/** A way to a server that can be bad. */
export interface FaultyProxy {
  readonly port: number;
  setPassage(passage: Passage): void;
  close(): Promise<void>;
}

export async function startFaultyProxy(targetPort: () => number): Promise<FaultyProxy> {
  let passage: Passage = { kind: 'open' };
  const sockets = new Set<net.Socket>();
  const pump = (from: net.Socket, to: net.Socket): void => {
    let last: Promise<void> = Promise.resolve();
    from.on('data', (chunk) => {
      const now = passage;
      if (now.kind === 'black-hole') return;
      const delayMs = now.kind === 'late' ? now.delayMs : 0;
      const due = performance.now() + delayMs;
      const pass = async (before: Promise<void>): Promise<void> => {
        await before;
        const left = due - performance.now();
        if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
        to.write(chunk);
      };
      last = pass(last);
    });
  };
  const server = net.createServer((client) => {
    const upstream = net.connect(targetPort(), '127.0.0.1');
    pump(client, upstream);
    pump(upstream, client);
    endTogether(client, upstream, sockets);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    setPassage: (next) => {
      passage = next;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
