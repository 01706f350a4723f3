import { expect } from 'vitest';
import { LedgerEntry, type Scene } from './stage.js';

/** How handlers write; each leaves exactly these notes in the ledger, in any order. */
export const WAYS: readonly {
  name: string;
  write: (scene: Scene) => Promise<unknown>;
  leaves: readonly string[];
}[] = [
  {
    name: 'a repository: save, find, update, remove',
    write: async ({ ledger, label }) => {
      const kept = await ledger.save({ label, note: 'kept' });
      const gone = await ledger.save({ label, note: 'gone' });
      expect(await ledger.countBy({ label })).toBe(2);
      await ledger.remove(await ledger.findOneByOrFail({ id: gone.id }));
      await ledger.update({ id: kept.id }, { note: 'updated' });
    },
    leaves: ['updated'],
  },
  {
    name: 'a repository: save of several entities at once',
    write: ({ ledger, label }) =>
      ledger.save([
        { label, note: 'a' },
        { label, note: 'b' },
      ]),
    leaves: ['a', 'b'],
  },
  {
    name: 'the injected EntityManager',
    write: async ({ manager, label }) => {
      await manager.save(LedgerEntry, { label, note: 'a' });
      await manager.insert(LedgerEntry, { label, note: 'b' });
      expect(await manager.countBy(LedgerEntry, { label })).toBe(2);
    },
    leaves: ['a', 'b'],
  },
  {
    name: "the attempt's own EntityManager",
    write: async ({ attempt, label }) => {
      await attempt.manager.save(LedgerEntry, { label, note: 'a' });
      await attempt.manager.getRepository(LedgerEntry).insert({ label, note: 'b' });
      await attempt.manager.query(`INSERT INTO ledger (label, note) VALUES ($1, 'c')`, [label]);
    },
    leaves: ['a', 'b', 'c'],
  },
  {
    name: 'query builders',
    write: async ({ dataSource, ledger, label }) => {
      await dataSource
        .createQueryBuilder()
        .insert()
        .into(LedgerEntry)
        .values([
          { label, note: 'a' },
          { label, note: 'b' },
        ])
        .execute();
      await ledger.createQueryBuilder().update().set({ note: 'c' }).where({ label, note: 'b' }).execute();
      expect(await ledger.createQueryBuilder('e').where({ label }).getCount()).toBe(2);
    },
    leaves: ['a', 'c'],
  },
  {
    name: 'raw queries of the data source',
    write: async ({ dataSource, label }) => {
      await dataSource.query(`INSERT INTO ledger (label, note) VALUES ($1, 'raw')`, [label]);
      const found: unknown = await dataSource.query('SELECT note FROM ledger WHERE label = $1', [label]);
      expect(found).toEqual([{ note: 'raw' }]);
    },
    leaves: ['raw'],
  },
  {
    name: 'a nested dataSource.transaction()',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await dataSource.transaction(async (manager) => {
        await manager.save(LedgerEntry, { label, note: 'inside' });
        await ledger.save({ label, note: 'inside, by repository' });
      });
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'inside', 'inside, by repository', 'after'],
  },
  {
    name: 'a nested transaction with an isolation level',
    write: ({ dataSource, label }) =>
      dataSource.transaction('SERIALIZABLE', (manager) => manager.save(LedgerEntry, { label, note: 'a' })),
    leaves: ['a'],
  },
  {
    name: "the attempt's manager.transaction()",
    write: ({ attempt, label }) =>
      attempt.manager.transaction((manager) => manager.save(LedgerEntry, { label, note: 'a' })),
    leaves: ['a'],
  },
  {
    name: 'a nested transaction whose failure is caught: only its rows go',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await expect(
        dataSource.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inside' });
          await ledger.save({ label, note: 'inside, by repository' });
          throw new Error('inner');
        }),
      ).rejects.toThrow('inner');
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'a nested transaction whose statement fails: only its rows go, and the attempt goes on',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      await expect(
        dataSource.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inside' });
          await manager.query('SELECT 1 / 0');
        }),
      ).rejects.toThrow('division by zero');
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'transactions nested in nested ones: the innermost fails, the middle one stays',
    write: async ({ dataSource, ledger, label }) => {
      await dataSource.transaction(async (outer) => {
        await outer.save(LedgerEntry, { label, note: 'outer' });
        const inner = outer.transaction(async (manager) => {
          await manager.save(LedgerEntry, { label, note: 'inner' });
          throw new Error('inner');
        });
        await expect(inner).rejects.toThrow('inner');
        await dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'second inner' }));
        await ledger.save({ label, note: 'outer, by repository' });
      });
    },
    leaves: ['outer', 'second inner', 'outer, by repository'],
  },
  {
    name: 'transactions nested in nested ones: the middle one fails and takes the innermost along',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'root' });
      const outer = dataSource.transaction(async () => {
        await dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'inner' }));
        expect(await ledger.countBy({ label })).toBe(2);
        throw new Error('outer');
      });
      await expect(outer).rejects.toThrow('outer');
    },
    leaves: ['root'],
  },
  {
    name: 'Promise.all of saves',
    write: ({ ledger, label }) =>
      Promise.all(Array.from({ length: 5 }, (_, n) => ledger.save({ label, note: String(n) }))),
    leaves: ['0', '1', '2', '3', '4'],
  },
  {
    name: 'Promise.all of nested transactions',
    write: ({ dataSource, ledger, label }) =>
      Promise.all(
        ['a', 'b', 'c'].map((note) =>
          dataSource.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note });
            await ledger.save({ label, note: `${note}, by repository` });
          }),
        ),
      ),
    leaves: ['a', 'a, by repository', 'b', 'b, by repository', 'c', 'c, by repository'],
  },
  {
    name: 'Promise.allSettled of nested transactions, one of which fails: only its rows go',
    write: async ({ dataSource, ledger, label }) => {
      const results = await Promise.allSettled([
        ...['a', 'b', 'c'].map((note) =>
          dataSource.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note });
            await ledger.save({ label, note: `${note}, by repository` });
            if (note === 'b') throw new Error('b');
          }),
        ),
        ledger.save({ label, note: 'beside' }),
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'fulfilled',
      ]);
    },
    leaves: ['a', 'a, by repository', 'c', 'c, by repository', 'beside'],
  },
  {
    name: 'nested transactions in parallel inside a nested one',
    write: ({ dataSource, label }) =>
      dataSource.transaction(async (outer) => {
        const results = await Promise.allSettled([
          outer.transaction((manager) => manager.save(LedgerEntry, { label, note: 'a' })),
          outer.transaction(async (manager) => {
            await manager.save(LedgerEntry, { label, note: 'b' });
            throw new Error('b');
          }),
          dataSource.transaction((manager) => manager.save(LedgerEntry, { label, note: 'c' })),
        ]);
        expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      }),
    leaves: ['a', 'c'],
  },
  {
    name: 'an explicit query runner that commits, with a repository used meanwhile',
    write: async ({ dataSource, ledger, label }) => {
      const runner = dataSource.createQueryRunner();
      await runner.connect();
      await runner.startTransaction();
      await runner.manager.save(LedgerEntry, { label, note: 'runner' });
      await ledger.save({ label, note: 'repository' });
      await runner.query(`INSERT INTO ledger (label, note) VALUES ($1, 'raw')`, [label]);
      await runner.commitTransaction();
      await runner.release();
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['runner', 'repository', 'raw', 'after'],
  },
  {
    name: 'an explicit query runner that rolls back, as its catch block says',
    write: async ({ dataSource, ledger, label }) => {
      await ledger.save({ label, note: 'before' });
      const runner = dataSource.createQueryRunner();
      await runner.startTransaction();
      try {
        await runner.manager.save(LedgerEntry, { label, note: 'runner' });
        await runner.query('SELECT 1 / 0');
        await runner.commitTransaction();
      } catch {
        await runner.rollbackTransaction();
      } finally {
        await runner.release();
      }
      await ledger.save({ label, note: 'after' });
    },
    leaves: ['before', 'after'],
  },
  {
    name: 'an explicit query runner without a transaction of its own',
    write: async ({ dataSource, label }) => {
      const runner = dataSource.createQueryRunner();
      await runner.manager.save(LedgerEntry, { label, note: 'a' });
      await runner.release();
      await expect(runner.query('SELECT 1')).rejects.toThrow('already released');
      const reader = dataSource.createQueryRunner('slave');
      expect(await reader.manager.countBy(LedgerEntry, { label })).toBe(1);
      await reader.release();
    },
    leaves: ['a'],
  },
];
