import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Orders, with what was in the cart, so that a declined one can put it back. */
export class CreateOrders1764100000000 implements MigrationInterface {
  readonly name = 'CreateOrders1764100000000';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`
      CREATE TABLE orders (
        order_id       uuid NOT NULL DEFAULT gen_random_uuid(),
        user_id        text COLLATE "C" NOT NULL,
        lines          jsonb NOT NULL,
        total_quantity bigint NOT NULL,
        state          text COLLATE "C" NOT NULL,
        charge_id      text COLLATE "C",
        created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT orders_pkey PRIMARY KEY (order_id),
        CONSTRAINT orders_total_quantity_check CHECK (total_quantity > 0),
        CONSTRAINT orders_state_check CHECK (state IN ('reserved', 'confirmed', 'cancelled')),
        CONSTRAINT orders_charge_check CHECK ((state = 'confirmed') = (charge_id IS NOT NULL))
      )
    `);
    await queryRunner.query('CREATE INDEX orders_user_id_idx ON orders (user_id, created_at)');
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE orders');
  }
}
