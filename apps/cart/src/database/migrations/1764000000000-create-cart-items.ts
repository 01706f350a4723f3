import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The carts' only table. */
export class CreateCartItems1764000000000 implements MigrationInterface {
  readonly name = 'CreateCartItems1764000000000';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(`
      CREATE TABLE cart_items (
        user_id  text COLLATE "C" NOT NULL,
        item_id  text COLLATE "C" NOT NULL,
        quantity integer NOT NULL,
        added_at timestamptz NOT NULL,
        CONSTRAINT cart_items_pkey PRIMARY KEY (user_id, item_id),
        CONSTRAINT cart_items_quantity_check CHECK (quantity BETWEEN 1 AND 1000000)
      )
    `);
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE cart_items');
  }
}
