import { checkMembers, membersOf } from './refusal.js';

/** What goes wrong on purpose with `POST /charges`, replays included. Rates are probabilities from 0 to 1. */
export interface Faults {
  /** How long a call waits before charging is decided. */
  readonly delayMs: number;
  /** Rate of calls that are answered 500 and charge nothing. */
  readonly failBefore: number;
  /** Rate of calls that charge and are then answered 500. */
  readonly failAfter: number;
  /** Rate of calls that charge and then lose their connection instead of being answered. */
  readonly dropAfter: number;
}

export const NO_FAULTS: Faults = { delayMs: 0, failBefore: 0, failAfter: 0, dropAfter: 0 };

const MAX_DELAY_MS = 60_000;

const isWithin = (value: unknown, max: number): boolean =>
  typeof value === 'number' && value >= 0 && value <= max;
const delay = (value: unknown): string | undefined =>
  Number.isInteger(value) && isWithin(value, MAX_DELAY_MS)
    ? undefined
    : `must be a whole number from 0 to ${MAX_DELAY_MS}`;
const rate = (value: unknown): string | undefined =>
  isWithin(value, 1) ? undefined : 'must be a number from 0 to 1';

const RULES = new Map(
  Object.keys(NO_FAULTS).map((name) => [name, name === 'delayMs' ? delay : rate] as const),
);

/**
 * Reads a whole setting: what it does not name is 0.
 *
 * @throws Refusal naming all unknown members and wrong values at once.
 */
export function parseFaults(body: unknown): Faults {
  const members = membersOf(body);
  checkMembers(members, RULES);
  return { ...NO_FAULTS, ...members };
}
