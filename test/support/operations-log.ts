import { appendFileSync } from 'node:fs';

/** Where the museum counts what a layer does until it notices a bug: a byte for each operation, another one for what it noticed. */
const file = process.env['OPERATIONS_FILE'];

/** Whether somebody counts: then how a failure looks does not matter, and when it came does. */
export const isCounted = file !== undefined;

export function countOperation(): void {
  if (file !== undefined) appendFileSync(file, '.');
}

export function countFailure(): void {
  if (file !== undefined) appendFileSync(file, '!');
}
