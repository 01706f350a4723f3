import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Which confirmations have been sent. The primary key is what makes a second sending do nothing. */
export class CreateOrderConfirmations1764100001000 implements MigrationInterface {
  readonly name = 'CreateOrderConfirmations1764100001000';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`
      CREATE TABLE order_confirmations (
        order_id uuid NOT NULL,
        sent_at  timestamptz NOT NULL,
        CONSTRAINT order_confirmations_pkey PRIMARY KEY (order_id),
        CONSTRAINT order_confirmations_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders (order_id)
      )
    `);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE order_confirmations');
  }
}
