import { type Channel, channel } from 'node:diagnostics_channel';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Observable, Subject } from 'rxjs';
import type { IdempotencyEvent, IdempotencyEventType } from './idempotency-event.js';

const TYPES: readonly IdempotencyEventType[] = [
  'claimed',
  'taken-over',
  'completed',
  'replayed',
  'rejected',
  'released',
  'abandoned',
  'lease-lost',
  'renewal-failed',
  'resolved',
  'unknown',
  'reaped',
  'cache-unavailable',
  'cache-available',
  'cache-entry-refused',
];

/** Name of the `node:diagnostics_channel` of one event type: `nestjs-pg-idempotency:replayed`. */
export function idempotencyChannel(type: IdempotencyEventType): string {
  return `nestjs-pg-idempotency:${type}`;
}

/**
 * What happens to records, as it happens: inject it and subscribe to {@link events}, or subscribe to the
 * `node:diagnostics_channel` of a type ({@link idempotencyChannel}). Subscribers run in the
 * course of the request: they must be quick, and an error they throw is an uncaught exception, not the request's.
 */
@Injectable()
export class IdempotencyEvents implements OnApplicationShutdown {
  readonly #subject = new Subject<IdempotencyEvent>();
  readonly #channels = new Map<IdempotencyEventType, Channel>(
    TYPES.map((type) => [type, channel(idempotencyChannel(type))]),
  );
  /** Every event of this application, hot: a subscriber gets what happens from then on. */
  readonly events: Observable<IdempotencyEvent> = this.#subject.asObservable();

  /** @internal */
  emit(event: IdempotencyEvent): void {
    this.#channels.get(event.type)?.publish(event);
    this.#subject.next(event);
  }

  onApplicationShutdown(): void {
    this.#subject.complete();
  }
}
