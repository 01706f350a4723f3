import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ForbiddenException, Logger } from '@nestjs/common';
import {
  DatabaseNotPreparedError,
  IdempotencyAdmin,
  IdempotencyConfigurationError,
} from 'nestjs-pg-idempotency';
import type pg from 'pg';
import { DataSource } from 'typeorm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { isPooled } from './support/database.js';
import { statuses } from './support/http.js';
import { problemCode } from './support/stage.js';
import { startProxy, type TcpProxy } from './support/tcp-proxy.js';
import {
  openDataSource,
  startTenantsApp,
  statementsOf,
  type Tenant,
  tenantRoute,
  Tenants,
  type TenantsApp,
} from './support/tenants.js';
import { deferred, until } from './support/until.js';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of closing.splice(0).toReversed()) await close();
});

async function start(
  idempotency: Parameters<typeof startTenantsApp>[1]['idempotency'] = {},
  tenants = newTenants(),
) {
  const app = await startTenantsApp(tenants, {
    controllers: [tenantRoute('plain'), tenantRoute('lease', { mode: 'lease' })],
    idempotency,
  });
  closing.push(() => app.close());
  return { app, tenants };
}

/** Two tenants whose databases are looked after often: each has a record under `label`. */
async function startForTwo() {
  const { app, tenants } = await start({ reapInterval: 50, completer: { after: 50, interval: 20 } });
  const [leaving, staying] = [await tenants.open('leaving'), await tenants.open('staying')];
  const label = tenants.play(({ write }) => write());
  await app.post('plain', leaving, label);
  await app.post('plain', staying, label);
  return { app, tenants, leaving, staying, label, warnings: logged('warn') };
}

function newTenants(): Tenants {
  const tenants = new Tenants();
  closing.push(() => tenants.close());
  return tenants;
}

/** A tenant whose database is reached through a proxy that can be taken down. */
async function behindProxy(tenants: Tenants, name: string): Promise<{ tenant: Tenant; proxy: TcpProxy }> {
  let proxy: TcpProxy | undefined;
  const database = await tenants.open(`${name} directly`);
  const { hostname: host, port } = new URL(database.database.url);
  proxy = await startProxy({ host, port: Number(port) });
  const { port: proxied } = proxy;
  closing.push(() => proxy.close());
  const tenant = await tenants.open(name, {
    url: (own) => Object.assign(new URL(own), { port: String(proxied) }).href,
  });
  return { tenant, proxy };
}

/** What was logged, as text. */
function logged(level: 'error' | 'warn'): string[] {
  const texts: string[] = [];
  vi.spyOn(Logger.prototype, level).mockImplementation(
    (...args: unknown[]) => void texts.push(args.join(' ')),
  );
  return texts;
}

/** Makes the record of a key one whose time was over long ago. */
const expire = (tenant: Tenant, key: string): Promise<unknown> =>
  tenant.rows(
    `UPDATE idempotency_keys SET expires_at = clock_timestamp() - interval '1 minute' WHERE key = $1`,
    [key],
  );

