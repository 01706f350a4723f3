import net from 'node:net';
import { once } from 'node:events';
import { endTogether } from '../../bench/wire/socket-pair.js';
import { statementReader } from './statement-reader.js';

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

interface Armed {
  readonly fault: CommitFault;
  readonly isMeant: (statement: string) => boolean;
  readonly tag: string;
  readonly met: () => void;
}

/** A TCP proxy in front of PostgreSQL that can lose the answer to a COMMIT. */
export async function startProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const sockets = new Set<net.Socket>();
  let armed: Armed | undefined;
  let down = false;

  // Without noDelay a message of several packets waits 40 ms for an acknowledgement.
  const server = net.createServer({ noDelay: true }, (client) => {
    if (down) {
      client.destroy();
      return;
    }
    const upstream = net.connect({ ...target, noDelay: true });
    let swallowing: { tag: string; met: () => void } | undefined;
    endTogether(client, upstream, sockets);
    const read = statementReader();
    client.on('data', (chunk: Buffer) => {
      const messages = read(chunk);
      const at = messages.findIndex(({ statement }) => statement !== undefined && armed?.isMeant(statement));
      if (armed && at !== -1) {
        const { fault, tag, met } = armed;
        armed = undefined;
        if (fault === 'cut-before') {
          // What stands before it in the same packet is delivered: the record's UPDATE, for one.
          upstream.end(Buffer.concat(messages.slice(0, at).map(({ bytes }) => bytes)));
          client.destroy();
          met();
          return;
        }
        swallowing = { tag, met };
      }
      upstream.write(Buffer.concat(messages.map(({ bytes }) => bytes)));
    });
    upstream.on('data', (chunk: Buffer) => {
      if (!swallowing) {
        client.write(chunk);
        return;
      }
      // The tag of the answer: now it is committed, and now nobody hears of it.
      if (!chunk.includes(`${swallowing.tag}\0`)) return;
      client.destroy();
      swallowing.met();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as net.AddressInfo).port,
    faultNextCommit: (fault) =>
      new Promise(
        (met) => (armed = { fault, isMeant: (statement) => statement === 'COMMIT', tag: 'COMMIT', met }),
      ),
    loseAnswerTo: (text, tag) =>
      new Promise(
        (met) =>
          (armed = { fault: 'swallow-answer', isMeant: (statement) => statement.includes(text), tag, met }),
      ),
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
