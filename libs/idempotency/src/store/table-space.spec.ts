import { describe, expect, it } from 'vitest';
import { scriptedSession } from '../../../../test/support/scripted-client.js';
import { tableSpace } from './table-space.js';

const failing = (code: string): Promise<never> => Promise.reject(Object.assign(new Error(code), { code }));

/** The space of a table as a server describes it; `system` is an error where it does not name itself. */
function spaceOf(
  { database = '5', table_oid = '16384', name = 'shop' } = {},
  system: string | { code: string } = '7421',
  table = 'idempotency_keys',
) {
  const { session, client } = scriptedSession((text) => {
    if (!text.includes('pg_control_system')) return { rows: [{ database, table_oid, name }] };
    return typeof system === 'string' ? { rows: [{ system }] } : failing(system.code);
  });
  return { space: tableSpace(session, table), client };
}

describe('the space of a table', () => {
  it('is named in 16 hexadecimal digits, and asked for by its quoted name', async () => {
    const { space, client } = spaceOf({}, '7421', 'app.keys');
    expect(await space).toEqual({ id: expect.stringMatching(/^[0-9a-f]{16}$/), namesServer: true });
    expect(client.values[0]).toEqual(['"app"."keys"']);
  });

  it('is the same whoever asks, and another one for each server, database and table', async () => {
    const ids = await Promise.all(
      [
        spaceOf(),
        spaceOf({ database: '6' }),
        spaceOf({ table_oid: '16385' }),
        spaceOf({ name: 'other' }),
        spaceOf({}, '7422'),
        spaceOf({}, '7421', 'other_keys'),
        // A server that does not name itself.
        spaceOf({}, { code: '42501' }),
      ].map(async ({ space }) => (await space).id),
    );
    expect(new Set(ids).size).toBe(ids.length);
    expect((await spaceOf().space).id).toBe(ids[0]);
  });

  it.each(['42501', '42883', '0A000'])('does not name the server where that says %s', async (code) => {
    expect(await spaceOf({}, { code }).space).toMatchObject({ namesServer: false });
  });

  it('is not guessed after any other error', async () => {
    await expect(spaceOf({}, { code: '57P01' }).space).rejects.toMatchObject({ code: '57P01' });
    const { session } = scriptedSession((text) =>
      text.includes('pg_control_system') ? Promise.reject(new Error('gone')) : { rows: [{}] },
    );
    await expect(tableSpace(session, 'keys')).rejects.toThrow('gone');
  });

  it('names no server that answers nothing', async () => {
    const { session } = scriptedSession();
    expect(await tableSpace(session, 'keys')).toMatchObject({ namesServer: false });
  });
});
