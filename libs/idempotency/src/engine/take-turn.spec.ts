import { describe, expect, it, vi } from 'vitest';
import { POLICY } from '../../../../test/support/engine-script.js';
import type { Known, ReplayCache } from '../cache/replay-cache.js';
import type { AttemptIdentity } from '../store/identity.js';
import type { StoredResponse } from '../store/record.js';
import type { Answered } from './answered.js';
import { InFlightRegistry } from './in-flight.registry.js';
import { Looks } from './looks.js';
import type { AttemptPolicy } from './policy.js';
import { beginTurn, takeTurn, type Turns } from './take-turn.js';
import { WaiterSlots } from './waiter-slots.js';

const identity: AttemptIdentity = {
  namespace: 'default',
  scope: '',
  key: 'k',
  keyHash: Buffer.alloc(32, 1),
  operation: 'POST /',
  fingerprint: Buffer.alloc(32, 2),
};
const policy = (parts: Partial<AttemptPolicy> = {}): AttemptPolicy => ({
  ...POLICY,
  waitTimeoutMs: 100,
  ...parts,
});
const response: StoredResponse = { status: 201, headers: {}, body: Buffer.from('paid') };
const owned = { kind: 'owned' } as const;
const inFlight: Answered = { kind: 'in-flight' };
const replay: Answered = { kind: 'replay', raised: false, response, source: 'record', expiresAtMs: 5 };

/** A cache that says what a test wants, and writes down what it is told. */
function turns(says: () => Known | undefined, slots = 2) {
  const told: unknown[] = [];
  const cache = {
    find: () => Promise.resolve(says()),
    beginLook: () => (found: unknown) => void told.push(found),
    begin: () => (outcome: unknown) => void told.push(outcome),
  } as unknown as ReplayCache;
  const parts: Turns = {
    inFlight: new InFlightRegistry(),
    waiters: new WaiterSlots(slots),
    cache,
    looks: new Looks(),
  };
  return { parts, told };
}
const hint = (): Known => ({ kind: 'in-flight' });

