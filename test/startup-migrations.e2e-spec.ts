import { Controller, Get, Post, Put } from '@nestjs/common';
import { Idempotent, IdempotencyModule } from 'nestjs-pg-idempotency';
import { afterEach, describe, expect, it } from 'vitest';
import {
  PlainController,
  boot,
  database,
  effects,
  faultOf,
  tables,
  typeOrm,
  useStartup,
  withOptions,
} from './support/startup.js';

useStartup();

describe('migrations', () => {
  it("'check' fails the start on an empty database, naming what is missing, and changes nothing", async () => {
    const fault = await faultOf(withOptions({ migrations: 'check' }));
    expect(await tables()).toEqual([]);
    expect(fault.message).toMatch(
      /^migrations: received 'check'\. The database lacks 0001-records, 0002-leases: apply the SQL of/,
    );
  });

  it("'check' starts on a migrated one, and fails when a step is missing from its history", async () => {
    await boot({});
    await boot(withOptions({ migrations: 'check' })());
    await database.pool.query('DELETE FROM idempotency_keys_migrations');
    expect((await faultOf(withOptions({ migrations: 'check' }))).message).toContain('0001-records');
  });

  it("'off' fails the start without the journal, which an earlier version did not have", async () => {
    await boot({});
    await database.pool.query('DROP TABLE idempotency_steps');
    expect((await faultOf(withOptions({ migrations: 'off' }))).message).toContain(
      'There is no table "idempotency_steps" in the database: ',
    );
  });

  it("'off' does not look at the history, but fails the start without a table", async () => {
    const fault = await faultOf(withOptions({ migrations: 'off' }));
    expect(await tables()).toEqual([]);
    expect(fault.message).toMatch(
      /^migrations: received 'off'\. There is no table "idempotency_keys" in the database: /,
    );
    await boot({});
    await database.pool.query('DROP TABLE idempotency_keys_migrations');
    await boot(withOptions({ migrations: 'off' })());
  });

  it('fail the start over a table that a crash empties', async () => {
    await boot({});
    // The journal first: PostgreSQL lets no table that stays refer to one that does not.
    for (const table of ['idempotency_steps', 'idempotency_keys']) {
      await database.pool.query(`ALTER TABLE ${table} SET UNLOGGED`);
      for (const migrations of ['run', 'check', 'off']) {
        const fault = await faultOf(withOptions({ migrations }));
        expect(fault.message).toBe(
          "dataSource: received 'an UNLOGGED table'. A crash of the server empties it: " +
            `ALTER TABLE ${table} SET LOGGED.`,
        );
      }
    }
  });

  it('fail the start over a partition that a crash empties, and take a table with none', async () => {
    await boot({});
    // As an operator would partition it: with everything that refers to it.
    await database.pool.query(`
      ALTER TABLE idempotency_steps DROP CONSTRAINT idempotency_steps_key_hash_fkey;
      ALTER TABLE idempotency_keys RENAME TO whole;
      CREATE TABLE idempotency_keys (LIKE whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (key_hash)) PARTITION BY HASH (key_hash);
      CREATE TABLE keys_0 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE keys_1 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      ALTER TABLE idempotency_steps ADD FOREIGN KEY (key_hash) REFERENCES idempotency_keys ON DELETE CASCADE;`);
    await boot(withOptions({ migrations: 'check' })());
    await database.pool.query(`
      ALTER TABLE idempotency_steps DROP CONSTRAINT idempotency_steps_key_hash_fkey;
      DROP TABLE keys_1;
      CREATE UNLOGGED TABLE keys_1 PARTITION OF idempotency_keys FOR VALUES WITH (MODULUS 2, REMAINDER 1);`);
    expect((await faultOf(withOptions({ migrations: 'check' }))).message).toBe(
      "dataSource: received 'an UNLOGGED table'. A crash of the server empties it: ALTER TABLE keys_1 SET LOGGED.",
    );
  });
});

describe('warnings', () => {
  afterEach(() => database.alter('RESET ALL'));

  it('tell at start that the server may lose what was acknowledged', async () => {
    await database.alter('SET synchronous_commit = off');
    const { log } = await boot({});
    expect(log.warnings).toContainEqual(
      expect.stringMatching(/^synchronous_commit is off: a crash of the server may lose/),
    );
    // The tests' own server runs without fsync.
    expect(log.warnings).toContainEqual(expect.stringMatching(/^fsync or full_page_writes is off/));
  });

  it('tell that commits which were not replicated would not be told from others', async () => {
    await database.alter('SET client_min_messages = error');
    const { log } = await boot({});
    expect(log.warnings).toContainEqual(expect.stringMatching(/^client_min_messages is error/));
  });

  it('are silent about a server that is set right', async () => {
    const { log } = await boot({});
    expect(log.warnings.filter((text) => !text.startsWith('fsync'))).toEqual([]);
  });

  it('tell that a read-only database serves nothing, which it then does not', async () => {
    await boot({});
    await database.alter('SET default_transaction_read_only = on');
    const { log, post } = await boot({ controllers: [PlainController] });
    const answer = await post('/plain');
    expect(await effects()).toBe(0);
    expect(log.warnings).toContainEqual(expect.stringMatching(/^default_transaction_read_only is on/));
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({ code: 'IDEMPOTENCY_STORE_UNAVAILABLE' });
  });

  it("tell that handlers run at READ COMMITTED whatever the data source's isolation level", async () => {
    const isolated = typeOrm({ isolationLevel: 'SERIALIZABLE' });
    const { log } = await boot({ imports: [isolated, IdempotencyModule.forRoot({})] });
    expect(log.warnings).toContainEqual(
      expect.stringMatching(/isolationLevel is SERIALIZABLE.*READ COMMITTED/),
    );
  });

  it('tell of a decorator that does nothing', async () => {
    @Controller('warned')
    class WarnedController {
      @Get()
      @Idempotent()
      list(): string[] {
        return [];
      }
      @Put()
      @Idempotent()
      replace(): void {}
    }
    @Controller('covered')
    @Idempotent()
    class CoveredController {
      @Get()
      list(): string[] {
        return [];
      }
      @Post()
      add(): void {}
    }
    const { log } = await boot({ controllers: [WarnedController, CoveredController] });
    expect(log.warnings.filter((text) => text.includes('Controller'))).toEqual([
      '@Idempotent() on WarnedController.list does nothing: GET is not POST or PATCH. Remove it.',
      '@Idempotent() on WarnedController.replace does nothing: PUT is not POST or PATCH. Remove it.',
    ]);
  });
});
