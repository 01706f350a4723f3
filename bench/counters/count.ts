import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { ORDER } from '../load/load.js';
import type { Platform, ServerSettings } from '../server/settings.js';
import { type ServerUnderTest, startServerUnderTest } from '../services/server-under-test.js';
import { startWireCounter, type WireCounter } from '../wire/wire-counter.js';

/** What one request costs, on average over many, one after another. */
export interface Cost {
  /** Round trips to PostgreSQL that the answer waits for. */
  readonly roundTrips: number;
  /** Executions of statements, BEGIN and COMMIT among them. */
  readonly statements: number;
  /** Bytes of WAL. */
  readonly walBytes: number;
  /** Flushes of the WAL by the backend that serves the request: somebody waits for each of them. With the few of the server's start. */
  readonly synchronousFlushes: number;
  /** Bytes allocated on the heap of the server's process. */
  readonly allocatedBytes: number;
}

/** What is counted: the handler without the library and with it, and what is answered without the handler. */
export type Counted =
  | 'plain'
  | 'first execution'
  | 'replay'
  /** By a process that has not seen the record before. */
  | 'first replay'
  | 'cached replay'
  | 'duplicate in flight';

export interface CountOptions {
  readonly databaseUrl: string;
  readonly platform: Platform;
  readonly pipeline: boolean;
}

const REQUESTS = 100;
const WARM_UP = 100;
const MOST_ROUND_TRIPS = 20;

/** Counts on a server of its own. Nothing of it is a time: it says the same on every machine. */
export async function count(what: Counted, options: CountOptions): Promise<Cost> {
  const look = new pg.Client({ connectionString: options.databaseUrl });
  await look.connect();
  try {
    const known = randomUUID();
    if (what === 'first replay') {
      await executeElsewhere(known, options);
      await alone(look);
    }
    const before = await flushes(look);
    let requests = 0;
    const counted = await onServer(what, known, options, async ({ server, wire, send: sendOne }) => {
      const send = (): Promise<void> => {
        requests++;
        return sendOne();
      };
      for (let request = 0; request < WARM_UP; request++) await send();
      await quiet(wire);
      const wal = await walBytes(look);
      const { statements } = wire.counts();
      const { heapBytes } = await server.ask('collect-garbage');
      for (let request = 0; request < REQUESTS; request++) await send();
      await quiet(wire);
      return {
        statements: (wire.counts().statements - statements) / REQUESTS,
        walBytes: ((await walBytes(look)) - wal) / REQUESTS,
        allocatedBytes: ((await server.ask('usage')).heapBytes - heapBytes) / REQUESTS,
        roundTrips: await awaitedRoundTrips(wire, send),
      };
    });
    // A backend tells what it has counted, at the latest, when it ends.
    await alone(look);
    return { ...counted, synchronousFlushes: ((await flushes(look)) - before) / requests };
  } finally {
    await look.end();
  }
}

/**
 * How many round trips to PostgreSQL the answer to a request waits for: the smallest number after which the way may be closed, and
 * the answer comes all the same.
 */
async function awaitedRoundTrips(wire: WireCounter, send: () => Promise<void>): Promise<number> {
  for (let allowed = 0; allowed < MOST_ROUND_TRIPS; allowed++) {
    await quiet(wire);
    wire.closeAfter(allowed);
    const answered = send().then(() => 'answered' as const);
    // Either it is answered, or it asks for the round trip that is not let through, and then it waits in vain.
    const first = await Promise.race([answered, wire.closed().then(() => 'closed' as const)]);
    const isOver = first === 'answered' || (await isAnsweredSoon(answered));
    wire.open();
    await answered;
    if (isOver) return allowed;
  }
  throw new Error(`a request waits for ${MOST_ROUND_TRIPS} round trips or more`);
}

/** What comes after the answer may be the first that is not let through: the answer is then on its way already. */
async function isAnsweredSoon(answered: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const waited = new Promise((resolve) => (timer = setTimeout(resolve, 500, 'waited')));
  const first = await Promise.race([answered, waited]);
  clearTimeout(timer);
  return first !== 'waited';
}

