import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Body, Controller, Post } from '@nestjs/common';
import { Idempotent, migrationSql } from 'nestjs-pg-idempotency';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startApp, type TestApp, type TestAppOptions } from './support/app.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { type Answer, send, statuses } from './support/http.js';
import { until } from './support/until.js';

const REVIEWED = fileURLToPath(new URL('./schema.sql', import.meta.url));
const CLI = fileURLToPath(new URL('../libs/idempotency/dist/cli.js', import.meta.url));

@Controller('echo')
class EchoController {
  @Post()
  @Idempotent()
  echo(@Body() body: unknown): unknown {
    return { body };
  }
}

let database: TestDatabase;
let apps: TestApp[];

beforeEach(async () => {
  database = await createDatabase();
  apps = [];
});
afterEach(async () => {
  await Promise.all(apps.map((app) => app.close()));
  await database.drop();
});

async function start(idempotency: TestAppOptions['idempotency'] = {}, of = database): Promise<TestApp> {
  const app = await startApp({
    databaseUrl: of.url,
    controllers: [EchoController],
    poolSize: 3,
    idempotency: { reapInterval: false, ...idempotency },
  });
  apps.push(app);
  return app;
}

const call = ({ url }: TestApp, key: string): Promise<Answer> =>
  send(`${url}/echo`, { body: { key }, headers: { 'Idempotency-Key': key } });

/** Tables of the application with what makes each of them, out of PostgreSQL's own catalogs. */
async function dumpSchema({ rows }: TestDatabase): Promise<string> {
  const tables = await rows<{ oid: number; name: string; kind: string; options: string[] | null }>(
    `SELECT c.oid::int, quote_ident(nspname) || '.' || quote_ident(relname) AS name, reloptions AS options,
            CASE relpersistence WHEN 'p' THEN 'TABLE' WHEN 'u' THEN 'UNLOGGED TABLE' ELSE 'TEMPORARY TABLE' END AS kind
       FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'p') AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
      ORDER BY 2`,
  );
  const parts = await Promise.all(
    tables.map(async ({ oid, name, kind, options }) => {
      const columns = await rows<{ line: string }>(
        `SELECT quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
                || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
                || coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
                || CASE WHEN attidentity <> '' THEN ' IDENTITY' ELSE '' END
                || CASE WHEN attstorage <> typstorage THEN ' STORAGE ' || attstorage::text ELSE '' END AS line
           FROM pg_attribute a JOIN pg_type t ON t.oid = atttypid
           LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
          WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
        [oid],
      );
      // NOT NULL stands with its column; PostgreSQL 18 keeps a constraint for it too, older ones do not.
      const constraints = await rows<{ line: string }>(
        `SELECT 'CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) AS line
           FROM pg_constraint WHERE conrelid = $1 AND contype <> 'n' ORDER BY conname`,
        [oid],
      );
      const indexes = await rows<{ line: string }>(
        `SELECT pg_get_indexdef(indexrelid) || ';' AS line FROM pg_index WHERE indrelid = $1 ORDER BY 1`,
        [oid],
      );
      const triggers = await rows<{ line: string }>(
        `SELECT pg_get_triggerdef(oid) || ';' AS line FROM pg_trigger WHERE tgrelid = $1 AND NOT tgisinternal`,
        [oid],
      );
      const lines = (list: { line: string }[]): string[] => list.map(({ line }) => line);
      return [
        `CREATE ${kind} ${name} (`,
        [...lines(columns), ...lines(constraints)].map((line) => `  ${line}`).join(',\n'),
        `)${options ? ` WITH (${options.toSorted().join(', ')})` : ''};`,
        ...lines(indexes),
        ...lines(triggers),
      ].join('\n');
    }),
  );
  return `${parts.join('\n\n')}\n`;
}

describe('the migrations', () => {
  it('run once when 8 applications start together on an empty database', async () => {
    const started = await Promise.all(Array.from({ length: 8 }, () => start()));
    expect(await database.rows('SELECT name FROM idempotency_keys_migrations ORDER BY name')).toEqual([
      { name: '0001-records' },
      { name: '0002-leases' },
    ]);
    const answers = await Promise.all(started.map((app) => call(app, 'k')));
    expect(await database.rows('SELECT key, status FROM idempotency_keys')).toEqual([
      { key: 'k', status: 'completed' },
    ]);
    expect(statuses(answers)[201]).toBe(1);
  });

  it('run once when their applications start together again and again', async () => {
    await start();
    const applied = (): Promise<object[]> =>
      database.rows('SELECT name, applied_at, xmin FROM idempotency_keys_migrations ORDER BY name');
    const before = await applied();
    const schema = await dumpSchema(database);
    await call(apps[0] as TestApp, 'kept');
    await Promise.all(Array.from({ length: 3 }, () => start()));
    expect(await applied()).toEqual(before);
    expect(await dumpSchema(database)).toBe(schema);
    expect(await database.rows('SELECT key FROM idempotency_keys')).toEqual([{ key: 'kept' }]);
  });

  it('leave nothing behind when they fail, and no connection in a transaction', async () => {
    await database.pool.query('CREATE TABLE idempotency_keys (mine text)');
    await expect(start()).rejects.toThrow(/"idempotency_keys" already exists/);
    expect(await database.rows(`SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)).toEqual([
      { tablename: 'idempotency_keys' },
    ]);
    expect(
      await database.rows(
        `SELECT state FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'`,
      ),
    ).toEqual([]);
    await database.pool.query('DROP TABLE idempotency_keys');
    await start();
  });

  it('can be applied by hand, from migrationSql(), and are then found', async () => {
    await database.pool.query(migrationSql());
    const byHand = await dumpSchema(database);
    const app = await start({ migrations: 'check' });
    await start({ migrations: 'run' });
    expect(await dumpSchema(database)).toBe(byHand);
    expect((await call(app, 'k')).status).toBe(201);

    const other = await createDatabase();
    try {
      await start({}, other);
      expect(await dumpSchema(other)).toBe(byHand);
    } finally {
      await apps.pop()?.close();
      await other.drop();
    }
  });

  it('are one transaction when they are applied by hand, which fails the second time and changes nothing', async () => {
    await database.pool.query(migrationSql());
    await expect(database.pool.query(migrationSql())).rejects.toThrow(/already exists/);
    expect(await database.rows('SELECT name FROM idempotency_keys_migrations ORDER BY name')).toEqual([
      { name: '0001-records' },
      { name: '0002-leases' },
    ]);
  });
});

