import { type BrokenStore, withSql } from './broken-store.js';

const IS_OVER = 'lease_until <= clock_timestamp() AND $9::boolean';

/** Who gets a record of lease mode, and for how long. */
export const brokenLeases: readonly BrokenStore[] = [
  {
    name: 'overwrites the claim of whoever was first',
    fails: 'lease mode: of 32 claims at once one gets the record',
    says: /claimed: 32/,
    make: withSql({
      leases: {
        CLAIM: [
          [
            /WHERE NOT EXISTS \(SELECT FROM \S+ WHERE key_hash = \$1\)/,
            'WHERE NOT EXISTS (SELECT FROM taken)',
          ],
          ['(key_hash) DO NOTHING', '(key_hash) DO UPDATE SET lease_until = excluded.lease_until'],
        ],
      },
    }),
  },
  ...['of 32 that find a lease over', 'a lease that runs cannot be taken'].map((what) => ({
    name: `takes leases that run (${what} …)`,
    fails: `lease mode: ${what}`,
    says: /claimed: [2-9]|a claim while the lease runs: found 'claimed'/,
    make: withSql({ leases: { CLAIM: [[IS_OVER, '$9::boolean']] } }),
  })),
  {
    name: 'never takes a lease that is over',
    fails: 'lease mode: a lease that runs cannot be taken, and one that is over can',
    says: /a claim: found 'unowned', not 'claimed'/,
    make: withSql({ leases: { CLAIM: [[IS_OVER, 'false AND $9::boolean']] } }),
  },
  {
    name: 'compares no payloads in lease mode',
    fails: 'lease mode: another payload is told apart',
    says: /its lease over: found 'claimed'/,
    make: withSql({ leases: { CLAIM: [['OR (fingerprint = $6', 'OR ($6::bytea IS NOT NULL']] } }),
  },
  {
    name: 'waits behind a phase with a connection in hand',
    fails: 'lease mode: a record that a phase holds is in flight',
    says: /a claim beside a phase: no answer/,
    make: withSql({ leases: { CLAIM: [['FOR UPDATE SKIP LOCKED', 'FOR UPDATE']] } }),
  },
  {
    name: 'takes the owner of a long phase for a dead one',
    fails: 'lease mode: a record that a phase holds is in flight',
    says: /the lease over: found 'unowned'/,
    make: withSql({ leases: { UNHELD: [['FOR SHARE SKIP LOCKED', '']] } }),
  },
  {
    name: 'renews a lease for whoever asks',
    fails: 'lease mode: a lease is renewed by its owner only',
    says: /a renewal by the attempt before: found true/,
    make: withSql({ leases: { RENEW: [['AND attempt = $2', 'AND $2::int IS NOT NULL']] } }),
  },
  {
    name: 'counts no deaths in lease mode',
    fails: 'lease mode: attempts that die in a row are counted',
    says: /the attempts that died: found { abandoned: 0/,
    make: withSql({ leases: { CLAIM: [['ELSE free.abandoned + 1 END', 'ELSE free.abandoned END']] } }),
  },
  {
    name: 'deletes what it releases in lease mode',
    fails: 'lease mode: a release lets a retry in at once',
    says: /the released record: found undefined/,
    make: withSql({
      leases: {
        RELEASE: [[/UPDATE (\S+)\s+SET [^]*?WHERE/, 'DELETE FROM $1 WHERE $4::text IS NOT NULL AND']],
      },
    }),
  },
  {
    name: 'runs in transaction mode what lease mode has left half done',
    fails: 'both modes: they take turns on one key',
    says: /the lease over: found 'locked'|the lease running: found 'locked'/,
    make: withSql({
      records: { LOCK_OR_READ: [[`(status = 'pending' AND lease_until IS NULL)`, `(status = 'pending')`]] },
    }),
  },
  {
    name: 'counts the retention of a late outcome from its claim',
    fails: 'lease mode: a final outcome ends the lease',
    says: /it expires in its ttl: found false/,
    make: withSql({
      leases: {
        COMPLETE: [
          [
            /expires_at = clock_timestamp\(\) \+ \$10\S+ \* interval '1 millisecond'/,
            'expires_at = CASE WHEN $$10::float8 IS NULL THEN now() ELSE expires_at END',
          ],
        ],
      },
    }),
  },
];