async function walBytes(look: pg.Client): Promise<number> {
  const { rows } = await look.query<{ at: string }>(`SELECT pg_current_wal_insert_lsn() - '0/0' AS at`);
  return Number(rows[0]?.at);
}

/** How often backends of clients have flushed the WAL so far, as far as they have told. */
async function flushes(look: pg.Client): Promise<number> {
  const { rows } = await look.query<{ flushes: string }>(
    `SELECT sum(fsyncs) AS flushes FROM pg_stat_io WHERE object = 'wal' AND backend_type = 'client backend'`,
  );
  return Number(rows[0]?.flushes);
}

/** Waits until every other client's backend has ended. */
async function alone(look: pg.Client): Promise<void> {
  for (;;) {
    const { rows } = await look.query(
      `SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    if (rows.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

interface Bench {
  readonly server: ServerUnderTest;
  readonly wire: WireCounter;
  /** Sends one request, and checks its answer. */
  readonly send: () => Promise<void>;
}

/** Another process executes what is to be replayed. */
async function executeElsewhere(
  known: string,
  { databaseUrl, platform, pipeline }: CountOptions,
): Promise<void> {
  const server = await startServerUnderTest({
    platform,
    pipeline,
    protection: 'no cache',
    databaseUrl,
    redisUrl: '',
    poolSize: 1,
  });
  try {
    await server.know('/protected', known, WARM_UP + REQUESTS + MOST_ROUND_TRIPS);
  } finally {
    await server.stop();
  }
}

async function onServer<T>(
  what: Counted,
  known: string,
  { databaseUrl, platform, pipeline }: CountOptions,
  work: (bench: Bench) => Promise<T>,
): Promise<T> {
  const wire = await startWireCounter(databaseUrl);
  const protection: ServerSettings['protection'] =
    what === 'plain' ? 'absent' : what === 'cached replay' ? 'memory' : 'no cache';
  const settings = { platform, pipeline, protection, databaseUrl: wire.url, redisUrl: '', poolSize: 1 };
  const server = await startServerUnderTest(settings, { countsHeap: true });
  try {
    const bench = { server, wire, send: sender(server.url, what, known) };
    switch (what) {
      case 'plain':
      case 'first execution':
      case 'first replay':
        return await work(bench);
      case 'replay':
      case 'cached replay':
        await server.know('/protected', known, 1);
        return await work(bench);
      case 'duplicate in flight':
        return await server.holding(`${known}-0`, () => work(bench));
    }
  } finally {
    await server.stop();
    await wire.stop();
  }
}

const REQUEST: Readonly<Record<Counted, { path: string; expected: number }>> = {
  plain: { path: '/plain', expected: 201 },
  'first execution': { path: '/protected', expected: 201 },
  replay: { path: '/protected', expected: 200 },
  'first replay': { path: '/protected', expected: 200 },
  'cached replay': { path: '/protected', expected: 200 },
  'duplicate in flight': { path: '/held', expected: 409 },
};

function sender(url: string, what: Counted, known: string): () => Promise<void> {
  const { path, expected } = REQUEST[what];
  let replayed = 0;
  return async () => {
    const key = keyOf(what, known, replayed++);
    const headers = { 'content-type': 'application/json', 'idempotency-key': key };
    const answer = await fetch(url + path, { method: 'POST', body: ORDER, headers });
    const text = await answer.text();
    if (answer.status !== expected) throw new Error(`${path}: ${answer.status} ${text}`);
  };
}

function keyOf(what: Counted, known: string, number: number): string {
  switch (what) {
    case 'plain':
    case 'first execution':
      return randomUUID();
    case 'first replay':
      return `${known}-${number}`;
    case 'replay':
    case 'cached replay':
    case 'duplicate in flight':
      return `${known}-0`;
  }
}

/** What is still under way when a request is answered, as a ROLLBACK that nobody waits for, is counted with it. */
async function quiet(wire: WireCounter): Promise<void> {
  for (let last = -1; last !== wire.counts().statements;) {
    last = wire.counts().statements;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
