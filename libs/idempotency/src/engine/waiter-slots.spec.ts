import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Deadline } from './deadline.js';
import { WaiterSlots } from './waiter-slots.js';

const a = Buffer.from('a');
const b = Buffer.from('b');
const c = Buffer.from('c');

function gate(): { promise: Promise<string>; open: (value?: string) => void; fail: (error: Error) => void } {
  let open!: (value: string) => void;
  let fail!: (error: Error) => void;
  const promise = new Promise<string>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open: (value = 'answered') => open(value), fail };
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

describe('WaiterSlots', () => {
  it('spends one slot on any number of waiters for one key', async () => {
    const slots = new WaiterSlots(5);
    const first = gate();
    const wait = vi.fn(() => first.promise);
    const answers = Array.from({ length: 20 }, () => slots.use(a, new Deadline(1_000), wait));
    await vi.advanceTimersByTimeAsync(1);
    expect(wait).toHaveBeenCalledTimes(1);
    first.open();
    expect(await Promise.all(answers)).toEqual(['answered', ...Array<string>(19).fill('shared')]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('never runs more waits at once than it has slots, and hands a slot on in order', async () => {
    const slots = new WaiterSlots(1);
    const gates = [gate(), gate(), gate()];
    const began: number[] = [];
    const answers = [a, b, c].map((key, index) =>
      slots.use(key, new Deadline(1_000), () => {
        began.push(index);
        return gates[index]?.promise ?? Promise.resolve('none');
      }),
    );
    await vi.advanceTimersByTimeAsync(1);
    expect(began).toEqual([0]);
    gates[0]?.open('first');
    await answers[0];
    await vi.advanceTimersByTimeAsync(1);
    expect(began).toEqual([0, 1]);
    gates[1]?.open('second');
    await answers[1];
    await vi.advanceTimersByTimeAsync(1);
    gates[2]?.open('third');
    expect(await Promise.all(answers)).toEqual(['first', 'second', 'third']);
  });

  it('gives up at the deadline of a waiter that gets no slot, and keeps the slots whole', async () => {
    const slots = new WaiterSlots(1);
    const holder = gate();
    const held = slots.use(a, new Deadline(10_000), () => holder.promise);
    const late = slots.use(b, new Deadline(50), () => Promise.resolve('too late'));
    await vi.advanceTimersByTimeAsync(50);
    await expect(late).resolves.toBe('no-slot');
    holder.open();
    await held;
    await expect(slots.use(b, new Deadline(50), () => Promise.resolve('now'))).resolves.toBe('now');
  });

  it('gives up at the deadline of a waiter that shares another one', async () => {
    const slots = new WaiterSlots(1);
    const holder = gate();
    const held = slots.use(a, new Deadline(10_000), () => holder.promise);
    const sharing = slots.use(a, new Deadline(50), () => Promise.resolve('never'));
    await vi.advanceTimersByTimeAsync(50);
    await expect(sharing).resolves.toBe('over');
    holder.open();
    await expect(held).resolves.toBe('answered');
  });

  it('frees slot and key when the wait fails', async () => {
    const slots = new WaiterSlots(1);
    const failing = gate();
    const failed = slots.use(a, new Deadline(1_000), () => failing.promise);
    const sharing = slots.use(a, new Deadline(1_000), () => Promise.resolve('never'));
    failing.fail(new Error('connection lost'));
    await expect(failed).rejects.toThrow('connection lost');
    await expect(sharing).resolves.toBe('shared');
    await expect(slots.use(a, new Deadline(1_000), () => Promise.resolve('again'))).resolves.toBe('again');
  });

  it('lets nobody wait without slots', async () => {
    const slots = new WaiterSlots(0);
    const wait = vi.fn(() => Promise.resolve('never'));
    const waiting = slots.use(a, new Deadline(50), wait);
    await vi.advanceTimersByTimeAsync(50);
    await expect(waiting).resolves.toBe('no-slot');
    expect(wait).not.toHaveBeenCalled();
  });

  it('stays within its slots and gives every one back, whatever comes and goes', async () => {
    const call = fc.record({
      key: fc.nat({ max: 4 }),
      arrives: fc.nat({ max: 50 }),
      patience: fc.integer({ min: 0, max: 40 }),
      takes: fc.nat({ max: 40 }),
      fails: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(call, { maxLength: 25 }),
        async (size, calls) => {
          const slots = new WaiterSlots(size);
          const running = new Map<number, number>();
          let most = 0;
          const work = calls.map(async ({ key, arrives, patience, takes, fails }) => {
            await pause(arrives);
            return slots.use(Buffer.from([key]), new Deadline(patience), async () => {
              running.set(key, (running.get(key) ?? 0) + 1);
              most = Math.max(
                most,
                [...running.values()].reduce((sum, count) => sum + count, 0),
              );
              expect(running.get(key)).toBe(1);
              await pause(takes);
              running.set(key, (running.get(key) ?? 0) - 1);
              if (fails) throw new Error('failed');
              return 'done';
            });
          });
          const settled = Promise.allSettled(work);
          await vi.advanceTimersByTimeAsync(5_000);
          for (const result of await settled) {
            if (result.status === 'fulfilled')
              expect(['done', 'shared', 'over', 'no-slot']).toContain(result.value);
            else expect(String(result.reason)).toBe('Error: failed');
          }
          expect(most).toBeLessThanOrEqual(size);
          // Every slot is back: that many waits run at once again.
          const gates = Array.from({ length: size }, gate);
          let began = 0;
          const again = gates.map(({ promise }, index) =>
            slots.use(Buffer.from([100 + index]), new Deadline(10), () => {
              began++;
              return promise;
            }),
          );
          await vi.advanceTimersByTimeAsync(1);
          expect(began).toBe(size);
          for (const { open } of gates) open();
          await Promise.all(again);
        },
      ),
      { numRuns: 60 },
    );
  });
});

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

describe('a slot that is granted at the very moment the deadline comes', () => {
  it('goes to the next one', async () => {
    const slots = new WaiterSlots(1);
    const holder = gate();
    const held = slots.use(a, new Deadline(10_000), () => holder.promise);
    const late = slots.use(b, new Deadline(50), () => Promise.resolve('too late'));
    await vi.advanceTimersByTimeAsync(10);
    setTimeout(() => holder.open(), 40);
    // Both timers in one turn, the deadline first.
    vi.advanceTimersByTime(40);
    await expect(late).resolves.toBe('no-slot');
    await held;
    await expect(slots.use(b, new Deadline(50), () => Promise.resolve('now'))).resolves.toBe('now');
  });
});
