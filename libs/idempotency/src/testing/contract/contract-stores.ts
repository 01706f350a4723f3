import { ExpiredRecordReaper } from '../../reaper/expired-record.reaper.js';
import { IdempotencyStore } from '../../store/idempotency.store.js';
import { LeaseStore } from '../../store/lease.store.js';
import type { ConnectionSource } from '../../store/session.js';

/** What the engine of transaction mode says to its store. */
export type RecordStore = Pick<
  IdempotencyStore,
  | 'sql'
  | 'open'
  | 'claim'
  | 'look'
  | 'reclaim'
  | 'undoHandler'
  | 'complete'
  | 'release'
  | 'giveBack'
  | 'settled'
>;

/** What lease mode says to its store. */
export type LeaseRecordStore = Pick<
  LeaseStore,
  | 'open'
  | 'claim'
  | 'read'
  | 'renew'
  | 'journalStep'
  | 'openPhase'
  | 'commitPhase'
  | 'phaseSettled'
  | 'complete'
  | 'release'
  | 'abandon'
  | 'forget'
  | 'isWritten'
  | 'abandoned'
>;

/** Both modes on one table, and who deletes what has expired in it. */
export interface ContractStores {
  readonly records: RecordStore;
  readonly leases: LeaseRecordStore;
  /** Resolves with the number of records that it deleted: none, when another reaper of the table is at it. */
  reap(): Promise<number>;
}

export interface StoreOpening {
  readonly table: string;
  readonly source: ConnectionSource;
  /** `server_version_num`, as 180004. */
  readonly serverVersion: number;
}

/**
 * Makes what the contract is tried on. Not public: the module takes no other store than its own, so that nobody but the tests of the
 * contract itself has another one to try.
 */
export type MakeStores = (opening: StoreOpening) => ContractStores;

/** How long a connection is waited for. */
export const ACQUIRE_TIMEOUT_MS = 5_000;
const REAP_BATCH = 1_000;

export const realStores: MakeStores = ({ table, source, serverVersion }) =>
  storesOn(new IdempotencyStore(table, source, serverVersion));

export function storesOn(records: IdempotencyStore, leases = new LeaseStore(records)): ContractStores {
  const settings = {
    intervalMs: undefined,
    batch: REAP_BATCH,
    acquireTimeoutMs: ACQUIRE_TIMEOUT_MS,
  };
  return {
    records,
    leases,
    reap: () => new ExpiredRecordReaper(records, settings, () => undefined).reap(),
  };
}
