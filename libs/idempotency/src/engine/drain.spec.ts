import { describe, expect, it, vi } from 'vitest';
import { Drain, ShuttingDownError } from './drain.js';

interface Gate {
  readonly opened: Promise<string>;
  open(value: string): void;
  fail(error: Error): void;
}

function gate(): Gate {
  let open!: (value: string) => void;
  let fail!: (error: Error) => void;
  const opened = new Promise<string>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { opened, open, fail };
}

/** A request whose handler runs until the gate opens. */
const running = (drain: Drain, { opened }: Gate): Promise<unknown> =>
  drain.run((begin) => {
    begin();
    return opened;
  });
const done = (value: string): unknown => ({ kind: 'done', value });
const turnedAway = { kind: 'turned-away' };

describe('Drain', () => {
  it('lets requests in until it drains, and nobody afterwards', async () => {
    const drain = new Drain();
    expect(await drain.run(() => Promise.resolve('paid'))).toEqual(done('paid'));
    expect(await drain.drain(1_000)).toBe(0);
    let hasRun = false;
    expect(await drain.run(async () => void (hasRun = true))).toEqual(turnedAway);
    expect(hasRun).toBe(false);
  });

  it('waits for handlers that run, whether they end well or not', async () => {
    const drain = new Drain();
    const [well, badly] = [gate(), gate()];
    const answers = [running(drain, well), running(drain, badly)];
    let left: number | undefined;
    const draining = drain.drain(10_000).then((count) => (left = count));
    well.open('paid');
    expect(await answers[0]).toEqual(done('paid'));
    expect([left, drain.size]).toEqual([undefined, 1]);
    badly.fail(new Error('out of stock'));
    await expect(answers[1]).rejects.toThrow('out of stock');
    await draining;
    expect(left).toBe(0);
  });

  it('turns away what has not begun, which never begins then, and waits until its work is over', async () => {
    const drain = new Drain();
    const claim = gate();
    let hasRun = false;
    const answer = drain.run(async (begin) => {
      await claim.opened;
      begin();
      hasRun = true;
    });
    const draining = drain.drain(10_000);
    expect(await answer).toEqual(turnedAway);
    expect(drain.size).toBe(1);
    claim.open('owned');
    expect(await draining).toBe(0);
    expect(hasRun).toBe(false);
  });

  it('tells whoever would begin too late', async () => {
    const drain = new Drain();
    const claim = gate();
    let thrown: unknown;
    void drain.run(async (begin) => {
      await claim.opened;
      try {
        begin();
      } catch (error) {
        thrown = error;
      }
    });
    const draining = drain.drain(10_000);
    claim.open('owned');
    await draining;
    expect(thrown).toBeInstanceOf(ShuttingDownError);
    expect(thrown).toMatchObject({ name: 'ShuttingDownError', message: 'the application is shutting down' });
  });

  it('gives up when the time is over, and says how many are left', async () => {
    const drain = new Drain();
    for (let index = 0; index < 3; index++) void running(drain, gate());
    expect(await drain.drain(20)).toBe(3);
    expect(await drain.drain(0)).toBe(3);
  });

  it('waits until the last one has left', async () => {
    const drain = new Drain();
    const gates = [gate(), gate()];
    const answers = gates.map((one) => running(drain, one));
    const draining = drain.drain(10_000);
    gates[0]?.open('paid');
    await answers[0];
    await new Promise((resolve) => setImmediate(resolve));
    gates[1]?.open('paid');
    expect(await draining).toBe(0);
  });

  it('has nobody to wait for, and no timer left, when nobody is there', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      expect(await new Drain().drain(10_000)).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});
