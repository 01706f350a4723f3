import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from './support/database.js';
import { until } from './support/until.js';
import { type FaultProxy, startFaultProxy } from './support/fault-proxy.js';

/** One end of a connection, and what has come to it. */
class End {
  readonly chunks: Buffer[] = [];
  error: NodeJS.ErrnoException | undefined;
  isEnded = false;
  isClosed = false;

  constructor(readonly socket: net.Socket) {
    socket.on('data', (chunk: Buffer) => this.chunks.push(chunk));
    socket.on('end', () => (this.isEnded = true));
    socket.on('error', (error) => (this.error = error));
    socket.on('close', () => (this.isClosed = true));
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }

  async has(text: string): Promise<void> {
    await until(`${text} arrives`, () => this.text === text);
  }

  async closes(): Promise<void> {
    await until('it is closed', () => this.isClosed);
  }
}

describe('the way with faults', () => {
  let server: net.Server;
  let proxy: FaultProxy;
  let arrived: End[];

  beforeEach(async () => {
    arrived = [];
    server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      arrived.push(new End(socket)),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    proxy = await startFaultProxy({ targetPort: () => (server.address() as AddressInfo).port });
  });
  afterEach(async () => {
    await proxy.close();
    for (const { socket } of arrived) socket.destroy();
    server.close();
  });

  const dial = (): End =>
    new End(net.connect({ port: proxy.port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true }));
  const connect = async (): Promise<{ client: End; behind: End }> => {
    const client = dial();
    const before = arrived.length;
    const behind = await until('the server is reached', () => arrived[before]);
    return { client, behind };
  };
  const talk = async ({ client, behind }: { client: End; behind: End }): Promise<void> => {
    client.socket.write('question');
    await behind.has('question');
    behind.socket.write('answer');
    await client.has('answer');
  };

  it('carries what is said both ways, and the end of either', async () => {
    const pair = await connect();
    await talk(pair);
    pair.client.socket.end();
    await until('the server hears the end', () => pair.behind.isEnded);
    pair.behind.socket.end(', and more');
    await pair.client.has('answer, and more');
    await pair.client.closes();
    await until('it is forgotten', () => proxy.connections === 0);
  });

  it('drops: open connections end without an error, and new ones at once', async () => {
    const pair = await connect();
    proxy.setFault({ kind: 'drop' });
    await until('both hear the end', () => pair.client.isEnded && pair.behind.isEnded);
    const late = dial();
    await until('it is ended', () => late.isEnded || late.isClosed);
    expect([pair.client.error?.code, late.error?.code, arrived.length]).toEqual([undefined, undefined, 1]);
    proxy.setFault();
    await talk(await connect());
  });

  it('resets: both sides hear ECONNRESET', async () => {
    const pair = await connect();
    await talk(pair);
    proxy.setFault({ kind: 'reset' });
    await Promise.all([pair.client.closes(), pair.behind.closes()]);
    expect([pair.client.error?.code, pair.behind.error?.code]).toEqual(['ECONNRESET', 'ECONNRESET']);
  });

  it.each(['to-server', 'to-client'] as const)(
    'swallows what goes %s, lets the other way be, and delivers it in order when the hole is gone',
    async (direction) => {
      const pair = await connect();
      const [from, to] = direction === 'to-server' ? [pair.client, pair.behind] : [pair.behind, pair.client];
      proxy.setFault({ kind: 'black-hole', direction });
      from.socket.write('one ');
      from.socket.write('two');
      // What went into the hole before would be there by the time that this is.
      to.socket.write('the other way');
      await from.has('the other way');
      expect(to.text).toBe('');
      proxy.setFault();
      await to.has('one two');
    },
  );

  it.each(['to-server', 'to-client'] as const)(
    'ends one side (%s), and the other goes on',
    async (direction) => {
      const pair = await connect();
      const [from, to] = direction === 'to-server' ? [pair.client, pair.behind] : [pair.behind, pair.client];
      proxy.halfClose(direction);
      await until('it hears the end', () => to.isEnded);
      to.socket.write('still here');
      await from.has('still here');
      expect(from.isEnded).toBe(false);
    },
  );

  it('delays: nothing is there before its time, and then in order', async () => {
    const pair = await connect();
    proxy.setFault({ kind: 'delay', direction: 'both', delayMs: 150 });
    const began = performance.now();
    pair.client.socket.write('a');
    pair.client.socket.write('b');
    await pair.behind.has('ab');
    expect(performance.now() - began).toBeGreaterThanOrEqual(149);
  });

  it('throttles: so many bytes in a second, and all of them', async () => {
    const pair = await connect();
    proxy.setFault({ kind: 'throttle', direction: 'to-server', bytesPerSecond: 10_000 });
    const sent = 'x'.repeat(2_000);
    const began = performance.now();
    pair.client.socket.write(sent);
    await pair.behind.has(sent);
    // The last slice is not waited for.
    expect(performance.now() - began).toBeGreaterThanOrEqual(180);
  });

  it('cuts into single bytes, and loses none', async () => {
    const pair = await connect();
    proxy.setFault({ kind: 'one-byte-chunks', direction: 'both' });
    const sent = 'what was one piece'.repeat(5);
    pair.client.socket.write(sent);
    await pair.behind.has(sent);
    expect(pair.behind.chunks.length).toBeGreaterThan(10);
  });
});

describe('the way to PostgreSQL', () => {
  let database: TestDatabase;
  let proxy: FaultProxy;

  beforeAll(async () => {
    database = await createDatabase();
    const targetPort = (): number => Number(new URL(database.url).port);
    proxy = await startFaultProxy({ targetPort, protocol: 'postgres' });
    await database.rows('CREATE TABLE effects (id int)');
  });
  afterAll(async () => {
    await proxy.close();
    await database.drop();
  });

  const connect = async (): Promise<pg.Client> => {
    const url = new URL(database.url);
    url.port = String(proxy.port);
    const client = new pg.Client({ connectionString: url.href });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  };

  it('lets a COMMIT through and swallows its answer, once', async () => {
    const [one, other] = [await connect(), await connect()];
    const lost = proxy.loseCommitAnswer();
    await one.query('BEGIN');
    await one.query('INSERT INTO effects VALUES (1)');
    await expect(one.query('COMMIT')).rejects.toThrow(/Connection terminated|ECONNRESET/);
    await lost;
    expect(await database.rows('SELECT id FROM effects')).toEqual([{ id: 1 }]);

    await other.query('BEGIN');
    await other.query('INSERT INTO effects VALUES (2)');
    expect((await other.query('COMMIT')).command).toBe('COMMIT');
    await other.end();
  });

  it('leaves COMMIT AND CHAIN alone, which is that of a claim', async () => {
    const client = await connect();
    void proxy.loseCommitAnswer();
    await client.query('BEGIN');
    expect((await client.query('COMMIT AND CHAIN')).command).toBe('COMMIT');
    await expect(client.query('COMMIT')).rejects.toThrow(/Connection terminated|ECONNRESET/);
  });
});
