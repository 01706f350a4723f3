import { ConflictException, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { In, Repository } from 'typeorm';
import { CartItem, MAX_ITEM_QUANTITY } from './cart-item.entity.js';
import type { AddedItemDto, CartContentsDto, CartDto, CartLineDto } from './dto/cart.dto.js';

@Injectable()
export class CartsService {
  constructor(@InjectRepository(CartItem) private readonly items: Repository<CartItem>) {}

  /** Puts an item in the cart; when it is there already, its quantity grows. */
  async addItem(userId: string, itemId: string, quantity: number): Promise<AddedItemDto> {
    // TypeORM's upsert can only overwrite a column, and read-then-write would lose one of two additions at once.
    const rows = await this.items.query<{ quantity: number; added_at: Date }[]>(
      `INSERT INTO cart_items (user_id, item_id, quantity, added_at) VALUES ($1, $2, $3, clock_timestamp())
       ON CONFLICT (user_id, item_id) DO UPDATE
         SET quantity = cart_items.quantity + EXCLUDED.quantity, added_at = EXCLUDED.added_at
         WHERE cart_items.quantity + EXCLUDED.quantity <= $4
       RETURNING quantity, added_at`,
      [userId, itemId, quantity, MAX_ITEM_QUANTITY],
    );
    const [added] = rows;
    if (!added) {
      throw new ConflictException(`A cart holds at most ${MAX_ITEM_QUANTITY} of one item`);
    }
    return {
      userId,
      itemId,
      quantity: added.quantity,
      addedAt: added.added_at,
      cart: await this.contents(userId),
    };
  }

  /** A user's cart; one that nothing was put in is empty. */
  async cart(userId: string): Promise<CartDto> {
    const { items, totalQuantity } = await this.contents(userId);
    return { userId, items, totalQuantity };
  }

  /** Sets how many of an item the cart holds, whether it was there before or not. */
  async setQuantity(userId: string, itemId: string, quantity: number): Promise<CartLineDto> {
    await this.items.upsert({ userId, itemId, quantity, addedAt: new Date() }, ['userId', 'itemId']);
    return { itemId, quantity };
  }

  /** Takes an item out of the cart; one that is not there is out already. */
  async removeItem(userId: string, itemId: string): Promise<void> {
    await this.items.delete({ userId, itemId });
  }

  /**
   * Takes everything out of the cart and answers what it was, in order of itemId; nothing when it is empty. Needs a
   * transaction. Of two that take at once, the later one waits for the earlier and finds what that one has left.
   */
  async takeAll(userId: string): Promise<CartLineDto[]> {
    const rows = await this.items.find({
      where: { userId },
      // In one order for everybody: two that lock the same rows in different orders would wait for each other.
      order: { itemId: 'ASC' },
      lock: { mode: 'pessimistic_write' },
    });
    const lines = rows.map(({ itemId, quantity }) => ({ itemId, quantity }));
    // By name: an item that was put in after we looked stays for the next order.
    await this.items.delete({ userId, itemId: In(lines.map(({ itemId }) => itemId)) });
    return lines;
  }

  /** Puts lines back beside what has come in since. What a cart cannot hold of an item is dropped. */
  async putBack(userId: string, lines: readonly CartLineDto[]): Promise<void> {
    await this.items.query(
      `INSERT INTO cart_items (user_id, item_id, quantity, added_at)
       SELECT $1, line."itemId", line.quantity, clock_timestamp()
       FROM jsonb_to_recordset($2) AS line ("itemId" text, quantity integer)
       ORDER BY line."itemId"
       ON CONFLICT (user_id, item_id) DO UPDATE
         SET quantity = LEAST(cart_items.quantity + EXCLUDED.quantity, $3), added_at = EXCLUDED.added_at`,
      [userId, JSON.stringify(lines), MAX_ITEM_QUANTITY],
    );
  }

  private async contents(userId: string): Promise<CartContentsDto> {
    const rows = await this.items.find({ where: { userId }, order: { itemId: 'ASC' } });
    return {
      items: rows.map(({ itemId, quantity }) => ({ itemId, quantity })),
      totalQuantity: rows.reduce((total, { quantity }) => total + quantity, 0),
    };
  }
}
