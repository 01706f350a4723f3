import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CartProcess, StopAt } from './support/cart-process.js';
import type { Answer } from './support/http.js';
import { expectBoughtOnce, openShop, type Purchase, type Shop } from './support/shop.js';
import { until } from './support/until.js';

const LEASE_MS = 300;
/** Where the provider is slow: its first heartbeat must not come before the order is reserved. */
const LONG_LEASE_MS = 600;

/** Frozen there, the attempt has done this much; the one that takes it over does the rest. */
const FROZEN: readonly { name: string; stopAt: StopAt; journal: Record<string, number> }[] = [
  { name: 'before the handler', stopAt: 'after-claim', journal: { reserve: 2, charge: 2, confirm: 2 } },
  {
    name: 'inside the transaction that reserves',
    stopAt: 'phase-done',
    journal: { reserve: 2, charge: 2, confirm: 2 },
  },
  { name: 'before the charge', stopAt: 'step-begins', journal: { reserve: 1, charge: 2, confirm: 2 } },
  {
    name: 'after the charge, before it is journaled',
    stopAt: 'step-done',
    journal: { reserve: 1, charge: 2, confirm: 2 },
  },
  {
    name: 'before the transaction that confirms',
    stopAt: 'phase-begins#2',
    journal: { reserve: 1, charge: 1, confirm: 2 },
  },
  {
    name: 'inside the transaction that confirms',
    stopAt: 'phase-done#2',
    journal: { reserve: 1, charge: 1, confirm: 2 },
  },
  {
    name: 'as the COMMIT that confirms was sent',
    stopAt: 'phase-commit-sent#2',
    journal: { reserve: 1, charge: 1, confirm: 1 },
  },
  { name: 'after the handler', stopAt: 'handler-returned', journal: { reserve: 1, charge: 1, confirm: 1 } },
];

interface Overtaken {
  /** The answer to the client of the process that stands still. */
  readonly late: Promise<Answer>;
  readonly goOn: () => void;
  /** Which attempt did what. */
  readonly journal: Record<string, number>;
  readonly leaseMs?: number;
}

