import { Controller, Get, Param } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { CartParams } from '../carts/dto/cart-params.dto.js';
import { OrderDto } from './dto/order.dto.js';
import { OrdersService } from './orders.service.js';

@ApiTags('orders')
@Controller('orders')
export class OrdersController {
  constructor(private readonly orders: OrdersService) {}

  @Get(':userId')
  @ApiOperation({ summary: "A user's orders, oldest first" })
  @ApiOkResponse({ type: [OrderDto] })
  async list(@Param() { userId }: CartParams): Promise<OrderDto[]> {
    return this.orders.list(userId);
  }
}