describe('a database that is first seen', () => {
  it('is prepared once when it is first seen under load, by two instances at once', async () => {
    const tenants = newTenants();
    const tenant = await tenants.open('a');
    const [one, two] = [await start({}, tenants), await start({}, tenants)];
    const statements = statementsOf(tenant.dataSource);
    const labels = Array.from({ length: 32 }, () => tenants.play(({ write }) => write()));
    const answers = await Promise.all(
      labels.flatMap((label) => [one, two].map(({ app }) => app.post('plain', tenant, label))),
    );
    for (const label of labels) expect(await tenant.notes(label)).toEqual(['']);
    const names = await tenant.rows<{ name: string }>(
      'SELECT name FROM idempotency_keys_migrations ORDER BY name',
    );
    expect(names.length).toBeGreaterThan(1);
    expect(new Set(names.map(({ name }) => name)).size).toBe(names.length);
    // Each instance once, whoever waits meanwhile.
    expect(statements.filter((text) => text.includes('pg_advisory_xact_lock('))).toHaveLength(2);
    expect(
      statements.filter((text) => text.startsWith('INSERT INTO "idempotency_keys_migrations"')),
    ).toHaveLength(names.length);
    expect(statuses(answers)[201]).toBe(32);
    expect(Object.keys(statuses(answers)).every((status) => ['200', '201', '409'].includes(status))).toBe(
      true,
    );
  });

  it('answers 503 and runs nothing while it cannot be reached, and serves once it can', async () => {
    const { app, tenants } = await start({ acquireTimeout: '2s' });
    const { tenant, proxy } = await behindProxy(tenants, 'shaky');
    const steady = await tenants.open('steady');
    const errors = logged('error');
    logged('warn');
    const label = tenants.play(({ write }) => write());
    proxy.setDown(true);
    const [down, again, other] = [
      await app.post('plain', tenant, label),
      await app.post('plain', tenant, label),
      await app.post('plain', steady, label),
    ];
    expect([tenants.runs(tenant, label), await tenant.notes(label)]).toEqual([0, []]);
    expect(await steady.notes(label)).toEqual(['']);
    expect([down.status, again.status, other.status]).toEqual([503, 503, 201]);
    expect(problemCode(down)).toBe('IDEMPOTENCY_STORE_UNAVAILABLE');
    expect(Number(down.headers['retry-after'])).toBeGreaterThan(0);
    await expect(app.app.get(IdempotencyAdmin).of(tenant.dataSource).list()).rejects.toThrow(
      DatabaseNotPreparedError,
    );
    // Once, with the database and without its password.
    const told = errors.filter((text) => text.includes('is not prepared'));
    expect(new Set(told).size).toBe(told.length);
    expect(told[0]).toMatch(/^Database test_\w+ at 127\.0\.0\.1:\d+ is not prepared: .+ answered 503/);
    expect(told.join()).not.toContain(new URL(tenant.database.url).password || 'no password');

    proxy.setDown(false);
    const back = await until('it serves again', async () => {
      const answer = await app.post('plain', tenant, label);
      return answer.status === 201 && answer;
    });
    expect(await tenant.notes(label)).toEqual(['']);
    expect(back.status).toBe(201);

    proxy.setDown(true);
    const [later, onSteady] = [tenants.play(({ write }) => write()), tenants.play(({ write }) => write())];
    expect((await app.post('plain', tenant, later)).status).toBe(503);
    expect((await app.post('plain', steady, onSteady)).status).toBe(201);
    proxy.setDown(false);
    await until('it serves again', async () => (await app.post('plain', tenant, later)).status === 201);
    expect(await tenant.notes(later)).toEqual(['']);
  });

  it('answers 503 with the fix in the log while its schema is not there', async () => {
    const { app, tenants } = await start({ migrations: 'check' });
    const tenant = await tenants.open('bare');
    const errors = logged('error');
    logged('warn');
    const label = tenants.play(({ write }) => write());
    const refused = await app.post('plain', tenant, label);
    expect([await tenant.notes(label), await tenant.tables()]).toEqual([[], []]);
    expect(refused.status).toBe(503);
    expect(errors).toEqual([
      expect.stringMatching(/lacks .+ apply the SQL of migrationSql\('idempotency_keys'\)/),
    ]);
    const admin = app.app.get(IdempotencyAdmin).of(tenant.dataSource);
    const fault = await admin.list().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(fault).toMatchObject({ cause: expect.any(IdempotencyConfigurationError) as unknown });

    // As soon as somebody has applied it.
    await (
      await start({}, tenants)
    ).app.post(
      'plain',
      tenant,
      tenants.play(() => 'migrated'),
    );
    expect((await app.post('plain', tenant, label)).status).toBe(201);
    expect(await tenant.notes(label)).toEqual(['']);
  });

  it('keeps a request waiting for no longer than acquireTimeout while another instance migrates', async () => {
    const { app, tenants } = await start({ acquireTimeout: '300ms' });
    const tenant = await tenants.open('slow');
    logged('warn');
    const client = await tenant.database.pool.connect();
    try {
      await client.query('BEGIN');
      await client.query(
        `SELECT pg_advisory_xact_lock(hashtextextended('nestjs-pg-idempotency:idempotency_keys', 0))`,
      );
      const label = tenants.play(({ write }) => write());
      const began = performance.now();
      const refused = await app.post('plain', tenant, label);
      const tookMs = performance.now() - began;
      expect([tenants.runs(tenant, label), refused.status]).toEqual([0, 503]);
      expect(tookMs).toBeGreaterThan(250);
      expect(tookMs).toBeLessThan(5_000);
      await client.query('COMMIT');
      // What went on meanwhile was for the next one.
      await until('it is prepared', async () => (await app.post('plain', tenant, label)).status === 201);
      expect(await tenant.notes(label)).toEqual(['']);
    } finally {
      client.release();
    }
  });
});

