import { Controller, Get, Inject, NotFoundException } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { DEMO_ENABLED } from './demo-faults.interceptor.js';
import { EventCounts } from './event-counts.js';

@ApiTags('demo')
@Controller('demo')
export class DemoController {
  constructor(
    @Inject(DEMO_ENABLED) private readonly enabled: boolean,
    private readonly events: EventCounts,
  ) {}

  @Get('events')
  @ApiOperation({ summary: 'How often each thing has happened to idempotency records in this process' })
  @ApiOkResponse({ schema: { type: 'object', additionalProperties: { type: 'integer' } } })
  counts(): Record<string, number> {
    // What an instance does is nobody's business in production.
    if (!this.enabled) throw new NotFoundException();
    return this.events.counts;
  }
}
