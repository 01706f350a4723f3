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
      case 'cache-unavailable':
        this.#logger.warn(
          `${placeOf(event)} does not answer, and is left alone for a while; requests are answered from the database: ` +
            String(event.error),
        );
        return;
      case 'cache-available':
        this.#logger.log(`${placeOf(event)} answers again`);
        return;
      case 'cache-entry-refused':
        this.#logger.warn(
          `what ${event.cache} holds for key ${event.keyHash.slice(0, 16)} was not made by this application, and is not ` +
            `used: ${String(event.error)}`,
        );
        return;
      case 'claimed':
      case 'taken-over':
      case 'completed':
      case 'replayed':
      case 'rejected':
      case 'released':
      case 'unknown':
      case 'reaped':
        return;
    }
  }
}

function placeOf({ cache, node }: { cache: string; node: string }): string {
  return node === '' ? cache : `${cache} at ${node}`;
}

function nameOf({ operation, keyHash }: { operation: string; keyHash: string }): string {
  return `${operation} (key ${keyHash.slice(0, 16)})`;
}