describe('the command line', () => {
  const run = (...args: string[]) => spawnSync(process.execPath, [CLI, ...args], { encoding: 'utf8' });

  it('prints what migrationSql() returns', () => {
    expect(run('sql')).toMatchObject({ status: 0, stdout: migrationSql(), stderr: '' });
    expect(run('sql', '--table', 'other.my_keys')).toMatchObject({
      status: 0,
      stdout: migrationSql('other.my_keys'),
    });
  });

  it('prints its usage', () => {
    expect(run('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^Usage: .*--table NAME/s) as string,
    });
  });

  it.each([
    [[]],
    [['SQL']],
    [['sql', 'sql']],
    [['up']],
    [['sql', '--tabel', 'x']],
    [['sql', '--table']],
    [['sql', '--table', 'a"b']],
    [['sql', '--table', '']],
  ])('exits with 2 on %j, prints no SQL, and says what it takes', (args) => {
    const result = run(...args);
    expect(result).toMatchObject({ status: 2, stdout: '' });
    expect(result.stderr).toMatch(/--table/);
    expect(result.stderr).not.toMatch(/\n\s+at /);
  });
});

describe('the schema', () => {
  it('is the reviewed one of test/schema.sql (UPDATE_SCHEMA=1 writes it)', async () => {
    await start();
    const schema = await dumpSchema(database);
    if (process.env['UPDATE_SCHEMA'] === '1') writeFileSync(REVIEWED, schema);
    expect(schema).toBe(readFileSync(REVIEWED, 'utf8'));
  });

  it.each([
    'ALTER TABLE idempotency_keys ALTER COLUMN attempt SET DEFAULT 0',
    'ALTER TABLE idempotency_keys ALTER COLUMN scope DROP NOT NULL',
    'ALTER TABLE idempotency_keys ALTER COLUMN response_headers TYPE jsonb',
    'ALTER TABLE idempotency_keys ADD COLUMN more text',
    'ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_key_check',
    'ALTER TABLE idempotency_keys RESET (fillfactor)',
    'ALTER TABLE idempotency_steps SET UNLOGGED',
    'ALTER TABLE idempotency_steps SET UNLOGGED; ALTER TABLE idempotency_keys SET UNLOGGED',
    'ALTER TABLE idempotency_steps DROP CONSTRAINT idempotency_steps_key_hash_fkey',
    'ALTER TABLE idempotency_steps ALTER COLUMN body DROP NOT NULL',
    'ALTER TABLE idempotency_audit DROP CONSTRAINT idempotency_audit_action_check',
    'DROP INDEX idempotency_audit_key_hash',
    'DROP INDEX idempotency_keys_expires_at',
    'DROP INDEX idempotency_keys_lease_until',
    'CREATE INDEX more ON idempotency_keys (completed_at)',
  ])('shows a difference after %s', async (change) => {
    await database.pool.query(migrationSql());
    const before = await dumpSchema(database);
    await database.pool.query(change);
    expect(await dumpSchema(database)).not.toBe(before);
  });

  it('refuses an empty key and an unknown status by itself', async () => {
    await database.pool.query(migrationSql());
    const insert = (key: string, status: string): Promise<unknown> =>
      database.pool.query(
        `INSERT INTO idempotency_keys (key_hash, namespace, scope, key, operation, fingerprint, status, expires_at)
         VALUES ('\\x00', '', '', $1, '', '', $2, now())`,
        [key, status],
      );
    await expect(insert('', 'pending')).rejects.toMatchObject({ code: '23514' });
    await expect(insert('k', 'done')).rejects.toMatchObject({ code: '23514' });
    await insert('k', 'pending');
    await expect(insert('other', 'pending')).rejects.toMatchObject({ code: '23505' });
  });
});

