import { AsyncLocalStorage } from 'node:async_hooks';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { armFailpoints } from 'nestjs-pg-idempotency/testing';
import type { Command, LastWords } from './messages.js';

const SIGNALS = { kill: 'SIGKILL', freeze: 'SIGSTOP' } as const;

/** The key of the request that is served. */
const serving = new AsyncLocalStorage<string>();

let disarm: (() => void) | undefined;

/** The signal comes from the process to itself, so that not one instruction behind the point is carried out before it. */
export function sabotage(
  { key, failAt, action }: Extract<Command, { kind: 'sabotage' }>,
  say: (words: LastWords) => void,
): void {
  calmDown();
  disarm = armFailpoints((point) => {
    if (point !== failAt || serving.getStore() !== key) return;
    calmDown();
    if (action === 'kill') say({ kind: 'last words', key, atMs: Date.now() });
    process.kill(process.pid, SIGNALS[action]);
  });
}

export function calmDown(): void {
  disarm?.();
  disarm = undefined;
}

/** Lets everybody pass, and remembers what is served: guards come before the library. */
export const witness: CanActivate = {
  canActivate: (context: ExecutionContext) => {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    serving.enterWith(headers['idempotency-key'] ?? '');
    return true;
  },
};
