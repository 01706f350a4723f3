import { describe, expect, it } from 'vitest';
import { IDENTITY } from '../../../../test/support/engine-script.js';
import { deferred } from '../../../../test/support/until.js';
import { Looks } from './looks.js';

const turnOfTheLoop = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('questions to the database that are under way', () => {
  it('are known by key and payload until a turn of the event loop after their answer', async () => {
    const looks = new Looks();
    const answer = deferred<string>();
    const asking = looks.run(IDENTITY, () => answer.promise);
    expect(looks.underWay({ ...IDENTITY, keyHash: Buffer.from(IDENTITY.keyHash) })).toBeDefined();
    expect(looks.underWay({ ...IDENTITY, keyHash: Buffer.alloc(32, 7) })).toBeUndefined();
    expect(looks.underWay({ ...IDENTITY, fingerprint: Buffer.alloc(32, 7) })).toBeUndefined();
    let isOver = false;
    const waiting = looks.underWay(IDENTITY)?.then(() => (isOver = true));
    answer.resolve('owned');
    expect(await asking).toBe('owned');
    expect([isOver, looks.underWay(IDENTITY)]).toEqual([false, undefined]);
    await waiting;
  });

  it('outlive one before them that ends later', async () => {
    const looks = new Looks();
    const [first, second] = [deferred<string>(), deferred<string>()];
    const asked = looks.run(IDENTITY, () => first.promise);
    const askedAgain = looks.run(IDENTITY, () => second.promise);
    first.resolve('in flight');
    await asked;
    expect(looks.underWay(IDENTITY)).toBeDefined();
    second.resolve('owned');
    await askedAgain;
    expect(looks.underWay(IDENTITY)).toBeUndefined();
  });

  it('fail for those who wait as for the one who asks, and for nobody when nobody waits', async () => {
    const looks = new Looks();
    const away = (): Promise<never> => Promise.reject(new Error('ECONNREFUSED'));
    const asking = looks.run(IDENTITY, away);
    const waiting = looks.underWay(IDENTITY);
    await expect(asking).rejects.toThrow('ECONNREFUSED');
    await expect(waiting).rejects.toThrow('ECONNREFUSED');
    await expect(looks.run(IDENTITY, away)).rejects.toThrow('ECONNREFUSED');
    await turnOfTheLoop();
  });
});
