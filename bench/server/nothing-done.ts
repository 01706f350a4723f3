import type { OrderAnswer } from './orders.service.js';

/** What a route answers that does nothing: as many bytes as the others. */
export const NOTHING_DONE: OrderAnswer = {
  id: 1_000_000,
  item: 'a-thing-with-a-name',
  quantity: 1,
  createdAt: new Date(0).toISOString(),
};
