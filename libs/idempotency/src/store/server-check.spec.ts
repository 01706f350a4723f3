import { describe, expect, it } from 'vitest';
import { type Answers, scriptedSession } from '../../../../test/support/scripted-client.js';
import { checkServer } from './server-check.js';

const GOOD = {
  version: 180004,
  standby: false,
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  read_only: 'off',
  messages: 'notice',
  backend: 731,
  keys_missing: false,
  steps_missing: false,
  unlogged: null,
};
const USABLE = {
  version: 180004,
  missingTable: undefined,
  isDirect: true,
  unusable: undefined,
  warnings: [],
};
const XMAX = 'Use PostgreSQL, and a table, partitioned or not: an abandoned record is told by its xmax.';
const failing = (code: string): Promise<never> => Promise.reject(Object.assign(new Error(code), { code }));

/** What is told of a server with these facts; the last statement reads the header of a row. */
function check(
  facts: Partial<typeof GOOD> | { unlogged: string } = {},
  { engine = 'PostgreSQL 18.4', row = () => ({}) }: { engine?: string; row?: Answers } = {},
) {
  const { session, client } = scriptedSession((text, values) => {
    if (text.includes('version()')) return { rows: engine === '' ? [] : [{ engine }] };
    if (text.includes('server_version_num')) return { rows: [{ ...GOOD, ...facts }] };
    return row(text, values);
  });
  Object.assign(client, { processID: 731 });
  return { facts: checkServer(session, 'app.idempotency_keys'), client };
}

describe('the look at the server', () => {
  it('finds nothing wrong with a good one, and asks after the table and its journal', async () => {
    const { facts, client } = check();
    expect(await facts).toEqual(USABLE);
    expect(client.values[1]).toEqual(['"app"."idempotency_keys"', '"app"."idempotency_steps"']);
    expect(client.sent[2]).toBe(`SELECT xmin, xmax FROM "app"."idempotency_keys" WHERE key_hash = ''`);
  });

  it('sees by its number of the backend whether a pooler is in between', async () => {
    expect(await check({ backend: 732 }).facts).toEqual({ ...USABLE, isDirect: false });
  });

  it.each<[Partial<typeof GOOD>, string]>([
    [
      { fsync: 'off' },
      'fsync or full_page_writes is off: a crash of the server may lose or damage committed rows',
    ],
    [
      { full_page_writes: 'off' },
      'fsync or full_page_writes is off: a crash of the server may lose or damage committed rows',
    ],
    [
      { synchronous_commit: 'off' },
      'synchronous_commit is off: a crash of the server may lose effects that were answered with success',
    ],
    [
      { messages: 'error' },
      'client_min_messages is error: a commit that PostgreSQL has stopped to replicate synchronously is taken for a replicated one',
    ],
    [{ read_only: 'on' }, 'default_transaction_read_only is on: every keyed request is answered 503'],
  ])('warns of %o', async (facts, warning) => {
    expect(await check(facts).facts).toEqual({ ...USABLE, warnings: [warning] });
  });

  it.each<[Parameters<typeof check>[0], { found: string; fix: string }]>([
    [{ version: 129999 }, { found: 'PostgreSQL 129999', fix: 'Use PostgreSQL 13 or later.' }],
    [
      { standby: true },
      { found: 'a read-only standby (pg_is_in_recovery)', fix: 'Use the primary: a replica is behind.' },
    ],
    [
      { unlogged: 'idempotency_keys' },
      {
        found: 'an UNLOGGED table',
        fix: 'A crash of the server empties it: ALTER TABLE idempotency_keys SET LOGGED.',
      },
    ],
  ])('refuses %o, without another question', async (given, unusable) => {
    const { facts, client } = check(given);
    expect(await facts).toMatchObject({ unusable, missingTable: undefined });
    expect(client.sent).toHaveLength(2);
  });

  it('takes PostgreSQL 13', async () => {
    expect(await check({ version: 130000 }).facts).toEqual({ ...USABLE, version: 130000 });
  });

  it.each<[Partial<typeof GOOD>, string]>([
    [{ keys_missing: true }, '"app"."idempotency_keys"'],
    [{ keys_missing: true, steps_missing: true }, '"app"."idempotency_keys"'],
    [{ steps_missing: true }, '"app"."idempotency_steps"'],
  ])('names the table that is not there (%o), and reads nothing of it', async (given, missingTable) => {
    const { facts, client } = check(given);
    expect(await facts).toEqual({ ...USABLE, missingTable });
    expect(client.sent).toHaveLength(2);
  });

  it.each(['CockroachDB CCL v25.2.0', 'PostgreSQL 15.2-YB-2025.1.0.0-b0'])(
    'refuses %s by its name, and asks nothing else',
    async (engine) => {
      const { facts, client } = check({}, { engine });
      expect(await facts).toEqual({
        version: 0,
        missingTable: undefined,
        isDirect: false,
        unusable: { found: engine, fix: XMAX },
        warnings: [],
      });
      expect(client.sent).toHaveLength(1);
    },
  );

  it.each(['42703', '0A000'])('refuses rows that have no header (%s)', async (code) => {
    const { facts } = check({}, { engine: 'Another 1', row: () => failing(code) });
    expect(await facts).toMatchObject({
      unusable: { found: 'rows without xmin and xmax, of Another 1', fix: XMAX },
    });
  });

  it('concludes nothing from another error', async () => {
    await expect(check({}, { row: () => failing('42501') }).facts).rejects.toMatchObject({ code: '42501' });
  });

  it('goes on where an engine does not name itself', async () => {
    expect(await check({}, { engine: '' }).facts).toEqual(USABLE);
    const { facts } = check({}, { engine: '', row: () => failing('42703') });
    expect((await facts).unusable?.found).toBe('rows without xmin and xmax, of ');
  });
});
