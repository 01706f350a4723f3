import type { CaseDefinition } from '../case-definition.js';
import { agrees, AT_ONCE_MS, atOnce, eventually, failure, holds } from '../expectations.js';
import { CREATED, TTL_MS } from '../transaction-calls.js';

const REAPED_WITHIN_MS = 10_000;
/** By how much a time may be off that was told a while ago. */
const SLACK_MS = 10_000;
/** Longer than it takes to look, and shorter than clocks are off that nobody sets. */
const SOON_MS = 10_000;
const FROZEN_MS = 700;

/** What time ends, and what it does not. */
export const time: readonly CaseDefinition[] = [
  {
    name: "transaction mode: a final outcome is found until it expires, counted from the claim by the database's clock",
    prove: async (on) => {
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      await on.transactions.completed(owner);
      const { record, found } = await on.transactions.claim(identity);
      holds('a claim before it expires', found, 'final');
      const facts = await on.record(identity);
      if (!facts) throw failure('the record is gone before it expires');
      const { expiresAtMs, expiresInMs } = facts;
      holds('it expires in its ttl', expiresInMs > TTL_MS - SLACK_MS && expiresInMs <= TTL_MS, true);
      holds(
        'when it expires, as the claim of it was told',
        Math.round(owner.expiresAtMs),
        Math.round(expiresAtMs),
      );
      const told = record?.state === 'final' ? Math.round(record.expiresAtMs) : undefined;
      holds('when it expires, as others are told', told, Math.round(expiresAtMs));
      await on.expireIn(identity, SOON_MS);
      holds('a claim shortly before it expires', (await on.transactions.claim(identity)).found, 'final');
    },
  },
  {
    name: 'transaction mode: an expired record is as good as absent, for any payload, and begins another life',
    prove: async (on) => {
      const identity = on.identity();
      const first = await on.transactions.own(identity);
      await on.transactions.completed(first);
      await on.expire(identity);
      const other = on.withPayload(identity, 'another payload');
      const claim = await on.transactions.claim(other);
      holds('a claim with another payload', claim.found, 'locked');
      agrees('the expired record', claim.locked, { expired: true });
      await on.transactions.reclaim(other, claim);
      const second = await on.transactions.own(other);
      holds('the number, which only grows', second.attempt, 2);
      holds('another life', second.born === first.born, false);
      const { expiresInMs = 0 } = (await on.record(other)) ?? {};
      holds('its time has begun anew', expiresInMs > TTL_MS - SLACK_MS && expiresInMs <= TTL_MS, true);
      await on.transactions.completed(second);
      holds('the payload of the new life', (await on.transactions.claim(other)).found, 'final');
      holds('that of the old one', (await on.transactions.claim(identity)).found, 'reused');
    },
  },
  {
    name: 'both modes: the reaper deletes what has expired, and not what is held, unfinished by lease mode, or not expired',
    prove: async (on) => {
      const [final, released, abandoned, leased] = [
        on.identity(),
        on.identity(),
        on.identity(),
        on.identity(),
      ];
      const [held, unfinished, kept] = [on.identity(), on.identity(), on.identity()];
      await on.transactions.completed(await on.transactions.own(final));
      await on.transactions.released(await on.transactions.own(released));
      await on.transactions.abandon(await on.transactions.own(abandoned));
      await on.leases.complete((await on.leases.own(leased)).fence);
      await on.leases.own(unfinished);
      await on.transactions.completed(await on.transactions.own(kept));
      for (const identity of [final, released, abandoned, leased, unfinished]) await on.expire(identity);
      await on.endLease(unfinished);
      await on.transactions.abandon(await on.transactions.own(held));
      await on.expire(held);
      const owner = await on.transactions.claim(held);
      holds('a claim of an expired record', owner.found, 'locked');

      // Nothing is deleted while another reaper is at the table.
      await eventually(
        'expired records are deleted',
        async () => {
          await atOnce('the reaper', on.reap());
          const left = await Promise.all([final, released, abandoned, leased].map((gone) => on.record(gone)));
          return left.every((record) => record === undefined);
        },
        REAPED_WITHIN_MS,
      );
      agrees('a record that is held', await on.record(held), { status: 'pending' });
      agrees('a record that lease mode has not finished', await on.record(unfinished), { status: 'pending' });
      agrees('a record that has not expired', await on.record(kept), { status: 'completed' });
    },
  },
  {
    name: 'transaction mode: an owner that is frozen is ended by the server, and its key is free',
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const { session } = await on.transactions.own(identity, { maxRuntimeMs: FROZEN_MS });
      // A machine that is slower than that has ended it by now.
      await on.effects.write(session, identity).catch(() => undefined);
      await atOnce('the end of a silent owner', session.lost, FROZEN_MS + AT_ONCE_MS);
      const next = await on.transactions.claim(identity, { waitMs: AT_ONCE_MS });
      holds('a claim after the owner was ended', next.found, 'locked');
      holds('rows of the owner that was ended', await on.effects.count(identity), 0);
    },
  },
  {
    name: "lease mode: a final outcome ends the lease, and is kept for its ttl from then on, by the database's clock",
    prove: async (on) => {
      const identity = on.identity();
      const { fence } = await on.leases.own(identity, { ttlMs: 1, request: Buffer.from('a request') });
      const written = await on.leases.complete(fence);
      const facts = await on.record(identity);
      agrees('the final record', facts, { status: 'completed', leased: null, abandoned: 0 });
      const { expiresInMs = 0, expiresAtMs = 0 } = facts ?? {};
      holds('it expires in its ttl', expiresInMs > TTL_MS - SLACK_MS && expiresInMs <= TTL_MS, true);
      holds(
        'when it expires, as its owner is told',
        written && Math.round(written.expiresAtMs),
        Math.round(expiresAtMs),
      );
      agrees('a claim of it', await on.leases.read(identity), {
        state: 'final',
        raised: false,
        response: CREATED,
      });
      holds('a claim of it', await on.leases.claim(identity), 'final');
      holds('a claim of it in transaction mode', (await on.transactions.claim(identity)).found, 'final');
    },
  },
];
