import type { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ScriptedClient, scriptedSession } from '../../../../test/support/scripted-client.js';
import { deferred } from '../../../../test/support/until.js';
import { ConnectionLostError } from './connection-lost.error.js';
import { PreparedStatements } from './prepared-statements.js';
import { openSession, Session } from './session.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

const failing = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));

describe('a session that has ended', () => {
  it('sends nothing any more: the connection may be serving somebody else', async () => {
    const { session, client } = scriptedSession();
    session.release();
    await expect(session.query({ text: 'one' })).rejects.toThrow('the session has given its connection back');
    expect(client.sent).toEqual([]);
    expect(session.isEnded).toBe(true);
  });

  it('leaves the listener of the next one on its connection alone', () => {
    const { session, client } = scriptedSession();
    const next = new Session(client as unknown as Client, vi.fn());
    session.release();
    client.emit('error', new Error('of the next'));
    expect([session.isLost, next.isLost]).toEqual([false, true]);
  });

  it('hears nothing of its connection any more', () => {
    const { session, client } = scriptedSession();
    session.release();
    client.emit('error', new Error('later'));
    client.emit('end');
    client.emit('notice', { routine: 'SyncRepWaitForLSN' });
    expect([session.isLost, session.unreplicated]).toEqual([false, 0]);
  });
});

describe('a session whose connection is lost', () => {
  it('says why: closed by the server, not free in time, not answered in time', async () => {
    const closed = scriptedSession();
    closed.client.emit('end');
    expect(await closed.session.lost).toEqual(new ConnectionLostError('the server closed the connection'));

    const silent = scriptedSession();
    const late = expect(silent.session.within(70, new Promise(() => undefined))).rejects.toEqual(
      new ConnectionLostError('PostgreSQL did not answer within 70 ms'),
    );
    const opening = expect(openSession({ connect: () => new Promise(() => undefined) }, 80)).rejects.toEqual(
      new ConnectionLostError('no connection of the pool was free within 80 ms'),
    );
    await vi.advanceTimersByTimeAsync(80);
    await late;
    await opening;
    expect(await silent.session.lost).toMatchObject({ name: 'ConnectionLostError' });
  });

  it('tells everybody who asked, and whoever asks later', () => {
    const { session, client } = scriptedSession();
    const told = [vi.fn(), vi.fn(), vi.fn()] as const;
    session.whenLost(told[0]);
    session.whenLost(told[1]);
    expect(told[0]).not.toHaveBeenCalled();
    const error = new Error('terminated');
    client.emit('error', error);
    client.emit('error', new Error('once more'));
    session.whenLost(told[2]);
    for (const listener of told) expect(listener).toHaveBeenCalledExactlyOnceWith(error);
  });
});

describe('a connection that leads to a standby', () => {
  it('is closed in place of going back to the pool', async () => {
    const { session, client, giveBack } = scriptedSession(failing('25006'));
    await expect(session.query({ text: 'INSERT' })).rejects.toThrow('25006');
    expect(session.isLost).toBe(false);
    session.release();
    expect(giveBack).toHaveBeenCalledExactlyOnceWith(new ConnectionLostError('the server takes no writes'));
    expect(client.connection.stream.destroy).toHaveBeenCalledTimes(1);
  });

  it('is still one after a statement that it carries out', async () => {
    const { session, giveBack } = scriptedSession((text) => (text === 'INSERT' ? failing('25006')() : {}));
    await session.query({ text: 'INSERT' }).catch(() => undefined);
    await session.rollbackAndRelease(100);
    expect(giveBack).toHaveBeenCalledExactlyOnceWith(expect.any(ConnectionLostError));
  });

  it('is not told by another error', async () => {
    const { session, giveBack } = scriptedSession(failing('23505'));
    await session.query({ text: 'INSERT' }).catch(() => undefined);
    session.release();
    expect(giveBack).toHaveBeenCalledExactlyOnceWith(undefined);
  });
});

describe('the statements of a session', () => {
  it('have the parameters that they were given, in an array of their own', async () => {
    const values = Object.freeze([1, 'two']);
    const { session, client } = scriptedSession();
    const query = vi.spyOn(client, 'query');
    await session.query({ text: 'one' });
    await session.query({ text: 'two', values });
    expect(query.mock.calls).toEqual([
      ['one', undefined],
      ['two', [1, 'two']],
    ]);
    expect(query.mock.calls[1]?.[1]).not.toBe(values);
  });

  it('go out at once where nothing is in the way, also without pipelining', () => {
    const { session, client } = scriptedSession(undefined, false);
    expect(session.pipelined).toBe(false);
    void session.query({ text: 'one' });
    expect(client.sent).toEqual(['one']);
    void session.query({ text: 'two' });
    void session.query({ text: 'three' });
    expect(client.sent).toEqual(['one']);
  });

  it('keep their order without pipelining, and are at once again when all are answered', async () => {
    const gates = [deferred(), deferred(), deferred(), deferred()];
    const order: string[] = [];
    const { session } = scriptedSession(undefined, false);
    const ask = (index: number): Promise<void> =>
      session.run(async () => {
        order.push(`asks ${index}`);
        await gates[index]?.promise;
        order.push(`has ${index}`);
      });
    const asked = [ask(0), ask(1), ask(2)];
    for (const gate of gates.slice(0, 3)) gate.resolve();
    await Promise.all(asked);
    expect(order).toEqual(['asks 0', 'has 0', 'asks 1', 'has 1', 'asks 2', 'has 2']);
    void ask(3);
    expect(order.at(-1)).toBe('asks 3');
  });

  it('fail by themselves when the client does not take them at all', async () => {
    const { session } = scriptedSession();
    const refused = session.run(() => {
      throw new Error('a query must have a text');
    });
    await expect(refused).rejects.toThrow('a query must have a text');
    await expect(session.query({ text: 'one' })).resolves.toMatchObject({ rows: [] });
  });

  it('are one batch on a connection, and observed for statements that it has forgotten', async () => {
    const client = new ScriptedClient();
    const Query = class {
      readonly text = '';
    };
    Object.assign(client, { constructor: { Query } });
    const query = vi.fn((batch: { handleError(error: unknown): void }) =>
      batch.handleError(Object.assign(new Error('forgotten'), { code: '26000' })),
    );
    Object.assign(client, { query });
    const prepared = new PreparedStatements();
    prepared.turnOn();
    const session = new Session(client as unknown as Client, vi.fn(), prepared);
    await expect(session.batch([{ text: 'one' }])).rejects.toThrow('forgotten');
    expect(prepared.isOn).toBe(false);
    expect(query).toHaveBeenCalledTimes(1);
  });

  it('count the commits that the standbys may not have', () => {
    const { session, client } = scriptedSession();
    client.emit('notice', { routine: 'SyncRepWaitForLSN' });
    client.emit('notice', { routine: 'another' });
    client.emit('notice', {});
    client.emit('notice', { routine: 'SyncRepWaitForLSN' });
    expect(session.unreplicated).toBe(2);
  });
});
