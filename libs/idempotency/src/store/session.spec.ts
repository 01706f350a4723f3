import { EventEmitter } from 'node:events';
import type { Client } from 'pg';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ConnectionLostError } from './connection-lost.error.js';
import { openSession, Session } from './session.js';

/** A client whose answers the test gives. Real ones are exercised by the end-to-end tests. */
class ScriptedClient extends EventEmitter {
  readonly sent: string[] = [];
  readonly #answers: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  readonly connection = { stream: { destroy: vi.fn() } };

  constructor(readonly pipeline: boolean) {
    super();
  }

  query(text: string): Promise<unknown> {
    this.sent.push(text);
    return new Promise((resolve, reject) => this.#answers.push({ resolve, reject }));
  }

  answer(): void {
    this.#answers.shift()?.resolve({ rows: [] });
  }

  fail(error: Error): void {
    this.#answers.shift()?.reject(error);
  }
}

function checkout(pipeline = true) {
  const client = new ScriptedClient(pipeline);
  const release = vi.fn<(error?: Error) => void>();
  return { client, release, session: new Session(client as unknown as Client, release) };
}

const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
afterEach(() => void vi.useRealTimers());

describe('Session', () => {
  it('sends statements together on a connection that pipelines', () => {
    const { client, session } = checkout(true);
    void session.query({ text: 'one' });
    void session.query({ text: 'two' });
    expect(client.sent).toEqual(['one', 'two']);
  });

  it('sends one after another on a connection that does not, also after one that failed', async () => {
    const { client, session } = checkout(false);
    const one = session.query({ text: 'one' });
    const two = session.query({ text: 'two' });
    await settle();
    expect(client.sent).toEqual(['one']);
    client.fail(new Error('refused'));
    await expect(one).rejects.toThrow('refused');
    await settle();
    expect(client.sent).toEqual(['one', 'two']);
    client.answer();
    await two;
  });

  it('goes back to the pool exactly once, and hears nothing of what comes after', () => {
    const { client, release, session } = checkout();
    session.release();
    session.release();
    session.destroy(new Error('late'));
    expect(release).toHaveBeenCalledTimes(1);
    expect(release).toHaveBeenCalledWith(undefined);
    const next = new Session(client as unknown as Client, vi.fn());
    client.emit('error', new Error('of the next'));
    expect([session.isLost, next.isLost]).toEqual([false, true]);
    // However many sessions a connection sees, one listener stays.
    expect([client.listenerCount('error'), client.listenerCount('end')]).toEqual([1, 1]);
    expect(client.connection.stream.destroy).not.toHaveBeenCalled();
  });

  it('listens until the pool does: at no moment does an error of the connection end the process', () => {
    const { client, release, session } = checkout();
    let listeners = 0;
    release.mockImplementation(() => {
      listeners = client.listenerCount('error');
    });
    session.release();
    expect(listeners).toBeGreaterThan(0);
  });

  it('is destroyed exactly once, the socket first', () => {
    const { client, release, session } = checkout();
    const order: string[] = [];
    client.connection.stream.destroy.mockImplementation(() => order.push('socket'));
    release.mockImplementation(() => order.push('pool'));
    const error = new Error('given up');
    session.destroy(error);
    session.destroy(error);
    session.release();
    expect(order).toEqual(['socket', 'pool']);
    expect(release).toHaveBeenCalledWith(error);
  });

  it.each(['error', 'end'])('is lost when its client says %s, and goes back as broken', async (event) => {
    const { client, release, session } = checkout();
    expect(session.isLost).toBe(false);
    client.emit(event, new Error('terminating connection'));
    expect(session.isLost).toBe(true);
    const error = await session.lost;
    await expect(session.query({ text: 'one' })).rejects.toBe(error);
    expect(client.sent).toEqual([]);
    session.release();
    expect(release).toHaveBeenCalledWith(error);
  });

  it('keeps the first reason of its loss', async () => {
    const { client, session } = checkout();
    client.emit('error', new Error('first'));
    client.emit('end');
    await expect(session.lost).resolves.toMatchObject({ message: 'first' });
  });

  it('gives up on work that takes too long, and on the connection with it', async () => {
    const { client, release, session } = checkout();
    const late = expect(session.within(100, session.query({ text: 'slow' }))).rejects.toThrow(
      ConnectionLostError,
    );
    await vi.advanceTimersByTimeAsync(100);
    await late;
    expect(client.connection.stream.destroy).toHaveBeenCalledTimes(1);
    expect(release).toHaveBeenCalledTimes(1);
    expect(session.isEnded).toBe(true);
  });

  it('leaves no timer behind after work that came in time', async () => {
    const { session } = checkout();
    await expect(session.within(100, Promise.resolve(1))).resolves.toBe(1);
    await expect(session.within(100, Promise.reject(new Error('failed')))).rejects.toThrow('failed');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('rolls back before it gives the connection back', async () => {
    const { client, release, session } = checkout();
    const done = session.rollbackAndRelease(100);
    expect(client.sent).toEqual(['ROLLBACK']);
    expect(release).not.toHaveBeenCalled();
    client.answer();
    await done;
    expect(release).toHaveBeenCalledWith(undefined);
    await session.rollbackAndRelease(100);
    expect(client.sent).toEqual(['ROLLBACK']);
  });

  it('destroys the connection when the rollback fails, or is not answered', async () => {
    const failing = checkout();
    const failed = failing.session.rollbackAndRelease(100);
    failing.client.fail(new Error('no'));
    await failed;
    expect(failing.client.connection.stream.destroy).toHaveBeenCalledTimes(1);
    expect(failing.release).toHaveBeenCalledWith(expect.objectContaining({ message: 'no' }));

    const silent = checkout();
    const unanswered = silent.session.rollbackAndRelease(100);
    await vi.advanceTimersByTimeAsync(100);
    await unanswered;
    expect(silent.client.connection.stream.destroy).toHaveBeenCalledTimes(1);
    expect(silent.release).toHaveBeenCalledTimes(1);
  });
});

describe('openSession', () => {
  it('gives a connection that comes too late straight back', async () => {
    const client = new ScriptedClient(true);
    const release = vi.fn<(error?: Error) => void>();
    let connect!: (value: { client: Client; release: (error?: Error) => void }) => void;
    const source = {
      connect: () =>
        new Promise<{ client: Client; release: (error?: Error) => void }>((resolve) => (connect = resolve)),
    };
    const refused = expect(openSession(source, 100)).rejects.toThrow('within 100 ms');
    await vi.advanceTimersByTimeAsync(100);
    await refused;
    expect(release).not.toHaveBeenCalled();
    connect({ client: client as unknown as Client, release });
    await settle();
    expect(release).toHaveBeenCalledTimes(1);
    expect(release).toHaveBeenCalledWith();
  });

  it('passes on why no connection can be had', async () => {
    const source = { connect: () => Promise.reject(new Error('ECONNREFUSED')) };
    await expect(openSession(source, 100)).rejects.toThrow('ECONNREFUSED');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('stays quiet when a connection fails after it was given up', async () => {
    let fail!: (error: Error) => void;
    const source = { connect: () => new Promise<never>((_, reject) => (fail = reject)) };
    const refused = expect(openSession(source, 100)).rejects.toThrow('within 100 ms');
    await vi.advanceTimersByTimeAsync(100);
    await refused;
    // An unhandled rejection would fail the run.
    fail(new Error('late'));
    await settle();
  });
});
