import { ApiProperty } from '@nestjs/swagger';
import { Matches } from 'class-validator';

/** PostgreSQL stores no NUL and no half of a surrogate pair; other control characters are no use in a name. */
export const ITEM_ID = /^[^\p{Cc}\p{Cs}]{1,64}$/u;

export class CartParams {
  @ApiProperty({ example: 'alice' })
  @Matches(/^[\w.@-]{1,64}$/, {
    message: 'userId must be 1 to 64 letters, digits or any of the characters . _ @ -',
  })
  userId: string;
}

export class CartItemParams extends CartParams {
  @ApiProperty({ example: 'book' })
  @Matches(ITEM_ID, { message: 'itemId must be 1 to 64 printable characters' })
  itemId: string;
}
