import type { Order } from '../app/ledger.controller.js';
import type { RouteMode, Subject } from '../history/event.js';

/** One thing that a client wants done once, and how to ask for it. */
export interface Wish extends Subject {
  readonly mode: RouteMode;
  readonly path: string;
  readonly payload: string;
  readonly behaviour: Order['behaviour'];
}

export const ROUTES = {
  transaction: 'transaction',
  'lease-retry': 'lease',
  'lease-fail': 'lease',
} as const satisfies Readonly<Record<string, RouteMode>>;

export type Route = keyof typeof ROUTES;

/** The same wish by somebody else: another one, which the same key must not mix up. */
export function wishOf(
  route: Route,
  scope: string,
  { key, payload, behaviour }: Pick<Wish, 'key' | 'payload' | 'behaviour'>,
): Wish {
  return {
    scope,
    operation: `POST /ledger/:owner/${route}`,
    key,
    mode: ROUTES[route],
    path: `/ledger/${scope}/${route}`,
    payload,
    behaviour,
  };
}
