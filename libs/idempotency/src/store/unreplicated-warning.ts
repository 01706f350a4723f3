/** The function of PostgreSQL that says so. Messages carry its name beside their text, which is translated. */
const WAITING_ROUTINE = 'SyncRepWaitForLSN';

/**
 * Whether PostgreSQL says, as a warning and with COMMIT as the answer, that it has stopped to wait for its synchronous standbys:
 * the wait was cancelled, ran into `statement_timeout`, or its backend was terminated.
 */
export function isUnreplicatedWarning({ routine }: { readonly routine?: string | undefined }): boolean {
  return routine === WAITING_ROUTINE;
}
