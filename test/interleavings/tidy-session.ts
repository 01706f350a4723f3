import { Session } from '../../libs/idempotency/src/store/session.js';

/** A session that may be asked twice to roll back: by the library, which does not wait for it, and at the end of its script. */
export class TidySession extends Session {
  #rollback: Promise<void> | undefined;

  override rollbackAndRelease(timeoutMs: number): Promise<void> {
    return (this.#rollback ??= super.rollbackAndRelease(timeoutMs));
  }
}
