import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';

/** What has been sent over the way to PostgreSQL so far. */
export interface WireCounts {
  /** How often a connection was written to after everything written to it before had been answered. */
  readonly roundTrips: number;
  /** Queries of the simple protocol, and executions of the extended one. */
  readonly statements: number;
  /** How often the server had to plan or look up a text: Parse messages, and queries of the simple protocol. */
  readonly parses: number;
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

const QUERY = 'Q'.charCodeAt(0);
const PARSE = 'P'.charCodeAt(0);
const EXECUTE = 'E'.charCodeAt(0);
const READY_FOR_QUERY = 'Z'.charCodeAt(0);
const SYNC = 'S'.charCodeAt(0);

export async function startWireCounter(databaseUrl: string): Promise<WireCounter> {
  const target = new URL(databaseUrl);
  const sockets = new Set<net.Socket>();
  const counts = { roundTrips: 0, statements: 0, parses: 0 };
  let left = Number.POSITIVE_INFINITY;
  let kept: (() => void)[] = [];
  let tellClosed: (() => void) | undefined;

  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ port: Number(target.port), host: target.hostname, noDelay: true });
    // The start of a connection is answered with the same message as a Sync.
    let unanswered = 1;
    const toServer = frames(true, (type) => {
      if (type === QUERY || type === EXECUTE) counts.statements++;
      if (type === QUERY || type === PARSE) counts.parses++;
      if (type === QUERY || type === SYNC) unanswered++;
    });
    const toClient = frames(false, (type) => {
      if (type === READY_FOR_QUERY) unanswered--;
    });
    let isKept = false;
    client.on('data', (chunk: Buffer) => {
      const isTurn = unanswered <= 0;
      if (isTurn) {
        counts.roundTrips++;
        isKept = left <= 0;
        left--;
      }
      toServer(chunk);
      if (isKept) {
        kept.push(() => upstream.write(chunk));
        tellClosed?.();
      } else upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      toClient(chunk);
      client.write(chunk);
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
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

/** Walks the messages of PostgreSQL's protocol: a type, a length and a body; the client's first one has no type. */
function frames(isClient: boolean, onMessage: (type: number) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  let isStarted = !isClient;
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (;;) {
      const typeBytes = isStarted ? 1 : 0;
      if (rest.length < typeBytes + 4) return;
      const end = typeBytes + rest.readUInt32BE(typeBytes);
      if (rest.length < end) return;
      if (isStarted) onMessage(rest[0] as number);
      isStarted = true;
      rest = rest.subarray(end);
    }
  };
}
