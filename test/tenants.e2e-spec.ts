import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { BadGatewayException, ConflictException, Logger } from '@nestjs/common';
import {
  AdminNotBoundError,
  type IdempotencyEvent,
  IdempotencyAdmin,
  IdempotencyEvents,
} from 'nestjs-pg-idempotency';
import { memoryCache } from 'nestjs-pg-idempotency/memory';
import { DataSource } from 'typeorm';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { PLATFORMS } from './support/app.js';
import { statuses } from './support/http.js';
import { LedgerEntry, problemCode } from './support/stage.js';
import {
  startTenantsApp,
  statementsOf,
  type Tenant,
  tenantRoute,
  Tenants,
  type TenantsApp,
} from './support/tenants.js';
import { until } from './support/until.js';

const ALL_TABLES = [
  'idempotency_audit',
  'idempotency_keys',
  'idempotency_keys_migrations',
  'idempotency_steps',
];

/** Who is signed in, as an application keeps it. */
const signedIn = new AsyncLocalStorage<string>();

describe.each(PLATFORMS)('tenants on databases of their own, on %s', (platform) => {
  const tenants = new Tenants();
  let app: TenantsApp;
  let a: Tenant;
  let b: Tenant;

  beforeAll(async () => {
    [a, b] = [await tenants.open('a'), await tenants.open('b')];
    app = await startTenantsApp(tenants, {
      platform,
      controllers: [
        tenantRoute('plain'),
        tenantRoute('wait', { onInFlight: 'wait' }),
        tenantRoute('lease', { mode: 'lease' }),
        tenantRoute('lease-wait', { mode: 'lease', onInFlight: 'wait' }),
        tenantRoute('once', { mode: 'lease', onAbandoned: 'fail' }),
        tenantRoute('optional', { required: false }),
      ],
      idempotency: {
        completer: {
          after: 100,
          interval: 20,
          restore: (request, { dataSource }) => {
            request.headers['x-tenant'] = tenants.named(dataSource);
          },
        },
      },
      prepare: (nest) => {
        nest.use((_request: unknown, _response: unknown, next: () => void) => signedIn.run('a caller', next));
      },
    });
  });
  afterAll(async () => {
    await app?.close();
    await tenants.close();
  });

  const everybodyElse = async (tenant: Tenant, label: string): Promise<unknown> => {
    const other = tenant === a ? b : a;
    return [await other.notes(label), await other.records(label).catch(() => []), await app.own.tables()];
  };

  it.each(['plain', 'lease'])(
    "keeps the record beside the tenant's rows and nowhere else (%s)",
    async (path) => {
      const label = tenants.play(async ({ attempt, write, tenant }) => {
        await (path === 'plain' ? write('mine') : attempt.phase('write', () => write('mine')));
        return { of: tenant.name };
      });
      const answers = [await app.post(path, a, label), await app.post(path, a, label)];
      expect(await a.notes(label)).toEqual(['mine']);
      expect(await a.records(label)).toMatchObject([{ status: 'completed', attempt: 1 }]);
      expect(await everybodyElse(a, label)).toEqual([[], [], []]);
      expect(await a.tables()).toEqual(ALL_TABLES);
      expect(answers.map(({ status, text }) => [status, text])).toEqual([
        [201, '{"of":"a"}'],
        [200, '{"of":"a"}'],
      ]);
    },
  );

  it.each(['plain', 'wait', 'lease', 'lease-wait'])(
    'runs once in each of two tenants when each gets 32 identical requests with one key (%s)',
    async (path) => {
      const isLease = path.startsWith('lease');
      const label = tenants.play(async ({ attempt, write, tenant }) => {
        await (isLease ? attempt.phase('write', () => write(tenant.name)) : write(tenant.name));
        return { of: tenant.name };
      });
      const answers = await Promise.all(
        Array.from({ length: 64 }, (_, index) => app.post(path, index % 2 === 0 ? a : b, label)),
      );
      for (const [index, tenant] of [a, b].entries()) {
        expect(await tenant.notes(label)).toEqual([tenant.name]);
        expect(tenants.runs(tenant, label)).toBe(1);
        const own = answers.filter((_, at) => at % 2 === index);
        const good = own.filter(({ status }) => status < 300);
        expect(statuses(own)[201]).toBe(1);
        expect(new Set(good.map(({ text }) => text))).toEqual(new Set([`{"of":"${tenant.name}"}`]));
        expect(good.length + (statuses(own)[409] ?? 0)).toBe(32);
        if (path.endsWith('wait')) expect(good).toHaveLength(32);
      }
    },
  );

  it('commits rows and record together or not at all: an error, a lost connection, a retry', async () => {
    const failing = tenants.play(async ({ write }) => {
      await write('gone');
      throw new ConflictException();
    });
    expect((await app.post('plain', a, failing)).status).toBe(409);
    expect(await a.notes(failing)).toEqual([]);
    expect(await a.records(failing)).toMatchObject([{ status: 'error', response_status: 409 }]);

    const killed = tenants.play(async ({ write, run, attempt }) => {
      await write(`run ${run}`);
      if (run === 1) {
        const [{ pid }] = await attempt.manager.query<[{ pid: number }]>('SELECT pg_backend_pid() AS pid');
        await a.rows('SELECT pg_terminate_backend($1)', [pid]);
        await attempt.manager.query('SELECT 1');
      }
      return { run };
    });
    const first = await app.post('plain', a, killed);
    expect(await a.notes(killed)).toEqual([]);
    const retry = await app.post('plain', a, killed);
    expect(await a.notes(killed)).toEqual(['run 2']);
    expect([first.status, retry.status, retry.text]).toEqual([503, 201, '{"run":2}']);
    expect(await everybodyElse(a, killed)).toEqual([[], [], []]);
  });

  it("leaves another data source than the request's to itself, and joins nested work of its own", async () => {
    const label = tenants.play(async ({ write, ledger }) => {
      await write('mine');
      await ledger.manager.transaction((manager) => manager.save(LedgerEntry, { label, note: 'mine too' }));
      await b.dataSource.getRepository(LedgerEntry).save({ label, note: 'apart' });
      throw new ConflictException();
    });
    await app.post('plain', a, label);
    expect([await a.notes(label), await b.notes(label)]).toEqual([[], ['apart']]);
    expect(await b.records(label)).toEqual([]);
  });

  it("gives the attempt the tenant's manager", async () => {
    for (const path of ['plain', 'lease']) {
      const label = tenants.play(({ attempt, tenant }) => {
        return { same: attempt.manager.dataSource === tenant.dataSource };
      });
      expect((await app.post(path, b, label)).text).toBe('{"same":true}');
    }
  });

  it('asks for the database once per request with a valid key, and not without one', async () => {
    const label = tenants.play(() => 'done');
    const before = tenants.asked;
    await app.post('plain', a, label);
    await app.post('plain', a, label);
    expect(tenants.asked - before).toBe(2);
    expect((await app.post('plain', a, label, { key: '' })).status).toBe(400);
    const unkeyed = await fetch(`${app.url}/optional/${label}`, {
      method: 'POST',
      headers: { 'x-tenant': 'a' },
    });
    expect(unkeyed.status).toBe(201);
    expect(tenants.asked - before).toBe(2);
  });

  it('finishes what was left half done in each database, without asking which one it is', async () => {
    const callers: unknown[] = [];
    const label = tenants.play(async ({ attempt, write, run, tenant }) => {
      await attempt.phase('reserve', () => write(`reserved by ${tenant.name}`));
      if (run === 1) throw new BadGatewayException();
      callers.push(signedIn.getStore());
      await attempt.phase('confirm', () => write(`confirmed by ${tenant.name}`));
      return { of: tenant.name };
    });
    const before = tenants.asked;
    const first = await Promise.all([app.post('lease', a, label), app.post('lease', b, label)]);
    for (const tenant of [a, b]) {
      await until(
        'the record is final',
        async () => (await tenant.records(label))[0]?.response_status === 201,
      );
      expect(await tenant.notes(label)).toEqual([
        `reserved by ${tenant.name}`,
        `confirmed by ${tenant.name}`,
      ]);
    }
    expect(tenants.asked - before).toBe(2);
    // Not in the context of the request that a database was seen with first.
    expect(callers).toEqual([undefined, undefined]);
    const retries = await Promise.all([app.post('lease', a, label), app.post('lease', b, label)]);
    expect(first.map(({ status }) => status)).toEqual([502, 502]);
    expect(retries.map(({ text }) => text)).toEqual(['{"of":"a"}', '{"of":"b"}']);
  });

  it('decides about a record in the database that is named, and in no other', async () => {
    const label = tenants.play(async ({ attempt, write }) => {
      await attempt.phase('charge', () => write('charged'));
      throw new BadGatewayException();
    });
    await Promise.all([app.post('once', a, label), app.post('once', b, label)]);
    const admin = app.app.get(IdempotencyAdmin);
    const events: IdempotencyEvent[] = [];
    const told = app.app.get(IdempotencyEvents).events.subscribe((event) => events.push(event));
    const record = { key: label, scope: '' };
    await admin
      .of(a.dataSource)
      .complete(record, { status: 200, body: 'decided' }, { actor: 'eve', reason: 'looked' });
    told.unsubscribe();
    expect((await a.records(label))[0]).toMatchObject({ status: 'completed', response_status: 200 });
    expect((await b.records(label))[0]).toMatchObject({ status: 'pending' });
    const shown = await Promise.all([a, b].map(({ dataSource }) => admin.of(dataSource).inspect(record)));
    expect(shown.map((details) => details?.state)).toEqual(['completed', 'abandoned']);
    expect(events).toMatchObject([{ type: 'resolved', actor: 'eve' }]);
    expect((await app.post('once', a, label)).text).toBe('decided');
    expect(problemCode(await app.post('once', b, label))).toBe('IDEMPOTENCY_OUTCOME_UNKNOWN');
  });

  it('refuses decisions that do not say in which database', async () => {
    const admin = app.app.get(IdempotencyAdmin);
    const record = { key: 'k', scope: '' };
    const by = { actor: 'eve', reason: 'looked' };
    for (const call of [
      () => admin.list(),
      () => admin.inspect(record),
      () => admin.downstreamKey(record, 'charge'),
      () => admin.complete(record, { status: 200 }, by),
      () => admin.release(record, { ...by, journal: 'keep' }),
      () => admin.erase(record, by),
    ]) {
      await expect(call()).rejects.toThrow(AdminNotBoundError);
      await expect(call()).rejects.toThrow('call admin.of(dataSource)');
    }
    const closed = new DataSource({ type: 'postgres', url: a.database.url });
    for (const [given, named] of [
      [closed, 'a DataSource that is not initialised'],
      [undefined, 'undefined'],
      ['a', 'a string'],
    ] as [DataSource, string][]) {
      await expect(admin.of(given).list()).rejects.toThrow(`admin.of(dataSource): received ${named}.`);
    }
  });

  it('prepares a database that is first seen by a person', async () => {
    const fresh = await tenants.open('fresh');
    expect(await fresh.tables()).toEqual([]);
    const page = await app.app.get(IdempotencyAdmin).of(fresh.dataSource).list({ limit: 1 });
    expect(page).toEqual({ records: [] });
    expect(await fresh.tables()).toEqual(ALL_TABLES);
  });
});

