import net from 'node:net';
import { once } from 'node:events';

/** What happens to the next COMMIT that passes. */
export type CommitFault =
  /** It reaches PostgreSQL, is carried out, and its answer does not come back. */
  | 'swallow-answer'
  /** The connection is cut before it reaches PostgreSQL. */
  | 'cut-before';

export interface TcpProxy {
  readonly port: number;
  /** Arms the next COMMIT; resolves when it has met its fault. */
  faultNextCommit(fault: CommitFault): Promise<void>;
  /** The same for the next statement with this text, whose answer ends with this command tag. */
  loseAnswerTo(text: string, tag: string): Promise<void>;
  /** Refuses new connections and cuts the open ones, or accepts them again. */
  setDown(down: boolean): void;
  close(): Promise<void>;
}

/** `COMMIT` as a simple query of PostgreSQL's wire protocol: type, length, text, NUL. */
const COMMIT = Buffer.from('Q\0\0\0\x0bCOMMIT\0', 'latin1');

/** A TCP proxy in front of PostgreSQL that can lose the answer to a COMMIT. */
export async function startProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const sockets = new Set<net.Socket>();
  let armed: { fault: CommitFault; statement: Buffer; tag: string; met: () => void } | undefined;
  let down = false;

  const server = net.createServer((client) => {
    if (down) {
      client.destroy();
      return;
    }
    const upstream = net.connect(target.port, target.host);
    let swallowing: { tag: string; met: () => void } | undefined;
    const cut = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', cut);
      socket.on('close', () => {
        sockets.delete(socket);
        cut();
      });
    }
    client.on('data', (chunk: Buffer) => {
      const at = armed ? chunk.indexOf(armed.statement) : -1;
      if (!armed || at === -1) {
        upstream.write(chunk);
        return;
      }
      const { fault, tag, met } = armed;
      armed = undefined;
      if (fault === 'cut-before') {
        // What stands before it in the same packet is delivered: the record's UPDATE, for one.
        upstream.end(chunk.subarray(0, at));
        client.destroy();
        met();
        return;
      }
      swallowing = { tag, met };
      upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!swallowing) {
        client.write(chunk);
        return;
      }
      // The tag of the answer: now it is committed, and now nobody hears of it.
      if (!chunk.includes(`${swallowing.tag}\0`)) return;
      cut();
      swallowing.met();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as net.AddressInfo).port,
    faultNextCommit: (fault) =>
      new Promise((met) => (armed = { fault, statement: COMMIT, tag: 'COMMIT', met })),
    loseAnswerTo: (text, tag) =>
      new Promise((met) => (armed = { fault: 'swallow-answer', statement: Buffer.from(text), tag, met })),
    setDown: (isDown) => {
      down = isDown;
      if (isDown) for (const socket of sockets) socket.destroy();
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
