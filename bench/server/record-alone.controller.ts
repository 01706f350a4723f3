import { createHash, randomUUID } from 'node:crypto';
import { Body, Controller, Post } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { Client } from 'pg';
import type { DataSource } from 'typeorm';
import { type NewOrder, type OrderAnswer, OrdersService } from './orders.service.js';

const CLAIM = `
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO bench_record_alone (key_hash, fingerprint, key, expires_at)
SELECT $1, $2, $3, clock_timestamp() + interval '1 day' FROM quick
ON CONFLICT DO NOTHING`;
const COMPLETE = `
UPDATE bench_record_alone SET status = 'completed', response_status = 201, response_body = $2, completed_at = clock_timestamp()
 WHERE key_hash = $1`;

/**
 * The least that a layer can write which lets others see a request before its handler runs, and commits the outcome with the handler's
 * rows: two prepared statements and a commit, in the round trips of the plain transaction. It decides nothing, holds nothing and replays nothing.
 */
@Controller()
export class RecordAloneController {
  constructor(
    private readonly orders: OrdersService,
    @InjectDataSource() private readonly dataSource: DataSource,
  ) {}

  @Post('record-alone')
  async add(@Body() order: NewOrder): Promise<OrderAnswer> {
    const runner = this.dataSource.createQueryRunner();
    try {
      const client = (await runner.connect()) as Client;
      const key = randomUUID();
      const hash = createHash('sha256').update(key).digest();
      await Promise.all([
        client.query('BEGIN'),
        client.query({ name: 'claim', text: CLAIM, values: [hash, hash, key] }),
        client.query('COMMIT AND CHAIN'),
      ]);
      // So that save() opens no transaction of its own.
      Object.assign(runner, { isTransactionActive: true });
      const answer = await this.orders.add(order, runner.manager);
      Object.assign(runner, { isTransactionActive: false });
      await Promise.all([
        client.query({
          name: 'complete',
          text: COMPLETE,
          values: [hash, Buffer.from(JSON.stringify(answer))],
        }),
        client.query('COMMIT'),
      ]);
      return answer;
    } finally {
      await runner.release();
    }
  }
}
