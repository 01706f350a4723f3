import { ApiProperty } from '@nestjs/swagger';
import { IsInt, Matches, Max, Min } from 'class-validator';
import { ITEM_ID } from './cart-params.dto.js';

export class SetQuantityDto {
  @ApiProperty({ minimum: 1, maximum: 999, type: 'integer', example: 2 })
  @IsInt()
  @Min(1)
  @Max(999)
  quantity: number;
}

export class AddItemDto extends SetQuantityDto {
  @ApiProperty({ minLength: 1, maxLength: 64, example: 'book' })
  @Matches(ITEM_ID, { message: 'itemId must be a string of 1 to 64 printable characters' })
  itemId: string;
}
