import { Check, Column, Entity, Index, PrimaryGeneratedColumn } from 'typeorm';

/**
 * `reserved`: the cart's lines are in the order, and nothing is known of the charge yet. `confirmed`: charged.
 * `cancelled`: the payment was declined, and the lines are back in the cart.
 */
export type OrderState = 'reserved' | 'confirmed' | 'cancelled';

/** How much of one item was ordered. */
export interface OrderLine {
  readonly itemId: string;
  readonly quantity: number;
}

/** What one checkout took out of a user's cart. */
@Entity('orders')
@Index('orders_user_id_idx', ['userId', 'createdAt'])
@Check('orders_total_quantity_check', 'total_quantity > 0')
@Check('orders_state_check', `state IN ('reserved', 'confirmed', 'cancelled')`)
@Check('orders_charge_check', `(state = 'confirmed') = (charge_id IS NOT NULL)`)
export class Order {
  @PrimaryGeneratedColumn('uuid', { name: 'order_id', primaryKeyConstraintName: 'orders_pkey' })
  orderId: string;

  @Column('text', { name: 'user_id' })
  userId: string;

  @Column('jsonb')
  lines: OrderLine[];

  // bigint, because a few thousand lines of a million each are beyond an integer; far from where numbers get inexact.
  @Column('bigint', { name: 'total_quantity', transformer: { from: Number, to: (value: number) => value } })
  totalQuantity: number;

  @Column('text')
  state: OrderState;

  /** What the payment provider calls the charge. */
  @Column('text', { name: 'charge_id', nullable: true })
  chargeId: string | null;

  @Column('timestamptz', { name: 'created_at', default: () => 'clock_timestamp()' })
  createdAt: Date;
}
