/** A row that LOCK gave us: nobody else can begin an attempt on it until this transaction ends. */
export interface LockedRecord {
  readonly attempt: number;
  readonly abandoned: number;
  readonly status: 'pending' | 'completed' | 'error';
  readonly expired: boolean;
  /** An attempt was begun on this version of the row: it is abandoned, unless the row was released. */
  readonly begun: boolean;
  /** When the record began, in microseconds. */
  readonly born: string;
  /** The transaction that holds it. */
  readonly xid: string;
  /** When it expires by the database's clock, in milliseconds since 1970. */
  readonly expiresAtMs: number;
}

/** What LOCK tells of the row that it took. */
export interface LockRow extends Omit<LockedRecord, 'expiresAtMs'> {
  readonly expires_at_ms: number;
}

/** The same beside the columns of READ, as LOCK_OR_READ answers it. */
export interface LockedColumns {
  readonly locked_attempt: number | null;
  readonly locked_abandoned: number;
  readonly locked_status: LockedRecord['status'];
  readonly locked_expired: boolean;
  readonly locked_expires_at_ms: number;
  readonly born: string;
  readonly begun: boolean;
  readonly xid: string;
}

export function lockedPartOf(row: LockedColumns): LockRow {
  return {
    // Only a row that was locked is asked for it.
    attempt: row.locked_attempt as number,
    abandoned: row.locked_abandoned,
    status: row.locked_status,
    expired: row.locked_expired,
    expires_at_ms: row.locked_expires_at_ms,
    begun: row.begun,
    born: row.born,
    xid: row.xid,
  };
}

export function lockedRecordOf(row: LockRow): LockedRecord {
  const { expires_at_ms: expiresAtMs, attempt, abandoned, status, expired, begun, born, xid } = row;
  return { attempt, abandoned, status, expired, begun, born, xid, expiresAtMs };
}
