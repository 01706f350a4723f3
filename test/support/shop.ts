import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import { type CartProcess, type CartProcessOptions, startCart } from './cart-process.js';
import { createDatabase, type TestDatabase } from './database.js';
import { type Answer, send } from './http.js';
import { type Charge, openPayment, type Payment } from './payment.js';
import { until } from './until.js';

/** A cart that is bought once, however often it is checked out. No two of a shop add up to the same amount. */
export interface Purchase {
  readonly user: string;
  readonly key: string;
  readonly quantity: number;
}

/** What is left of a purchase, wherever something may be left of it. */
export interface Trace {
  readonly record: { status: string; attempt: number };
  /** Which attempt did each step and phase. */
  readonly journal: Record<string, number>;
  readonly orders: { state: string; quantity: number; chargeId: string | null }[];
  readonly charges: Charge[];
  /** Lines in the cart. */
  readonly cart: number;
  /** Confirmations that were queued. */
  readonly jobs: number;
}

/** Instances of the cart as processes of their own, with one database and one payment provider. */
export interface Shop {
  readonly database: TestDatabase;
  readonly payment: Payment;
  /** An instance, which {@link close} ends. Only those started with `CONFIRMATIONS: 'on'` send confirmations. */
  start(options?: Omit<CartProcessOptions, 'databaseUrl'>): Promise<CartProcess>;
  fill(at: CartProcess): Promise<Purchase>;
  checkout(at: CartProcess, purchase: Purchase): Promise<Answer>;
  /** Checks out until the answer is another than that an attempt is in flight. */
  insist(at: CartProcess, purchase: Purchase): Promise<Answer>;
  trace(purchase: Purchase): Promise<Trace>;
  /** Every column of every row of a purchase, and its charges. */
  rows(purchase: Purchase): Promise<unknown>;
  /** Whether a confirmation was sent for each. */
  confirmed(purchases: readonly Purchase[]): Promise<boolean>;
  close(): Promise<void>;
}

export async function openShop(env: Record<string, string> = {}): Promise<Shop> {
  const [database, payment] = await Promise.all([createDatabase(), openPayment()]);
  const started: Promise<CartProcess>[] = [];
  let filled = 0;

  const checkout = (at: CartProcess, { user, key }: Purchase): Promise<Answer> =>
    send(`${at.url}/carts/${user}/checkout`, { headers: { 'idempotency-key': key } });

  return {
    database,
    payment,
    start: (options = {}) => {
      const cart = startCart({
        databaseUrl: database.url,
        ...options,
        env: { PAYMENT_PROVIDER_URL: payment.url, CONFIRMATIONS: 'off', ...env, ...options.env },
      });
      started.push(cart);
      return cart;
    },
    fill: async (at) => {
      const purchase = { user: randomUUID(), key: randomUUID(), quantity: ++filled + 1 };
      const lines = { book: Math.ceil(purchase.quantity / 2), pen: Math.floor(purchase.quantity / 2) };
      for (const [itemId, quantity] of Object.entries(lines)) {
        const url = `${at.url}/carts/${purchase.user}/items/${itemId}`;
        const answer = await send(url, { method: 'PUT', body: { quantity } });
        if (answer.status !== 200) throw new Error(answer.text);
      }
      return purchase;
    },
    checkout,
    insist: (at, purchase) =>
      until(
        'the checkout is answered for good',
        async () => {
          const answer = await checkout(at, purchase);
          return answer.status !== 409 && answer;
        },
        30_000,
      ),
    trace: async ({ user, key, quantity }) => {
      const [[record], journal, orders, cart, jobs, charges] = await Promise.all([
        database.rows<Trace['record']>('SELECT status, attempt FROM idempotency_keys WHERE key = $1', [key]),
        database.rows<{ name: string; attempt: number }>(
          `SELECT s.name, s.attempt FROM idempotency_steps s JOIN idempotency_keys USING (key_hash) WHERE key = $1`,
          [key],
        ),
        database.rows<Trace['orders'][number]>(
          `SELECT state, total_quantity::int AS quantity, charge_id AS "chargeId" FROM orders WHERE user_id = $1`,
          [user],
        ),
        database.rows('SELECT FROM cart_items WHERE user_id = $1', [user]),
        database.rows(
          `SELECT FROM pgboss.job JOIN orders ON order_id = (data ->> 'orderId')::uuid WHERE user_id = $1`,
          [user],
        ),
        payment.charges(),
      ]);
      return {
        record: record ?? { status: 'absent', attempt: 0 },
        journal: Object.fromEntries(journal.map(({ name, attempt }) => [name, attempt])),
        orders,
        charges: charges.filter(({ amount }) => amount === quantity * 100),
        cart: cart.length,
        jobs: jobs.length,
      };
    },
    rows: async ({ user, key, quantity }) => ({
      records: await database.rows('SELECT * FROM idempotency_keys WHERE key = $1', [key]),
      journal: await database.rows(
        'SELECT s.* FROM idempotency_steps s JOIN idempotency_keys USING (key_hash) WHERE key = $1 ORDER BY position',
        [key],
      ),
      orders: await database.rows('SELECT * FROM orders WHERE user_id = $1 ORDER BY order_id', [user]),
      cart: await database.rows('SELECT * FROM cart_items WHERE user_id = $1 ORDER BY item_id', [user]),
      jobs: await database.rows(
        `SELECT id, data FROM pgboss.job JOIN orders ON order_id = (data ->> 'orderId')::uuid
         WHERE user_id = $1 ORDER BY id`,
        [user],
      ),
      // Without the number of calls: the provider may be asked again, with the same key.
      charges: (await payment.charges())
        .filter(({ amount }) => amount === quantity * 100)
        .map(({ chargeId, key: chargedWith }) => ({ chargeId, chargedWith })),
    }),
    confirmed: async (purchases) => {
      const sent = await database.rows(
        'SELECT FROM order_confirmations JOIN orders USING (order_id) WHERE user_id = ANY ($1)',
        [purchases.map(({ user }) => user)],
      );
      return sent.length === purchases.length;
    },
    close: async () => {
      // Frozen ones too; what they would still write is of no interest.
      for (const cart of await Promise.allSettled(started)) {
        if (cart.status === 'fulfilled') await cart.value.end('SIGKILL');
      }
      await payment.close();
      await database.drop();
    },
  };
}

/** What holds of a purchase that was made, whatever went wrong on the way. */
export function expectBoughtOnce({ orders, charges, cart, jobs }: Trace, { quantity }: Purchase): void {
  expect({ orders, charges, cart, jobs }).toEqual({
    orders: [{ state: 'confirmed', quantity, chargeId: charges[0]?.chargeId ?? 'a charge' }],
    charges: [expect.objectContaining({ amount: quantity * 100 })],
    cart: 0,
    jobs: 1,
  });
}
