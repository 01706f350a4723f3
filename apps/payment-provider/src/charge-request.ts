import type { IncomingMessage } from 'node:http';
import { Refusal, checkMembers, membersOf, quote } from './refusal.js';

const isText = (value: unknown): string | undefined =>
  typeof value === 'string' ? undefined : 'must be a string';

const RULES = new Map<string, (value: unknown) => string | undefined>([
  ['amount', (value) => (isAmount(value) ? undefined : 'must be a positive whole number')],
  // Taken and not kept: what a charge is for is the caller's business.
  ['currency', isText],
  ['reference', isText],
]);

/**
 * The key that a call came with.
 *
 * @throws Refusal
 */
export function keyOf({ headersDistinct }: IncomingMessage): string {
  const [key, ...more] = headersDistinct['idempotency-key'] ?? [];
  if (key !== undefined && more.length === 0 && /^[\x20-\x7e]{1,255}$/.test(key)) return key;
  const received = more.length > 0 ? [key, ...more] : key;
  throw new Refusal(
    400,
    `The header Idempotency-Key must be 1 to 255 printable ASCII characters; received ${quote(received)}.`,
  );
}

/**
 * The amount to charge.
 *
 * @throws Refusal naming all that is wrong with the body.
 */
export function amountOf(body: unknown): number {
  const { amount, ...rest } = membersOf(body);
  checkMembers({ amount, ...rest }, RULES);
  return amount as number;
}

/** Whether it can be charged: a positive integer that JSON carries exactly. */
export function isAmount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}