describe('a dataSource function', () => {
  /** Asks with a function of its own, and says what came of it. */
  async function asking(dataSource: (tenant: Tenant) => unknown) {
    const tenants = newTenants();
    const tenant = await tenants.open('a');
    const { app } = await start(
      { acquireTimeout: '300ms', dataSource: (() => dataSource(tenant)) as () => DataSource },
      tenants,
    );
    const errors = logged('error');
    logged('warn');
    const label = tenants.play(({ write }) => write());
    const answer = await app.post('plain', tenant, label);
    const traces = [tenants.runs(tenant, label), await tenant.notes(label), await app.own.tables()];
    return { answer, traces, errors: errors.join('\n') };
  }

  it('may return a promise', async () => {
    const { answer, traces } = await asking((tenant) => Promise.resolve(tenant.dataSource));
    expect(traces).toEqual([1, [''], []]);
    expect(answer.status).toBe(201);
  });

  const SECRET = 'hunter2';
  it.each<[string, () => unknown, string]>([
    ['nothing', () => undefined, 'returned undefined: return the initialised DataSource'],
    ['null', () => Promise.resolve(null), 'returned null'],
    ['a text', () => `postgres://u:${SECRET}@h/d`, 'returned a string'],
    ['settings', () => ({ type: 'postgres', password: SECRET }), 'returned an object of class Object'],
    [
      'a data source that is not initialised',
      () => new DataSource({ type: 'postgres', password: SECRET }),
      'returned a DataSource that is not initialised',
    ],
    [
      'a data source of another database',
      () => new DataSource({ type: 'cockroachdb', password: SECRET, timeTravelQueries: false }),
      "returned a DataSource of type 'cockroachdb'",
    ],
    [
      'an error',
      () => Promise.reject(new Error('no registry')),
      'the dataSource function failed: Error: no registry',
    ],
  ])('that comes to %s is answered 500, and nothing runs', async (_, dataSource, told) => {
    const { answer, traces, errors } = await asking(dataSource);
    expect(traces).toEqual([0, [], []]);
    expect(answer.status).toBe(500);
    expect(problemCode(answer)).toBe('IDEMPOTENCY_DATA_SOURCE_UNRESOLVED');
    expect(answer.headers['retry-after']).toBeUndefined();
    expect(errors).toContain(told);
    expect(errors + answer.text).not.toContain(SECRET);
  });

  it('that throws an HttpException has answered the request', async () => {
    const { answer, traces } = await asking(() => {
      throw new ForbiddenException('suspended');
    });
    expect(traces).toEqual([0, [], []]);
    expect([answer.status, answer.json()['message']]).toEqual([403, 'suspended']);
  });

  it('that does not come to an end is answered 503, and nothing runs', async () => {
    const never = deferred<DataSource>();
    const { answer, traces } = await asking(() => never.promise);
    expect(traces).toEqual([0, [], []]);
    expect([answer.status, problemCode(answer)]).toEqual([503, 'IDEMPOTENCY_STORE_UNAVAILABLE']);
  });

  it('of an unknown tenant is answered as it says', async () => {
    const { app, tenants } = await start();
    expect(
      (
        await app.post(
          'plain',
          'nobody',
          tenants.play(() => 'never'),
        )
      ).status,
    ).toBe(404);
  });
});

