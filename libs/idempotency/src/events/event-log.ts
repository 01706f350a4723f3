import { Logger } from '@nestjs/common';
import type { IdempotencyEvent } from './idempotency-event.js';

/** Logs what somebody on call must see without having subscribed to anything. */
export class EventLog {
  readonly #logger = new Logger('Idempotency');

  write(event: IdempotencyEvent): void {
    switch (event.type) {
      case 'lease-lost':
        this.#logger.warn(
          `${nameOf(event)}: attempt ${event.attempt} lost its lease while its handler ran; the caller is answered from ` +
            'the record.',
        );
        return;
      case 'renewal-failed':
        this.#logger.warn(
          `${nameOf(event)}: the lease of attempt ${event.attempt} could not be renewed ` +
            `and is tried again: ${String(event.error)}`,
        );
        return;
      case 'abandoned':
        this.#logger.warn(
          `${nameOf(event)}: attempt ${event.attempt} failed after something of it was done, and its record stays ` +
            `pending: ${String(event.error)}`,
        );
        return;
      case 'resolved':
        this.#logger.log(`${nameOf(event)}: ${event.action} by ${event.actor}`);
        return;
      default:
    }
  }
}

function nameOf({ operation, keyHash }: { operation: string; keyHash: string }): string {
  return `${operation} (key ${keyHash.slice(0, 16)})`;
}
