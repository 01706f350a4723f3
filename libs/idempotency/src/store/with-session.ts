import type { Session } from './session.js';

/**
 * Works on a connection of its own for at most `timeoutMs`, after waiting as long for one. It goes back healthy, or, after an
 * error, when what is open on it is rolled back, which nobody waits for.
 */
export async function withSession<T>(
  store: { open(timeoutMs: number): Promise<Session> },
  timeoutMs: number,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await store.open(timeoutMs);
  try {
    const result = await session.within(timeoutMs, work(session));
    session.release();
    return result;
  } catch (error) {
    void session.rollbackAndRelease(timeoutMs);
    throw error;
  }
}
