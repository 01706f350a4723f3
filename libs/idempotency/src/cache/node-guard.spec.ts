import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { NodeGuard, NodeUnavailableError } from './node-guard.js';

const FAKED = ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] as const;
beforeEach(() => void vi.useFakeTimers({ toFake: [...FAKED] }));
afterEach(() => void vi.useRealTimers());

const TIMEOUT_MS = 50;
const never = (): Promise<never> => new Promise(() => undefined);
const refused = (): Promise<never> => Promise.reject(new Error('ECONNREFUSED'));
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

/** A guard, with what it has told. */
function guarded() {
  const told: unknown[] = [];
  const guard = new NodeGuard({ timeoutMs: TIMEOUT_MS, onChange: (cause) => told.push(cause) });
  const probe = vi.fn<() => Promise<unknown>>(never);
  const run = <T>(operation: () => Promise<T>): Promise<T | string> =>
    guard.run(operation, probe).catch((error: Error) => `${error.name}: ${error.message}`);
  return { guard, told, probe, run };
}

/** The same after three failures. */
async function leftAlone() {
  const parts = guarded();
  for (let count = 0; count < 3; count++) await parts.run(refused);
  expect(parts.guard.isOpen).toBe(true);
  return parts;
}

describe('NodeGuard', () => {
  it('answers what the node answers, and leaves no timer behind', async () => {
    const { run, told } = guarded();
    expect(await run(() => Promise.resolve('x'))).toBe('x');
    expect(await run(refused)).toBe('Error: ECONNREFUSED');
    expect(told).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('waits for no answer for longer than the timeout', async () => {
    const { run } = guarded();
    let answer: string | undefined;
    void run(never).then((result) => (answer = result));
    await pass(TIMEOUT_MS - 1);
    expect(answer).toBeUndefined();
    await pass(2);
    expect(answer).toBe('NodeUnavailableError: no answer within 50 ms');
  });

  it('takes an answer that had come when the process was too busy to look', async () => {
    vi.useRealTimers();
    const { guard, told } = guarded();
    // The socket has its answer in the very turn of the event loop in which the time is up.
    const answer = new Promise<string>((resolve) => {
      setTimeout(() => setImmediate(() => resolve('there')), TIMEOUT_MS - 5);
    });
    const running = guard.run(() => answer, never);
    const until = performance.now() + 2 * TIMEOUT_MS;
    setTimeout(() => {
      while (performance.now() < until);
    }, TIMEOUT_MS - 10);
    expect(await running).toBe('there');
    expect(told).toEqual([]);
  });

  it('leaves the node alone after three failures in a row, and says why, once', async () => {
    const { run, told, guard } = guarded();
    await run(refused);
    await run(refused);
    await run(() => Promise.resolve('x'));
    await run(refused);
    await run(refused);
    expect(guard.isOpen).toBe(false);
    await Promise.all([run(refused), run(refused), run(refused)]);
    expect(guard.isOpen).toBe(true);
    expect(told).toEqual([new Error('ECONNREFUSED')]);
    const asked = vi.fn(() => Promise.resolve('x'));
    expect(await run(asked)).toBe('NodeUnavailableError: the node is left alone after failures');
    expect(asked).not.toHaveBeenCalled();
  });

  it('counts what is not answered in time as a failure', async () => {
    const { run, guard } = guarded();
    const answers = [run(never), run(never), run(never)];
    await pass(TIMEOUT_MS + 1);
    await Promise.all(answers);
    expect(guard.isOpen).toBe(true);
  });

  it('survives an operation that throws where it was to answer with a promise', async () => {
    const { run, guard } = guarded();
    const broken = (): never => {
      throw new Error('broken');
    };
    // So often that what is not given back would add up to the bound on what is unanswered.
    for (let count = 0; count < 400; count++) {
      expect(await run(broken)).toBe('Error: broken');
      expect(await run(broken)).toBe('Error: broken');
      expect(await run(() => Promise.resolve('x'))).toBe('x');
    }
    expect(guard.isOpen).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tries the node again beside the requests, soon and then less often, until it answers', async () => {
    const { run, probe, told, guard } = await leftAlone();
    let asked = 0;
    for (const [wait, failed] of [
      [250, 1],
      [500, 2],
      [1_000, 3],
      [2_000, 4],
      [4_000, 5],
      [5_000, 6],
      [5_000, 7],
    ] as const) {
      await pass(wait - 1);
      expect(probe).toHaveBeenCalledTimes(failed - 1);
      // A request while the node is left alone: it neither asks it nor waits for who does.
      expect(await run(() => Promise.resolve(asked++))).toContain('NodeUnavailableError');
      await pass(1);
      expect(probe).toHaveBeenCalledTimes(failed);
      expect(await run(() => Promise.resolve(asked++))).toContain('NodeUnavailableError');
      await pass(TIMEOUT_MS + 1);
    }
    expect(asked).toBe(0);
    probe.mockResolvedValue(undefined);
    await pass(5_000);
    expect(guard.isOpen).toBe(false);
    expect(told).toEqual([new Error('ECONNREFUSED'), undefined]);
    expect(await run(() => Promise.resolve('x'))).toBe('x');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('needs three failures again after it was back', async () => {
    const { run, probe, guard } = await leftAlone();
    probe.mockResolvedValue(undefined);
    await pass(300);
    await run(refused);
    await run(refused);
    expect(guard.isOpen).toBe(false);
    await run(refused);
    expect(guard.isOpen).toBe(true);
  });

  it('has no more than 512 operations unanswered, and asks again when they are answered', async () => {
    const { run, guard, told } = guarded();
    const gates: (() => void)[] = [];
    const hanging = vi.fn(() => new Promise<string>((resolve) => gates.push(() => resolve('late'))));
    const first = Array.from({ length: 512 }, () => run(hanging));
    await pass(0);
    expect(await run(hanging)).toBe('NodeUnavailableError: too many operations are unanswered');
    expect(hanging).toHaveBeenCalledTimes(512);
    for (const open of gates) open();
    expect(await Promise.all(first)).toEqual(Array<string>(512).fill('late'));
    expect(await run(() => Promise.resolve('x'))).toBe('x');
    expect([guard.isOpen, told]).toEqual([false, []]);
  });

  it('does not take a burst for an outage', async () => {
    const { run, guard } = guarded();
    const quick = (): Promise<string> => new Promise((resolve) => setTimeout(() => resolve('x'), 1));
    const burst = Array.from({ length: 1_000 }, () => run(quick));
    await pass(1);
    expect((await Promise.all(burst)).filter((answer) => answer === 'x')).toHaveLength(512);
    expect(guard.isOpen).toBe(false);
  });

  it('does not ask a node that answers nothing any further, and comes back with its answers', async () => {
    const { run, guard, probe, told } = guarded();
    const gates: (() => void)[] = [];
    const hanging = (): Promise<string> => new Promise((resolve) => gates.push(() => resolve('late')));
    const first = Array.from({ length: 512 }, () => run(hanging));
    await pass(TIMEOUT_MS + 1);
    await Promise.all(first);
    expect(guard.isOpen).toBe(true);
    probe.mockResolvedValue(undefined);
    await pass(20_000);
    expect(probe).not.toHaveBeenCalled();
    for (const open of gates) open();
    await pass(5_000);
    expect(probe).toHaveBeenCalledTimes(1);
    expect(guard.isOpen).toBe(false);
    expect(told).toHaveLength(2);
  });

  it('asks nothing any more once it is closed', async () => {
    const { guard, probe, told } = await leftAlone();
    guard.close();
    await pass(60_000);
    expect(probe).not.toHaveBeenCalled();
    expect(told).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('begins no probes for what fails after it is closed', async () => {
    const { guard, run, told } = guarded();
    const running = [run(never), run(never), run(never)];
    guard.close();
    await pass(TIMEOUT_MS + 1);
    await Promise.all(running);
    expect([guard.isOpen, told, vi.getTimerCount()]).toEqual([false, [], 0]);
  });

  it('keeps no process alive, neither with an operation nor with a probe', async () => {
    vi.useRealTimers();
    const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    const { guard, run } = guarded();
    for (let count = 0; count < 3; count++) await run(refused);
    // Where the process lives on for other tests, it is given up in a minute, and nobody waits for that.
    new NodeGuard({ timeoutMs: 60_000, onChange: () => undefined }).run(never, never).catch(() => undefined);
    expect(guard.isOpen).toBe(true);
    // Timers that are not waited for are not among the active ones.
    expect(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length).toBe(before);
    guard.close();
  });

  it('names its own refusals', () => {
    expect(new NodeUnavailableError('x').name).toBe('NodeUnavailableError');
  });
});
