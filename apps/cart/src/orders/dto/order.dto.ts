import { ApiProperty } from '@nestjs/swagger';

export class OrderDto {
  @ApiProperty({ format: 'uuid', example: 'b1f1b1de-6c0f-4f0e-9a39-6a3f0f4d7d9e' })
  orderId: string;

  @ApiProperty({
    type: 'string',
    nullable: true,
    example: 'ch_1',
    description: '`null` while the order is not charged.',
  })
  chargeId: string | null;

  @ApiProperty({ type: 'integer', example: 2 })
  totalQuantity: number;
}
