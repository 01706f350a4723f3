import { Body, Controller, Delete, Get, HttpCode, Param, Post, Put, UseInterceptors } from '@nestjs/common';
import { ApiNoContentResponse, ApiOkResponse, ApiTags } from '@nestjs/swagger';
import { Idempotent } from 'nestjs-pg-idempotency';
import { DemoFaultsInterceptor } from '../demo/demo-faults.interceptor.js';
import { ApiAddItem } from './carts.openapi.js';
import { CartsService } from './carts.service.js';
import { CartDto, CartLineDto, type AddedItemDto } from './dto/cart.dto.js';
import { CartItemParams, CartParams } from './dto/cart-params.dto.js';
import { AddItemDto, SetQuantityDto } from './dto/item.dto.js';

@ApiTags('carts')
@Controller('carts')
export class CartsController {
  constructor(private readonly carts: CartsService) {}

  @Post(':userId/items')
  @Idempotent({ scope: (request) => request.params.userId })
  @UseInterceptors(DemoFaultsInterceptor)
  @ApiAddItem()
  async addItem(@Param() { userId }: CartParams, @Body() body: AddItemDto): Promise<AddedItemDto> {
    return this.carts.addItem(userId, body.itemId, body.quantity);
  }

  @Get(':userId')
  @ApiOkResponse({ type: CartDto })
  async getCart(@Param() { userId }: CartParams): Promise<CartDto> {
    return this.carts.cart(userId);
  }

  // Setting and deleting come out the same however often they are repeated: these routes need no key.

  @Put(':userId/items/:itemId')
  @ApiOkResponse({ type: CartLineDto })
  async setQuantity(
    @Param() { userId, itemId }: CartItemParams,
    @Body() body: SetQuantityDto,
  ): Promise<CartLineDto> {
    return this.carts.setQuantity(userId, itemId, body.quantity);
  }

  @Delete(':userId/items/:itemId')
  @HttpCode(204)
  @ApiNoContentResponse()
  async removeItem(@Param() { userId, itemId }: CartItemParams): Promise<void> {
    await this.carts.removeItem(userId, itemId);
  }
}
