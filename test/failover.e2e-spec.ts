import { afterEach, expect, it } from 'vitest';
import { type CartProcess, roundRobin, startCart } from './support/cart-process.js';
import { type FailoverLoad, type Sent, startFailoverLoad } from './support/failover-load.js';
import { type Charge, openPayment, type Payment } from './support/payment.js';
import { type PostgresPair, type Replication, startPair } from './support/postgres-pair.js';
import { describeWith } from './support/servers.js';
import { until } from './support/until.js';

/** `npm run test:failover` is the long form, with 10. */
const FAILOVERS = Number(process.env['FAILOVERS'] ?? 1);
const LOAD = { items: 8, checkouts: 4 };
const INSTANCES = 2;

/** What stands under a key in the database that serves. */
interface Found {
  readonly key: string;
  readonly status: string;
  readonly quantity: number | null;
  readonly orders: number;
  readonly confirmed: number;
  readonly jobs: number;
}

/** Every record with the rows of its user, and the rows of users without a record. */
const FOUND = `
SELECT coalesce(k.key, substr(u.user_id, 6)) AS key, coalesce(k.status, 'absent') AS status,
       (SELECT quantity FROM cart_items c WHERE c.user_id = u.user_id) AS quantity,
       (SELECT count(*)::int FROM orders o WHERE o.user_id = u.user_id) AS orders,
       (SELECT count(*)::int FROM orders o WHERE o.user_id = u.user_id AND o.state = 'confirmed') AS confirmed,
       (SELECT count(*)::int FROM pgboss.job j JOIN orders o ON o.order_id = (j.data ->> 'orderId')::uuid
         WHERE o.user_id = u.user_id) AS jobs
  FROM (SELECT user_id FROM cart_items UNION SELECT user_id FROM orders
         UNION SELECT 'user-' || key FROM idempotency_keys) u
  LEFT JOIN idempotency_keys k ON u.user_id = 'user-' || k.key`;

