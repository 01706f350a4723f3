import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import {
  Body,
  Controller,
  Headers,
  InternalServerErrorException,
  type LoggerService,
  NotFoundException,
  Post,
} from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import {
  Idempotent,
  type IdempotencyEvent,
  IdempotencyEvents,
  type IdempotencyEventType,
  idempotencyChannel,
} from 'nestjs-pg-idempotency';
import { armFailpoints } from 'nestjs-pg-idempotency/testing';
import pg from 'pg';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { IDEMPOTENCY_RUNTIME } from '../libs/idempotency/src/idempotency.runtime.js';
import type { OneDatabase } from '../libs/idempotency/src/databases/one-database.js';
import type { StartedRuntime } from '../libs/idempotency/src/idempotency.start.js';
import { keyHash } from '../libs/idempotency/src/http/key-hash.js';
import { PLATFORMS, startApp, type TestApp } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send } from './support/http.js';
import { type Deferred, deferred, until } from './support/until.js';

const TYPES: readonly IdempotencyEventType[] = [
  'claimed',
  'taken-over',
  'completed',
  'replayed',
  'rejected',
  'released',
  'unknown',
  'reaped',
];
/** No other text of these tests contains it. */
const SECRET = 'S3CRET-KEY-OF-A-CALLER';

@Controller('things')
class ThingsController {
  readonly gates = new Map<string, Deferred>();
  readonly entered = new Set<string>();
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  @Post(':id')
  @Idempotent({ maxResponseBytes: 1_000 })
  async run(@Body() { act }: { act?: string }, @Headers('x-gate') gate?: string): Promise<unknown> {
    await this.dataSource.query('INSERT INTO effects DEFAULT VALUES');
    if (gate !== undefined) {
      this.entered.add(gate);
      await this.gates.get(gate)?.promise;
    }
    if (act === 'not-found') throw new NotFoundException('no such thing');
    if (act === 'fail') throw new InternalServerErrorException('failed');
    if (act === 'crash') throw new TypeError('crashed');
    return act === 'large' ? 'x'.repeat(2_000) : { ok: true };
  }
}

/** Everything that Nest would log, as text. */
class RecordingLogger implements LoggerService {
  readonly lines: string[] = [];
  log = this.#record;
  warn = this.#record;
  error = this.#record;
  fatal = this.#record;
  debug = this.#record;
  verbose = this.#record;

  get #record(): (...parts: unknown[]) => void {
    return (...parts) => void this.lines.push(inspect(parts, { depth: 8 }));
  }
}

