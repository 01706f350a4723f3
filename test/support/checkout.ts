import { randomUUID } from 'node:crypto';
import type { INestApplication } from '@nestjs/common';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { type CartAppOptions, createCartApp } from '../../apps/cart/src/create-app.js';
import type { Platform } from './app.js';
import { createDatabase, type TestDatabase } from './database.js';
import { type Answer, send } from './http.js';
import { type Charge, openPayment, type Payment } from './payment.js';
import { until } from './until.js';

export interface CheckedOut {
  orderId: string;
  chargeId: string | null;
  totalQuantity: number;
}

export interface Job {
  state: string;
  retry_count: number;
  order_id: string;
}

let platform: Platform;
let app: INestApplication;
export let database: TestDatabase;
export let payment: Payment;
/** Where the app listens. */
export let url: string;

export const start = async (options: Partial<CartAppOptions> = {}): Promise<INestApplication> => {
  const started = await createCartApp({
    databaseUrl: database.url,
    platform,
    logger: false,
    paymentProviderUrl: payment.url,
    paymentTimeoutMs: 500,
    ...options,
  });
  await started.listen(0, '127.0.0.1');
  return started;
};
/** Runs with an app more, which is closed again. */
export const withApp = async (
  options: Partial<CartAppOptions>,
  use: (at: string) => Promise<void>,
): Promise<void> => {
  const other = await start(options);
  try {
    await use(await other.getUrl());
  } finally {
    await other.close();
  }
};

/** For all tests of the block that calls it: one database, one payment provider, and one app. */
export function useCheckout(on: Platform): void {
  beforeAll(async () => {
    platform = on;
    [database, payment] = await Promise.all([createDatabase(), openPayment()]);
    app = await start();
    url = await app.getUrl();
  });
  afterEach(async () => payment.setFaults({}));
  afterAll(async () => {
    await app.close();
    await payment.close();
    await database.drop();
  });
}

export const put = async (user: string, quantities: Record<string, number>, at = url): Promise<void> => {
  for (const [itemId, quantity] of Object.entries(quantities)) {
    const { status } = await send(`${at}/carts/${user}/items/${itemId}`, {
      method: 'PUT',
      body: { quantity },
    });
    expect(status).toBe(200);
  }
};
export const checkout = (user: string, key: string = randomUUID(), at = url): Promise<Answer> =>
  send(`${at}/carts/${user}/checkout`, { headers: { 'idempotency-key': key } });
export const cartOf = async (user: string): Promise<unknown> =>
  (await send(`${url}/carts/${user}`, { method: 'GET' })).json()['items'];
export const listOf = async (user: string): Promise<CheckedOut[]> =>
  (await send(`${url}/orders/${user}`, { method: 'GET' })).json<CheckedOut[]>();
/** Charges for orders of a user. The other tests' share the provider. */
export const chargesOf = async (user: string): Promise<Charge[]> => {
  const ids = (await listOf(user)).map(({ chargeId }) => chargeId);
  return (await payment.charges()).filter(({ chargeId }) => ids.includes(chargeId));
};
export const jobsOf = (user: string): Promise<Job[]> =>
  database.rows<Job>(
    `SELECT job.state, retry_count, order_id FROM pgboss.job JOIN orders ON order_id = (data ->> 'orderId')::uuid
     WHERE name = 'order-confirmation' AND user_id = $1`,
    [user],
  );
export const confirmationsOf = (user: string): Promise<unknown[]> =>
  database.rows('SELECT order_id FROM order_confirmations JOIN orders USING (order_id) WHERE user_id = $1', [
    user,
  ]);
export const allSent = (user: string): Promise<Job[]> =>
  until('the confirmations are sent', async () => {
    const jobs = await jobsOf(user);
    return jobs.length > 0 && jobs.every(({ state }) => state === 'completed') && jobs;
  });
/** What must hold of a user who has bought what was in the cart, whatever went wrong on the way. */
export const expectBoughtOnce = async (
  user: string,
  answer: Answer,
  totalQuantity: number,
): Promise<void> => {
  const { orderId, chargeId } = answer.json<CheckedOut>();
  expect(await cartOf(user)).toEqual([]);
  expect(await listOf(user)).toEqual([{ orderId, chargeId, totalQuantity }]);
  expect(await chargesOf(user)).toMatchObject([{ chargeId, amount: totalQuantity * 100 }]);
  expect(await allSent(user)).toEqual([{ state: 'completed', retry_count: 0, order_id: orderId }]);
  expect(await confirmationsOf(user)).toEqual([{ order_id: orderId }]);
};
