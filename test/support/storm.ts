import { once } from 'node:events';
import net from 'node:net';

export interface StormOptions {
  /** Where the requests go, one after the other. */
  readonly urls: readonly string[];
  readonly path: string;
  readonly method: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly perSecond: number;
  readonly seconds: number;
}

export interface StormResult {
  readonly sent: number;
  readonly statuses: Readonly<Record<string, number>>;
  readonly seconds: number;
}

const CONNECTIONS_EACH = 16;
const TICK_MS = 5;

/**
 * The same request again and again, at a rate: on sockets of its own, so that asking costs little of the machine that
 * answers. A connection has one request under way; when all are busy, the rate is not held, and the result says so.
 */
export async function sendStorm(options: StormOptions): Promise<StormResult> {
  const { urls, path, method, headers = {}, body = '', perSecond, seconds } = options;
  const statuses: Record<string, number> = {};
  const free: net.Socket[] = [];
  const all: net.Socket[] = [];
  let sent = 0;
  let unanswered = 0;

  for (const url of urls) {
    const { hostname, port, host } = new URL(url);
    const lines = Object.entries({ host, ...headers, 'content-length': String(Buffer.byteLength(body)) });
    const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const request = Buffer.from(`${method} ${path} HTTP/1.1\r\n${head}\r\n${body}`);
    for (let index = 0; index < CONNECTIONS_EACH; index++) {
      const socket = net.connect(Number(port), hostname);
      await once(socket, 'connect');
      Object.assign(socket, { request });
      let answer = '';
      socket.on('data', (chunk) => {
        answer += chunk.toString('latin1');
        const length = /content-length: (\d+)\r\n/i.exec(answer)?.[1];
        const bodyAt = answer.indexOf('\r\n\r\n') + 4;
        if (bodyAt < 4 || length === undefined || answer.length < bodyAt + Number(length)) return;
        const status = answer.slice(9, 12);
        statuses[status] = (statuses[status] ?? 0) + 1;
        answer = '';
        unanswered--;
        free.push(socket);
      });
      socket.on('error', () => (statuses['broken'] = (statuses['broken'] ?? 0) + 1));
      all.push(socket);
    }
  }
  // Neighbours in the list go to different instances.
  for (let index = 0; index < CONNECTIONS_EACH; index++) {
    for (let at = 0; at < urls.length; at++) free.push(all[at * CONNECTIONS_EACH + index] as net.Socket);
  }

  const began = performance.now();
  await new Promise<void>((resolve) => {
    const tick = setInterval(() => {
      const elapsed = (performance.now() - began) / 1000;
      // What could not be sent in time is not made up for when the time is over.
      const due = elapsed < seconds ? Math.floor(elapsed * perSecond) : 0;
      for (
        let socket = sent < due ? free.shift() : undefined;
        socket;
        socket = sent < due ? free.shift() : undefined
      ) {
        socket.write((socket as net.Socket & { request: Buffer }).request);
        sent++;
        unanswered++;
      }
      if (elapsed < seconds || (unanswered > 0 && elapsed < seconds + 10)) return;
      clearInterval(tick);
      resolve();
    }, TICK_MS);
  });
  for (const socket of all) socket.destroy();
  return { sent, statuses, seconds: (performance.now() - began) / 1000 };
}
