import type { Client } from 'pg';
import { describe, expect, it } from 'vitest';
import { isNotKept, PreparedStatements } from './prepared-statements.js';

const connection = (): Client => ({}) as Client;
const failure = (code: string): Error => Object.assign(new Error(code), { code });

describe('PreparedStatements', () => {
  it('prepares nothing until it is known that a connection leads to one backend', () => {
    const prepared = new PreparedStatements();
    expect(prepared.of(connection(), 'SELECT 1')).toBeUndefined();
    prepared.turnOn();
    expect(prepared.of(connection(), 'SELECT 1')).toMatchObject({ state: 'new' });
  });

  it('names a statement alike on all connections, and keeps what each of them knows apart', () => {
    const prepared = new PreparedStatements();
    prepared.turnOn();
    const [one, other] = [connection(), connection()];
    const known = prepared.of(one, 'SELECT 1');
    if (known) known.state = 'ready';
    expect(prepared.of(one, 'SELECT 1')).toBe(known);
    expect(prepared.of(other, 'SELECT 1')).toMatchObject({ name: known?.name, state: 'new' });
    expect(prepared.of(one, 'SELECT 2')?.name).not.toBe(known?.name);
  });

  it('prepares a statement anew after 500 executions, so that no plan for an empty table is kept', () => {
    const prepared = new PreparedStatements();
    prepared.turnOn();
    const client = connection();
    const statement = prepared.of(client, 'SELECT 1');
    if (!statement) throw new Error('it is on');
    Object.assign(statement, { state: 'ready', executions: 499 });
    expect(prepared.of(client, 'SELECT 1')?.state).toBe('ready');
    statement.executions++;
    expect(prepared.of(client, 'SELECT 1')?.state).toBe('unknown');
  });

  it.each(['26000', '42P05'])('is given up for good when a connection says %s', (code) => {
    const prepared = new PreparedStatements();
    prepared.turnOn();
    prepared.observe(failure('23505'));
    expect(prepared.isOn).toBe(true);
    prepared.observe(failure(code));
    // As when its database is prepared once more.
    prepared.turnOn();
    expect(prepared.isOn).toBe(false);
    expect(prepared.of(connection(), 'SELECT 1')).toBeUndefined();
    expect([isNotKept(failure(code)), isNotKept(failure('23505'))]).toEqual([true, false]);
  });
});
