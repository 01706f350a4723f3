import { ApiProperty } from '@nestjs/swagger';

export class CartLineDto {
  @ApiProperty({ example: 'book' })
  itemId: string;

  @ApiProperty({ type: 'integer', example: 2 })
  quantity: number;
}

export class CartContentsDto {
  @ApiProperty({ type: [CartLineDto], description: 'In order of itemId.' })
  items: CartLineDto[];

  @ApiProperty({ type: 'integer', example: 2 })
  totalQuantity: number;
}

export class CartDto extends CartContentsDto {
  @ApiProperty({ example: 'alice' })
  userId: string;
}

export class AddedItemDto {
  @ApiProperty({ example: 'alice' })
  userId: string;

  @ApiProperty({ example: 'book' })
  itemId: string;

  @ApiProperty({ type: 'integer', example: 2, description: 'How many of the item the cart holds now.' })
  quantity: number;

  @ApiProperty({ type: 'string', format: 'date-time' })
  addedAt: Date;

  @ApiProperty()
  cart: CartContentsDto;
}
