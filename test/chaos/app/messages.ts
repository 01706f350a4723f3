import type { Failpoint } from 'nestjs-pg-idempotency/testing';

/** What the driver tells an instance. */
export type Command =
  /** The next request that comes to `failAt` kills or freezes the process there. */
  | { readonly kind: 'sabotage'; readonly failAt: Failpoint; readonly action: SabotageAction }
  | { readonly kind: 'disarm' }
  /** Asks for {@link Stats}. */
  | { readonly kind: 'stats' };

/** `kill`: SIGKILL; `freeze`: SIGSTOP, until somebody sends SIGCONT. */
export type SabotageAction = 'kill' | 'freeze';

/** What an instance tells the driver. */
export type Report = { readonly kind: 'listening' } | Stats;

/** What the process holds. */
export interface Stats {
  readonly kind: 'stats';
  readonly residentBytes: number;
  readonly poolConnections: number;
  readonly waitingForConnections: number;
  readonly timers: number;
}
