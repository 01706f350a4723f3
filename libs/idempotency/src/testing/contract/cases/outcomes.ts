import type { CaseDefinition } from '../case-definition.js';
import { agrees, atOnce, holds } from '../expectations.js';
import { CREATED } from '../transaction-calls.js';

/** That the record and the handler's rows are one commit. */
export const outcomes: readonly CaseDefinition[] = [
  {
    name: "transaction mode: outcome and handler's rows are there when COMMIT is answered, and neither before",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      await on.effects.write(owner.session, identity);
      holds('rows before COMMIT', await on.effects.count(identity), 0);
      agrees('the record before COMMIT', await on.record(identity), {
        status: 'pending',
        responseStatus: null,
      });
      await on.transactions.completed(owner);
      const { record } = await on.transactions.claim(identity);
      agrees('a claim behind COMMIT', record, { state: 'final', raised: false, response: CREATED });
      agrees('a look behind COMMIT', await on.transactions.look(identity), {
        state: 'final',
        response: CREATED,
      });
      holds('rows behind COMMIT', await on.effects.count(identity), 1);
    },
  },
  {
    name: "transaction mode: a COMMIT that is refused leaves neither outcome nor handler's rows",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      // Not before COMMIT does the table find that there are two.
      await on.effects.write(owner.session, identity);
      await on.effects.write(owner.session, identity);
      const { kind } = await on.transactions.complete(owner);
      holds('rows of the refused COMMIT', await on.effects.count(identity), 0);
      agrees('the record behind it', await on.record(identity), { status: 'pending', responseStatus: null });
      holds('the refused COMMIT', kind, 'refused');
      await on.close(owner.session);
      holds('the next claim', (await on.transactions.claim(identity)).found, 'locked');
    },
  },
  {
    name: "transaction mode: a connection that is lost before COMMIT leaves neither outcome nor handler's rows",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      await on.effects.write(owner.session, identity);
      const { kind } = await on.transactions.complete(owner, {
        onSent: (what) => {
          if (what === 'record') owner.session.destroy(new Error('the network fails'));
        },
      });
      holds('what became of it', await on.transactions.settled(owner), 'rolled-back');
      holds('rows of the lost attempt', await on.effects.count(identity), 0);
      agrees('the record behind it', await on.record(identity), { status: 'pending', responseStatus: null });
      holds('a COMMIT that was not sent is not committed', kind === 'committed', false);
    },
  },
  {
    name: "transaction mode: a final error is kept, and nothing of the handler's rows",
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      await on.effects.write(owner.session, identity);
      const response = { status: 402, headers: {}, body: Buffer.from('declined') };
      const error = new Error('declined');
      await on.transactions.completed(owner, { status: 'error', response, error });
      holds('rows of the handler that failed', await on.effects.count(identity), 0);
      const { record } = await on.transactions.claim(identity);
      agrees('a claim behind the final error', record, { state: 'final', raised: true, response });
    },
  },
  {
    name: 'transaction mode: what a run of the handler has written is undone, and the record stays held',
    prove: async (on) => {
      await on.effects.prepare();
      const identity = on.identity();
      const owner = await on.transactions.own(identity);
      await on.effects.write(owner.session, identity);
      await on.transactions.store.undoHandler(owner.session);
      const other = await atOnce('a claim meanwhile', on.transactions.claim(identity));
      holds('a claim meanwhile', other.found, 'in-flight');
      await on.transactions.completed(owner);
      holds('rows of the run that was undone', await on.effects.count(identity), 0);
    },
  },
  {
    name: 'transaction mode: what became of a COMMIT without an answer is found out: committed, rolled back, or gone',
    prove: async (on) => {
      const committed = await on.transactions.own(on.identity());
      await on.transactions.completed(committed);
      holds('of one that was committed', await on.transactions.settled(committed), 'committed');
      const lost = await on.transactions.own(on.identity());
      lost.session.destroy(new Error('the network fails'));
      holds('of one that was not', await on.transactions.settled(lost), 'rolled-back');
      // Duplicates that wait may begin two attempts of one number: the record tells of the one whose transaction has written it.
      const other = { ...committed, xid: lost.xid };
      holds('of one with the number of another', await on.transactions.settled(other), 'gone');
      await on.remove(committed.identity);
      holds('of one whose record was deleted', await on.transactions.settled(committed), 'gone');
      // Another life of the key is pending, and says nothing of the first one.
      await on.transactions.abandon(await on.transactions.own(committed.identity));
      holds('of one in a former life of the key', await on.transactions.settled(committed), 'gone');
    },
  },
];
