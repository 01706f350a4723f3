import { Logger } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EventLog } from './event-log.js';
import type { IdempotencyEvent } from './idempotency-event.js';

const record = { keyHash: 'ab'.repeat(32), operation: 'POST /carts/:userId/checkout' };
const NAME = `POST /carts/:userId/checkout (key ${'ab'.repeat(8)})`;

describe('the log of events', () => {
  const lines: string[] = [];
  beforeEach(() => {
    lines.length = 0;
    for (const level of ['log', 'warn', 'error'] as const) {
      vi.spyOn(Logger.prototype, level).mockImplementation((text: unknown) => {
        lines.push(`${level}: ${String(text)}`);
      });
    }
  });
  afterEach(() => vi.restoreAllMocks());

  it.each<[IdempotencyEvent, string]>([
    [{ type: 'lease-lost', attempt: 2, ...record }, `warn: ${NAME}: attempt 2 lost its lease`],
    [
      { type: 'renewal-failed', attempt: 2, error: new Error('no connection'), ...record },
      `warn: ${NAME}: the lease of attempt 2 could not be renewed and is tried again: Error: no connection`,
    ],
    [
      { type: 'abandoned', attempt: 2, error: new Error('declined'), ...record },
      `warn: ${NAME}: attempt 2 failed after something of it was done`,
    ],
    [{ type: 'resolved', action: 'release', actor: 'ada', ...record }, `log: ${NAME}: release by ada`],
  ])('tells whoever is on call of %o, and not the whole key', (event, line) => {
    new EventLog().write(event);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(line);
    expect(lines[0]).not.toContain(record.keyHash);
  });

  it('is silent about what happens all day', () => {
    new EventLog().write({ type: 'claimed', attempt: 1, ...record });
    new EventLog().write({ type: 'replayed', status: 201, source: 'record', ...record });
    expect(lines).toEqual([]);
  });
});
