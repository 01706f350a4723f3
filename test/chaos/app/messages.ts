import type { Failpoint } from 'nestjs-pg-idempotency/testing';

/** What the driver tells an instance. */
export type Command =
  /** The process that has been loaded opens its port. Answered with `listening`. */
  | { readonly kind: 'serve' }
  /** The request with the key kills or freezes the process when it comes to `failAt`. Answered with `armed`. */
  | {
      readonly kind: 'sabotage';
      readonly key: string;
      readonly failAt: Failpoint;
      readonly action: SabotageAction;
    }
  | { readonly kind: 'disarm' }
  /** Asks for {@link Stats}. */
  | { readonly kind: 'stats' };

/** `kill`: SIGKILL; `freeze`: SIGSTOP, until somebody sends SIGCONT. */
export type SabotageAction = 'kill' | 'freeze';

/** What an instance tells the driver. */
export type Report =
  { readonly kind: 'listening' } | { readonly kind: 'armed'; readonly key: string } | LastWords | Stats;

/** The process kills itself now, for the request with the key. */
export interface LastWords {
  readonly kind: 'last words';
  readonly key: string;
  /** By the clock of the machine, in whole milliseconds since 1970. */
  readonly atMs: number;
}

/** What the process holds. */
export interface Stats {
  readonly kind: 'stats';
  readonly residentBytes: number;
  readonly poolConnections: number;
  readonly waitingForConnections: number;
  readonly timers: number;
}