describe('tenants with a replay cache', () => {
  it.each(['plain', 'lease'])(
    'are answered each from its own database, also out of memory (%s)',
    async (path) => {
      const tenants = new Tenants();
      const [a, b] = [await tenants.open('a'), await tenants.open('b')];
      const app = await startTenantsApp(tenants, {
        controllers: [tenantRoute('plain'), tenantRoute('lease', { mode: 'lease' })],
        idempotency: { replayCache: { memory: memoryCache() } },
      });
      try {
        const label = tenants.play(({ tenant }) => ({ of: tenant.name }));
        await app.post(path, a, label);
        // The same scope, key and payload: all that tells it apart is the database.
        await app.post(path, b, label);
        const asked = [statementsOf(a.dataSource), statementsOf(b.dataSource)];
        const replays = [await app.post(path, a, label), await app.post(path, b, label)];
        expect([tenants.runs(a, label), tenants.runs(b, label)]).toEqual([1, 1]);
        expect(replays.map(({ text }) => text)).toEqual(['{"of":"a"}', '{"of":"b"}']);
        expect(asked).toEqual([[], []]);
      } finally {
        await app.close();
        await tenants.close();
      }
    },
  );

  it('are not answered from it where nothing tells their servers apart, and that is said', async () => {
    const tenants = new Tenants();
    const warnings: string[] = [];
    const warn = vi
      .spyOn(Logger.prototype, 'warn')
      .mockImplementation((text) => void warnings.push(String(text)));
    const role = `tenant_${randomUUID().replaceAll('-', '')}`;
    const known = await tenants.open('known');
    await known.rows(`CREATE ROLE ${role} LOGIN PASSWORD 'tenant'`);
    const unknown = await tenants.open('unknown', {
      // A pooler knows no role but its own.
      url: (_, direct) => Object.assign(new URL(direct), { username: role, password: 'tenant' }).href,
    });
    await unknown.rows('REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC');
    await unknown.rows(`GRANT ALL ON SCHEMA public TO ${role}`);
    const app = await startTenantsApp(tenants, {
      controllers: [tenantRoute('plain')],
      idempotency: { replayCache: { memory: memoryCache() } },
    });
    try {
      const label = tenants.play(({ tenant }) => ({ of: tenant.name }));
      for (const tenant of [known, unknown])
        expect((await app.post('plain', tenant, label)).status).toBe(201);
      const asked = [statementsOf(known.dataSource), statementsOf(unknown.dataSource)];
      const replays = [await app.post('plain', known, label), await app.post('plain', unknown, label)];
      expect(replays.map(({ text }) => text)).toEqual(['{"of":"known"}', '{"of":"unknown"}']);
      expect(asked[0]).toEqual([]);
      expect(asked[1]?.length).toBeGreaterThan(0);
      const told = warnings.filter((text) => text.includes('pg_control_system'));
      expect(told).toEqual([expect.stringMatching(/^Database test_\w+ at .+: the account may not call/)]);
    } finally {
      warn.mockRestore();
      await app.close();
      await unknown.dataSource.destroy();
      // What it owns and may goes with it.
      await unknown.rows(`DROP OWNED BY ${role}`);
      await unknown.rows(`DROP ROLE ${role}`);
      await tenants.close();
    }
  });
});
