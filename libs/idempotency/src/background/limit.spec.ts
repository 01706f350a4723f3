import { describe, expect, it } from 'vitest';
import { Limit } from './limit.js';

/** Work that ends when the test says so, with a count of how much of it runs. */
function workshop() {
  const endings: (() => void)[] = [];
  const begun: number[] = [];
  const work = (name: number) => async (): Promise<number> => {
    begun.push(name);
    await new Promise<void>((end) => endings.push(end));
    return name;
  };
  return { begun, work, endOne: () => endings.shift()?.() };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('Limit', () => {
  it('lets no more run than it says, the others in the order they came', async () => {
    const { begun, work, endOne } = workshop();
    const limit = new Limit(2);
    const all = Promise.all([1, 2, 3, 4].map((name) => limit.run(work(name))));
    await settled();
    expect(begun).toEqual([1, 2]);
    endOne();
    await settled();
    expect(begun).toEqual([1, 2, 3]);
    for (let left = 3; left > 0; left--) {
      endOne();
      await settled();
    }
    expect(await all).toEqual([1, 2, 3, 4]);
  });

  it('lets the next one run when one fails', async () => {
    const limit = new Limit(1);
    const failing = limit.run(() => Promise.reject(new Error('failed')));
    const next = limit.run(() => Promise.resolve('next'));
    await expect(failing).rejects.toThrow('failed');
    await expect(next).resolves.toBe('next');
  });

  it('is not overtaken between an end and the next beginning', async () => {
    const { begun, work, endOne } = workshop();
    const limit = new Limit(1);
    const first = limit.run(work(1)).then(() => limit.run(work(3)));
    const second = limit.run(work(2));
    await settled();
    endOne();
    await settled();
    endOne();
    await settled();
    endOne();
    await Promise.all([first, second]);
    expect(begun).toEqual([1, 2, 3]);
  });
});