describe('the table option', () => {
  it.each(['other.my_keys', 'Mixed_Case', `${'s'.repeat(40)}.${'t'.repeat(40)}`])(
    'puts everything into %s',
    async (table) => {
      const [schema, name] = table.includes('.')
        ? (table.split('.') as [string, string])
        : (['public', table] as const);
      const beside = name.replace(/_keys$/, '');
      await database.pool.query(`CREATE SCHEMA IF NOT EXISTS "${schema}"`);
      await database.pool.query(
        `CREATE SCHEMA same; CREATE TABLE same.${name === 'my_keys' ? 'my_keys' : 'x'} ()`,
      );
      const app = await start({ table });
      await start({ table });
      await start({ table, migrations: 'check' });
      expect([(await call(app, 'k')).status, (await call(app, 'k')).status]).toEqual([201, 200]);
      expect(await database.rows(`SELECT key FROM "${schema}"."${name}"`)).toEqual([{ key: 'k' }]);
      expect(
        await database.rows(
          `SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename COLLATE "C"`,
          [schema],
        ),
      ).toEqual(
        [name, `${name}_migrations`, `${beside}_audit`, `${beside}_steps`]
          .toSorted()
          .map((tablename) => ({ tablename })),
      );
      expect(
        await database.rows(`SELECT tablename FROM pg_tables WHERE tablename LIKE 'idempotency%'`),
      ).toEqual([]);
    },
  );

  it('keeps two tables of one name in two schemas apart, migrated together', async () => {
    await database.pool.query('CREATE SCHEMA a; CREATE SCHEMA b');
    const [one, two] = await Promise.all([start({ table: 'a.keys' }), start({ table: 'b.keys' })]);
    const answers = [await call(one, 'k'), await call(two, 'k')];
    expect(await database.rows('SELECT key FROM a.keys UNION ALL SELECT key FROM b.keys')).toEqual([
      { key: 'k' },
      { key: 'k' },
    ]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
  });

  it('fails the start when there is no such schema', async () => {
    await expect(start({ table: 'nowhere.keys' })).rejects.toThrow(/schema "nowhere" does not exist/);
  });
});

describe('completing a record', () => {
  const REQUESTS = 200;

  async function updates(): Promise<{ inserted: number; updated: number; hot: number }> {
    const app = await start();
    for (let index = 0; index < REQUESTS; index++) expect((await call(app, `key-${index}`)).status).toBe(201);
    // Backends report their counts when they end, at the latest.
    await app.close();
    apps = apps.filter((other) => other !== app);
    return until('the counts are reported', async () => {
      const [row] = await database.rows<{ inserted: number; updated: number; hot: number }>(
        `SELECT n_tup_ins::int AS inserted, n_tup_upd::int AS updated, n_tup_hot_upd::int AS hot
           FROM pg_stat_user_tables WHERE relname = 'idempotency_keys'`,
      );
      return row && row.inserted >= REQUESTS && row.updated >= REQUESTS ? row : undefined;
    });
  }

  it('is one HOT update: no index is touched', async () => {
    expect(await updates()).toEqual({ inserted: REQUESTS, updated: REQUESTS, hot: REQUESTS });
  });

  it('would not be one with an index over anything that it changes', async () => {
    await database.pool.query(migrationSql());
    await database.pool.query('CREATE INDEX wrong ON idempotency_keys (completed_at)');
    expect(await updates()).toEqual({ inserted: REQUESTS, updated: REQUESTS, hot: 0 });
  });
});