describe('a process that stands still for three leases while it checks out', () => {
  let shop: Shop;
  let survivor: CartProcess;

  beforeAll(async () => {
    shop = await openShop({ LEASE_TTL: `${LEASE_MS}ms` });
    survivor = await shop.start({ env: { CONFIRMATIONS: 'on' } });
  });
  afterAll(() => shop.close());

  const now = async (): Promise<Date> => {
    const [row] = await shop.database.rows<{ now: Date }>('SELECT clock_timestamp() AS now');
    return (row as { now: Date }).now;
  };
  const outline = ({ status, headers, text }: Answer): unknown => ({
    status,
    replayed: headers['idempotent-replayed'],
    text,
  });

  /**
   * What happens from the moment in which the process stands still: the checkout is finished elsewhere, the process goes on
   * after three leases, and changes nothing.
   */
  const expectOvertaken = async (
    zombie: CartProcess,
    purchase: Purchase,
    { late, goOn, journal, leaseMs = LEASE_MS }: Overtaken,
  ): Promise<void> => {
    const since = (await now()).getTime();
    const answer = await shop.insist(survivor, purchase);
    const decided = await shop.rows(purchase);
    await until('three leases are over', async () => (await now()).getTime() > since + 3 * leaseMs);
    goOn();
    const lateAnswer = await late;
    // It comes to its end, so that nothing of it is still to come.
    await zombie.end('SIGTERM');

    const trace = await shop.trace(purchase);
    expectBoughtOnce(trace, purchase);
    expect(trace.journal).toEqual(journal);
    expect(trace.record).toEqual({ status: 'completed', attempt: 2 });
    expect(await shop.rows(purchase)).toEqual(decided);
    expect(outline(answer)).toEqual({ status: 201, replayed: 'false', text: answer.text });
    expect(outline(lateAnswer)).toEqual({ status: 200, replayed: 'true', text: answer.text });
    expect(outline(await shop.checkout(survivor, purchase))).toEqual(outline(lateAnswer));
  };

  describe.concurrent('changes nothing when it goes on, and answers what another has recorded', () => {
    it.each(FROZEN)('frozen $name', async ({ stopAt, journal }) => {
      const zombie = await shop.start({ stopAt, stopUntil: 'SIGCONT' });
      const purchase = await shop.fill(zombie);
      const late = shop.checkout(zombie, purchase);
      await zombie.reached();
      await expectOvertaken(zombie, purchase, { late, goOn: () => zombie.signal('SIGCONT'), journal });
    });

    it.each([
      {
        name: 'after the charge, before it is journaled',
        stopAt: 'step-done',
        journal: { reserve: 1, charge: 2, confirm: 2 },
      },
      {
        name: 'inside the transaction that confirms',
        stopAt: 'phase-done#2',
        journal: { reserve: 1, charge: 1, confirm: 2 },
      },
    ] as const)('its event loop blocked $name', async ({ stopAt, journal }) => {
      const zombie = await shop.start({ stopAt, stopUntil: 5 * LEASE_MS });
      const purchase = await shop.fill(zombie);
      const late = shop.checkout(zombie, purchase);
      await zombie.reached();
      // It goes on by itself.
      await expectOvertaken(zombie, purchase, { late, goOn: () => undefined, journal });
    });
  });

  describe.concurrent('changes nothing when it goes on while another attempt has the record', () => {
    it.each([
      { name: 'after the charge, before it is journaled', stopAt: 'step-done' },
      { name: 'before the transaction that confirms', stopAt: 'phase-begins#2' },
      { name: 'after the handler', stopAt: 'handler-returned' },
    ] as const)('frozen $name', async ({ stopAt }) => {
      const [zombie, heir] = await Promise.all([
        shop.start({ stopAt, stopUntil: 'SIGCONT' }),
        // With a lease that outlasts its standing still.
        shop.start({ stopAt: 'after-claim', stopUntil: 'SIGCONT', env: { LEASE_TTL: '20s' } }),
      ]);
      const purchase = await shop.fill(zombie);
      const late = shop.checkout(zombie, purchase);
      await zombie.reached();
      // It stands still too, so that nothing but the zombie could change anything.
      const inherited = shop.insist(heir, purchase);
      await heir.reached();
      const before = await shop.rows(purchase);
      zombie.signal('SIGCONT');
      const lateAnswer = await late;
      await zombie.end('SIGTERM');
      const after = await shop.rows(purchase);
      heir.signal('SIGCONT');
      const answer = await inherited;

      expect(after).toEqual(before);
      const trace = await shop.trace(purchase);
      expectBoughtOnce(trace, purchase);
      expect(trace.record).toEqual({ status: 'completed', attempt: 2 });
      expect([lateAnswer.status, answer.status]).toEqual([409, 201]);
      expect(lateAnswer.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
    });
  });

  it('does not tell its client to wait for a person when the attempt that has the record may be overtaken too', async () => {
    const [zombie, heir] = await Promise.all([
      shop.start({ stopAt: 'step-done', stopUntil: 'SIGCONT' }),
      shop.start({ stopAt: 'after-claim' }),
    ]);
    const purchase = await shop.fill(zombie);
    const late = shop.checkout(zombie, purchase);
    await zombie.reached();
    const lost = shop.insist(heir, purchase).catch(() => 'lost');
    await heir.reached();
    await heir.end('SIGKILL');
    expect(await lost).toBe('lost');
    await until('the lease is over', async () => {
      const over = await shop.database.rows(
        'SELECT FROM idempotency_keys WHERE key = $1 AND attempt = 2 AND lease_until <= clock_timestamp()',
        [purchase.key],
      );
      return over.length > 0;
    });
    const before = await shop.rows(purchase);
    zombie.signal('SIGCONT');
    const lateAnswer = await late;
    expect(await shop.rows(purchase)).toEqual(before);
    const answer = await shop.insist(survivor, purchase);
    const trace = await shop.trace(purchase);
    expectBoughtOnce(trace, purchase);
    expect(trace.record).toEqual({ status: 'completed', attempt: 3 });
    expect(lateAnswer.json()).toMatchObject({
      status: 503,
      code: 'IDEMPOTENCY_OUTCOME_UNKNOWN',
      detail: expect.stringMatching(/^Whether the request took effect is not known yet/) as string,
    });
    expect(answer.status).toBe(201);
  });

  describe('while the provider takes its time', () => {
    const env = { LEASE_TTL: `${LONG_LEASE_MS}ms` };
    const overtaken = {
      journal: { reserve: 1, charge: 2, confirm: 2 },
      leaseMs: LONG_LEASE_MS,
    };

    it('changes nothing when it was frozen at a heartbeat', async () => {
      const zombie = await shop.start({ stopAt: 'heartbeat-due', stopUntil: 'SIGCONT', env });
      const purchase = await shop.fill(zombie);
      await shop.payment.setFaults({ delayMs: 2 * LONG_LEASE_MS });
      const late = shop.checkout(zombie, purchase);
      await zombie.reached();
      await shop.payment.setFaults({});
      await expectOvertaken(zombie, purchase, {
        ...overtaken,
        late,
        goOn: () => zombie.signal('SIGCONT'),
      });
    });

    it('changes nothing when it was frozen while it waited', async () => {
      const zombie = await shop.start({ env });
      const purchase = await shop.fill(zombie);
      await shop.payment.setFaults({ delayMs: 2 * LONG_LEASE_MS });
      const late = shop.checkout(zombie, purchase);
      const lease = async (): Promise<number | undefined> => {
        const [row] = await shop.database.rows<{ until: Date }>(
          `SELECT lease_until AS until FROM idempotency_keys JOIN idempotency_steps USING (key_hash) WHERE key = $1`,
          [purchase.key],
        );
        return row?.until.getTime();
      };
      const reserved = await until('the order is reserved', lease);
      await until('a heartbeat has renewed the lease', async () => (await lease()) !== reserved);
      zombie.signal('SIGSTOP');
      await shop.payment.setFaults({});
      await expectOvertaken(zombie, purchase, {
        ...overtaken,
        late,
        goOn: () => zombie.signal('SIGCONT'),
      });
    });
  });

  it('has decided the outcome when it was frozen after that was sent, and answers it', async () => {
    const zombie = await shop.start({ stopAt: 'commit-sent', stopUntil: 'SIGCONT' });
    const purchase = await shop.fill(zombie);
    const late = shop.checkout(zombie, purchase);
    await zombie.reached();
    const since = (await now()).getTime();
    const answer = await shop.insist(survivor, purchase);
    const decided = await shop.rows(purchase);
    await until('three leases are over', async () => (await now()).getTime() > since + 3 * LEASE_MS);
    zombie.signal('SIGCONT');
    const lateAnswer = await late;
    await zombie.end('SIGTERM');
    const trace = await shop.trace(purchase);
    expectBoughtOnce(trace, purchase);
    expect(trace.record).toEqual({ status: 'completed', attempt: 1 });
    expect(await shop.rows(purchase)).toEqual(decided);
    expect(outline(answer)).toEqual({ status: 200, replayed: 'true', text: lateAnswer.text });
    expect(outline(lateAnswer)).toEqual({ status: 201, replayed: 'false', text: answer.text });
  });
});
