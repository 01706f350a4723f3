import { Injectable, type OnModuleInit } from '@nestjs/common';
import { IdempotencyEvents, type IdempotencyEvent } from 'nestjs-pg-idempotency';

/** How often each thing has happened to records in this process: `completed`, `replayed from memory`. */
@Injectable()
export class EventCounts implements OnModuleInit {
  readonly #counts = new Map<string, number>();

  constructor(private readonly events: IdempotencyEvents) {}

  onModuleInit(): void {
    this.events.events.subscribe((event) => {
      const name = nameOf(event);
      this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    });
  }

  get counts(): Record<string, number> {
    return Object.fromEntries([...this.#counts].toSorted(([a], [b]) => a.localeCompare(b)));
  }
}

function nameOf(event: IdempotencyEvent): string {
  if (event.type === 'replayed') return `replayed from ${event.source}`;
  return event.type === 'rejected' ? `rejected with ${event.code}` : event.type;
}