describe('takeTurn with a replay cache', () => {
  it('lets the database alone decide whether something may run', async () => {
    const look = vi.fn(() => Promise.resolve(owned));
    const { parts, told } = turns(() => undefined);
    expect(await takeTurn(parts, identity, policy(), look)).toBe(owned);
    expect(look).toHaveBeenCalledTimes(1);
    expect(told).toEqual([undefined]);
  });

  it('answers a final outcome without the database; a tombstone as one', async () => {
    const look = vi.fn(() => Promise.resolve(owned));
    const final = (body: Buffer | null): Known => ({
      kind: 'final',
      raised: true,
      source: 'memory',
      response: { ...response, body },
    });
    expect(await takeTurn(turns(() => final(response.body)).parts, identity, policy(), look)).toEqual({
      kind: 'replay',
      raised: true,
      source: 'memory',
      response,
    });
    expect(await takeTurn(turns(() => final(null)).parts, identity, policy(), look)).toEqual({
      kind: 'response-not-stored',
    });
    expect(look).not.toHaveBeenCalled();
  });

  it('refuses on a hint, and runs nothing', async () => {
    const look = vi.fn(() => Promise.resolve(owned));
    expect(await takeTurn(turns(hint).parts, identity, policy(), look)).toEqual(inFlight);
    expect(look).not.toHaveBeenCalled();
  });

  it.each<[string, Answered, unknown]>([
    ['a final outcome', replay, { expiresAtMs: 5, raised: false, response }],
    ['that it is in flight', inFlight, 'in-flight'],
    ['another payload', { kind: 'reused' }, undefined],
    ['a tombstone', { kind: 'response-not-stored' }, undefined],
    ['an abandoned record', { kind: 'undecided' }, undefined],
    ['too many attempts', { kind: 'attempts-exhausted' }, undefined],
    ['an unreadable record', { kind: 'record-unreadable', cause: new Error('format') }, undefined],
    ['an outcome without its end', { kind: 'replay', raised: false, response, source: 'record' }, undefined],
  ])('tells the cache of %s what the database said', async (_, answer, said) => {
    const { parts, told } = turns(() => undefined);
    expect(await takeTurn(parts, identity, policy(), () => Promise.resolve(answer))).toBe(answer);
    expect(told).toEqual([said]);
  });

  it('tells the cache nothing when the database could not be asked', async () => {
    const { parts, told } = turns(() => undefined);
    const failing = takeTurn(parts, identity, policy(), () => Promise.reject(new Error('ECONNREFUSED')));
    await expect(failing).rejects.toThrow('ECONNREFUSED');
    expect(told).toEqual([]);
  });

  it('asks the database once for duplicates that come together, and again for those that come later', async () => {
    let known: Known | undefined;
    const look = vi.fn(async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      known = hint();
      return inFlight;
    });
    const { parts } = turns(() => known);
    const ask = (): Promise<unknown> => takeTurn(parts, identity, policy(), look);
    const answers = await Promise.all(Array.from({ length: 30 }, ask));
    expect(answers).toEqual(answers.map(() => inFlight));
    expect(look).toHaveBeenCalledTimes(1);
    known = undefined;
    await ask();
    expect(look).toHaveBeenCalledTimes(2);
  });

  it('lets the next duplicate ask when the one before has got nothing, and never two own the record', async () => {
    const { parts } = turns(() => undefined);
    let asked = 0;
    const look = vi.fn(async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return ++asked < 3 ? ({ kind: 'undecided' } as const) : owned;
    });
    const ask = async (): Promise<string> => {
      const acquired = await takeTurn(parts, identity, policy(), look);
      if (acquired.kind === 'owned') parts.inFlight.add(identity.keyHash, identity.fingerprint);
      return acquired.kind;
    };
    const kinds = await Promise.all(Array.from({ length: 10 }, ask));
    expect(kinds.toSorted()).toEqual([
      ...Array<string>(7).fill('in-flight'),
      'owned',
      'undecided',
      'undecided',
    ]);
    expect(look).toHaveBeenCalledTimes(3);
  });

  it('asks a database that is away once for those who come together, and for another payload by itself', async () => {
    const { parts } = turns(() => undefined);
    const look = vi.fn(async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw new Error('ECONNREFUSED');
    });
    const other = { ...identity, fingerprint: Buffer.alloc(32, 9) };
    const asking = [identity, identity, identity, other].map((one) => takeTurn(parts, one, policy(), look));
    for (const { status } of await Promise.allSettled(asking)) expect(status).toBe('rejected');
    expect(look).toHaveBeenCalledTimes(2);
  });

  it('waits for the outcome on a hint, with one question to the database for all duplicates', async () => {
    let known: Known | undefined = hint();
    const look = vi.fn(async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      known = { kind: 'final', raised: false, response, source: 'shared' };
      return replay;
    });
    const { parts } = turns(() => known);
    const waiting = policy({ onInFlight: 'wait', waitTimeoutMs: 2_000 });
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => takeTurn(parts, identity, waiting, look)),
    );
    expect(answers.every((answer) => answer.kind === 'replay')).toBe(true);
    expect(look).toHaveBeenCalledTimes(1);
  });

  it('takes over what a hint left behind, when it waits', async () => {
    const look = vi.fn(() => Promise.resolve(owned));
    const waiting = policy({ onInFlight: 'wait' });
    expect(await takeTurn(turns(hint).parts, identity, waiting, look)).toBe(owned);
  });

  it('refuses nobody who has waited on a hint alone', async () => {
    const look = vi.fn(() => Promise.resolve(replay));
    const waiting = policy({ onInFlight: 'wait', waitTimeoutMs: 50 });
    // No connection is left to wait with.
    expect(await takeTurn(turns(hint, 0).parts, identity, waiting, look)).toBe(replay);
    expect(look).toHaveBeenCalledTimes(1);
  });
});

describe('beginTurn with a replay cache', () => {
  const end = (outcome: Parameters<ReturnType<typeof beginTurn>>[0]): unknown[] => {
    const { parts, told } = turns(() => undefined);
    const share = beginTurn(parts, identity, () => true);
    share(outcome);
    share({ kind: 'none' });
    return told;
  };

  it('has an outcome kept whose commit was answered, once', () => {
    const final = { kind: 'final', raised: false, response, expiresAtMs: 5 } as const;
    expect(end(final)).toEqual([{ expiresAtMs: 5, raised: false, response }]);
  });

  it('has nothing kept of an outcome whose commit was not answered, and of none', () => {
    expect(end({ kind: 'final', raised: false, response })).toEqual([undefined]);
    expect(end({ kind: 'none' })).toEqual([undefined]);
  });

  it('tells the other instances before it wakes those who wait here', async () => {
    const order: string[] = [];
    const { parts } = turns(() => undefined);
    const cache = { begin: () => () => void order.push('instances') } as unknown as ReplayCache;
    const share = beginTurn({ ...parts, cache }, identity, () => true);
    const woken = parts.inFlight.find(identity.keyHash)?.outcome.then(() => order.push('process'));
    share({ kind: 'none' });
    await woken;
    expect(order).toEqual(['instances', 'process']);
  });
});
