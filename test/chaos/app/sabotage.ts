import { armFailpoints } from 'nestjs-pg-idempotency/testing';
import type { Command } from './messages.js';

const SIGNALS = { kill: 'SIGKILL', freeze: 'SIGSTOP' } as const;

let disarm: (() => void) | undefined;

/** The signal comes from the process to itself, so that not one instruction behind the point is carried out before it. */
export function sabotage({ failAt, action }: Extract<Command, { kind: 'sabotage' }>): void {
  calmDown();
  disarm = armFailpoints((point) => {
    if (point !== failAt) return;
    calmDown();
    process.kill(process.pid, SIGNALS[action]);
  });
}

export function calmDown(): void {
  disarm?.();
  disarm = undefined;
}