describeWith(['postgresql-15'], 'the primary is killed under load', () => {
  const closing: (() => Promise<unknown>)[] = [];
  let pair: PostgresPair;
  let payment: Payment;
  let instances: CartProcess[];
  let load: FailoverLoad;
  let numbers = 0;

  const open = async (replication: Replication): Promise<void> => {
    pair = await startPair(replication);
    closing.push(() => pair.close());
    payment = await openPayment();
    closing.push(() => payment.close());
    instances = [];
    // One after the other: the first one makes the tables.
    for (let instance = 0; instance < INSTANCES; instance++) {
      const cart = await startCart({
        databaseUrl: pair.url,
        // So long that an attempt is kept from the processor for less, and is not taken for dead.
        env: { PAYMENT_PROVIDER_URL: payment.url, CONFIRMATIONS: 'off', LEASE_TTL: '3s', LOG_LEVEL: 'fatal' },
      });
      closing.push(() => cart.end('SIGKILL'));
      instances.push(cart);
    }
  };
  afterEach(async () => {
    for (const close of closing.toReversed()) await close();
    closing.length = 0;
  });

  const begin = (parts: typeof LOAD): FailoverLoad =>
    startFailoverLoad(roundRobin(instances), parts, () => ++numbers);
  const answered = (): Sent[] => load.sent.filter((sent) => sent.answered);
  const goesOn = async (count = 20): Promise<void> => {
    const before = answered().length;
    await until('the load goes on', () => answered().length >= before + count, 30_000);
  };
  /** At any moment of a request: about as long as a few of them take. */
  const aMoment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
  const found = async (): Promise<Map<string, Found>> =>
    new Map((await pair.primary.rows<Found>(FOUND)).map((row) => [row.key, row]));
  const chargesOf = (charges: readonly Charge[], { kind, quantity }: Sent): number =>
    kind === 'item' ? 0 : charges.filter(({ amount }) => amount === quantity * 100).length;
  const isOnce = ({ kind }: Sent, row: Found | undefined, charges: number): boolean =>
    row?.status === 'completed' &&
    (kind === 'item'
      ? row.quantity === 3 && row.orders === 0
      : row.quantity === null && row.orders === 1 && row.confirmed === 1 && row.jobs === 1 && charges === 1);
  /** What is answered now to a key that was answered before. */
  const differing = async (sent: readonly Sent[]): Promise<string[]> => {
    const differences: string[] = [];
    for (const { key, kind, user, answered: first } of sent) {
      const again = await replay(key, kind, user);
      if (again.status !== 200 || again.text !== first?.text) differences.push(`${key} ${again.status}`);
    }
    return differences;
  };
  const replay = async (
    key: string,
    kind: Sent['kind'],
    user: string,
  ): Promise<{ status: number; text: string }> => {
    const path = kind === 'item' ? 'items' : 'checkout';
    const response = await fetch(`${instances[0]?.url}/carts/${user}/${path}`, {
      method: 'POST',
      headers: { 'idempotency-key': key, ...(kind === 'item' ? { 'content-type': 'application/json' } : {}) },
      ...(kind === 'item' ? { body: JSON.stringify({ itemId: 'book', quantity: 3 }) } : {}),
    });
    return { status: response.status, text: await response.text() };
  };

  it(
    `loses nothing that was acknowledged, and repeats nothing, with a synchronous standby, ${FAILOVERS} times`,
    async () => {
      await open('synchronous');
      load = begin(LOAD);
      const tookMs: number[] = [];
      const acknowledged: Sent[] = [];
      for (let round = 0; round < FAILOVERS; round++) {
        await goesOn();
        await aMoment();
        acknowledged.push(...answered().filter((sent) => !acknowledged.includes(sent)));
        tookMs.push(Math.round(await pair.failOver()));
        await goesOn();
        await pair.rebuildStandby();
      }
      await load.stop();

      expect(load.odd).toEqual([]);
      const rows = await found();
      const charges = await payment.charges();
      const wrong = load.sent.filter((sent) => !isOnce(sent, rows.get(sent.key), chargesOf(charges, sent)));
      expect(wrong.map((sent) => ({ ...sent, found: rows.get(sent.key) }))).toEqual([]);
      expect(charges).toHaveLength(load.sent.filter(({ kind }) => kind === 'checkout').length);
      expect(answered()).toHaveLength(load.sent.length);
      expect(await differing(load.sent)).toEqual([]);
      console.log(
        `synchronous: ${FAILOVERS} failovers (${tookMs.join(', ')} ms); ${load.sent.length} keys, ` +
          `${acknowledged.length} acknowledged before a kill; 0 lost, 0 repeated; answers ${JSON.stringify(load.counts)}`,
      );
    },
    100_000 + FAILOVERS * 20_000,
  );

  it(
    `may lose what was acknowledged with an asynchronous standby, and never half of it, ${FAILOVERS} times`,
    async () => {
      await open('asynchronous');
      load = begin({ items: 12, checkouts: 0 });
      const lost: number[] = [];
      const gone = new Set<string>();
      for (let round = 0; round < FAILOVERS; round++) {
        await goesOn();
        // The standby falls behind, as one does under load.
        pair.replication.hold('to-client');
        await goesOn();
        const acknowledged = answered();
        await pair.failOver();
        const rows = await found();
        const before = gone.size;
        for (const { key } of acknowledged) if (rows.get(key)?.status !== 'completed') gone.add(key);
        lost.push(gone.size - before);
        const halves = [...rows.values()].filter(
          ({ status, quantity }) => (status === 'completed') !== (quantity === 3) || (quantity ?? 3) !== 3,
        );
        expect(halves).toEqual([]);
        await goesOn();
        await pair.rebuildStandby();
      }
      await load.stop();

      const rows = await found();
      const missing = load.sent.filter(({ key }) => rows.get(key)?.status !== 'completed');
      // Whoever asks again runs again: then it is there, once.
      for (const { key, kind, user } of missing) expect((await replay(key, kind, user)).status).toBe(201);
      const after = await found();
      expect(load.sent.filter((sent) => !isOnce(sent, after.get(sent.key), 0))).toEqual([]);
      expect(load.odd).toEqual([]);
      console.log(
        `asynchronous: ${FAILOVERS} failovers; ${load.sent.length} keys; acknowledged and lost per round: ` +
          `${lost.join(', ')}; twice on the new primary: 0; answers ${JSON.stringify(load.counts)}`,
      );
    },
    100_000 + FAILOVERS * 20_000,
  );
});
