import type { IdempotencySql } from '../../libs/idempotency/src/store/idempotency.sql.js';
import { IdempotencyStore } from '../../libs/idempotency/src/store/idempotency.store.js';
import type { LeaseSql } from '../../libs/idempotency/src/store/lease.sql.js';
import { LeaseStore } from '../../libs/idempotency/src/store/lease.store.js';
import {
  type MakeStores,
  type StoreOpening,
  storesOn,
} from '../../libs/idempotency/src/testing/contract/contract-stores.js';

/** The store with one bug that layers like this one have had. */
export interface BrokenStore {
  /** What it does. */
  readonly name: string;
  /** The case that must fail: its name, or how it begins. */
  readonly fails: string;
  /** Found in the message of that failure: it must fail for this bug, and for no other reason. */
  readonly says: RegExp;
  readonly make: MakeStores;
}

/** Text of a statement, and what stands in its place: everywhere in it. */
export type Edit = readonly [find: string | RegExp, replace: string];

export interface Edits {
  readonly records?: Partial<Record<keyof IdempotencySql, readonly Edit[]>>;
  readonly leases?: Partial<Record<keyof LeaseSql, readonly Edit[]>>;
}

/** The store with some of its statements edited. */
export function withSql({ records = {}, leases = {} }: Edits): MakeStores {
  return (opening) => {
    const store = recordsOn(opening);
    edit(store, records);
    const leaseStore = new LeaseStore(store);
    edit(leaseStore, leases);
    return storesOn(store, leaseStore);
  };
}

type RecordsClass = new (...parts: ConstructorParameters<typeof IdempotencyStore>) => IdempotencyStore;
type LeasesClass = new (records: IdempotencyStore) => LeaseStore;

/** A subclass in the place of a store. */
export function withClasses({
  Records = IdempotencyStore,
  Leases = LeaseStore,
}: {
  readonly Records?: RecordsClass;
  readonly Leases?: LeasesClass;
}): MakeStores {
  return ({ table, source, serverVersion }) => {
    const records = new Records(table, source, serverVersion);
    return storesOn(records, new Leases(records));
  };
}

/** The same edit of several statements. */
export function each<Name extends string>(
  names: readonly Name[],
  ...edits: readonly Edit[]
): Partial<Record<Name, readonly Edit[]>> {
  return Object.fromEntries(names.map((name) => [name, edits])) as Partial<Record<Name, readonly Edit[]>>;
}

function recordsOn({ table, source, serverVersion }: StoreOpening): IdempotencyStore {
  return new IdempotencyStore(table, source, serverVersion);
}

function edit(
  store: { readonly sql: Readonly<Record<string, string>> },
  edits: Readonly<Record<string, readonly Edit[] | undefined>>,
): void {
  const sql = { ...store.sql };
  for (const [name, list = []] of Object.entries(edits)) {
    for (const [find, replace] of list) sql[name] = edited(name, sql[name] ?? '', find, replace);
  }
  Object.assign(store, { sql });
}

function edited(name: string, text: string, find: string | RegExp, replace: string): string {
  const result =
    typeof find === 'string' ? text.replaceAll(find, () => replace) : text.replace(find, replace);
  // A bug that is not there proves nothing.
  if (result === text) throw new TypeError(`${name} has no text ${String(find)} any more`);
  return result;
}
