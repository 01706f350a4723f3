import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { messageReader } from './messages.js';
import { endTogether } from './socket-pair.js';

/** What has been sent over the way to PostgreSQL so far. */
export interface WireCounts {
  /** How often a connection was written to after everything written to it before had been answered. */
  readonly roundTrips: number;
  /** Queries of the simple protocol, and executions of the extended one. */
  readonly statements: number;
}

/** A way to PostgreSQL that counts, and that can be closed to what comes next. */
export interface WireCounter {
  /** The address of the database by this way. */
  readonly url: string;
  counts(): WireCounts;
  /** Lets `roundTrips` more through, on all connections together, and keeps the rest until {@link open}. */
  closeAfter(roundTrips: number): void;
  /** Settles when something is kept back. */
  closed(): Promise<void>;
  open(): void;
  stop(): Promise<void>;
}

/** Queries of the simple protocol, and Execute of the extended one. */
const STATEMENTS: readonly (string | undefined)[] = ['Q', 'E'];
/** What the server answers with ReadyForQuery: such a query, and Sync. */
const AWAITED: readonly (string | undefined)[] = ['Q', 'S'];
const READY_FOR_QUERY = 'Z';

export async function startWireCounter(databaseUrl: string): Promise<WireCounter> {
  const target = new URL(databaseUrl);
  const sockets = new Set<net.Socket>();
  const counts = { roundTrips: 0, statements: 0 };
  let left = Number.POSITIVE_INFINITY;
  let kept: (() => void)[] = [];
  let tellClosed: (() => void) | undefined;

  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ port: Number(target.port), host: target.hostname, noDelay: true });
    // The start of a connection is answered with the same message as a Sync.
    let unanswered = 1;
    const [ofClient, ofServer] = [messageReader('client'), messageReader('server')];
    let isKept = false;
    client.on('data', (chunk: Buffer) => {
      const isTurn = unanswered <= 0;
      if (isTurn) {
        counts.roundTrips++;
        isKept = left <= 0;
        left--;
      }
      for (const { type } of ofClient(chunk)) {
        if (STATEMENTS.includes(type)) counts.statements++;
        if (AWAITED.includes(type)) unanswered++;
      }
      if (isKept) {
        kept.push(() => upstream.write(chunk));
        tellClosed?.();
      } else upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      for (const { type } of ofServer(chunk)) if (type === READY_FOR_QUERY) unanswered--;
      client.write(chunk);
    });
    endTogether(client, upstream, sockets);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const via = new URL(databaseUrl);
  via.hostname = '127.0.0.1';
  via.port = String((server.address() as AddressInfo).port);
  return {
    url: via.href,
    counts: () => ({ ...counts }),
    closeAfter: (roundTrips) => (left = roundTrips),
    closed: () => (kept.length > 0 ? Promise.resolve() : new Promise((resolve) => (tellClosed = resolve))),
    open: () => {
      left = Number.POSITIVE_INFINITY;
      for (const send of kept) send();
      kept = [];
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
