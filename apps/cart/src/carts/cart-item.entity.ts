import { Check, Column, Entity, PrimaryColumn } from 'typeorm';

/** The most of one item that a cart may hold. */
export const MAX_ITEM_QUANTITY = 1_000_000;

/** One item in the cart of one user. */
@Entity('cart_items')
@Check('cart_items_quantity_check', `quantity BETWEEN 1 AND ${MAX_ITEM_QUANTITY}`)
export class CartItem {
  // Collation "C": the same order on every server, whatever locale it was set up with.
  @PrimaryColumn('text', { name: 'user_id', collation: 'C', primaryKeyConstraintName: 'cart_items_pkey' })
  userId: string;

  @PrimaryColumn('text', { name: 'item_id', collation: 'C', primaryKeyConstraintName: 'cart_items_pkey' })
  itemId: string;

  @Column('integer')
  quantity: number;

  /** When the item was last put in. */
  @Column('timestamptz', { name: 'added_at' })
  addedAt: Date;
}
