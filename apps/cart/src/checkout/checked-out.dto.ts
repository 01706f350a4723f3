import { ApiProperty } from '@nestjs/swagger';

export class CheckedOutDto {
  @ApiProperty({ format: 'uuid', example: 'b1f1b1de-6c0f-4f0e-9a39-6a3f0f4d7d9e' })
  orderId: string;

  @ApiProperty({ example: 'ch_1', description: "The payment provider's name for the charge." })
  chargeId: string;

  @ApiProperty({ type: 'integer', example: 2 })
  totalQuantity: number;
}
