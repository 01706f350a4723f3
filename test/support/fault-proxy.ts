import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { statementReader } from './statement-reader.js';
import { Lane, type LaneFault } from './lane.js';

/** Which way bytes go. */
export type Direction = 'to-server' | 'to-client';

/** What the way does for as long as it is set. */
export type WayFault =
  | (LaneFault & { readonly direction: Direction | 'both' })
  /** Connections are ended: with FIN, or with RST. New ones too. */
  | { readonly kind: 'drop' }
  | { readonly kind: 'reset' };

/** A TCP way to a server that can be bad in every way in which a network is. */
export interface FaultProxy {
  readonly port: number;
  /** How many connections go through it. */
  readonly connections: number;
  /** By which the server tells its connections apart: the ports that they come from. */
  serverSidePorts(): readonly number[];
  /** For all connections, open and new, until it is called again; without a fault they are as good as direct. */
  setFault(fault?: WayFault): void;
  /** One side of each open connection is ended; the other goes on. */
  halfClose(direction: Direction): void;
  /**
   * The next COMMIT on any connection reaches PostgreSQL and is carried out; its answer is swallowed, and the connection reset. Resolves
   * when that has happened.
   */
  loseCommitAnswer(): Promise<void>;
  close(): Promise<void>;
}

export interface FaultProxyOptions {
  /** Asked for each connection: a server may get its port after it was told of this one. */
  readonly targetPort: () => number;
  /** What is read on the way. Only `postgres` can lose the answer to a COMMIT. @default 'bytes' */
  readonly protocol?: 'postgres' | 'bytes';
  readonly port?: number;
}

interface Pair {
  readonly client: net.Socket;
  readonly server: net.Socket;
  readonly lanes: Readonly<Record<Direction, Lane>>;
}

/** Reads what goes by on one connection. */
interface Watcher {
  sent(chunk: Buffer): void;
  /** Whether these bytes of the server may go on. */
  mayPass(chunk: Buffer): boolean;
}

const COMMITTED = 'COMMIT\0';

export async function startFaultProxy({
  targetPort,
  protocol = 'bytes',
  port = 0,
}: FaultProxyOptions): Promise<FaultProxy> {
  const pairs = new Set<Pair>();
  let fault: WayFault | undefined;
  let waiting: (() => void)[] = [];

  const listener = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    client.on('error', () => undefined);
    if (fault?.kind === 'drop') return void client.destroy();
    if (fault?.kind === 'reset') return void client.resetAndDestroy();
    const server = net.connect({
      port: targetPort(),
      host: '127.0.0.1',
      noDelay: true,
      allowHalfOpen: true,
    });
    const lanes = {
      'to-server': new Lane(server, laneFault('to-server')),
      'to-client': new Lane(client, laneFault('to-client')),
    };
    const pair = { client, server, lanes };
    pairs.add(pair);
    forward(pair, protocol === 'postgres' ? commitWatcher(pair) : undefined);
    for (const socket of [client, server]) {
      socket.on('error', () => end(pair));
      socket.on('close', () => end(pair));
    }
  });
  const laneFault = (direction: Direction): LaneFault | undefined =>
    fault !== undefined && 'direction' in fault && [direction, 'both'].includes(fault.direction)
      ? fault
      : undefined;
  const end = (pair: Pair): void => {
    pairs.delete(pair);
    for (const socket of [pair.client, pair.server]) socket.destroy();
    for (const lane of Object.values(pair.lanes)) lane.close();
  };
  const reset = (pair: Pair): void => {
    pairs.delete(pair);
    pair.client.resetAndDestroy();
    pair.server.resetAndDestroy();
  };

  const commitWatcher = (pair: Pair): Watcher => {
    const read = statementReader();
    let met: (() => void) | undefined;
    let answer = '';
    return {
      sent: (chunk) => {
        if (!read(chunk).some(({ statement }) => statement === 'COMMIT') || met !== undefined) return;
        met = waiting.shift();
      },
      mayPass: (chunk) => {
        if (met === undefined) return true;
        answer += chunk.toString('latin1');
        // The tag of the answer: now it is committed, and now nobody hears of it.
        if (!answer.includes(COMMITTED)) return false;
        reset(pair);
        met();
        return false;
      },
    };
  };
  const forward = (pair: Pair, watcher: Watcher | undefined): void => {
    const { client, server, lanes } = pair;
    client.on('data', (chunk: Buffer) => {
      watcher?.sent(chunk);
      lanes['to-server'].send(chunk);
    });
    server.on('data', (chunk: Buffer) => {
      if (watcher?.mayPass(chunk) ?? true) lanes['to-client'].send(chunk);
    });
    client.on('end', () => lanes['to-server'].end());
    server.on('end', () => lanes['to-client'].end());
  };

  listener.listen(port, '127.0.0.1');
  await once(listener, 'listening');
  return {
    port: (listener.address() as AddressInfo).port,
    get connections() {
      return pairs.size;
    },
    serverSidePorts: () => [...pairs].flatMap(({ server }) => server.localPort ?? []),
    setFault: (next) => {
      fault = next;
      for (const pair of pairs) {
        if (next?.kind === 'drop') end(pair);
        else if (next?.kind === 'reset') reset(pair);
        else {
          pair.lanes['to-server'].setFault(laneFault('to-server'));
          pair.lanes['to-client'].setFault(laneFault('to-client'));
        }
      }
    },
    halfClose: (direction) => {
      for (const { lanes } of pairs) lanes[direction].end();
    },
    loseCommitAnswer: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
      }),
    close: async () => {
      waiting = [];
      for (const pair of pairs) end(pair);
      await new Promise((resolve) => listener.close(resolve));
    },
  };
}
