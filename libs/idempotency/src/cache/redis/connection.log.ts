import { Logger } from '@nestjs/common';

/** Tells operators when a server goes away and when it is back, once each. */
export class ConnectionLog {
  readonly #logger = new Logger('IdempotencyCache');
  readonly #away = new Set<string>();

  /** @param server with its article: `the Redis at 10.0.0.5:6379` */
  away(server: string, reason: string): void {
    if (this.#away.has(server)) return;
    this.#away.add(server);
    this.#logger.warn(`${server} cannot be reached: ${reason}; requests are answered from PostgreSQL`);
  }

  back(server: string): void {
    if (this.#away.delete(server)) this.#logger.log(`${server} is back`);
  }

  /** It is none of ours any more. */
  forget(server: string): void {
    this.#away.delete(server);
  }
}

/** Why something failed, in one line; the errors of ioredis carry the command with its arguments, which are nobody's business. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { lastNodeError, code } = error as Error & { lastNodeError?: unknown; code?: unknown };
  if (lastNodeError instanceof Error) return reasonOf(lastNodeError);
  // Of several addresses that were tried for one name only the code is told.
  return error.message.replace(/\.$/, '') || (typeof code === 'string' ? code : error.name);
}