describe('the life of a database', () => {
  it('has its expired records deleted in each that was seen', async () => {
    const { app, tenants } = await start({ reapInterval: 50 });
    for (const name of ['a', 'b']) {
      const tenant = await tenants.open(name);
      const [gone, kept] = [tenants.play(() => 1), tenants.play(() => 1)];
      await app.post('plain', tenant, gone);
      await app.post('plain', tenant, kept);
      await expire(tenant, gone);
      await until('the expired record is gone', async () => (await tenant.records(gone)).length === 0);
      expect(await tenant.records(kept)).toHaveLength(1);
    }
  });

  it('asks no more than eight databases for expired records at a time', async () => {
    const tenants = newTenants();
    const tenant = await tenants.open('a');
    const sources = await Promise.all(
      Array.from({ length: 12 }, () => openDataSource(tenant.database.url, 2)),
    );
    closing.push(() => Promise.all(sources.map((source) => source.destroy())));
    let next = 0;
    const { app } = await start(
      { reapInterval: 50, dataSource: () => sources[next++ % sources.length] as DataSource },
      tenants,
    );
    await Promise.all(
      sources.map(() =>
        app.post(
          'plain',
          tenant,
          tenants.play(() => 1),
        ),
      ),
    );
    const client = await tenant.database.pool.connect();
    const waiting = async (): Promise<number> => {
      const rows = await tenant.rows(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rows.length;
    };
    try {
      await client.query('BEGIN');
      await client.query('LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE');
      await until('all that may ask are asking', async () => (await waiting()) === 8);
      // Several intervals of the other four.
      const began = performance.now();
      await until('500 ms have passed', async () => {
        expect(await waiting()).toBe(8);
        return performance.now() - began > 500;
      });
    } finally {
      await client.query('ROLLBACK');
      client.release();
    }
  });

  it('ends with its data source: nothing runs for it, others go on, and one of that name begins anew', async () => {
    const { app, tenants, leaving, staying, label, warnings } = await startForTwo();
    logged('error');
    await leaving.dataSource.destroy();
    const refused = tenants.play(({ write }) => write());
    expect((await app.post('plain', leaving, refused)).status).toBe(500);
    expect(tenants.runs(leaving, refused)).toBe(0);
    await expire(staying, label);
    await until('the other one is looked after', async () => (await staying.records(label)).length === 0);
    // Nothing has looked at a closed pool in several of its rounds.
    expect(warnings.filter((text) => /were not (?:deleted|looked for)/.test(text))).toEqual([]);

    const connections = await leaving.rows(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tenant'`,
    );
    // A pooler keeps its own.
    if (!isPooled()) expect(connections).toEqual([]);
    await leaving.dataSource.initialize();
    expect((await app.post('plain', leaving, refused)).status).toBe(201);
    expect(await leaving.notes(refused)).toEqual(['']);
    await expire(leaving, label);
    await until('it is looked after again', async () => (await leaving.records(label)).length === 0);
  });

  it('is left alone while its data source closes', async () => {
    const { app, tenants, leaving, staying, warnings } = await startForTwo();
    const { master } = leaving.dataSource.driver as unknown as { master: pg.Pool };
    // It closes for as long as somebody has one of its connections.
    const client = await master.connect();
    const closed = leaving.dataSource.destroy();
    try {
      expect(leaving.dataSource.isInitialized).toBe(true);
      for (let round = 1; round <= 3; round++) {
        const next = tenants.play(({ write }) => write());
        await app.post('plain', staying, next);
        await expire(staying, next);
        await until('the other one is looked after', async () => (await staying.records(next)).length === 0);
      }
    } finally {
      client.release();
    }
    await closed;
    expect(warnings).toEqual([]);
  });

  it('keeps no closed data source in memory', async () => {
    const { app, tenants } = await start({ reapInterval: 50, completer: { after: 50, interval: 20 } });
    const tenant = await tenants.open('a');
    const label = tenants.play(() => 1);
    let current: DataSource | undefined = await openDataSource(tenant.database.url);
    const resolve = vi
      .spyOn(tenants, 'find')
      .mockImplementation(() => ({ ...tenant, dataSource: current as DataSource }));
    expect((await app.post('plain', tenant, label)).status).toBe(201);
    resolve.mockRestore();
    await current.destroy();
    const closed = new WeakRef(current);
    current = undefined;
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    await until('it is collected', () => {
      collect();
      return closed.deref() === undefined;
    });
  });

  it('ends with the application: reapers stop, and no connection is left in use', async () => {
    const tenants = newTenants();
    const tenant = await tenants.open('a');
    const app: TenantsApp = await startTenantsApp(tenants, {
      controllers: [tenantRoute('plain')],
      idempotency: { reapInterval: 20 },
    });
    const label = tenants.play(() => 1);
    await app.post('plain', tenant, label);
    await app.close();
    const statements = statementsOf(tenant.dataSource);
    await expire(tenant, label);
    // The rounds of another application, which has the same interval, are the clock.
    const clock = await tenants.open('clock');
    const { app: other } = await start({ reapInterval: 20 }, tenants);
    await other.post(
      'plain',
      clock,
      tenants.play(() => 1),
    );
    const rounds = statementsOf(clock.dataSource);
    await until('many rounds', () => rounds.filter((text) => text.startsWith('BEGIN')).length > 10);
    expect(statements).toEqual([]);
    expect(await tenant.records(label)).toHaveLength(1);
  });
});