describe.each(PLATFORMS)('events on %s', (platform) => {
  let database: TestDatabase;
  let app: TestApp;
  let log: RecordingLogger;
  let observed: IdempotencyEvent[];
  let published: { channel: string; event: IdempotencyEvent }[];
  const listeners = TYPES.map((type) => ({
    name: idempotencyChannel(type),
    listener: (event: unknown): void =>
      void published.push({ channel: idempotencyChannel(type), event: event as IdempotencyEvent }),
  }));

  beforeAll(async () => {
    published = [];
    for (const { name, listener } of listeners) subscribe(name, listener);
    database = await createDatabase();
    await database.pool.query('CREATE TABLE effects (id serial PRIMARY KEY)');
  });
  afterAll(async () => {
    for (const { name, listener } of listeners) unsubscribe(name, listener);
    await database?.drop();
  });
  beforeEach(async () => {
    log = new RecordingLogger();
    app = await startApp({
      databaseUrl: database.url,
      platform,
      controllers: [ThingsController],
      poolSize: 4,
      idempotency: { reapInterval: false, maxAttempts: 2 },
      prepare: (nest) => nest.useLogger(log),
    });
    await database.pool.query('TRUNCATE effects, idempotency_keys, idempotency_steps');
    observed = [];
    published = [];
    app.app.get(IdempotencyEvents).events.subscribe((event) => observed.push(event));
  });
  afterEach(() => app.close());

  const post = (
    key: string | undefined,
    body: object = {},
    headers: Record<string, string> = {},
  ): Promise<Answer> =>
    send(`${app.url}/things/1`, {
      body,
      headers: { ...(key === undefined ? {} : { 'Idempotency-Key': key }), ...headers },
    });
  const named = (key: string) => ({
    keyHash: keyHash({ namespace: 'default', scope: '', key }).toString('hex'),
    operation: 'POST /things/:id',
  });
  /** The events so far, which both ways tell alike; forgets them. */
  const told = (): IdempotencyEvent[] => {
    expect(published).toEqual(
      observed.map((event) => ({ channel: `nestjs-pg-idempotency:${event.type}`, event })),
    );
    published = [];
    return observed.splice(0);
  };
  const some = expect.any(Number) as number;
  const effects = (): Promise<object[]> => database.rows('SELECT 1 FROM effects');

  it('tell of a first execution and of its replays', async () => {
    await post('k');
    await post('k');
    expect(told()).toEqual([
      { type: 'claimed', attempt: 1, ...named('k') },
      { type: 'completed', attempt: 1, status: 201, tombstone: false, durationMs: some, ...named('k') },
      { type: 'replayed', status: 201, source: 'record', ...named('k') },
    ]);
  });

  it('tell of an error that is final, and of its replay', async () => {
    await post('k', { act: 'not-found' });
    await post('k', { act: 'not-found' });
    expect(await effects()).toEqual([]);
    expect(told()).toEqual([
      { type: 'claimed', attempt: 1, ...named('k') },
      { type: 'completed', attempt: 1, status: 404, tombstone: false, durationMs: some, ...named('k') },
      { type: 'replayed', status: 404, source: 'record', ...named('k') },
    ]);
  });

  it('tell of an answer that was not kept, and of who asks for it', async () => {
    await post('k', { act: 'large' });
    await post('k', { act: 'large' });
    expect(await effects()).toHaveLength(1);
    expect(told()).toEqual([
      { type: 'claimed', attempt: 1, ...named('k') },
      { type: 'completed', attempt: 1, status: 201, tombstone: true, durationMs: some, ...named('k') },
      { type: 'rejected', code: 'IDEMPOTENCY_RESPONSE_NOT_STORED', ...named('k') },
    ]);
  });

  it('tell of a release with its error, and of the next attempt', async () => {
    await post('k', { act: 'fail' });
    await post('k', { act: 'fail' });
    await post('crash', { act: 'crash' });
    expect(await effects()).toEqual([]);
    expect(told()).toEqual([
      { type: 'claimed', attempt: 1, ...named('k') },
      {
        type: 'released',
        attempt: 1,
        error: expect.any(InternalServerErrorException) as Error,
        ...named('k'),
      },
      { type: 'claimed', attempt: 2, ...named('k') },
      {
        type: 'released',
        attempt: 2,
        error: expect.any(InternalServerErrorException) as Error,
        ...named('k'),
      },
      { type: 'claimed', attempt: 1, ...named('crash') },
      {
        type: 'released',
        attempt: 1,
        error: expect.objectContaining({ message: 'crashed' }) as Error,
        ...named('crash'),
      },
    ]);
  });

  it('tell of refusals with their code, naming the record where there is one', async () => {
    await post(undefined);
    await post('');
    const gate = deferred();
    const things = app.app.get(ThingsController);
    things.gates.set('held', gate);
    const first = post('k', {}, { 'x-gate': 'held' });
    await until('the handler is entered', () => things.entered.has('held'));
    await post('k');
    await post('k', { other: true });
    gate.resolve();
    await first;
    await post('k', { other: true });
    await database.pool.query('UPDATE idempotency_keys SET format = 9');
    await post('k');
    expect(told()).toEqual([
      { type: 'rejected', code: 'IDEMPOTENCY_KEY_REQUIRED' },
      { type: 'rejected', code: 'IDEMPOTENCY_KEY_INVALID' },
      { type: 'claimed', attempt: 1, ...named('k') },
      { type: 'rejected', code: 'IDEMPOTENCY_KEY_IN_USE', ...named('k') },
      { type: 'rejected', code: 'IDEMPOTENCY_KEY_REUSED', ...named('k') },
      { type: 'completed', attempt: 1, status: 201, tombstone: false, durationMs: some, ...named('k') },
      { type: 'rejected', code: 'IDEMPOTENCY_KEY_REUSED', ...named('k') },
      { type: 'rejected', code: 'IDEMPOTENCY_RECORD_UNREADABLE', ...named('k') },
    ]);
  });

  it('tell of a store that cannot be reached', async () => {
    await database.pool.query('ALTER TABLE idempotency_keys RENAME TO away');
    try {
      await post('k');
    } finally {
      await database.pool.query('ALTER TABLE away RENAME TO idempotency_keys');
    }
    expect(await effects()).toEqual([]);
    expect(told()).toEqual([{ type: 'rejected', code: 'IDEMPOTENCY_STORE_UNAVAILABLE', ...named('k') }]);
  });

  /** Leaves the released record `key` as a process does that dies in its handler. */
  async function abandon(key: string): Promise<void> {
    const owner = new pg.Client({ connectionString: database.url });
    await owner.connect();
    await owner.query(`UPDATE idempotency_keys SET status = 'pending' WHERE key = $1`, [key]);
    await owner.query('BEGIN');
    await owner.query('SELECT 1 FROM idempotency_keys WHERE key = $1 FOR UPDATE', [key]);
    // As PostgreSQL does when the connection is gone, which a pooler is told before PostgreSQL is.
    await owner.query('ROLLBACK');
    await owner.end();
  }

  it('tell of a takeover before the attempt that begins by it, and of attempts that are used up', async () => {
    await post('k', { act: 'fail' });
    await abandon('k');
    told();
    await post('k', { act: 'fail' });
    expect(told()).toEqual([
      { type: 'taken-over', attempt: 2, ...named('k') },
      { type: 'claimed', attempt: 2, ...named('k') },
      { type: 'released', attempt: 2, error: expect.any(Error) as Error, ...named('k') },
    ]);
    await abandon('k');
    await database.pool.query('UPDATE idempotency_keys SET abandoned = 1');
    await abandon('k');
    await post('k', { act: 'fail' });
    expect(await effects()).toEqual([]);
    expect(told()).toEqual([{ type: 'rejected', code: 'IDEMPOTENCY_ATTEMPTS_EXHAUSTED', ...named('k') }]);
  });

  it('tell of a lost answer to COMMIT, and of what became of it', async () => {
    const { master } = app.dataSource.driver as unknown as {
      master: { _clients: { connection: { stream: { destroy(): void } } }[] };
    };
    const disarm = armFailpoints((point) => {
      if (point !== 'commit-sent') return;
      disarm();
      for (const { connection } of master._clients) connection.stream.destroy();
    });
    let answer: Answer;
    try {
      answer = await post('k');
    } finally {
      disarm();
    }
    const committed = (await effects()).length === 1;
    expect(answer.status).toBe(committed ? 201 : 503);
    expect(told()).toEqual([
      { type: 'claimed', attempt: 1, ...named('k') },
      { type: 'unknown', attempt: 1, resolution: committed ? 'committed' : 'rolled-back', ...named('k') },
      committed
        ? { type: 'completed', attempt: 1, status: 201, tombstone: false, durationMs: some, ...named('k') }
        : { type: 'rejected', code: 'IDEMPOTENCY_ATTEMPT_LOST', ...named('k') },
    ]);
  });

  it('tell how many expired records were deleted', async () => {
    await post('a');
    await post('b');
    await database.pool.query('UPDATE idempotency_keys SET expires_at = now()');
    told();
    const { databases } = app.app.get<StartedRuntime>(IDEMPOTENCY_RUNTIME);
    await (databases as OneDatabase).database.reaper.reap();
    expect(told()).toEqual([{ type: 'reaped', count: 2 }]);
  });

  it('end with the application', async () => {
    let ended = false;
    app.app.get(IdempotencyEvents).events.subscribe({ complete: () => (ended = true) });
    await app.close();
    expect(ended).toBe(true);
  });

  it('carry keys as hashes only, and so does the log', async () => {
    const secret = (name: string): string => `${SECRET}-${name}`;
    const disarm = armFailpoints(() => undefined);
    const things = app.app.get(ThingsController);
    const gate = deferred();
    things.gates.set('secret', gate);
    const first = post(secret('done'), {}, { 'x-gate': 'secret' });
    await until('the handler is entered', () => things.entered.has('secret'));
    await post(secret('done'));
    gate.resolve();
    await first;
    await post(secret('done'));
    await post(secret('done'), { other: true });
    for (const act of ['large', 'fail', 'crash', 'not-found']) {
      await post(secret(act), { act });
      await post(secret(act), { act });
    }
    await post(`"${secret('unfinished')}`);
    await post(secret('long').repeat(12));
    await abandon(secret('fail'));
    await post(secret('fail'), { act: 'fail' });
    await database.pool.query(`UPDATE idempotency_keys SET format = 9 WHERE key = $1`, [secret('done')]);
    await post(secret('done'));
    await database.pool.query('ALTER TABLE idempotency_keys RENAME TO away');
    await post(secret('outage'));
    await database.pool.query('ALTER TABLE away RENAME TO idempotency_keys');
    // PostgreSQL's own words for a duplicate would hold the whole row.
    await database.pool.query(
      `ALTER TABLE idempotency_keys ADD CONSTRAINT mine CHECK (key NOT LIKE '%refused%')`,
    );
    await post(secret('refused'));
    await database.pool.query('ALTER TABLE idempotency_keys DROP CONSTRAINT mine');
    disarm();

    const events = told();
    expect(new Set(events.map(({ type }) => type))).toEqual(
      new Set(['claimed', 'completed', 'replayed', 'rejected', 'released', 'taken-over']),
    );
    expect(JSON.stringify(events)).not.toContain(SECRET);
    const logged = log.lines.join('\n');
    expect(logged).not.toContain(SECRET);
    // There was something to tell, and it names the record by its hash.
    const hash = named(secret('done')).keyHash.slice(0, 16);
    expect(logged).toMatch(new RegExp(`POST /things/:id \\(key ${hash}\\): IDEMPOTENCY_RECORD_UNREADABLE`));
    expect(logged).toMatch(/IDEMPOTENCY_STORE_UNAVAILABLE/);
    for (const event of events) {
      expect(inspect(event, { depth: 10 }), event.type).not.toContain(SECRET);
    }
  });
});
